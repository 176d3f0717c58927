"""What figures are made of: smooth closed curves, tubes with joints, boxes, and the pieces that bear names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

Outline = np.ndarray
"""Corner points, (N, 2) as (x, y), x to the right, y down."""
Point = tuple[float, float]

_STEPS = np.arange(5)[:, None] / 5
_HERMITE = np.hstack(
    [
        1 - 3 * _STEPS**2 + 2 * _STEPS**3,
        3 * _STEPS**2 - 2 * _STEPS**3,
        _STEPS - 2 * _STEPS**2 + _STEPS**3,
        _STEPS**3 - _STEPS**2,
    ]
)
"""Weights of two neighbouring points and of the slopes there, at five places between them, (5, 4)."""
_CIRCLE = np.stack([np.cos(np.arange(24) * np.pi / 12), np.sin(np.arange(24) * np.pi / 12)], axis=1)
_TUBE_STRETCH = 6
"""Points of a tube that are outlined together: few enough that the outline does not cross itself in a bend."""


@dataclass(frozen=True)
class Piece:
    """One instance of a part, or a detail of the piece before it.

    Args:
        name: of the part; empty for a detail, such as an eye, which is painted and belongs to the piece before it.
        outlines: what is filled.
        holes: what is cut out again.
        tone: brightness 0..1 of a detail that is painted plainly; None for the texture of the part.
    """

    name: str
    outlines: tuple[Outline, ...]
    holes: tuple[Outline, ...] = ()
    tone: float | None = None


Figure = list[Piece]
"""Pieces from the farthest to the nearest; a name may stand several times."""


def part(name: str, *outlines: Outline, holes: Sequence[Outline] = ()) -> Piece:
    """A named piece made of everything inside the outlines but not inside the holes."""
    return Piece(name, outlines, tuple(holes))


def detail(tone: float, *outlines: Outline) -> Piece:
    """A plainly painted detail of the piece before it."""
    return Piece("", outlines, tone=tone)


def stencil(pieces: Sequence[Piece], side: tuple[int, int], *, scale: float, shift: np.ndarray) -> Image.Image:
    """What the pieces cover: 255 there and 0 elsewhere, a grey picture.

    Args:
        pieces: what to draw.
        side: width and height in pixels.
        scale: pixels a unit; shift: is added to all points before, (2,).
    """
    canvas = Image.new("L", side)
    pen = ImageDraw.Draw(canvas)
    # What has holes comes first: others may be seen in them.
    for piece in sorted(pieces, key=lambda piece: not piece.holes):
        for outlines, fill in ((piece.outlines, 255), (piece.holes, 0)):
            for outline in outlines:
                pen.polygon(((outline + shift) * scale).ravel().tolist(), fill=fill)
    return canvas


def smooth(points: Sequence[Point] | np.ndarray, *, closed: bool = True) -> Outline:
    """A smooth curve through the points; a point given twice is a corner.

    Args:
        points: at least three, (N, 2).
        closed: whether it returns to the first point.
    """
    through = np.asarray(points, dtype=np.float64)
    after = np.concatenate([through[1:], through[:1]])
    steps = after - through
    if not closed:
        steps[-1] = 0
    before = np.concatenate([steps[-1:], steps[:-1]])
    # A slope no longer than the shorter step beside it keeps the curve from swinging out; a corner has none.
    slopes = (steps + before) / 2
    shorter = np.minimum(np.hypot(*steps.T), np.hypot(*before.T))
    slopes *= np.minimum(1, shorter / np.maximum(np.hypot(*slopes.T), 1e-12))[:, None]
    corners = np.stack([through, after, slopes, np.concatenate([slopes[1:], slopes[:1]])], axis=1)
    curve = (_HERMITE @ (corners if closed else corners[:-1])).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, through[-1:]])


def ellipse(x: float, y: float, rx: float, ry: float | None = None, angle: float = 0.0) -> Outline:
    """An ellipse around (x, y), a circle without `ry`, turned by `angle` in radians."""
    return _CIRCLE * (rx, rx if ry is None else ry) @ rotation(angle).T + (x, y)


def box(left: float, top: float, right: float, bottom: float, corner: float = 0.0) -> Outline:
    """A rectangle, with corners cut off by `corner`."""
    if not corner:
        return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    inner = [(left + corner, top), (right - corner, top), (right, top + corner), (right, bottom - corner)]
    return np.array(
        [*inner, (right - corner, bottom), (left + corner, bottom), (left, bottom - corner), (left, top + corner)]
    )


def polygon(*points: Point) -> Outline:
    """Straight lines from point to point."""
    return np.array(points, dtype=np.float64)


def tube(points: Sequence[Point] | np.ndarray, widths: Sequence[float] | np.ndarray) -> tuple[Outline, ...]:
    """A limb: a smooth line through the points with a width that changes along it, and round ends.

    Args:
        points: at least two, (N, 2).
        widths: along the line, evenly spread.
    """
    line = smooth(points, closed=False)
    steps = np.linspace(0, 1, len(line))
    half = np.interp(steps, np.linspace(0, 1, len(widths)), widths)[:, None] / 2
    along = np.gradient(line, axis=0)
    across = along[:, ::-1] * (-1, 1) / np.maximum(np.hypot(*along.T), 1e-9)[:, None] * half
    left, right = line + across, line - across
    starts = range(0, len(line) - 1, _TUBE_STRETCH - 1)
    stretches = [
        np.concatenate([left[start : start + _TUBE_STRETCH], right[start : start + _TUBE_STRETCH][::-1]])
        for start in starts
    ]
    ends = [ellipse(0, 0, float(half[place, 0])) + line[place] for place in (0, -1)]
    return (*stretches, *ends)


def bar(start: Point, end: Point, width: float) -> Outline:
    """A straight bar with square ends."""
    first, last = np.array(start), np.array(end)
    along = (last - first) / max(float(np.hypot(*(last - first))), 1e-9)
    across = along[::-1] * (-1, 1) * width / 2
    return np.stack([first + across, last + across, last - across, first - across])


def joints(start: Point, lengths: Sequence[float], angles: Sequence[float] | np.ndarray) -> list[Point]:
    """Where the joints of a limb lie.

    Args:
        start: where it hangs from.
        lengths: of its bones.
        angles: of its bones in radians, 0 is downwards, positive to the right.
    """
    found = [start]
    for length, angle in zip(lengths, angles, strict=True):
        x, y = found[-1]
        found.append((x + length * float(np.sin(angle)), y + length * float(np.cos(angle))))
    return found


def mirrored(half: Sequence[Point], *, rounded: bool = True) -> Outline:
    """The outline of something symmetric.

    Args:
        half: the right side from top to bottom, x > 0.
        rounded: whether the points are joined smoothly.
    """
    right = np.asarray(half, dtype=np.float64)
    whole = np.concatenate([right, right[::-1] * (-1, 1)])
    return smooth(whole) if rounded else whole


def flipped(outlines: Sequence[Outline]) -> tuple[Outline, ...]:
    """The outlines with left and right exchanged."""
    return tuple(outline * (-1, 1) for outline in outlines)


def moved(outlines: Sequence[Outline], angle: float, x: float = 0.0, y: float = 0.0) -> tuple[Outline, ...]:
    """The outlines turned around the origin by `angle` in radians and then moved."""
    turn = rotation(angle).T
    return tuple(outline @ turn + (x, y) for outline in outlines)


def rotation(angle: float) -> np.ndarray:
    """The matrix that turns points (x, y) by `angle` in radians."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
