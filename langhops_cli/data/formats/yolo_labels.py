"""The label files of Ultralytics: a line an instance, a polygon or a box in shares of the picture's sides."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from langhops_cli.data import masks
from langhops_cli.data.formats.folders import check_file
from langhops_cli.data.masks import BadMaskError
from langhops_cli.data.records import InstanceRecord, Picture, PictureRecords, Role
from langhops_cli.errors import DATA, UserError

TOLERANCE = 0.01
"""How far outside 0..1 a coordinate may lie, as in Ultralytics; it is moved to the edge."""


def label_of(picture: str) -> str:
    """Path of a picture's label file: the last `images` of its folders becomes `labels`, and its ending `.txt`."""
    before, found, after = picture.rpartition("/images/")
    return os.path.splitext(f"{before}/labels/{after}" if found else picture)[0] + ".txt"


def labels_of(folder: Path) -> Path:
    """The folder of the label files for a folder of pictures."""
    return Path(label_of(f"{folder.as_posix()}/a.jpg")).parent


def read_labels(
    path: Path, picture: Picture, size: tuple[int, int], *, roles: Mapping[int, Sequence[Role]]
) -> PictureRecords:
    """Read the label file of a picture; a `Read` that finds it by the picture's path."""
    records = PictureRecords()
    labels = Path(label_of(path.as_posix()))
    if not os.path.isfile(labels):
        return records
    check_file(labels)
    shown = label_of(f"/{picture.file_name}")[1:]
    seen: set[tuple[float, ...]] = set()
    try:
        with labels.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                try:
                    if line.strip():
                        records.instances.append(_read_line(number, line.split(), size, roles, seen))
                except BadMaskError as error:
                    records.drops.add(str(error), f"{shown}:{number}")
    except OSError as error:
        raise UserError(f"{labels} cannot be read: {error.strerror}.", code=DATA) from None
    except UnicodeDecodeError:
        raise UserError(f"{labels} is no text in UTF-8.", code=DATA) from None
    return records


def _read_line(
    number: int,
    words: list[str],
    size: tuple[int, int],
    roles: Mapping[int, Sequence[Role]],
    seen: set[tuple[float, ...]],
) -> InstanceRecord:
    width, height = size
    label, values = _numbers(words)
    if label not in roles:
        raise BadMaskError("class number out of range")
    shape = values.reshape(-1, 2)
    corners = shape.ravel() if len(values) == 4 else np.concatenate([shape.min(axis=0), shape.max(axis=0)])
    # Ultralytics takes lines of one class and one box for the same thing, wherever the polygon starts.
    key = (float(label), float(len(values) == 4), *corners.astype(np.float32).tolist())
    if key in seen:
        raise BadMaskError("duplicate line")
    rle, box = None, None
    if len(values) == 4:
        centre, extent = shape * (width, height)
        box = masks.to_box([*(centre - extent / 2).tolist(), *extent.tolist()], height, width)
    else:
        rle, _ = masks.to_rle([(shape.clip(0, 1) * (width, height)).ravel().tolist()], height, width)
    seen.add(key)
    (owner, part), *others = roles[label]
    return InstanceRecord(number, owner, part, rle, others=tuple(name for name, _ in others), box=box)


def _numbers(words: list[str]) -> tuple[int, np.ndarray]:
    """Class number and coordinates of a line."""
    try:
        label, *values = map(float, words)
    except ValueError:
        raise BadMaskError("line with words that are no numbers") from None
    if not all(map(math.isfinite, (label, *values))):
        raise BadMaskError("line with words that are no numbers")
    if not label.is_integer():
        raise BadMaskError("class number out of range")
    if len(values) % 2:
        raise BadMaskError("odd number of coordinates")
    if len(values) < 4:
        raise BadMaskError("line of fewer than four coordinates")
    if min(values) < -TOLERANCE or max(values) > 1 + TOLERANCE:
        raise BadMaskError("coordinates outside 0..1; they are shares of the picture's sides")
    return int(label), np.array(values)
