"""Refuse what cannot be scored: every entry of a truth or a results file is looked at before the first figure.

A wrong entry that is scored silently (a NaN score sorts anywhere, a mask of another size overlaps by chance) gives a
wrong figure that looks right, so one wrong entry stops the scoring and is named.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from langhops_cli.errors import DATA, UserError

NAMED = 3
"""So many wrong entries are quoted in a message."""

_BITS = 5
_LONGEST = 7
"""Characters of one run in a compressed mask: seven hold 35 bits, more than any picture needs."""


class _EntryError(Exception):
    """What is wrong with one entry, in words."""


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Args:
        path: a text file.

    Returns:
        What it holds.

    Raises:
        UserError: the file is missing, unreadable, cut off or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.", code=DATA) from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not JSON: it is no UTF-8 text.", code=DATA) from None
    except json.JSONDecodeError as error:
        size = path.stat().st_size
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(
            f"{path} is cut off or no JSON ({error.msg} at {where}; {size:,} bytes). Give a whole file.",
            code=DATA,
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.", code=DATA) from None


def checked_truth(truth: Any, *, source: str) -> dict[str, Any]:
    """Check a ground truth in COCO's instance form and bring its masks to one form.

    Args:
        truth: `images`, `annotations`, `categories` (with `parent_id`, null or left out for objects) and `info`.
        source: where it comes from, for messages.

    Returns:
        A new dict of the same shape; every segmentation is a compressed RLE or None, every annotation has `bbox`
        (x, y, width, height in pixels), `area` and `iscrowd`, and ids count from 1 (COCO's own loop takes an id of 0
        for "not matched"). The input is not changed.

    Raises:
        UserError: something is missing, twice there or does not fit, with the first wrong entries.
    """
    if not isinstance(truth, Mapping):
        raise UserError(f"{source} holds no ground truth: a JSON object with images is needed.", code=DATA)
    for key in ("images", "annotations", "categories"):
        if not isinstance(truth.get(key), list):
            raise UserError(f"{source} has no list {key!r}: give a prepared or COCO instances file.", code=DATA)
    _gather(truth["images"], lambda image: _fields(image, ("id", "height", "width")), f"{source}, images")
    _gather(truth["categories"], lambda category: _fields(category, ("id", "name")), f"{source}, categories")
    for key in ("images", "categories"):
        if len({entry["id"] for entry in truth[key]}) < len(truth[key]):
            raise UserError(f"{source}: ids in {key!r} are not unique. Prepare the set again.", code=DATA)
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    categories = {category["id"] for category in truth["categories"]}
    annotations = _gather(
        truth["annotations"],
        lambda annotation: _truth_annotation(annotation, sizes, categories),
        f"{source}, annotations",
    )
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    return {
        "info": dict(truth.get("info") or {}),
        "images": truth["images"],
        "categories": truth["categories"],
        "annotations": annotations,
    }


def checked_results(results: Any, truth: Mapping[str, Any], *, source: str, masks: bool = True) -> list[dict[str, Any]]:
    """Check a list of COCO results against the ground truth it is to be scored on.

    Args:
        results: entries with `image_id`, `category_id`, `score`, `segmentation` (RLE) and, optional, `bbox` in pixels.
        truth: what `checked_truth` returned.
        source: where the results come from, for messages.
        masks: whether a mask is needed; without it a box is.

    Returns:
        New entries with exactly these fields, the RLE compressed; the box is the mask's own where none was given.

    Raises:
        UserError: the first wrong entries, by number from 0, and what is wrong with each.
    """
    if not isinstance(results, list):
        raise UserError(f"{source} holds no list of COCO results: [{{image_id, ...}}, ...] is needed.", code=DATA)
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    categories = {category["id"] for category in truth["categories"]}
    return _gather(results, lambda entry: _result(entry, sizes, categories, masks), source)


def run_lengths(counts: bytes | str) -> np.ndarray:
    """Lengths of the runs of a compressed COCO mask, background first.

    Args:
        counts: COCO's text form: five bits a character, a sign, each run from the fourth on as the difference to the
            run two before it.

    Returns:
        (R,) int64.

    Raises:
        ValueError: the text is no such code.
    """
    data = counts.encode("ascii") if isinstance(counts, str) else counts
    codes = np.frombuffer(data, dtype=np.uint8).astype(np.int64) - 48
    if codes.size == 0:
        return codes
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 0x20:
        raise ValueError("not a compressed mask")
    ends = np.flatnonzero((codes & 0x20) == 0)
    lengths = np.diff(ends, prepend=-1)
    if lengths.max() > _LONGEST:
        raise ValueError("not a compressed mask")
    starts = ends - lengths + 1
    place = _BITS * (np.arange(codes.size) - np.repeat(starts, lengths))
    runs = np.add.reduceat((codes & 0x1F) << place, starts)
    runs -= np.where(codes[ends] & 0x10, np.int64(1) << (_BITS * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _gather(entries: Sequence[Any], check: Callable[[Any], Any], source: str) -> list[Any]:
    """What `check` makes of each entry; one error names the first entries it refused and counts the rest."""
    good, wrong = [], []
    for number, entry in enumerate(entries):
        try:
            good.append(check(entry))
        except _EntryError as reason:
            wrong.append(f"entry {number}: {reason}")
    if wrong:
        more = f"; and {len(wrong) - NAMED:,} more" if len(wrong) > NAMED else ""
        listed = "; ".join(wrong[:NAMED])
        raise UserError(
            f"{source}: {len(wrong):,} of {len(entries):,} entries are wrong, nothing was scored: {listed}{more}.",
            code=DATA,
        )
    return good


def _fields(entry: Any, names: Iterable[str]) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping):
        raise _EntryError(f"{_short(entry)} is no object")
    missing = [name for name in names if entry.get(name) is None]
    if missing:
        raise _EntryError(f"no {' and no '.join(missing)}")
    return entry


def _known(entry: Mapping[str, Any], field: str, known: Iterable[Any]) -> Any:
    value = entry[field]
    if isinstance(value, bool) or not isinstance(value, int | str) or value not in known:
        raise _EntryError(f"{field} {_short(value)} is not in the ground truth")
    return value


def _number(value: Any, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise _EntryError(f"{field} {_short(value)} is no number")
    if not math.isfinite(value):
        raise _EntryError(f"{field} is {value}")
    return float(value)


def _box(value: Any) -> list[float]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 4:
        raise _EntryError(f"bbox {_short(value)} is not x, y, width, height")
    box = [_number(side, "bbox") for side in value]
    if box[2] < 0 or box[3] < 0:
        raise _EntryError(f"bbox {_short(value)} has a negative side")
    return box


def _mask(segmentation: Any, size: tuple[int, int]) -> dict[str, Any]:
    """A compressed RLE of the picture's size whose runs fill the picture exactly."""
    if not isinstance(segmentation, Mapping) or "counts" not in segmentation or "size" not in segmentation:
        raise _EntryError("segmentation is no RLE with size and counts")
    given, counts = segmentation["size"], segmentation["counts"]
    if not isinstance(given, Sequence) or [*given] != [*size]:
        shown = " x ".join(map(str, given)) if isinstance(given, Sequence) else _short(given)
        raise _EntryError(f"its mask is {shown} (height x width), the picture {size[0]} x {size[1]}")
    if isinstance(counts, list):
        whole = all(isinstance(run, int) and not isinstance(run, bool) and run >= 0 for run in counts)
        if not whole or sum(counts) != size[0] * size[1]:
            raise _EntryError("the runs of its mask do not fill the picture")
        return coco_mask.frPyObjects({"size": [*size], "counts": counts}, *size)
    if not isinstance(counts, str | bytes):
        raise _EntryError("the counts of its mask are neither text nor a list")
    try:
        runs = run_lengths(counts)
    except (ValueError, UnicodeEncodeError):
        raise _EntryError("the counts of its mask are damaged") from None
    if (runs < 0).any() or runs.sum() != size[0] * size[1]:
        raise _EntryError("the runs of its mask do not fill the picture")
    return {"size": [*size], "counts": counts}


