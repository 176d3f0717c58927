"""Segmentations of COCO files turned into compressed run lengths, each fault with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

Rle = dict[str, Any]
"""`{"size": [height, width], "counts": text}`: compressed run lengths as in COCO JSON."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels; right and bottom lie behind the last pixel."""
LONGEST = 1 << 20
"""Pixels that the outlines of an instance may measure together; the rasteriser takes 80 bytes for each."""
GROUP = 64
"""Masks that are merged at once."""
_NUMBERS = frozenset({int, float, np.float64})


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
    if not any(isinstance(value, list) for value in polygons):
        polygons = [polygons]
    whole = [polygon for polygon in polygons if isinstance(polygon, list) and len(polygon) >= 6]
    if not whole:
        raise BadMaskError("polygon of fewer than three points")
    at_most = 0.0
    for polygon in whole:
        if len(polygon) % 2:
            raise BadMaskError("polygon with an odd number of coordinates")
        if not _are_numbers(polygon):
            raise BadMaskError("polygon with coordinates that are no numbers")
        xs, ys = polygon[::2], polygon[1::2]
        left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
        if right <= 0 or bottom <= 0 or left >= width or top >= height:
            raise BadMaskError("polygon outside the picture")
        # The rasteriser walks along every edge: coordinates of a wrong scale would take all memory.
        if left < -width or top < -height or right > 2 * width or bottom > 2 * height:
            raise BadMaskError("polygon far beyond the picture's edge")
        at_most += len(xs) * (max(right - left, bottom - top) + 1)
    if at_most > LONGEST and sum(map(_outline, whole)) > LONGEST:
        raise BadMaskError(f"polygons with an outline of more than {LONGEST:,} pixels")
    return _merge(coco_mask.frPyObjects(whole, height, width)), len(polygons) - len(whole)


def _are_numbers(values: Sequence[Any]) -> bool:
    try:
        return _NUMBERS.issuperset(map(type, values)) and all(map(math.isfinite, values))
    except OverflowError:  # a whole number that is larger than any float
        return False


def _outline(polygon: list[float]) -> float:
    """Steps that the rasteriser takes around a polygon."""
    points = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()) + len(points)


def _merge(runs: list[Rle]) -> Rle:
    """The union; in groups, as merging one by one takes the square of their number."""
    while len(runs) > GROUP:
        runs = [coco_mask.merge(runs[first : first + GROUP]) for first in range(0, len(runs), GROUP)]
    return coco_mask.merge(runs)


def _from_runs(runs: dict[str, Any], height: int, width: int) -> Rle:
    counts, size = runs.get("counts"), runs.get("size")
    if not isinstance(size, list | tuple) or list(size) != [height, width]:
        raise BadMaskError("mask of another size than the picture")
    if isinstance(counts, list):
        if not all(isinstance(run, int) and 0 <= run <= height * width for run in counts):
            raise BadMaskError("run lengths that do not fill the picture")
        lengths = np.array(counts, dtype=np.int64)
    elif isinstance(counts, str | bytes):
        lengths = _read_counts(counts if isinstance(counts, bytes) else counts.encode("utf-8", "replace"))
    else:
        raise BadMaskError("no mask")
    if lengths.size == 0 or lengths.min() < 0 or lengths.sum() != height * width:
        raise BadMaskError("run lengths that do not fill the picture")
    # Written anew: two writers may spell the same mask differently, and a fingerprint should not see it.
    return coco_mask.frPyObjects({"size": [height, width], "counts": _without_gaps(lengths)}, height, width)


def _read_counts(text: bytes) -> np.ndarray:
    """Run lengths from their compressed form, checked here since pycocotools writes past its memory on a broken one.

    Each number stands in characters of five bits each, the lowest first, with a sixth bit where more follow; from the
    fourth number on it is the difference to the last but one.
    """
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    final = codes & 32 == 0
    if codes.size == 0 or codes.min() < 0 or codes.max() > 63 or not final[-1]:
        raise BadMaskError("run lengths that do not fill the picture")
    ends = np.flatnonzero(final)
    lengths = np.diff(ends, prepend=-1)
    if lengths.max() > 7:
        raise BadMaskError("run lengths that do not fill the picture")
    starts = ends - lengths + 1
    shifts = 5 * (np.arange(codes.size) - np.repeat(starts, lengths))
    numbers = np.add.reduceat((codes & 31) << shifts, starts)
    numbers -= (codes[ends] >> 4 & 1) << (5 * lengths)
    numbers[1::2] = numbers[1::2].cumsum()
    numbers[2::2] = numbers[2::2].cumsum()
    return numbers


