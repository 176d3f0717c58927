"""What a reader of a source hands to the preparation: pictures, instances, and what had to be left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from langhops_cli.data.masks import Rle

Tree = dict[str, dict[str, str | None]]
"""Object name -> its part names -> the part that each is a part of, None for a part of the object itself."""


@dataclass(frozen=True)
class PictureRecord:
    """A picture of a source: its id there, its path below the image root, its size in pixels."""

    id: int
    file_name: str
    width: int
    height: int


@dataclass(frozen=True)
class InstanceRecord:
    """An object or a part of a source.

    Args:
        id: annotation id in the source; a negative one for an instance that the preparation made.
        image_id: the picture it is in.
        object: name of the object, or of the object that the part belongs to.
        part: name of the part, None for an object.
        rle: the mask as compressed run lengths.
        parent: annotation id of the object instance, None for an object or where unknown.
        crowd: the mask covers several instances that were not told apart.
        others: further objects that have a part of this name, where only the picture can tell whose it is.
    """

    id: int
    image_id: int
    object: str
    part: str | None
    rle: Rle
    parent: int | None = None
    crowd: bool = False
    others: tuple[str, ...] = ()


@dataclass
class Drops:
    """What was left out: reason -> ids in the source, in order."""

    ids: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, *which: object) -> None:
        """Count things under a reason."""
        self.ids.setdefault(reason, []).extend(map(str, which))

    def to_list(self, first: int = 10) -> list[dict[str, object]]:
        """Reasons with their number and the first ids, the most frequent first."""
        ordered = sorted(self.ids.items(), key=lambda item: (-len(item[1]), item[0]))
        return [{"reason": reason, "count": len(ids), "first_ids": ids[:first]} for reason, ids in ordered]


@dataclass
class SplitRecords:
    """One split of a source.

    Args:
        name: "train" or "val".
        image_root: the folder that file names are relative to; a relative one is below the prepared folder.
        exhaustive: whether every instance of every name was annotated.
    """

    name: str
    image_root: Path
    exhaustive: bool
    pictures: list[PictureRecord]
    instances: list[InstanceRecord]
    drops: Drops = field(default_factory=Drops)

    def keep_pictures(self, ids: Iterable[int]) -> None:
        """Leave out all pictures but these, with their instances."""
        kept = set(ids)
        self.pictures = [picture for picture in self.pictures if picture.id in kept]
        gone = [item.id for item in self.instances if item.image_id not in kept]
        if gone:
            self.drops.add("instance in a picture that was left out", *gone)
            self.instances = [item for item in self.instances if item.image_id in kept]

    def by_picture(self) -> dict[int, list[InstanceRecord]]:
        """Instances of each picture, in order."""
        grouped: dict[int, list[InstanceRecord]] = {picture.id: [] for picture in self.pictures}
        for item in self.instances:
            grouped[item.image_id].append(item)
        return grouped


@dataclass
class SourceRecords:
    """A whole source.

    Args:
        kind: which reader made it, "coco-parts".
        tree: objects and parts by name, in the order of their class numbers.
        source_names: (object, part) -> the name in the source.
        merged: names that stood for several categories of one split.
    """

    kind: str
    splits: list[SplitRecords]
    tree: Tree
    source_names: dict[tuple[str, str | None], str] = field(default_factory=dict)
    merged: list[str] = field(default_factory=list)


def with_parent(item: InstanceRecord, parent: InstanceRecord) -> InstanceRecord:
    """Return the part as one of this object."""
    return replace(item, object=parent.object, parent=parent.id, others=())
