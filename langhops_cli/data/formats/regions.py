"""Masks of whole names given to the instances they cover: parts to objects, and objects made of their parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pycocotools import mask as coco_mask

from langhops_cli.data import masks
from langhops_cli.data.masks import Rle
from langhops_cli.data.records import InstanceRecord, with_parent


def intersect(masks_: Sequence[Rle]) -> Rle:
    """Run lengths of the pixels that are in all of the masks; none of them may be missing."""
    return masks.as_text(coco_mask.merge(list(masks_), intersect=True))


def subtract(mask: Rle, others: Sequence[Rle]) -> Rle:
    """Run lengths of the pixels of a mask that are in none of the others."""
    height, width = mask["size"]
    left = masks.decode(mask, height=height, width=width) > 0
    for other in others:
        left &= masks.decode(other, height=height, width=width) == 0
    return masks.encode(left)


def split_among(
    mask: Rle, objects: Iterable[InstanceRecord], *, part: str, first_id: int
) -> tuple[list[InstanceRecord], Rle | None]:
    """Split the mask of all parts of a name in a picture among the objects they lie in.

    Args:
        mask: of all the parts.
        objects: those that have such a part; each pixel goes to one, where objects overlap to the one that holds more.
        part: the part's name.
        first_id: the parts are numbered from here.

    Returns:
        The parts, each with its object, and what lies in no object, None where there is nothing left.
    """
    held = [(area, item) for item in objects if item.rle and (area := masks.area(intersect([mask, item.rle])))]
    parts: list[InstanceRecord] = []
    left: Rle | None = mask
    for _, item in sorted(held, key=lambda pair: -pair[0]):
        if left is None or item.rle is None:
            break
        own = intersect([left, item.rle])
        if masks.area(own):
            parts.append(InstanceRecord(first_id + len(parts), item.object, part, own, parent=item.id))
            rest = subtract(left, [own])
            left = rest if masks.area(rest) else None
    return parts, left


def add_objects(parts: Sequence[InstanceRecord]) -> list[InstanceRecord]:
    """Make an object of all parts that belong to one name: for sets whose pictures show one object of a name.

    Args:
        parts: the parts of a picture, each with its mask.

    Returns:
        The objects, with negative ids, and the parts, which now belong to them.
    """
    groups: dict[str, list[Rle]] = {}
    for item in parts:
        assert item.rle is not None, "a part of which an object is made has a mask"
        groups.setdefault(item.object, []).append(item.rle)
    lowest = min((item.id for item in parts), default=0)
    made = {
        name: InstanceRecord(min(lowest, 0) - number, name, None, masks.union(group))
        for number, (name, group) in enumerate(groups.items(), start=1)
    }
    return [*made.values(), *(with_parent(item, made[item.object]) for item in parts)]
