"""What is annotated and what a model finds, picture by picture beside each other, on one sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from langhops_cli.prediction.colours import Colour
from langhops_cli.prediction.draw import draw_overlay
from langhops_cli.prediction.fonts import drawable, font_for, text_box
from langhops_cli.prediction.results import Prediction

CELL = 460
"""Longer side of a picture on a sheet in pixels."""
_GAP, _EDGE = 4, 18
_SMALL, _LARGE = 14, 20
_INK, _GREY = (24, 24, 28), (110, 110, 118)
_SHAPE = 1.6
"""A sheet is about this much wider than it is high."""


@dataclass(frozen=True)
class Comparison:
    """A picture with two answers to what it shows.

    Args:
        caption: which picture this is.
        image: RGB.
        truth: what is annotated in it; found: what a model finds in it. Both of the picture's size.
    """

    caption: str
    image: Image.Image
    truth: Prediction
    found: Prediction


def comparison_sheet(comparisons: Sequence[Comparison], *, title: str) -> Image.Image:
    """Draw pictures twice, on the left what is annotated and on the right what is found.

    Args:
        comparisons: at least one; a picture is best no larger than `CELL`, as names on it are written before it is
            shrunk.
        title: a line above all of them.

    Returns:
        The sheet, RGB; of the same size for the same pictures, whatever is found in them.
    """
    # Names that are annotated come first, so that their colours do not depend on what is found.
    names = sorted({found.name for item in comparisons for found in item.truth})
    blocks = [_block(item, names) for item in comparisons]
    width, height = max(block.width for block in blocks), max(block.height for block in blocks)
    columns = min(len(blocks), max(1, round(math.sqrt(_SHAPE * len(blocks) * height / width))))
    rows = [blocks[begin : begin + columns] for begin in range(0, len(blocks), columns)]
    heights = [max(block.height for block in row) + _EDGE for row in rows]
    top = _EDGE + _line_height(_LARGE) + _EDGE
    sheet = Image.new("RGB", (columns * (width + _EDGE) + _EDGE, top + sum(heights)), "white")
    _write(sheet, title, (_EDGE, _EDGE), size=_LARGE, colour=_INK, most=sheet.width - 2 * _EDGE)
    for row, high in zip(rows, heights, strict=True):
        for column, block in enumerate(row):
            sheet.paste(block, (_EDGE + column * (width + _EDGE), top))
        top += high
    return sheet


def _block(item: Comparison, names: Sequence[str]) -> Image.Image:
    """Both pictures beside each other, each below a word on what it shows."""
    left = draw_overlay(item.image, item.truth, names=names, scores=False)
    right = draw_overlay(item.image, item.found, names=names)
    for picture in (left, right):
        picture.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    line = _line_height(_SMALL)
    block = Image.new("RGB", (2 * left.width + _GAP, line + left.height), "white")
    count = len(item.found)
    found = f"found: {count}" if count else "found: nothing"
    for place, picture, text in ((0, left, f"{item.caption}: annotated"), (left.width + _GAP, right, found)):
        _write(block, text, (place, 0), size=_SMALL, colour=_GREY, most=left.width)
        block.paste(picture, (place, line))
    return block


def _line_height(size: int) -> int:
    return round(size * 1.5)


def _write(image: Image.Image, text: str, at: tuple[int, int], *, size: int, colour: Colour, most: int) -> None:
    """Write a line; where it is wider than `most` pixels its beginning is left out, as the end tells pictures apart."""
    font = font_for(text, size)
    shown = drawable(text, font)
    while len(shown) > 1 and text_box(shown, font)[2] > most:
        shown = "..." + shown.removeprefix("...")[1:]
        if shown == "...":
            break
    ImageDraw.Draw(image).text(at, shown, font=font, fill=colour)
