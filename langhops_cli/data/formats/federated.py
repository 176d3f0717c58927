"""COCO instances where each picture was searched for some names only: LVIS, PACO, and lists put together of others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from langhops_cli.data.formats.coco_files import CocoFile
from langhops_cli.data.formats.coco_parts import read_instance
from langhops_cli.data.records import Picture, PictureRecords, Role, SplitSource

Lists = tuple[list[int] | None, list[int] | None]
"""Categories that are not in a picture, and those that are but not every instance of which is annotated; None where
the file does not say."""


def federated_split(
    name: str,
    file: CocoFile,
    roles: Mapping[int, Sequence[Role]],
    root: Path,
    *,
    reasons: Mapping[int, str] | None = None,
    exhaustive: bool = False,
) -> SplitSource:
    """The split that a file describes whose pictures may say what each was searched for.

    Args:
        name: of the split.
        file: the annotations.
        roles: what each category stands for.
        root: the folder of the pictures.
        reasons: why the other categories stand for nothing, as far as it is known.
        exhaustive: whether all was annotated in pictures that do not say it.
    """
    return SplitSource(
        name,
        root,
        len(file),
        pictures=partial(_pictures, file),
        read=FederatedReader(roles, reasons or {}),
        exhaustive=exhaustive,
        drops=file.drops,
    )


def _pictures(file: CocoFile) -> Iterator[Picture]:
    for row, name, texts in file.pictures():
        lists = (_ids(row, "neg_category_ids"), _ids(row, "not_exhaustive_category_ids"))
        yield Picture(row["id"], name, (row["width"], row["height"]), len(texts), (texts, lists))


def _ids(row: dict[str, Any], key: str) -> list[int] | None:
    found = row.get(key)
    return [number for number in found if isinstance(number, int)] if isinstance(found, list) else None


@dataclass(frozen=True)
class FederatedReader:
    """Reads a picture's annotations, and which names it was searched for; its content is JSON texts and `Lists`.

    Args:
        roles: what each category stands for.
        reasons: why other categories stand for nothing.
    """

    roles: Mapping[int, Sequence[Role]]
    reasons: Mapping[int, str]

    def __call__(self, path: Path, picture: Picture, size: tuple[int, int]) -> PictureRecords:
        """Read one picture."""
        texts, (absent, unsure) = picture.content
        records = PictureRecords()
        annotated: set[int] = set()
        faulty: set[int] = set()
        for text in texts:
            row = json.loads(text)
            number = row["category_id"]
            if not isinstance(number, int) or number not in self.roles:
                known_reason = self.reasons.get(number) if isinstance(number, int) else None
                records.drops.add(known_reason or "unknown category", row["id"])
                continue
            # PACO calls the annotation that a part belongs to so; an object names itself there.
            parent = row.get("obj_ann_id", row.get("parent_id"))
            is_part = self.roles[number][0][1] is not None
            row["parent_id"] = parent if is_part and isinstance(parent, int) else None
            found = list(read_instance(row, size, self.roles[number], records.drops))
            records.instances += found
            (annotated if found else faulty).add(number)
        if absent is not None or unsure is not None:
            known = set(absent or ()) | (annotated if unsure is not None else set())
            records.checked = self._checked(known - set(unsure or ()) - faulty)
        return records

    def _checked(self, known: set[int]) -> tuple[Role, ...]:
        """Names of which every category is known, in the order of the categories."""
        checked: dict[Role, bool] = {}
        for number, (role, *_) in self.roles.items():
            checked[role] = checked.get(role, True) and number in known
        return tuple(role for role, is_known in checked.items() if is_known)
