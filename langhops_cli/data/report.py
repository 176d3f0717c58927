"""What a prepared set holds and what was left out, counted picture by picture for `report.json` and the terminal."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from langhops_cli.data.parents import ParentCounts
from langhops_cli.data.records import FIRST, Drops, Role, Tree
from langhops_cli.data.verify import CheckedPicture, parts_of_objects
from langhops_cli.vocabulary import ObjectNode, PartNode, Vocabulary

MOST_SLOTS = 32
"""Most queries that a prepared hierarchy asks for one part of one object."""
USUAL_SHARE = 95
"""A part gets as many queries as this percentage of the objects that show it need."""
SIZES = (32, 96, 256)
"""Sides of the squares in pixels at which the histogram of instance sizes is divided."""


@dataclass
class SplitTally:
    """The counts of one split, whose size does not grow with it but for eight bytes a picture."""

    name: str
    exhaustive: bool
    drops: Drops
    images: int = 0
    seen: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    parts: Counter[Role] = field(default_factory=Counter)
    crowd_regions: int = 0
    parents: ParentCounts = field(default_factory=ParentCounts)
    parts_per_object: Counter[int] = field(default_factory=Counter)
    repeated: dict[Role, Counter[int]] = field(default_factory=dict)
    whole_objects: Counter[str] = field(default_factory=Counter)
    sizes: Counter[int] = field(default_factory=Counter)
    sides: tuple[int, int] = (0, 0)
    boxes_only: int = 0
    digests: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, picture: CheckedPicture) -> None:
        """Count a picture."""
        self.seen += 1
        self.drops.merge(picture.drops)
        if picture.fault is not None:
            return
        self.images += 1
        self.digests.append(picture.digest)
        longest = max(picture.width, picture.height)
        self.sides = (min(self.sides[0] or longest, longest), max(self.sides[1], longest))
        self.parents.add(picture.parents)
        for item in picture.instances:
            owner, part = item.role
            if part is None:
                self.objects[owner] += 1
                self.whole_objects[owner] += not item.crowd
            else:
                self.parts[item.role] += 1
            self.crowd_regions += item.crowd
            self.boxes_only += not item.counts
            self.sizes[sum(item.area >= side * side for side in SIZES)] += 1
        numbers = parts_of_objects(picture)
        whole: Counter[int] = Counter()
        for (role, place), number in numbers.items():
            self.repeated.setdefault(role, Counter())[number] += 1
            whole[place] += number
        self.parts_per_object.update(whole.values())

    @property
    def roles(self) -> set[Role]:
        """What was annotated at all."""
        return {(name, None) for name in self.objects} | set(self.parts)

    def describe(self) -> dict[str, Any]:
        """The counts as the report has them."""
        with_parts = {owner for owner, _ in self.parts}
        could = sum(self.whole_objects[owner] for owner in with_parts)
        parts = sum(number * times for number, times in self.parts_per_object.items())
        parents = self.parents
        return {
            "exhaustive": self.exhaustive,
            "images": self.images,
            "objects": self.objects.total(),
            "parts": self.parts.total(),
            "boxes_without_masks": self.boxes_only,
            "crowd_regions": self.crowd_regions,
            "parts_per_object": {
                "mean": round(parts / could, 2) if could else 0.0,
                "most": max(self.parts_per_object, default=0),
                "histogram": {str(number): self.parts_per_object[number] for number in sorted(self.parts_per_object)},
            },
            "longest_sides": {"least": self.sides[0], "most": self.sides[1]},
            "areas": {label: self.sizes[place] for place, label in enumerate(size_labels())},
            "parents": {
                "stated": parents.stated,
                "by_mask": parents.by_mask,
                "by_union": parents.by_union,
                "unknown": parents.unknown,
                "stated_but_wrong": parents.contradicted,
            },
            "objects_made_of_parts": parents.unions,
            "dropped": self.drops.to_list(),
        }


def size_labels() -> list[str]:
    """The bins of instance areas: "under 32 x 32" to "256 x 256 and more"."""
    between = [f"{low} x {low} to {high} x {high}" for low, high in pairwise(SIZES)]
    return [f"under {SIZES[0]} x {SIZES[0]}", *between, f"{SIZES[-1]} x {SIZES[-1]} and more"]


def part_counts(tally: SplitTally) -> dict[Role, int]:
    """How many queries each part should get: the 95th percentile of its number in one object, 1..32.

    Only objects that show the part count, and only parts whose object is known.
    """
    return {role: min(MOST_SLOTS, _percentile(numbers)) for role, numbers in tally.repeated.items()}


def _percentile(numbers: Counter[int]) -> int:
    values = np.repeat(list(numbers), list(numbers.values()))
    return int(np.ceil(np.percentile(values, USUAL_SHARE)))


def build_vocabulary(tree: Tree, tallies: Iterable[SplitTally]) -> tuple[Vocabulary, list[str]]:
    """The names that occur, with a count for each part.

    Args:
        tree: all names of the source.
        tallies: of the splits; the first one that shows a part gives its count.

    Returns:
        The vocabulary, and the names left out because nothing was annotated with them.
    """
    tallies = list(tallies)
    used = set().union(*(tally.roles for tally in tallies))
    counts: dict[Role, int] = {}
    for tally in tallies:
        counts = part_counts(tally) | counts
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
    owner: str, above: str | None, nested: dict[str, str | None], counts: dict[Role, int]
) -> tuple[PartNode, ...]:
    return tuple(
        PartNode(part, counts.get((owner, part), 1), _nodes(owner, part, nested, counts))
        for part, parent in nested.items()
        if parent == above
    )


def count_names(tallies: Iterable[SplitTally]) -> dict[str, int]:
    """Instances of every name over all splits, "car" and "car wheel", the most frequent first."""
    names: Counter[str] = Counter()
    for tally in tallies:
        names.update(tally.objects)
        names.update({f"{owner} {part}": number for (owner, part), number in tally.parts.items()})
    return dict(names.most_common())


def same_pictures(first: SplitTally, second: SplitTally) -> tuple[int, list[int]]:
    """How many pictures two splits share, byte for byte, and the places of the first of them in the first split."""
    ours, theirs = (np.frombuffer(tally.digests, dtype=np.uint64) for tally in (first, second))
    shared = np.flatnonzero(np.isin(ours, theirs) & (ours != 0))
    return len(shared), [int(place) for place in shared[:FIRST]]
