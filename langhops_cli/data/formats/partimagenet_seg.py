"""PartImageNet of label maps: 40 parts and whole objects of the same 158 classes in every split."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from langhops_cli.data.formats.published import published_tree
from langhops_cli.data.formats.regions import add_objects, intersect, split_among
from langhops_cli.data.formats.semantic_maps import read_masks
from langhops_cli.data.masks import Rle, area
from langhops_cli.data.pictures import SUFFIXES
from langhops_cli.data.records import Drops, InstanceRecord, Picture, PictureRecords, Role, Source, SplitSource
from langhops_cli.errors import DATA, UserError

NAME = "partimagenet"
SPLITS = ("train", "val", "test")
BACKGROUND = 40
"""Number of a pixel of no part; the parts are numbered from 0."""
CLASSES = 158
"""Number of classes, and of a pixel of none of them in the maps of whole objects."""


def find_seg(folder: Path) -> bool:
    """Whether a folder holds the label maps of PartImageNet."""
    return any((folder / "annotations" / split).is_dir() for split in SPLITS)


def read_seg(folder: Path) -> Source:
    """Read the label maps of PartImageNet.

    Args:
        folder: the one with `images` and `annotations`.

    Raises:
        UserError: a split has maps and no pictures, or the other way round.
    """
    records = Source("partimagenet-seg", [], published_tree(NAME))
    parts: list[Role] = [(owner, part) for owner, names in records.tree.items() for part in names]
    records.remarks.append("PartImageNet Seg: the same classes in every split; label maps, objects where there are any")
    total = 0
    for split in SPLITS:
        images, maps = folder / "images" / split, folder / "annotations" / split
        if not images.is_dir() and not maps.is_dir():
            continue
        for place in (images, maps):
            if not place.is_dir():
                raise UserError(f"{folder} has no folder {place.relative_to(folder)}; unpack the whole set.", code=DATA)
        whole = folder / "annotations" / f"{split}_whole"
        if not whole.is_dir():
            records.remarks.append(f"{split} has no maps of whole objects: an object is the union of its parts")
        reader = _Reader(maps.resolve(), whole.resolve() if whole.is_dir() else None, tuple(parts))
        count = sum(1 for _ in _names(images))
        total += count
        pictures = partial(_pictures, images)
        records.splits.append(SplitSource(split, images.resolve(), count, pictures, reader.read))
    records.remarks.append(f"{total:,} pictures in all; 24,095 were published")
    return records


def _names(images: Path) -> Iterator[str]:
    with os.scandir(images) as entries:
        names = sorted(entry.name for entry in entries)
    return (name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES)


def _pictures(images: Path) -> Iterator[Picture]:
    for number, name in enumerate(_names(images), start=1):
        yield Picture(number, name)


@dataclass(frozen=True)
class _Reader:
    """Reads the maps of a picture.

    Args:
        maps: the folder of the maps of parts.
        whole: the folder of the maps of whole objects, where there is one.
        parts: what the numbers in the maps of parts stand for.
    """

    maps: Path
    whole: Path | None
    parts: tuple[Role, ...]

    def read(self, path: Path, picture: Picture, size: tuple[int, int]) -> PictureRecords:
        """Read the parts of a picture and the objects that they belong to."""
        records = PictureRecords()
        file = PurePosixPath(picture.file_name).with_suffix(".png")
        known = range(len(self.parts))
        found = [
            (self.parts[label], mask)
            for label, mask in read_masks(
                self.maps / file, size, "8 bit", known=known, ignore=BACKGROUND, drops=records.drops
            )
        ]
        objects: list[InstanceRecord] = []
        if self.whole is not None:
            wholes = read_masks(
                self.whole / file, size, "8 bit", known=range(CLASSES), ignore=CLASSES, drops=records.drops
            )
            objects = list(_objects(wholes, found, records.drops))
        records.instances = join(objects, found)
        return records


def _objects(
    wholes: Sequence[tuple[int, Rle]], parts: Sequence[tuple[Role, Rle]], drops: Drops
) -> Iterator[InstanceRecord]:
    """Whole objects, each of the kind that most of the parts in it belong to: the maps number classes, not kinds."""
    for label, whole in wholes:
        held: dict[str, int] = {}
        for (owner, _), mask in parts:
            held[owner] = held.get(owner, 0) + area(intersect([mask, whole]))
        kind = max(held, key=lambda owner: held[owner], default=None)
        if kind is None or not held[kind]:
            drops.add("whole object without any part, whose kind nobody knows", f"class {label}")
        else:
            yield InstanceRecord(label + 1, kind, None, whole)


def join(objects: Sequence[InstanceRecord], parts: Sequence[tuple[Role, Rle]]) -> list[InstanceRecord]:
    """Give the parts of a picture to its objects.

    The parts of a kind belong to the only object of it, are split where there are several, and make up one where there
    is none.

    Args:
        objects: of whole-object maps.
        parts: what is what, each the mask of all parts of a name.
    """
    items = list(objects)
    lone: list[InstanceRecord] = []
    free = max((item.id for item in objects), default=0) + 1
    for (owner, part), mask in parts:
        fitting = [item for item in objects if item.object == owner]
        if part is None:
            continue
        if len(fitting) > 1:
            pieces, left = split_among(mask, fitting, part=part, first_id=free)
            if left is not None:
                pieces.append(InstanceRecord(free + len(pieces), owner, part, left, crowd=True))
            items += pieces
            free += len(pieces)
            continue
        only = fitting[0].id if fitting else None
        (items if fitting else lone).append(InstanceRecord(free, owner, part, mask, parent=only))
        free += 1
    return items + add_objects(lone)
