"""Refuse what cannot be scored: every entry of a truth or a results file is looked at before the first figure.

A wrong entry that is scored silently (a NaN score sorts anywhere, a mask of another size overlaps by chance) gives a
wrong figure that looks right, so one wrong entry stops the scoring and is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from langhops_cli.errors import DATA, UserError
from langhops_cli.evaluation.instances.run_lengths import fill

NAMED = 3
"""So many wrong entries are quoted in a message."""

_BATCH = 500
"""Masks that are checked at once."""
_NOT_FULL = "the runs of its mask do not fill the picture"
LISTS = ("checked_category_ids", "neg_category_ids", "not_exhaustive_category_ids")
"""Lists of an image that say which names it was searched for."""
_WHOLE = range(-(2**63), 2**63)


class EntryError(Exception):
    """What is wrong with one entry, in words."""


class Faults:
    """The wrong entries of a list: the first are quoted, all are counted.

    Args:
        source: the list, for the message.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.total = 0
        self._wrong = 0
        self._first: list[tuple[int, str]] = []

    def good(self, entries: Iterable[Any], check: Callable[[Any], Any]) -> Iterator[tuple[int, Any]]:
        """Go through a list and keep count of it.

        Yields:
            Number of each entry that `check` accepts and what it made of it.
        """
        for number, entry in enumerate(entries):
            self.total += 1
            try:
                checked = check(entry)
            except EntryError as reason:
                self.add(number, str(reason))
            else:
                yield number, checked

    def add(self, number: int, reason: str) -> None:
        """Count a wrong entry."""
        self._wrong += 1
        self._first = sorted([*self._first, (number, reason)])[:NAMED]

    def stop(self) -> None:
        """Refuse the list where an entry of it is wrong.

        Raises:
            UserError: the first wrong entries by number from 0, and how many there are.
        """
        if self._wrong:
            more = f"; and {self._wrong - NAMED:,} more" if self._wrong > NAMED else ""
            named = "; ".join(f"entry {number}: {reason}" for number, reason in self._first)
            raise UserError(
                f"{self.source}: {self._wrong:,} of {self.total:,} entries are wrong, nothing was scored: "
                f"{named}{more}.",
                code=DATA,
            )


def image_entry(image: Any) -> dict[str, Any]:
    """Check an image of a truth.

    Returns:
        Its `id`, `file_name` (empty where it has none), `height` and `width` in pixels, and those of the lists
        `checked_category_ids`, `neg_category_ids` and `not_exhaustive_category_ids` that it has.

    Raises:
        EntryError: a field is missing or of a wrong kind.
    """
    _fields(image, ("id", "height", "width"))
    for side in ("height", "width"):
        if not _is_whole(image[side]) or image[side] < 1:
            raise EntryError(f"{side} {_short(image[side])} is no number of pixels")
    row = {"id": _id(image, "id"), "file_name": str(image.get("file_name", ""))}
    row |= {side: image[side] for side in ("height", "width")}
    for key in LISTS:
        if image.get(key) is not None:
            if not isinstance(image[key], list):
                raise EntryError(f"{key} {_short(image[key])} is no list")
            row[key] = image[key]
    return row


def category_entry(category: Any) -> dict[str, Any]:
    """Check a category of a truth and return its `id`, `name` and `parent_id` (None for objects).

    Raises:
        EntryError: a field is missing or of a wrong kind.
    """
    _fields(category, ("id", "name"))
    return {"id": _id(category, "id"), "name": str(category["name"]), "parent_id": _id(category, "parent_id")}


def truth_entry(annotation: Any, sizes: Mapping[Any, tuple[int, int]], categories: Collection[Any]) -> dict[str, Any]:
    """Check an annotation and bring its mask to one form.

    Args:
        annotation: of a COCO instances file; polygons, plain and compressed run lengths are masks.
        sizes: height and width in pixels of each picture by id.
        categories: ids that there are.

    Returns:
        `id`, `image_id`, `category_id`, `parent_id` (an annotation's id or None), `segmentation` (compressed run
        lengths as text, or None), `bbox` (x, y, width, height in pixels), `area` (both None where they were not given)
        and `iscrowd` (0 or 1). `whole_masks` checks the run lengths.

    Raises:
        EntryError: a field is missing or does not fit.
    """
    _fields(annotation, ("image_id", "category_id"))
    image_id = _known(annotation, "image_id", sizes)
    mask = _truth_mask(annotation.get("segmentation"), sizes[image_id])
    if annotation.get("bbox") is None and mask is None:
        raise EntryError("neither segmentation nor bbox")
    box, area = annotation.get("bbox"), annotation.get("area")
    return {
        "id": _id(annotation, "id"),
        "image_id": image_id,
        "category_id": _known(annotation, "category_id", categories),
        "parent_id": _id(annotation, "parent_id"),
        "segmentation": _as_text(mask),
        "bbox": None if box is None else _box(box),
        "area": None if area is None else _number(area, "area"),
        "iscrowd": int(bool(annotation.get("iscrowd", 0))),
    }


