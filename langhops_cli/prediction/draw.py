"""A picture with what was found in it: objects outlined, parts filled, names written."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from langhops_cli.prediction.colours import Colour, colours_of
from langhops_cli.prediction.labels import Label, write_labels
from langhops_cli.prediction.results import Box, Detection, Prediction

MOST_PIXELS = 2_500_000
"""A larger picture is drawn on smaller: an overlay is for looking at, the masks keep every pixel."""
FEWEST_PIXELS = 160_000
"""A smaller picture is drawn on enlarged by a whole factor, up to 4, so that names can be read."""
LONGEST_SIDE = 16_000
SAME_LABELS = 4
"""So many parts of one name and one object are labelled; forty windows look alike, their colour says the rest."""

_FILL_PART, _FILL_OBJECT = 0.46, 0.22
_HALO = 1.6
"""Pixels that the dark rim of an object's outline reaches beyond it."""


def draw_overlay(
    image: Image.Image, prediction: Prediction, *, names: Sequence[str] = (), scores: bool = True
) -> Image.Image:
    """Draw a prediction on its picture.

    Args:
        image: the picture as it came, of the prediction's size.
        prediction: what was found in it.
        names: all names of the vocabulary, so that a name has one colour in every picture.
        scores: write the score of an object behind its name.

    Returns:
        A new RGB picture; a large one comes back smaller, a tiny one larger.

    Raises:
        ValueError: the picture is not of the prediction's size.
    """
    if (image.height, image.width) != tuple(prediction.size):
        given, wanted = (f"{width} x {height}" for height, width in ((image.height, image.width), prediction.size))
        raise ValueError(f"{prediction.picture}: the picture is {given}, the prediction is of one of {wanted} pixels")
    size = overlay_size(image.size)
    canvas = np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS), dtype=np.float32).copy()
    colours = colours_of([*names, *(found.name for found in prediction)])
    line = max(1.6, math.sqrt(size[0] * size[1]) / 320)
    with_parts = {found.parent for found in prediction}
    shapes = [Shape.of(found, size, margin=math.ceil(3 * line) + 6) for found in prediction]
    # Large ones first, so that small parts lie on top.
    by_area = sorted(range(len(prediction)), key=lambda index: -prediction[index].area)
    for index in by_area:
        if prediction[index].level == "part":
            _paint(canvas, shapes[index], colours[prediction[index].name], fill=_FILL_PART, line=line * 0.45)
        elif index not in with_parts:
            _fill(canvas, shapes[index], colours[prediction[index].name], fill=_FILL_OBJECT, softness=line / 3)
    for index in by_area:  # last, so that no part hides the outline of an object
        if prediction[index].level == "object":
            _paint(canvas, shapes[index], colours[prediction[index].name], line=line, halo=True)
    drawn = Image.fromarray(canvas.round().clip(0, 255).astype(np.uint8))
    write_labels(drawn, _labels(prediction, shapes, colours, scores=scores), text_size=label_height(size))
    return drawn


