"""Generated scenes as pixels: smooth edges in the picture, and each pixel given to the part that covers most of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from langhops_cli.data.generated.figures.outlines import Piece, stencil
from langhops_cli.data.generated.paint import Paint, lay_on
from langhops_cli.data.generated.scenes import Composition, Thing

OVERSAMPLING = 3
"""Edges are drawn this many times finer than the picture."""


@dataclass(frozen=True)
class Scene:
    """A generated picture.

    Args:
        pixels: RGB, (S, S, 3), uint8.
        part: number of the part seen at each pixel over all objects, -1 for the background, (S, S).
        objects: name of each object.
        parts: number of its object and name of each part.
    """

    pixels: np.ndarray
    part: np.ndarray
    objects: list[str]
    parts: list[tuple[int, str]]


def render(scene: Composition, size: int) -> Scene:
    """Draw a scene.

    Args:
        scene: what it shows.
        size: side in pixels.
    """
    drawn = _Canvas(size, scene)
    for number, (paint, top) in enumerate(scene.backdrops):
        drawn.fill(paint, top if number else 0.0)
    for thing in scene.behind:
        drawn.add(thing)
    drawn.blur(scene.haze)
    for thing in scene.things:
        drawn.shade(thing)
        drawn.add(thing)
    return Scene(drawn.finish(), drawn.part, drawn.objects, drawn.parts)


class _Canvas:
    def __init__(self, size: int, scene: Composition) -> None:
        self.size = size
        self.scene = scene
        self.pixels = np.empty((3, size, size), np.float32)
        self.part = np.full((size, size), -1, np.int16)
        self.places = ((np.arange(size) + 0.5) / size).astype(np.float32)
        self.objects: list[str] = []
        self.parts: list[tuple[int, str]] = []

    def fill(self, paint: Paint, top: float) -> None:
        """Paint the picture from a height on downwards."""
        start = round(top * self.size)
        self.pixels[:, start:] = lay_on(paint, self.places - 0.5, self.places[start:] - 0.5)

    def blur(self, radius: float) -> None:
        """Blur all that was drawn so far."""
        if radius:
            picture = self._picture().filter(ImageFilter.GaussianBlur(radius * self.size))
            self.pixels[:] = np.asarray(picture).transpose(2, 0, 1)

    def _picture(self) -> Image.Image:
        return Image.merge("RGB", [Image.fromarray(plane) for plane in np.clip(self.pixels, 0, 255).astype(np.uint8)])

    def shade(self, thing: Thing) -> None:
        """Darken what lies in a thing's shadow."""
        if not self.scene.shadow:
            return
        side = max(32, self.size // 4)
        away = -0.06 * thing.scale * self.scene.light
        dark = stencil(thing.pieces, (side, side), scale=side, shift=away)
        soft = dark.filter(ImageFilter.GaussianBlur(0.012 * side)).resize((self.size, self.size))
        self.pixels *= 1 - np.float32(self.scene.shadow / 255) * np.asarray(soft)

    def add(self, thing: Thing) -> None:
        """Draw a thing over all that was drawn so far."""
        if thing.kind is not None:
            self.objects.append(thing.kind)
        for piece, paint in zip(thing.pieces, thing.paints, strict=True):
            mine = -1
            if thing.kind is not None:
                if piece.tone is None:
                    self.parts.append((len(self.objects) - 1, piece.name))
                mine = len(self.parts) - 1
            self._draw(thing, piece, paint, mine)

    def _draw(self, thing: Thing, piece: Piece, paint: Paint, mine: int) -> None:
        stamp = _Stamp.of(piece, self.size)
        window = stamp.window(self.size)
        if window is None:
            return
        here, inner = window
        cover = stamp.cover[inner]
        colours = lay_on(
            paint,
            (self.places[here[1]] - np.float32(thing.centre[0])) / np.float32(thing.scale),
            (self.places[here[0]] - np.float32(thing.centre[1])) / np.float32(thing.scale),
        )
        share = cover * np.float32(1 / 255)
        numbers = self.part[here]
        if piece.tone is not None and mine >= 0:
            share *= numbers == mine
        else:
            colours = colours * self._light(thing, stamp, inner)
            numbers[cover >= 128] = mine
        below = self.pixels[:, *here]
        below += (colours - below) * share

    def _light(self, thing: Thing, stamp: _Stamp, inner: tuple[slice, slice]) -> np.ndarray:
        """How bright each pixel of a piece is: lit on one side, dark on the other and along its edge, (h, w)."""
        cover = Image.fromarray(stamp.cover)
        rounded = cover.filter(ImageFilter.GaussianBlur(0.6 * stamp.margin))
        across, down = (round(stamp.margin * float(value)) for value in self.scene.light)
        lit = ImageChops.subtract(
            ImageChops.offset(rounded, across, down), ImageChops.offset(rounded, -across, -down), scale=2, offset=128
        )
        bright = np.asarray(Image.blend(lit, rounded, 0.2))[inner] * np.float32(1.2 * thing.relief / 255)
        bright += np.float32(1 - 0.7 * thing.relief)
        if thing.line:
            near = np.asarray(cover.filter(ImageFilter.BoxBlur(0.006 * self.size)))[inner]
            bright *= 1 - np.float32(thing.line) * np.clip(3.6 - near * np.float32(4.2 / 255), 0, 1)
        return bright

    def finish(self) -> np.ndarray:
        """The picture with its light and its grain, (S, S, 3), uint8."""
        across, down = self.scene.light * self.scene.glow
        glow = 1 + np.float32(across) * (self.places - 0.5) + np.float32(down) * (self.places[:, None] - 0.5)
        self.pixels *= glow
        if self.scene.grain:
            draw = np.random.default_rng(self.scene.seed)
            grain = draw.random((self.size, self.size), dtype=np.float32) - np.float32(0.5)
            self.pixels += np.float32(2 * self.scene.grain) * grain
        return np.asarray(self._picture())


@dataclass(frozen=True)
class _Stamp:
    """How much of each pixel a piece covers.

    Args:
        cover: 0..255, (h, w), with an empty margin all around.
        left: column of the picture that it starts at; top: row.
        margin: in pixels.
    """

    cover: np.ndarray
    left: int
    top: int
    margin: int

    @classmethod
    def of(cls, piece: Piece, size: int) -> _Stamp:
        points = np.concatenate(piece.outlines) * size
        low, high = points.min(axis=0), points.max(axis=0)
        margin = 2 + int(0.12 * min(float((high - low).min()), 0.25 * size))
        left, top = (int(value) for value in np.floor(low) - margin)
        width, height = (int(value) for value in np.ceil(high) + margin - (left, top))
        scale = size * OVERSAMPLING
        # The rasteriser counts from the middle of the first pixel.
        shift = -np.array([left, top]) / size - 0.5 / scale
        fine = stencil([piece], (width * OVERSAMPLING, height * OVERSAMPLING), scale=scale, shift=shift)
        return cls(np.asarray(fine.reduce(OVERSAMPLING)), left, top, margin)

    def window(self, size: int) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
        """The rows and columns of the picture that it touches, and the same counted from its own corner."""
        height, width = self.cover.shape
        rows = slice(max(0, self.top), min(size, self.top + height))
        columns = slice(max(0, self.left), min(size, self.left + width))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return None
        inner = (
            slice(rows.start - self.top, rows.stop - self.top),
            slice(columns.start - self.left, columns.stop - self.left),
        )
        return (rows, columns), inner
