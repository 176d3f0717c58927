"""Colours and textures of the generated scenes: patterns over a plane, the same at any resolution."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from PIL import Image

TEXTURES = ("plain", "gradient", "stripes", "soft stripes", "zigzag", "checks", "bricks", "spots", "noise", "wood")
_SHARES = np.cumsum([0.24, 0.12, 0.1, 0.07, 0.05, 0.06, 0.05, 0.09, 0.12, 0.1])
_NOISY = {"noise", "wood", "stripes"}
_CELLS = 16


@dataclass(frozen=True)
class Paint:
    """Two colours and how they mix.

    Args:
        colours: (2, 3), 0..255.
        texture: one of TEXTURES.
        angle: of the pattern in radians.
        frequency: repeats along one unit of the plane.
        phase: where the pattern starts, 0..1.
        lattice: random values, (16, 16), 0..1; None where the texture needs none.
    """

    colours: np.ndarray
    texture: str = "plain"
    angle: float = 0.0
    frequency: float = 1.0
    phase: float = 0.0
    lattice: np.ndarray | None = None


def mix_colour(draw: np.random.Generator, *, vivid: float = 0.9, unlike: np.ndarray | None = None) -> np.ndarray:
    """Any colour: all hues, from grey to bright and from dark to light, (3,), 0..255.

    Args:
        vivid: the most saturation, 0..1.
        unlike: a colour that it is mostly told apart from.
    """
    for _ in range(3):
        hue, saturation, light = draw.random(3)
        colour = 255 * np.array(colorsys.hsv_to_rgb(hue, vivid * saturation, 0.12 + 0.88 * light))
        if unlike is None or np.abs(colour - unlike).sum() > 150:
            break
    return colour


def mix_paint(draw: np.random.Generator, colour: np.ndarray) -> Paint:
    """A paint of this colour, with a second one and a texture drawn at random."""
    texture = TEXTURES[int(np.searchsorted(_SHARES, draw.random() * _SHARES[-1]))]
    form = draw.random()
    if form < 0.45:
        second = colour * draw.uniform(0.4, 0.8)
    elif form < 0.7:
        second = colour + (255 - colour) * draw.uniform(0.3, 0.75)
    else:
        second = mix_colour(draw)
    angle, frequency, phase = draw.random(3)
    lattice = draw.random((_CELLS, _CELLS), dtype=np.float32)
    return Paint(
        np.stack([colour, second]).astype(np.float32),
        texture,
        angle=float(2 * np.pi * angle),
        frequency=float(3 * 7**frequency),
        phase=float(phase),
        lattice=lattice if texture in _NOISY else None,
    )


def plain(colour: np.ndarray) -> Paint:
    """One colour everywhere."""
    return Paint(np.stack([colour, colour]).astype(np.float32))


def lay_on(paint: Paint, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """The colours of a rectangle of pixels.

    Args:
        across: where the columns lie on the plane of the pattern, (W,), float32; down: the rows, (H,).

    Returns:
        (3, H, W), or (3, 1, 1) where all are the same; float32, 0..255. A plane for each colour: arithmetic with a mask
        is several times faster on planes than on triples.
    """
    first, second = paint.colours[..., None, None]
    if paint.texture == "plain":
        return first
    return first + (second - first) * _mix(paint, across, down)


def _mix(paint: Paint, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Share of the second colour, (H, W), 0..1."""
    if paint.texture == "noise":
        return np.clip(1.6 * _noise(paint.lattice, len(across), len(down)) - 0.3, 0, 1)
    cosine, sine = np.float32(np.cos(paint.angle)), np.float32(np.sin(paint.angle))
    first = across * cosine + (down * sine)[:, None]
    if paint.texture == "gradient":
        return np.clip(0.5 + first, 0, 1)
    repeats, start = np.float32(paint.frequency), np.float32(paint.phase)
    along = first * repeats + start
    if paint.texture == "soft stripes":
        return 0.5 + 0.5 * np.sin(6.2832 * along)
    if paint.texture == "stripes":
        along += 0.7 * _noise(paint.lattice, len(across), len(down))
        return np.clip(0.5 + 4 * np.sin(6.2832 * along), 0, 1)
    if paint.texture == "wood":
        wave = np.sin(6.2832 * (0.6 * along + 1.6 * _noise(paint.lattice, len(across), len(down))))
        return 0.5 + 0.5 * wave * np.abs(wave)
    beside = (across * -sine + (down * cosine)[:, None]) * repeats
    if paint.texture == "zigzag":
        return np.clip(0.5 + 4 * np.sin(6.2832 * (along + np.abs(beside % 1 - 0.5))), 0, 1)
    if paint.texture == "checks":
        return np.clip(0.5 + 8 * np.sin(3.1416 * along) * np.sin(3.1416 * beside), 0, 1)
    row = np.floor(beside)
    cell = (along * (0.5 if paint.texture == "bricks" else 1.0) + 0.5 * (row % 2)) % 1 - 0.5
    rise = beside - row - 0.5
    if paint.texture == "bricks":
        return np.clip(30 * (np.maximum(np.abs(cell), np.abs(rise) - 0.06) - 0.42), 0, 1)
    return np.clip(14 * (0.095 - cell * cell - rise * rise), 0, 1)


def _noise(lattice: np.ndarray | None, width: int, height: int) -> np.ndarray:
    """Smooth random values, coarse and fine ones together, (height, width), about 0..1."""
    assert lattice is not None, "a texture with noise has a lattice"
    image = Image.fromarray(lattice)
    coarse = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box=(0, 0, 5, 5)))
    return 0.65 * coarse + 0.35 * np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