def overlay_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the overlay of a picture of this width and height."""
    pixels = size[0] * size[1]
    factor = min(1.0, math.sqrt(MOST_PIXELS / pixels), LONGEST_SIDE / max(size))
    if pixels < FEWEST_PIXELS and max(size) <= LONGEST_SIDE // 4:
        factor = min(4, math.ceil(math.sqrt(FEWEST_PIXELS / pixels)))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def label_height(size: tuple[int, int]) -> int:
    """Height of text in pixels on an overlay of this width and height: follows the picture, stays legible."""
    return round(min(max(math.sqrt(size[0] * size[1]) / 48, 11), 34))


@dataclass(frozen=True)
class Shape:
    """A mask at the overlay's size.

    Args:
        rows, columns: the window it lies in, with a margin.
        shares: how much of each of the window's pixels it covers, uint8 in 0..255.
        box: left, top, right, bottom around it in pixels of the overlay.
    """

    rows: slice
    columns: slice
    shares: NDArray[np.uint8]
    box: Box

    @classmethod
    def of(cls, found: Detection, size: tuple[int, int], *, margin: int) -> Shape:
        """Bring an instance's mask to an overlay of this width and height, with a margin of so many pixels."""
        height, width = found.size
        scale_x, scale_y = size[0] / width, size[1] / height
        left, top, right, bottom = found.box
        box = left * scale_x, top * scale_y, right * scale_x, bottom * scale_y
        rows = _window(box[1], box[3], size[1], margin)
        columns = _window(box[0], box[2], size[0], margin)
        # On its side, since masks lie column by column in memory: a large one would be slow to turn.
        mask = Image.fromarray(found.mask.T.astype(np.uint8) * 255)
        source = (rows.start / scale_y, columns.start / scale_x, rows.stop / scale_y, columns.stop / scale_x)
        source = (source[0], source[1], min(source[2], height), min(source[3], width))
        wanted = (rows.stop - rows.start, columns.stop - columns.start)
        shares = np.asarray(mask.resize(wanted, Image.Resampling.BILINEAR, box=source, reducing_gap=2.0)).T
        return cls(rows, columns, np.ascontiguousarray(shares), box)

    def blurred(self, radius: float) -> NDArray[np.float32]:
        """The shares in 0..1, smoothed by this many pixels."""
        smooth = Image.fromarray(self.shares).filter(ImageFilter.GaussianBlur(radius))
        return np.asarray(smooth, dtype=np.float32) / np.float32(255)

    def middle(self) -> tuple[float, float]:
        """A point on the overlay, x and y, where the shape is thick: there a name reads best."""
        height, width = self.shares.shape
        radius = math.ceil(math.sqrt(height * width) / 8)
        # Outside the picture counts as outside the shape, so that the point keeps away from the picture's edge.
        wide = Image.fromarray(np.pad(self.shares, radius)).filter(ImageFilter.GaussianBlur(radius))
        thick = np.asarray(wide)[radius:-radius, radius:-radius] * (self.shares > 127)
        row, column = np.unravel_index(int(thick.argmax()), thick.shape)
        return self.columns.start + float(column) + 0.5, self.rows.start + float(row) + 0.5


def _window(first: float, last: float, side: int, margin: int) -> slice:
    return slice(max(0, math.floor(first) - margin), min(side, math.ceil(last) + margin))


def _fill(canvas: NDArray[np.float32], shape: Shape, colour: Colour, *, fill: float, softness: float) -> None:
    _blend(canvas[shape.rows, shape.columns], colour, shape.blurred(max(0.7, softness)) * fill)


def _paint(
    canvas: NDArray[np.float32], shape: Shape, colour: Colour, *, line: float, fill: float = 0.0, halo: bool = False
) -> None:
    """Blend one shape's fill and smooth outline into the canvas; a halo sets the outline off from any background."""
    if fill:
        _fill(canvas, shape, colour, fill=fill, softness=line / 3)
    area = canvas[shape.rows, shape.columns]
    reach = line / 2 + (_HALO if halo else 0.5)
    # Near an edge the blurred mask rises by 1 / (sigma sqrt(2 pi)) a pixel, which gives the distance to the edge;
    # it tells distances up to 1.25 sigma, so sigma follows from how far the line and its halo reach.
    sigma = max(1.2, 1.3 * line, reach)
    distance = np.abs(shape.blurred(sigma) - 0.5) * sigma * math.sqrt(2 * math.pi)
    if halo:
        _blend(area, (16, 16, 20), (reach - distance).clip(0, 1) * 0.55)
    _blend(area, colour, (line / 2 + 0.5 - distance).clip(0, 1))


def _blend(area: NDArray[np.float32], colour: Colour, share: NDArray[np.float32]) -> None:
    area += (np.asarray(colour, dtype=np.float32) - area) * share[..., None]


def _labels(prediction: Prediction, shapes: list[Shape], colours: dict[str, Colour], *, scores: bool) -> list[Label]:
    """Objects with their scores first, then the best parts of each name, large ones before small ones."""
    labels, parts = [], []
    seen: Counter[tuple[int | None, str]] = Counter()
    for index in sorted(range(len(prediction)), key=lambda index: -prediction[index].score):
        found, shape = prediction[index], shapes[index]
        colour = colours[found.name]
        if found.level == "object":
            anchor = shape.box[:2]
            text = found.name if found.track is None else f"{found.name} #{found.track}"
            text = f"{text} {found.score:.2f}" if scores else text
            labels.append(Label(text, colour, anchor, strong=True, above=True))
            continue
        seen[found.parent, found.name] += 1
        if seen[found.parent, found.name] <= SAME_LABELS:
            parts.append((found.area, Label(found.name, colour, shape.middle(), box=shape.box)))
    return labels + [label for _, label in sorted(parts, key=lambda pair: -pair[0])]