def _truth_mask(segmentation: Any, size: tuple[int, int]) -> dict[str, Any] | None:
    if not segmentation:
        return None
    if not isinstance(segmentation, list):
        return _mask(segmentation, size)
    if not all(isinstance(ring, list) and len(ring) >= 6 and len(ring) % 2 == 0 for ring in segmentation):
        raise _EntryError("a polygon needs three points or more")
    return coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))


def _truth_annotation(annotation: Any, sizes: Mapping[Any, tuple[int, int]], categories: set[Any]) -> dict[str, Any]:
    _fields(annotation, ("image_id", "category_id"))
    image_id = _known(annotation, "image_id", sizes)
    mask = _truth_mask(annotation.get("segmentation"), sizes[image_id])
    if annotation.get("bbox") is None and mask is None:
        raise _EntryError("neither segmentation nor bbox")
    box = _box(annotation["bbox"]) if annotation.get("bbox") is not None else coco_mask.toBbox(mask).tolist()
    if annotation.get("area") is not None:
        area = _number(annotation["area"], "area")
    else:
        area = float(coco_mask.area(mask)) if mask is not None else box[2] * box[3]
    return {
        "image_id": image_id,
        "category_id": _known(annotation, "category_id", categories),
        "segmentation": mask,
        "bbox": box,
        "area": area,
        "iscrowd": int(bool(annotation.get("iscrowd", 0))),
    }


def _result(entry: Any, sizes: Mapping[Any, tuple[int, int]], categories: set[Any], masks: bool) -> dict[str, Any]:
    _fields(entry, ("image_id", "category_id", "score", "segmentation" if masks else "bbox"))
    image_id = _known(entry, "image_id", sizes)
    category_id = _known(entry, "category_id", categories)
    score = _number(entry["score"], "score")
    mask = _mask(entry["segmentation"], sizes[image_id]) if masks else None
    given = entry.get("bbox")
    box = _box(given) if given is not None else coco_mask.toBbox(mask).tolist()
    return {"image_id": image_id, "category_id": category_id, "score": score, "segmentation": mask, "bbox": box}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