def _without_gaps(lengths: np.ndarray) -> np.ndarray:
    """The same runs with none of length 0 but perhaps the first."""
    if lengths[1:].all():
        return lengths
    there = np.flatnonzero(lengths)
    values = there % 2
    firsts = np.flatnonzero(np.diff(values, prepend=1 - values[0]))
    joined = np.add.reduceat(lengths[there], firsts)
    return np.concatenate([[0], joined]) if values[0] else joined


def to_box(bbox: Any, height: int, width: int) -> Box:
    """Turn COCO's left, top, width, height into a box that lies inside the picture.

    Args:
        bbox: four numbers, in pixels.
        height: height of the picture in pixels; width: its width.

    Raises:
        BadMaskError: the numbers are none, or nothing of the box is inside.
    """
    if bbox is None:
        raise BadMaskError("no mask and no box")
    if not isinstance(bbox, list | tuple) or len(bbox) != 4 or not _are_numbers(bbox):
        raise BadMaskError("box with coordinates that are no numbers")
    left, top, across, down = map(float, bbox)
    right, bottom = left + across, top + down
    left, right = max(0.0, left), min(float(width), right)
    top, bottom = max(0.0, top), min(float(height), bottom)
    if right - left < 1 or bottom - top < 1:
        raise BadMaskError("box without a pixel inside the picture")
    return left, top, right, bottom


def encode(mask: np.ndarray) -> Rle:
    """Compressed run lengths of a mask, (height, width), of any type; what is not 0 is set."""
    return as_text(coco_mask.encode(np.asfortranarray(mask != 0).view(np.uint8)))


def as_text(rle: Rle) -> Rle:
    """Run lengths with plain lists and text, as JSON wants them."""
    counts = rle["counts"]
    return {
        "size": [int(side) for side in rle["size"]],
        "counts": counts.decode() if isinstance(counts, bytes) else counts,
    }


def union(masks: Sequence[Rle]) -> Rle:
    """Run lengths of all pixels that are in any of the masks."""
    return as_text(_merge(list(masks)))


def area(rle: Rle) -> int:
    """Pixels of a mask."""
    return int(coco_mask.area(rle))


def box_xywh(rle: Rle) -> list[float]:
    """Box around a mask: left, top, width, height in pixels."""
    return [float(value) for value in coco_mask.toBbox(rle)]


def box_xyxy(rle: Rle) -> Box:
    """Box around a mask."""
    left, top, width, height = box_xywh(rle)
    return left, top, left + width, top + height


def share_inside(parts: Sequence[Rle], objects: Sequence[Rle]) -> np.ndarray:
    """How much of each part lies in each object.

    Returns:
        (parts, objects), shares of the part's own area in 0..1.
    """
    # With `iscrowd` the "IoU" of pycocotools is the intersection over the first mask's area.
    return np.asarray(coco_mask.iou(list(parts), list(objects), [1] * len(objects))).reshape(len(parts), len(objects))


def box_area(box: Box) -> float:
    """Pixels in a box."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def boxes_inside(parts: Sequence[Box], objects: Sequence[Box]) -> np.ndarray:
    """How much of each part's box lies in each object's box, (parts, objects), in 0..1."""
    inner, outer = np.array(parts)[:, None], np.array(objects)[None]
    low, high = np.maximum(inner[..., :2], outer[..., :2]), np.minimum(inner[..., 2:], outer[..., 2:])
    shared = np.clip(high - low, 0, None).prod(axis=-1)
    return shared / np.clip(inner[..., 2:] - inner[..., :2], 1e-9, None).prod(axis=-1)


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
