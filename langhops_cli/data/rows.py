"""Rows of the index: one a picture, with its instances; the fingerprint of a split is taken over them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from langhops_cli.data.records import Role
from langhops_cli.data.verify import CheckedPicture

Row = dict[str, Any]
"""`image_id`, `file_name`, `width`, `height` and, one entry an instance, `category`, `counts` (run lengths, "" for a
box without a mask), `box` (left, top, right, bottom, only where there is no mask, else empty), `parent` (place of the
object in the row, -1 for none) and `crowd`. `checked` lists the categories that the picture was searched for, None
where the split says it for all."""


class CategoryNumbers:
    """Category ids, given out in the order of the tree, objects first, and then as names turn up."""

    def __init__(self, roles: Iterable[Role]) -> None:
        self._ids: dict[Role, int] = {}
        for role in roles:
            self[role]

    def __getitem__(self, role: Role) -> int:
        return self._ids.setdefault(role, len(self._ids) + 1)


def to_row(picture: CheckedPicture, numbers: CategoryNumbers) -> Row:
    """The index row of a picture."""
    items = picture.instances
    return {
        "image_id": picture.id,
        "file_name": picture.file_name,
        "width": picture.width,
        "height": picture.height,
        "category": [numbers[item.role] for item in items],
        "counts": [item.counts for item in items],
        "box": [[] if item.counts else list(item.box) for item in items],
        "parent": [item.parent for item in items],
        "crowd": [item.crowd for item in items],
        "checked": None if picture.checked is None else [numbers[role] for role in picture.checked],
    }


def features(datasets: Any) -> Any:
    """The types of the index's columns, for the `datasets` library."""
    whole, value, many = datasets.Value("int64"), datasets.Value, datasets.List
    return datasets.Features(
        {
            "image_id": whole,
            "file_name": value("string"),
            "width": whole,
            "height": whole,
            "category": many(whole),
            "counts": many(value("string")),
            "box": many(many(value("float64"))),
            "parent": many(whole),
            "crowd": many(value("bool")),
            "checked": many(whole),
        }
    )


class Fingerprint:
    """SHA-256 over all that training reads of a split, wherever its pictures lie."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, entry: object) -> None:
        """Take in a row, or anything that JSON can hold."""
        self._digest.update(json.dumps(entry, ensure_ascii=False).encode())

    def __str__(self) -> str:
        return self._digest.hexdigest()
