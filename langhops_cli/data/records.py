"""What a reader of a source hands to the preparation: splits, pictures, instances, and what had to be left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from langhops_cli.data.masks import Box, Rle

Role = tuple[str, str | None]
"""What a name stands for: (object, None) or (object, part)."""
Tree = dict[str, dict[str, str | None]]
"""Object name -> its part names -> the part that each is a part of, None for a part of the object itself."""
FIRST = 10
"""How many ids of what was left out are kept for each reason."""

LONGEST = 500
"""Characters of such an id that are kept."""


@dataclass(frozen=True)
class Picture:
    """A picture as a source lists it, before it was opened.

    Args:
        id: differs for all pictures of a split.
        file_name: path below the image root.
        size: (width, height) in pixels of the upright picture as the source states it; None where it does not.
        annotations: how many instances the source states for it, as far as it is known without reading them.
        content: what the split's `read` needs to find the instances; plain values, as it goes to another process.
    """

    id: int
    file_name: str
    size: tuple[int, int] | None = None
    annotations: int = 0
    content: Any = None


@dataclass(frozen=True)
class InstanceRecord:
    """An object or a part of a source.

    Args:
        id: annotation id, which differs for all instances of a picture; a negative one for an instance that the
            preparation made.
        object: name of the object, or of the object that the part belongs to.
        part: name of the part, None for an object.
        rle: the mask as compressed run lengths; None where only the box is known.
        parent: annotation id of the object instance, or of the part that a part of a part belongs to; None for an
            object or where unknown.
        crowd: the mask covers several instances that were not told apart.
        others: further objects that have a part of this name, where only the picture can tell whose it is.
        box: left, top, right, bottom in pixels; asked for only where there is no mask.
    """

    id: int
    object: str
    part: str | None
    rle: Rle | None
    parent: int | None = None
    crowd: bool = False
    others: tuple[str, ...] = ()
    box: Box | None = None


@dataclass
class Drops:
    """What was left out: for each reason how often, and the first ids in the source."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, *which: object, count: int | None = None) -> None:
        """Count things under a reason; `count` where they are more than those named."""
        self.counts[reason] = self.counts.get(reason, 0) + (len(which) if count is None else count)
        named = self.first.setdefault(reason, [])
        named.extend(str(item)[:LONGEST] for item in which[: FIRST - len(named)])

    def merge(self, other: Drops) -> None:
        """Add what was left out elsewhere."""
        for reason, count in other.counts.items():
            self.add(reason, *other.first[reason], count=count)

    def to_list(self) -> list[dict[str, object]]:
        """Reasons with their number and the first ids, the most frequent first."""
        ordered = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        return [{"reason": reason, "count": count, "first_ids": self.first[reason]} for reason, count in ordered]


@dataclass
class PictureRecords:
    """What was read of one picture.

    Args:
        instances: objects and parts, in the source's order.
        drops: what of this picture was left out.
        checked: where each picture was searched for some names only, as in LVIS: those names that all instances of
            are annotated, be they none. None where that holds for all names or for none, as the split says.
    """

    instances: list[InstanceRecord] = field(default_factory=list)
    drops: Drops = field(default_factory=Drops)
    checked: tuple[Role, ...] | None = None


Read = Callable[[Path, Picture, tuple[int, int]], PictureRecords]
"""From the picture's path, the picture and its upright (width, height) to what is in it."""


@dataclass
class SplitSource:
    """One split of a source.

    Args:
        name: "train", "val" or another.
        image_root: the folder that file names are relative to; a relative one is below the prepared folder.
        total: number of pictures.
        pictures: gives the pictures one after the other, as often as it is called.
        read: finds the instances of a picture that was opened and is whole. It runs in other processes: a function of
            a module, a partial of one, or a method of an object made of plain values.
        exhaustive: whether every instance of every name was annotated.
        drops: what was left out before any picture was read.
        writes: `read` makes the picture itself, so that there is nothing to check before.
    """

    name: str
    image_root: Path
    total: int
    pictures: Callable[[], Iterable[Picture]]
    read: Read
    exhaustive: bool = True
    drops: Drops = field(default_factory=Drops)
    writes: bool = False


@dataclass
class Source:
    """A whole source.

    Args:
        kind: which reader made it, "coco-parts".
        splits: at least one; the first that shows a part gives its number of queries.
        tree: objects and parts by name as far as known beforehand, in the order of their class numbers; names that
            turn up later are put behind them.
        source_names: (object, part) -> the name in the source.
        merged: names that stood for several categories of one split.
        remarks: what the user should know of this source, one line each.
    """

    kind: str
    splits: list[SplitSource]
    tree: Tree = field(default_factory=dict)
    source_names: dict[Role, str] = field(default_factory=dict)
    merged: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def with_parent(item: InstanceRecord, parent: InstanceRecord) -> InstanceRecord:
    """Return the part as one of this object."""
    return replace(item, object=parent.object, parent=parent.id, others=())
