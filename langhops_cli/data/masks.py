"""Segmentations of COCO files turned into compressed run lengths, each fault with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

Rle = dict[str, Any]
"""`{"size": [height, width], "counts": text}`: compressed run lengths as in COCO JSON."""


class BadMaskError(ValueError):
    """A segmentation that cannot be used; the message is the reason under which it is counted."""


def to_rle(segmentation: Any, height: int, width: int) -> tuple[Rle, int]:
    """Turn any COCO segmentation into compressed run lengths.

    Args:
        segmentation: polygons, uncompressed or compressed run lengths.
        height: height of the picture in pixels; width: its width.

    Returns:
        The run lengths, and the number of polygons left out for having fewer than three points.

    Raises:
        BadMaskError: the mask is missing, malformed, empty or outside the picture.
    """
    if isinstance(segmentation, list):
        rle, short = _from_polygons(segmentation, height, width)
    elif isinstance(segmentation, dict):
        rle, short = _from_runs(segmentation, height, width), 0
    else:
        raise BadMaskError("no mask")
    if not coco_mask.area(rle):
        raise BadMaskError("empty mask")
    return as_text(rle), short


def _from_polygons(polygons: list[Any], height: int, width: int) -> tuple[Rle, int]:
    if not polygons:
        raise BadMaskError("no mask")
    if all(isinstance(value, int | float) for value in polygons):
        polygons = [polygons]
    whole = [polygon for polygon in polygons if isinstance(polygon, list) and len(polygon) >= 6]
    if not whole:
        raise BadMaskError("polygon of fewer than three points")
    for polygon in whole:
        if len(polygon) % 2:
            raise BadMaskError("polygon with an odd number of coordinates")
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in polygon):
            raise BadMaskError("polygon with coordinates that are no numbers")
        xs, ys = polygon[::2], polygon[1::2]
        if max(xs) <= 0 or max(ys) <= 0 or min(xs) >= width or min(ys) >= height:
            raise BadMaskError("polygon outside the picture")
        # The rasteriser walks along every edge: coordinates of a wrong scale would take all memory.
        if min(xs) < -width or min(ys) < -height or max(xs) > 2 * width or max(ys) > 2 * height:
            raise BadMaskError("polygon far beyond the picture's edge")
    runs = coco_mask.frPyObjects(whole, height, width)
    return coco_mask.merge(runs), len(polygons) - len(whole)


def _from_runs(runs: dict[str, Any], height: int, width: int) -> Rle:
    counts, size = runs.get("counts"), runs.get("size")
    if size is None or list(size) != [height, width]:
        raise BadMaskError("mask of another size than the picture")
    if isinstance(counts, list):
        if not all(isinstance(run, int) and run >= 0 for run in counts) or sum(counts) != height * width:
            raise BadMaskError("run lengths that do not fill the picture")
        return coco_mask.frPyObjects(runs, height, width)
    if not isinstance(counts, str | bytes):
        raise BadMaskError("no mask")
    rle = {"size": [height, width], "counts": counts.encode() if isinstance(counts, str) else counts}
    try:
        decoded = coco_mask.decode(rle)
    except (ValueError, TypeError):
        raise BadMaskError("run lengths that do not fill the picture") from None
    # Encoded again: two writers may spell the same mask differently, and a fingerprint should not see it.
    return coco_mask.encode(decoded)


def as_text(rle: Rle) -> Rle:
    """Run lengths with plain lists and text, as JSON wants them."""
    counts = rle["counts"]
    return {
        "size": [int(side) for side in rle["size"]],
        "counts": counts.decode() if isinstance(counts, bytes) else counts,
    }


def union(masks: Sequence[Rle]) -> Rle:
    """Run lengths of all pixels that are in any of the masks."""
    return as_text(coco_mask.merge(list(masks)))


def area(rle: Rle) -> int:
    """Pixels of a mask."""
    return int(coco_mask.area(rle))


def box_xywh(rle: Rle) -> list[float]:
    """Box around a mask: left, top, width, height in pixels."""
    return [float(value) for value in coco_mask.toBbox(rle)]


def box_xyxy(rle: Rle) -> tuple[float, float, float, float]:
    """Box around a mask: left, top, right, bottom in pixels."""
    left, top, width, height = box_xywh(rle)
    return left, top, left + width, top + height


def share_inside(parts: Sequence[Rle], objects: Sequence[Rle]) -> np.ndarray:
    """How much of each part lies in each object.

    Returns:
        (parts, objects), shares of the part's own area in 0..1.
    """
    # With `iscrowd` the "IoU" of pycocotools is the intersection over the first mask's area.
    return np.asarray(coco_mask.iou(list(parts), list(objects), [1] * len(objects))).reshape(len(parts), len(objects))


def decode(rle: Rle, *, height: int, width: int) -> np.ndarray:
    """Decode run lengths to (height, width) uint8 0/1, picking the nearest pixels where that is smaller.

    The array lies column by column in memory, as run lengths do; turning it round would cost more than decoding.
    """
    mask = coco_mask.decode(rle)
    if mask.shape == (height, width):
        return mask
    return pick(mask, centres(mask.shape[0], height), centres(mask.shape[1], width))


def pick(mask: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The mask at these rows and columns, (rows, columns)."""
    # Whole columns are copied first, which is one block of memory each in a decoded mask.
    return mask.T[columns].take(rows, axis=1).T


def centres(source: int, target: int) -> np.ndarray:
    """Index of the source pixel under the centre of each target pixel."""
    return np.minimum(((np.arange(target) + 0.5) * (source / target)).astype(np.int64), source - 1)
