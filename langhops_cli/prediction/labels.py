"""Where names are written on a picture: beside what they name, inside the picture, never over one another."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, ImageDraw

from langhops_cli.prediction.colours import Colour, ink_on
from langhops_cli.prediction.fonts import drawable, font_for, text_box

Rectangle = tuple[int, int, int, int]

_SCALE = 3
"""Labels are drawn this much larger and shrunk, which makes their round corners smooth."""


@dataclass(frozen=True)
class Label:
    """A name to be written.

    Args:
        text: what to write.
        colour: of what it names.
        anchor: the point it names, x and y in pixels.
        strong: filled with the colour (objects), or dark with a spot of it (parts).
        above: try the place whose lower left corner is the anchor first, else the place around it.
        box: left, top, right, bottom around what it names; a label larger than that is put beside it.
    """

    text: str
    colour: Colour
    anchor: tuple[float, float]
    strong: bool = False
    above: bool = False
    box: tuple[float, float, float, float] | None = None


def write_labels(image: Image.Image, labels: list[Label], *, text_size: int) -> list[Rectangle]:
    """Write labels on a picture, the first first; one that finds no free place is left out.

    Args:
        image: the picture, RGB; changed in place.
        labels: what to write, the most important first.
        text_size: height of the text in pixels.

    Returns:
        The rectangles that were written on: left, top, right, bottom in pixels.
    """
    taken: list[Rectangle] = []
    placed: list[tuple[Label, Rectangle, str]] = []
    for label in labels:
        fitted = _fit_text(label, text_size, image.size)
        if fitted is None:
            continue
        text, width, height = fitted
        for left, top in _places(label, width, height, image.size, text_size):
            rectangle = (left, top, left + width, top + height)
            if not any(_touch(rectangle, other) for other in taken):
                taken.append(rectangle)
                placed.append((label, rectangle, text))
                break
    draw = ImageDraw.Draw(image)
    for label, rectangle, _ in placed:
        _draw_leader(draw, label, rectangle, text_size)
    for label, rectangle, text in placed:
        image.paste(*_tag(label, rectangle, text, text_size))
    return taken


def _padding(text_size: int) -> int:
    return max(2, round(text_size * 0.35))


def _width_and_height(label: Label, text: str, text_size: int) -> tuple[int, int]:
    left, _, right, _ = text_box(text, font_for(text, text_size))
    spot = 0 if label.strong else round(text_size * 0.85)
    return right - left + spot + 2 * _padding(text_size), round(text_size * 1.45)


def _fit_text(label: Label, text_size: int, size: tuple[int, int]) -> tuple[str, int, int] | None:
    """Shorten a text until its label fits into the picture; None if not even one letter does."""
    text = label.text
    width, height = _width_and_height(label, text, text_size)
    if height > size[1]:
        return None
    kept = len(text)
    while width > size[0]:
        kept = min(kept - 1, int(kept * size[0] / width))
        if kept < 1:
            return None
        text = label.text[:kept].rstrip() + "…"
        width, height = _width_and_height(label, text, text_size)
    return text, width, height


def _places(label: Label, width: int, height: int, size: tuple[int, int], text_size: int) -> Iterator[tuple[int, int]]:
    """Left top corners to try, from the best outwards on a spiral, each moved into the picture."""
    start = _first_place(label, width, height)
    seen: set[tuple[int, int]] = set()
    for ring in range(14):
        points = 1 if ring == 0 else 8 + 4 * ring
        for step in range(points):
            # The first point of a ring lies straight above: names read best over what they name.
            angle = 2 * math.pi * step / points - math.pi / 2
            left = start[0] + math.cos(angle) * ring * text_size * 1.1
            top = start[1] + math.sin(angle) * ring * text_size * 0.8
            place = (
                round(min(max(left, 0), size[0] - width)),
                round(min(max(top, 0), size[1] - height)),
            )
            if place not in seen:
                seen.add(place)
                yield place


def _first_place(label: Label, width: int, height: int) -> tuple[float, float]:
    x, y = label.anchor
    if label.above:
        return x, y - height
    if label.box is not None:
        left, top, right, bottom = label.box
        if (right - left) * (bottom - top) < width * height:
            return x - width / 2, top - height - 4
    return x - width / 2, y - height / 2


def _touch(one: Rectangle, other: Rectangle, gap: int = 1) -> bool:
    apart_x = one[2] + gap <= other[0] or other[2] + gap <= one[0]
    apart_y = one[3] + gap <= other[1] or other[3] + gap <= one[1]
    return not (apart_x or apart_y)


def _draw_leader(draw: ImageDraw.ImageDraw, label: Label, rectangle: Rectangle, text_size: int) -> None:
    """A thin line from a label that had to move away to what it names."""
    x, y = label.anchor
    near = (min(max(x, rectangle[0]), rectangle[2]), min(max(y, rectangle[1]), rectangle[3]))
    if label.above or math.dist(near, (x, y)) < text_size * 0.6:
        return
    width = max(1, round(text_size / 11))
    draw.line([near, (x, y)], fill=(20, 20, 24), width=width + 2)
    draw.line([near, (x, y)], fill=label.colour, width=width)
    radius = max(1.5, text_size / 6)
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=label.colour, outline=(20, 20, 24))


def _tag(label: Label, rectangle: Rectangle, text: str, text_size: int) -> tuple[Image.Image, Rectangle, Image.Image]:
    """The label's picture, where it goes and how much of it shows."""
    width, height = rectangle[2] - rectangle[0], rectangle[3] - rectangle[1]
    large = (width * _SCALE, height * _SCALE)
    background = label.colour if label.strong else (24, 24, 30)
    tag = Image.new("RGB", large, background)
    shown = Image.new("L", large, 0)
    radius = round(text_size * _SCALE * 0.3)
    corners = (0, 0, large[0] - 1, large[1] - 1)
    ImageDraw.Draw(shown).rounded_rectangle(corners, radius, fill=255 if label.strong else 215)
    draw = ImageDraw.Draw(tag)
    start = _padding(text_size) * _SCALE
    if not label.strong:
        spot = text_size * _SCALE * 0.52
        top = (large[1] - spot) / 2
        draw.ellipse((start, top, start + spot, top + spot), fill=label.colour)
        start += round(text_size * _SCALE * 0.85)
    font = font_for(text, text_size * _SCALE)
    left, _, _, _ = text_box(text, font)
    _, top, _, bottom = text_box("Ag", font)
    place = (start - left, (large[1] - (bottom - top)) / 2 - top)
    draw.text(place, drawable(text, font), font=font, fill=ink_on(background))
    small = (width, height)
    return tag.resize(small, Image.Resampling.LANCZOS), rectangle, shown.resize(small, Image.Resampling.LANCZOS)
