"""Which object each part belongs to, and objects made of their parts where only parts were annotated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from langhops_cli.data import masks
from langhops_cli.data.records import Drops, InstanceRecord, SplitRecords, with_parent

LEAST_SHARE = 0.5
"""A part belongs to an object only if at least this share of it lies inside."""


@dataclass
class ParentCounts:
    """How the parents of a split's parts were found, and how many objects were made as the union of their parts."""

    stated: int = 0
    by_mask: int = 0
    by_union: int = 0
    unknown: int = 0
    contradicted: int = 0
    unions: int = 0


def assign_parents(split: SplitRecords, *, union: bool) -> ParentCounts:
    """Give every part its object: the stated one, else the one whose mask holds most of it, else none.

    Args:
        split: changed in place: parts get their parent, unions are added before the parts they are made of.
        union: where a picture shows parts of an object and no instance of it, make one of all those parts.

    Returns:
        How many parents were stated, found, made or stayed unknown.
    """
    counts = ParentCounts()
    resolved: list[InstanceRecord] = []
    next_id = min((item.id for item in split.instances), default=0) - 1
    for items in split.by_picture().values():
        items = _resolve(items, counts, split.drops)
        if union:
            items, next_id = _add_unions(items, next_id, counts)
        counts.unknown += sum(item.part is not None and item.parent is None for item in items)
        resolved.extend(items)
    split.instances = resolved
    return counts


def _resolve(items: Sequence[InstanceRecord], counts: ParentCounts, drops: Drops) -> list[InstanceRecord]:
    by_id = {item.id: item for item in items}
    objects = [item for item in items if item.part is None and not item.crowd]
    resolved: dict[int, InstanceRecord] = {item.id: item for item in items if item.part is None}
    open_parts = []
    for item in items:
        if item.part is None:
            continue
        parent = _stated_parent(item, by_id)
        if parent is not None:
            counts.stated += 1
            resolved[item.id] = with_parent(item, parent)
        else:
            counts.contradicted += item.parent is not None
            open_parts.append(item)
    if open_parts:
        holders = _holders(open_parts, objects)
        for item, parent in zip(open_parts, holders, strict=True):
            if parent is not None:
                counts.by_mask += 1
                resolved[item.id] = with_parent(item, parent)
            elif item.others:
                drops.add("part that several objects have and none holds", item.id)
            else:
                resolved[item.id] = _orphan(item)
    return [resolved[item.id] for item in items if item.id in resolved]


def _stated_parent(item: InstanceRecord, by_id: dict[int, InstanceRecord]) -> InstanceRecord | None:
    """The object at the top of the chain of stated parents, if it is one that has such a part."""
    seen = {item.id}
    above = by_id.get(item.parent) if item.parent is not None else None
    while above is not None and above.part is not None and above.id not in seen:
        seen.add(above.id)
        above = by_id.get(above.parent) if above.parent is not None else None
    fits = above is not None and above.part is None and above.object in (item.object, *item.others)
    return above if fits else None


def _holders(parts: Sequence[InstanceRecord], objects: Sequence[InstanceRecord]) -> list[InstanceRecord | None]:
    """For each part the object of a fitting name that holds most of it; of equal ones the smallest."""
    if not objects:
        return [None] * len(parts)
    shares = masks.share_inside([part.rle for part in parts], [item.rle for item in objects])
    holders: list[InstanceRecord | None] = []
    for part, row in zip(parts, shares, strict=True):
        names = (part.object, *part.others)
        fitting = [n for n, item in enumerate(objects) if item.object in names and row[n] >= LEAST_SHARE]
        holders.append(objects[max(fitting, key=lambda n: (row[n], -masks.area(objects[n].rle)))] if fitting else None)
    return holders


def _orphan(item: InstanceRecord) -> InstanceRecord:
    return InstanceRecord(item.id, item.image_id, item.object, item.part, item.rle, crowd=item.crowd)


def _add_unions(items: list[InstanceRecord], next_id: int, counts: ParentCounts) -> tuple[list[InstanceRecord], int]:
    present = {item.object for item in items if item.part is None}
    lone = Counter(item.object for item in items if item.part is not None and not item.crowd)
    made: dict[str, InstanceRecord] = {}
    for name in lone:
        if name not in present:
            parts = [item for item in items if item.object == name and not item.crowd]
            whole = masks.union([part.rle for part in parts])
            made[name] = InstanceRecord(next_id, parts[0].image_id, name, None, whole)
            next_id -= 1
            counts.unions += 1
            counts.by_union += len(parts)
    joined = [
        with_parent(item, made[item.object]) if item.part is not None and item.object in made else item
        for item in items
    ]
    return [*made.values(), *joined], next_id
