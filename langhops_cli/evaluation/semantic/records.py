"""What is true of the parts in a picture, one record at a time: one object name of it, or one object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from langhops_cli.data import masks
from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.masks import Rle
from langhops_cli.evaluation.semantic.splits import ScoredNames

LabelMap = NDArray[np.uint16]
"""The part of every pixel as its place among the scored names, (height, width); their number where it is none."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Record:
    """An object name or an object of a picture, with its parts.

    Args:
        image_id: of the picture.
        object: its name.
        instance: place of the object among the annotated objects of the picture, from 0, in the order of the
            annotation file; None where the record is all that the picture shows of the name.
        size: height and width of the picture.
        pieces: the masks of its parts with their labels; of two that overlap the smaller counts.
        whole: the masks of the object itself, where it has any.
        labels: the parts that the object may have, places among the scored ones.
        names: how many parts are scored, K.
    """

    image_id: int
    object: str
    instance: int | None
    size: tuple[int, int]
    pieces: tuple[tuple[int, Rle], ...]
    whole: tuple[Rle, ...]
    labels: range
    names: int

    @property
    def title(self) -> str:
        """What the record is called in messages."""
        number = "" if self.instance is None else f", object {self.instance}"
        return f"picture {self.image_id}, {self.object}{number}"

    def truth(self) -> LabelMap:
        """The annotated part of every pixel."""
        return paint(self.pieces, self.size, names=self.names)

    def inside(self) -> Mask:
        """The pixels of the object; those of its parts belong to it."""
        height, width = self.size
        region = masks.union([*self.whole, *(code for _, code in self.pieces)])
        return masks.decode(region, height=height, width=width).astype(bool)


@dataclass(frozen=True)
class PictureRecords:
    """The records of a picture.

    Args:
        image_id: of the picture.
        size: height and width in pixels.
        records: one for each object name or object that has a part.
        without_mask: records that cannot be scored, for a part of theirs has a box only.
        unowned: annotated parts that belong to no object, where a record is one object.
    """

    image_id: int
    size: tuple[int, int]
    records: tuple[Record, ...] = ()
    without_mask: int = 0
    unowned: int = 0

    def truth(self) -> LabelMap:
        """The annotated part of every pixel, of all records together."""
        names = self.records[0].names
        return paint([piece for record in self.records for piece in record.pieces], self.size, names=names)


def paint(pieces: Sequence[tuple[int, Rle]], size: tuple[int, int], *, names: int) -> LabelMap:
    """Lay masks over one another, small ones last, into a map of labels; `names` stands where there is none."""
    height, width = size
    labels = np.full(size, names, dtype=np.uint16)
    for label, rle in sorted(pieces, key=lambda piece: -masks.area(piece[1])):
        labels[masks.decode(rle, height=height, width=width) != 0] = label
    return labels


class RecordReader:
    """Reads the records of a prepared set, of annotations alone: no picture is opened.

    Args:
        dataset: a prepared set.
        names: what is scored.
    """

    def __init__(self, dataset: PreparedDataset, names: ScoredNames) -> None:
        self._names = names
        self._roles = {number: (owner, part) for number, owner, part in dataset.categories}
        counts = Counter(names.owners)
        self._owned = {owner: range(first := names.owners.index(owner), first + counts[owner]) for owner in counts}
        keys = ("image_id", "file_name", "width", "height", "category", "counts", "parent", "crowd")
        self._columns = {key: dataset.column(key) for key in keys}

    def __getitem__(self, place: int) -> PictureRecords:
        row = {key: column[place].as_py() for key, column in self._columns.items()}
        size = (row["height"], row["width"])
        objects, parts = self._sort(row["file_name"], row["category"])
        by_name = self._names.records == "class"
        groups = _by_name(objects, parts) if by_name else _by_object(objects, parts, row["parent"], row["crowd"])
        unowned = len(parts) - sum(len(group.parts) for group in groups)
        records, without_mask = [], 0
        for group in groups:
            if not all(row["counts"][item] for item in group.parts):
                without_mask += 1
                continue
            code = {item: {"size": [*size], "counts": row["counts"][item]} for item in (*group.objects, *group.parts)}
            records.append(
                Record(
                    image_id=row["image_id"],
                    object=group.object,
                    instance=group.instance,
                    size=size,
                    pieces=tuple((label, code[item]) for item, label in group.parts.items()),
                    whole=tuple(code[item] for item in group.objects if row["counts"][item]),
                    labels=self._owned[group.object],
                    names=len(self._names.parts),
                )
            )
        return PictureRecords(row["image_id"], size, tuple(records), without_mask, unowned)

    def _sort(self, file_name: str, categories: Sequence[int]) -> tuple[dict[int, str | None], dict[int, _Part]]:
        """The annotations of objects, each with its name, and of scored parts, by their places in the row."""
        objects: dict[int, str | None] = {}
        parts: dict[int, _Part] = {}
        for item, category in enumerate(categories):
            kind, part = self._roles[category]
            owner = self._names.object_in(file_name, kind)
            if part is None:
                objects[item] = owner
            elif owner is not None and (label := self._names.labels.get((owner, part))) is not None:
                parts[item] = (owner, label)
        return objects, parts


_Part = tuple[str, int]
"""Object and label of an annotated part."""


@dataclass(frozen=True)
class _Group:
    """The annotations of a record, by their places in the row; parts have their labels."""

    object: str
    instance: int | None
    objects: list[int]
    parts: dict[int, int]


def _by_name(objects: Mapping[int, str | None], parts: Mapping[int, _Part]) -> list[_Group]:
    return [
        _Group(
            name,
            None,
            [item for item, owner in objects.items() if owner == name],
            {item: label for item, (owner, label) in parts.items() if owner == name},
        )
        for name in dict.fromkeys(owner for owner, _ in parts.values())
    ]


def _by_object(
    objects: Mapping[int, str | None], parts: Mapping[int, _Part], parents: Sequence[int], crowd: Sequence[bool]
) -> list[_Group]:
    groups = []
    for instance, (item, name) in enumerate(objects.items()):
        own = {part: label for part, (owner, label) in parts.items() if parents[part] == item and owner == name}
        if own and name is not None and not crowd[item]:
            groups.append(_Group(name, instance, [item], own))
    return groups
