"""A set's vocabulary in other words: synonyms, plurals, another order, more names; and which name is which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from langhops_cli.vocabulary import ObjectNode, PartNode, Vocabulary
from langhops_cli.vocabulary.tree import name_key

ORDER = "permuted order"
"""Label of a vocabulary in another order."""


@dataclass(frozen=True)
class VocabularyChange:
    """Names to ask for instead of a set's own.

    Args:
        label: what was changed, in a word or two.
        vocabulary: the names that are asked for.
        objects: for each of its object names the number of the set's own object that it stands for; None for a name
            that stands for none, whose results are not scored.
        parts: the same for part names.
        changed: how many of the set's own names, objects and parts, are now spelt otherwise.
        added: how many names stand for none of the set's own.

    Raises:
        ValueError: there are not as many numbers as names.
    """

    label: str
    vocabulary: Vocabulary
    objects: tuple[int | None, ...]
    parts: tuple[int | None, ...]
    changed: int = 0
    added: int = 0

    def __post_init__(self) -> None:
        names = len(self.vocabulary.object_names), len(self.vocabulary.part_classes)
        if names != (len(self.objects), len(self.parts)):
            raise ValueError(f"{self.label}: {names} names of objects and parts need as many numbers")


class _Numbered(NamedTuple):
    """A part with its number among the part classes, and its parts likewise."""

    number: int
    node: PartNode
    below: list[_Numbered]


def rename(
    vocabulary: Vocabulary, spellings: Callable[[str, str | None], Sequence[str]], *, label: str
) -> VocabularyChange:
    """Spell names otherwise where there is another spelling; the order stays.

    Args:
        vocabulary: the set's own.
        spellings: of a name and the object that it is a part of (None for an object), the best first, none where it has
            to stay. The first that no name beside it has yet is taken: two objects, or two parts of one object, never
            get the same name.
        label: what is changed.
    """
    changed = 0

    def respell(name: str, owner: str | None, taken: set[str]) -> str:
        nonlocal changed
        found = next((other for other in spellings(name, owner) if name_key(other) not in taken), None)
        if found is None:
            return name
        changed += 1
        taken.add(name_key(found))
        return found

    def parts(nodes: Sequence[PartNode], owner: str, taken: set[str]) -> tuple[PartNode, ...]:
        return tuple(
            PartNode(respell(node.name, owner, taken), node.count, parts(node.parts, owner, taken)) for node in nodes
        )

    taken = set(map(name_key, vocabulary.object_names))
    objects = [
        ObjectNode(respell(item.name, None, taken), parts(item.parts, item.name, _part_keys(item.parts)))
        for item in vocabulary.objects
    ]
    count, part_count = len(objects), len(vocabulary.part_classes)
    return VocabularyChange(label, Vocabulary(tuple(objects)), (*range(count),), (*range(part_count),), changed)


def permute(vocabulary: Vocabulary, *, seed: int) -> VocabularyChange:
    """Put the objects, and the parts of each, in an order that is drawn by `seed`; another than theirs if there is one.

    Parts of parts stay with theirs.
    """
    random = np.random.default_rng(seed)
    change = _permuted(vocabulary, random)
    while change.vocabulary == vocabulary and _has_orders([item.parts for item in vocabulary.objects]):
        change = _permuted(vocabulary, random)
    return change


def _has_orders(siblings: Sequence[Sequence[PartNode]]) -> bool:
    """Whether objects with these parts can stand in more than one order."""
    return len(siblings) > 1 or any(_has_orders([node.parts for node in nodes]) for nodes in siblings)


def _permuted(vocabulary: Vocabulary, random: np.random.Generator) -> VocabularyChange:
    numbers = iter(range(len(vocabulary.part_classes)))
    order: list[int] = []

    def numbered(nodes: Sequence[PartNode]) -> list[_Numbered]:
        # Part classes are numbered depth first, so walking the tree in the same order meets them in order.
        return [_Numbered(next(numbers), node, numbered(node.parts)) for node in nodes]

    def shuffled(nodes: Sequence[_Numbered]) -> tuple[PartNode, ...]:
        found = []
        for place in random.permutation(len(nodes)):
            number, node, below = nodes[place]
            order.append(number)
            found.append(PartNode(node.name, node.count, shuffled(below)))
        return tuple(found)

    parts = [numbered(item.parts) for item in vocabulary.objects]
    places = [int(place) for place in random.permutation(len(parts))]
    objects = tuple(ObjectNode(vocabulary.objects[place].name, shuffled(parts[place])) for place in places)
    return VocabularyChange(ORDER, Vocabulary(objects), tuple(places), tuple(order))


def extend(vocabulary: Vocabulary, names: Sequence[str]) -> VocabularyChange:
    """Ask for more objects, without parts, that stand for nothing that the set has; they come last.

    Raises:
        VocabularyError: the vocabulary has one of the names.
    """
    longer = Vocabulary((*vocabulary.objects, *map(ObjectNode, names)))
    objects = (*range(len(vocabulary.objects)), *(None for _ in names))
    label = f"{len(names):,} more " + ("name" if len(names) == 1 else "names")
    return VocabularyChange(label, longer, objects, (*range(len(vocabulary.part_classes)),), added=len(names))


def _part_keys(nodes: Sequence[PartNode]) -> set[str]:
    return {key for node in nodes for key in (name_key(node.name), *_part_keys(node.parts))}