def result_entry(
    entry: Any, sizes: Mapping[Any, tuple[int, int]], categories: Collection[Any], *, masks: bool
) -> dict[str, Any]:
    """Check a COCO result against the ground truth it is to be scored on.

    Args:
        entry: with `image_id`, `category_id`, `score`, `segmentation` (run lengths) and, optional, `bbox` in pixels,
            `id` and `parent_id`.
        sizes: height and width in pixels of each picture by id.
        categories: ids that there are.
        masks: whether a mask is needed; without it a box is.

    Returns:
        Exactly these fields, `parent_id` only where it was given, the run lengths compressed as text; the box is the
        mask's own where none was given.

    Raises:
        EntryError: a field is missing or does not fit.
    """
    _fields(entry, ("image_id", "category_id", "score", "segmentation" if masks else "bbox"))
    image_id = _known(entry, "image_id", sizes)
    category_id = _known(entry, "category_id", categories)
    score = _number(entry["score"], "score")
    mask = _mask(entry["segmentation"], sizes[image_id]) if masks else None
    given = entry.get("bbox")
    # Another system's result has no such key; null says that there is no parent.
    parent = {"parent_id": _id(entry, "parent_id")} if "parent_id" in entry else {}
    return {
        "id": _id(entry, "id"),
        "image_id": image_id,
        "category_id": category_id,
        **parent,
        "score": score,
        "segmentation": _as_text(mask),
        "bbox": None if given is None else _box(given),
    }


def whole_masks(numbered: Iterable[tuple[int, dict[str, Any]]], faults: Faults) -> Iterator[tuple[int, dict[str, Any]]]:
    """Check the masks of entries, many at a time, and fill in what follows from them.

    Args:
        numbered: what `truth_entry` or `result_entry` made, each with its number.
        faults: takes the entries whose mask is damaged or does not fill its picture.

    Yields:
        The others; a box or an area that was not given is the mask's.
    """
    for batch in _batches(numbered, _BATCH):
        masks = [entry["segmentation"] for _, entry in batch if entry["segmentation"] is not None]
        sizes = [mask["size"][0] * mask["size"][1] for mask in masks]
        whole = iter(fill([mask["counts"] for mask in masks], sizes))
        for number, entry in batch:
            fits = True if entry["segmentation"] is None else next(whole)
            if fits is None:
                faults.add(number, "the counts of its mask are damaged")
            elif not fits:
                faults.add(number, _NOT_FULL)
            else:
                _complete(entry)
                yield number, entry


def _batches(entries: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(entries)
    while batch := list(islice(rest, size)):
        yield batch


def _complete(entry: dict[str, Any]) -> None:
    mask = entry["segmentation"]
    if entry["bbox"] is None:
        entry["bbox"] = coco_mask.toBbox(mask).tolist()
    if "area" in entry and entry["area"] is None:
        entry["area"] = float(coco_mask.area(mask)) if mask is not None else entry["bbox"][2] * entry["bbox"][3]


def _fields(entry: Any, names: Iterable[str]) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping):
        raise EntryError(f"{_short(entry)} is no object")
    missing = [name for name in names if entry.get(name) is None]
    if missing:
        raise EntryError(f"no {' and no '.join(missing)}")
    return entry


def _known(entry: Mapping[str, Any], field: str, known: Iterable[Any]) -> Any:
    value = entry[field]
    if isinstance(value, bool) or not isinstance(value, int | str) or value not in known:
        raise EntryError(f"{field} {_short(value)} is not in the ground truth")
    return value


def _number(value: Any, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise EntryError(f"{field} {_short(value)} is no number")
    try:
        number = float(value)
    except OverflowError:
        raise EntryError(f"{field} {_short(value)} is too large") from None
    if not math.isfinite(number):
        raise EntryError(f"{field} is {value}")
    return number


def _box(value: Any) -> list[float]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 4:
        raise EntryError(f"bbox {_short(value)} is not x, y, width, height")
    box = [_number(side, "bbox") for side in value]
    if box[2] < 0 or box[3] < 0:
        raise EntryError(f"bbox {_short(value)} has a negative side")
    return box


def _mask(segmentation: Any, size: tuple[int, int]) -> dict[str, Any]:
    """A compressed RLE of the picture's size, its text not looked at yet."""
    if not isinstance(segmentation, Mapping) or "counts" not in segmentation or "size" not in segmentation:
        raise EntryError("segmentation is no RLE with size and counts")
    given, counts = segmentation["size"], segmentation["counts"]
    if not isinstance(given, Sequence) or [*given] != [*size]:
        shown = " x ".join(map(str, given)) if isinstance(given, Sequence) else _short(given)
        raise EntryError(f"its mask is {shown} (height x width), the picture {size[0]} x {size[1]}")
    if isinstance(counts, list):
        whole = all(isinstance(run, int) and not isinstance(run, bool) and run >= 0 for run in counts)
        if not whole or sum(counts) != size[0] * size[1]:
            raise EntryError(_NOT_FULL)
        return coco_mask.frPyObjects({"size": [*size], "counts": counts}, *size)
    if not isinstance(counts, str | bytes):
        raise EntryError("the counts of its mask are neither text nor a list")
    return {"size": [*size], "counts": counts}


def _truth_mask(segmentation: Any, size: tuple[int, int]) -> dict[str, Any] | None:
    if not segmentation:
        return None
    if not isinstance(segmentation, list):
        return _mask(segmentation, size)
    if not all(isinstance(ring, list) and len(ring) >= 6 and len(ring) % 2 == 0 for ring in segmentation):
        raise EntryError("a polygon needs three points or more")
    return coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))


def _as_text(mask: dict[str, Any] | None) -> dict[str, Any] | None:
    if mask is None or isinstance(mask["counts"], str):
        return mask
    # Not as ASCII: bytes that are none are left for `whole_masks` to refuse.
    return {"size": [*mask["size"]], "counts": mask["counts"].decode("latin-1")}


def _id(entry: Mapping[str, Any], field: str) -> int | str | None:
    value = entry.get(field)
    if value is None or isinstance(value, str) or _is_whole(value):
        return value
    raise EntryError(f"{field} {_short(value)} is neither a whole number nor text")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in _WHOLE


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
