"""The shapes of LabelMe, from points to run lengths."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from langhops_cli.data import masks
from langhops_cli.data.masks import BadMaskError, Box, Rle

_POLYGONS = ("polygon", "oriented_rectangle", "rotation")
_WITHOUT_AREA = ("point", "points", "line", "linestrip")
_CORNERS = 128
"""Corners of the polygon that stands for a circle."""
_FAULTS = (
    OSError, ValueError, SyntaxError, TypeError, EOFError, LookupError, OverflowError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip


def draw(shape: dict[str, Any], size: tuple[int, int], *, boxes: bool = False) -> tuple[Rle | None, Box | None]:
    """Turn a shape into a mask, or into a box.

    Args:
        shape: as in a LabelMe file: `shape_type`, `points` in pixels, and `mask` for stored pixels.
        size: (width, height) of the picture in pixels.
        boxes: rectangles are boxes.

    Returns:
        The run lengths or the box, the other one None.

    Raises:
        BadMaskError: the shape has no area, is malformed or outside the picture.
    """
    width, height = size
    kind = shape.get("shape_type") or "polygon"
    if kind in _WITHOUT_AREA:
        raise BadMaskError("point or line, which has no area")
    points = _points(shape.get("points"))
    if kind == "mask":
        return _stored(shape.get("mask"), points, size), None
    if kind == "circle":
        points = _circle(points)
    elif kind == "rectangle":
        if len(points) not in (2, 4):
            raise BadMaskError("rectangle without two corners")
        (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        if boxes:
            return None, masks.to_box([left, top, right - left, bottom - top], height, width)
        points = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    elif kind not in _POLYGONS:
        raise BadMaskError("shape of an unknown type")
    return masks.to_rle([points.ravel().tolist()], height, width)[0], None


def _points(points: Any) -> np.ndarray:
    """Points, (n, 2)."""
    if not isinstance(points, list) or not points:
        raise BadMaskError("shape without points")
    if not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise BadMaskError("points that are no pairs of coordinates")
    flat = [value for point in points for value in point]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in flat):
        raise BadMaskError("points with coordinates that are no numbers")
    try:
        values = np.array([float(value) for value in flat])
    except OverflowError:
        raise BadMaskError("points with coordinates that are no numbers") from None
    if not np.isfinite(values).all():
        raise BadMaskError("points with coordinates that are no numbers")
    return values.reshape(-1, 2)


def _circle(points: np.ndarray) -> np.ndarray:
    """Corners on the circle around the first point through the second one, (n, 2)."""
    if len(points) != 2:
        raise BadMaskError("circle without a centre and a point on its rim")
    radius = math.dist(*points)
    angles = np.arange(_CORNERS) * (2 * math.pi / _CORNERS)
    return points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _stored(text: Any, points: np.ndarray, size: tuple[int, int]) -> Rle:
    """A mask that is stored as a PNG file in base64, placed with its corner at the first of the points."""
    width, height = size
    if not isinstance(text, str):
        raise BadMaskError("mask shape without its pixels")
    try:
        with Image.open(BytesIO(base64.b64decode(text)), formats=("PNG",)) as image:
            # A few bytes can unfold to gigabytes: nothing is decoded that does not fit the picture.
            if image.width > width + 1 or image.height > height + 1:
                raise BadMaskError("stored mask larger than the picture")
            patch = np.asarray(image.convert("L") if image.mode in ("RGB", "RGBA", "LA") else image) != 0
    except BadMaskError:
        raise
    except _FAULTS:
        raise BadMaskError("stored mask that is no PNG picture") from None
    left, top = (round(value) for value in points.min(axis=0).tolist())
    mask = np.zeros((height, width), bool)
    rows, columns = slice(max(top, 0), top + patch.shape[0]), slice(max(left, 0), left + patch.shape[1])
    if top + patch.shape[0] <= 0 or left + patch.shape[1] <= 0 or top >= height or left >= width:
        raise BadMaskError("stored mask outside the picture")
    inside = mask[rows, columns]
    inside |= patch[max(-top, 0) :, max(-left, 0) :][: inside.shape[0], : inside.shape[1]]
    if not mask.any():
        raise BadMaskError("empty mask")
    return masks.encode(mask)
