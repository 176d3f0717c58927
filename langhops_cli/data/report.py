"""What a prepared set holds and what was left out, counted once for `report.json` and for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from langhops_cli.data.parents import ParentCounts
from langhops_cli.data.records import SplitRecords, Tree
from langhops_cli.vocabulary import ObjectNode, PartNode, Vocabulary

MOST_SLOTS = 32
"""Most queries that a prepared hierarchy asks for one part of one object."""
USUAL_SHARE = 95
"""A part gets as many queries as this percentage of the objects that show it need."""


def part_counts(split: SplitRecords) -> dict[tuple[str, str], int]:
    """How many queries each part should get: the 95th percentile of its number in one object, 1..32.

    Only objects that show the part count, and only parts whose object is known.
    """
    per_object = Counter(
        (item.object, item.part, item.image_id, item.parent)
        for item in split.instances
        if item.part is not None and item.parent is not None and not item.crowd
    )
    numbers: dict[tuple[str, str], list[int]] = {}
    for (owner, part, _, _), number in per_object.items():
        numbers.setdefault((owner, part), []).append(number)
    return {key: min(MOST_SLOTS, int(np.ceil(np.percentile(values, USUAL_SHARE)))) for key, values in numbers.items()}


def build_vocabulary(tree: Tree, splits: Iterable[SplitRecords]) -> tuple[Vocabulary, list[str]]:
    """The names that occur, with a count for each part.

    Args:
        tree: all names of the source.
        splits: the first one gives the counts.

    Returns:
        The vocabulary, and the names left out because nothing was annotated with them.
    """
    splits = list(splits)
    used = {(item.object, item.part) for split in splits for item in split.instances}
    counts = part_counts(splits[0])
    objects, unused = [], []
    for owner, parts in tree.items():
        kept = {part: above for part, above in parts.items() if (owner, part) in used}
        unused += [f"{owner} {part}" for part in parts if part not in kept]
        if (owner, None) not in used and not kept:
            unused.append(owner)
            continue
        nested = {part: _kept_above(above, parts, kept) for part, above in kept.items()}
        objects.append(ObjectNode(owner, _nodes(owner, None, nested, counts)))
    return Vocabulary(tuple(objects)), unused


def _kept_above(above: str | None, parts: dict[str, str | None], kept: dict[str, str | None]) -> str | None:
    while above is not None and above not in kept:
        above = parts.get(above)
    return above


def _nodes(
    owner: str, above: str | None, nested: dict[str, str | None], counts: dict[tuple[str, str], int]
) -> tuple[PartNode, ...]:
    return tuple(
        PartNode(part, counts.get((owner, part), 1), _nodes(owner, part, nested, counts))
        for part, parent in nested.items()
        if parent == above
    )


def describe_split(split: SplitRecords, parents: ParentCounts) -> dict[str, Any]:
    """The counts of one split."""
    parts = [item for item in split.instances if item.part is not None]
    per_object = Counter((item.image_id, item.parent) for item in parts if item.parent is not None)
    objects = len(split.instances) - len(parts)
    with_parts = {item.object for item in parts}
    could = sum(item.part is None and not item.crowd and item.object in with_parts for item in split.instances)
    return {
        "exhaustive": split.exhaustive,
        "images": len(split.pictures),
        "objects": objects,
        "parts": len(parts),
        "crowd_regions": sum(item.crowd for item in split.instances),
        "parts_per_object": {
            "mean": round(sum(per_object.values()) / could, 2) if could else 0.0,
            "most": max(per_object.values(), default=0),
        },
        "parents": {
            "stated": parents.stated,
            "by_mask": parents.by_mask,
            "by_union": parents.by_union,
            "unknown": parents.unknown,
            "stated_but_wrong": parents.contradicted,
        },
        "objects_made_of_parts": parents.unions,
        "dropped": split.drops.to_list(),
    }


def count_names(splits: Iterable[SplitRecords]) -> dict[str, int]:
    """Instances of every name over all splits, "car" and "car wheel", the most frequent first."""
    items = (item for split in splits for item in split.instances)
    names = Counter(item.object if item.part is None else f"{item.object} {item.part}" for item in items)
    return dict(names.most_common())
