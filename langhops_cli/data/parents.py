"""Which object each part belongs to, and objects made of their parts where only parts were annotated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from langhops_cli.data import masks
from langhops_cli.data.records import Drops, InstanceRecord, with_parent

LEAST_SHARE = 0.5
"""A part belongs to an object only if at least this share of it lies inside."""
PAIRS = 1 << 23
"""Parts and objects that are compared at once; a picture with very many of both would take all memory."""


@dataclass
class ParentCounts:
    """How the parents of parts were found, and how many objects were made as the union of their parts."""

    stated: int = 0
    by_mask: int = 0
    by_union: int = 0
    unknown: int = 0
    contradicted: int = 0
    unions: int = 0

    def add(self, other: ParentCounts) -> None:
        """Add the counts of another picture."""
        for name, count in asdict(other).items():
            setattr(self, name, getattr(self, name) + count)


def assign_parents(
    items: Sequence[InstanceRecord], *, union: bool, drops: Drops
) -> tuple[list[InstanceRecord], ParentCounts]:
    """Give every part of a picture its object: the stated one, else the one whose mask holds most of it, else none.

    Args:
        items: all instances of the picture.
        union: where the picture shows parts of an object and no instance of it, make one of all those parts.
        drops: gets the parts that have to be left out.

    Returns:
        The instances, each part with its parent, made unions before the rest; and how many parents were stated, found,
        made or stayed unknown.
    """
    counts = ParentCounts()
    resolved = _resolve(items, counts, drops)
    if union:
        resolved = _add_unions(resolved, counts)
    counts.unknown = sum(item.part is not None and item.parent is None for item in resolved)
    return resolved, counts


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
                resolved[item.id] = replace(item, parent=None)
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
    # Boxes hold where masks are missing; a set has masks or boxes, hardly ever both.
    by_mask = all(item.rle is not None for item in (*parts, *objects))
    areas = [masks.area(_runs(item)) if by_mask else masks.box_area(box_of_record(item)) for item in objects]
    holders: list[InstanceRecord | None] = []
    step = max(1, PAIRS // len(objects))
    for first in range(0, len(parts), step):
        some = parts[first : first + step]
        for part, row in zip(some, _shares_inside(some, objects, by_mask=by_mask), strict=True):
            names = (part.object, *part.others)
            fitting = [n for n in np.flatnonzero(row >= LEAST_SHARE).tolist() if objects[n].object in names]
            holders.append(objects[max(fitting, key=lambda n: (row[n], -areas[n]))] if fitting else None)
    return holders


def _shares_inside(parts: Sequence[InstanceRecord], objects: Sequence[InstanceRecord], *, by_mask: bool) -> np.ndarray:
    """How much of each part lies in each object, (parts, objects), in 0..1."""
    if by_mask:
        return masks.share_inside([_runs(item) for item in parts], [_runs(item) for item in objects])
    return masks.boxes_inside([box_of_record(item) for item in parts], [box_of_record(item) for item in objects])


def box_of_record(item: InstanceRecord) -> masks.Box:
    """The box of an instance, from its mask where it has one."""
    if item.rle is not None:
        return masks.box_xyxy(item.rle)
    assert item.box is not None
    return item.box


def _runs(item: InstanceRecord) -> masks.Rle:
    assert item.rle is not None
    return item.rle


def _add_unions(items: list[InstanceRecord], counts: ParentCounts) -> list[InstanceRecord]:
    present = {item.object for item in items if item.part is None}
    lone: dict[str, list[InstanceRecord]] = {}
    for item in items:
        if item.part is not None and not item.crowd and item.object not in present:
            lone.setdefault(item.object, []).append(item)
    free = min((item.id for item in items), default=0)
    made: dict[str, InstanceRecord] = {}
    for number, (name, parts) in enumerate(lone.items(), start=1):
        made[name] = _union(min(free, 0) - number, name, parts)
        counts.unions += 1
        counts.by_union += len(parts)
    joined = [
        with_parent(item, made[item.object]) if item.part is not None and item.object in made else item
        for item in items
    ]
    return [*made.values(), *joined]


def _union(number: int, name: str, parts: Sequence[InstanceRecord]) -> InstanceRecord:
    if all(part.rle is not None for part in parts):
        return InstanceRecord(number, name, None, masks.union([_runs(part) for part in parts]))
    left, top, right, bottom = zip(*(box_of_record(part) for part in parts), strict=True)
    return InstanceRecord(number, name, None, None, box=(min(left), min(top), max(right), max(bottom)))
