"""What the datasets' own trees know: which objects, with which parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from langhops_cli.data.manifests import load_manifest, manifest_names
from langhops_cli.hierarchy.spelling import bare, spelling_key
from langhops_cli.hierarchy.wordnet import Meaning, WordNet
from langhops_cli.vocabulary import ObjectNode, PartNode, Vocabulary

RELATED = 3
"""Steps up to the kind that two things have in common, if one is to stand for the other."""

NAMELESS = ("object",)
"""The tree of a set whose masks have no names, such as SA-1B."""


@dataclass(frozen=True)
class KnownObject:
    """An object as one tree has it, with its parts.

    Args:
        source: name of the tree, "paco".
        node: the object.
    """

    source: str
    node: ObjectNode


class KnownTrees:
    """Objects with parts, found by any spelling of their names, by other words for them, and by what they are.

    Args:
        trees: by name; objects without parts are passed over.
        wordnet: says which words mean one thing.
    """

    def __init__(self, trees: Mapping[str, Vocabulary], wordnet: WordNet) -> None:
        self.objects = [
            KnownObject(source, node) for source, tree in trees.items() for node in tree.objects if node.parts
        ]
        self._wordnet = wordnet
        self._by_key: dict[str, list[KnownObject]] = defaultdict(list)
        self._by_meaning: dict[int, list[KnownObject]] = defaultdict(list)
        self._by_kind: dict[int, list[KnownObject]] = defaultdict(list)
        for item in self.objects:
            self._by_key[_key(item.node.name)].append(item)
            meaning = wordnet.find(item.node.name)
            if meaning is not None:
                self._by_meaning[meaning.number].append(item)
                for kind, steps in wordnet.above(meaning.number):
                    if steps <= RELATED:
                        self._by_kind[kind.number].append(item)

    @property
    def names(self) -> list[str]:
        """Names of the objects, each once."""
        return list(dict.fromkeys(item.node.name for item in self.objects))

    @property
    def part_names(self) -> list[str]:
        """Names of the parts of all objects, each once."""
        return list(dict.fromkeys(part.name for item in self.objects for part in item.node.parts))

    def find(self, name: str) -> list[KnownObject]:
        """The objects that a name stands for: spelt so, or another word for the same thing."""
        meaning = self._wordnet.find(name)
        same = [] if meaning is None else self._by_meaning[meaning.number]
        return list(dict.fromkeys([*self._by_key.get(_key(name), ()), *same]))

    def find_kind(self, name: str) -> tuple[Meaning, int, list[KnownObject]] | None:
        """The nearest kind that a thing is of and that a tree knows: a husky is a dog.

        Returns:
            The kind, the steps up to it, and what the trees say of it; None where there is none.
        """
        meaning = self._wordnet.find(name)
        if meaning is None:
            return None
        for kind, steps in self._wordnet.above(meaning.number):
            if steps and self._by_meaning[kind.number]:
                return kind, steps, list(self._by_meaning[kind.number])
        return None

    def find_relatives(self, name: str) -> tuple[Meaning, list[str]] | None:
        """Known objects that are of one near kind with a thing: a zebra and a horse are equines.

        Returns:
            The nearest such kind, at most `RELATED` steps up, and the names of the objects; None where there is none.
        """
        meaning = self._wordnet.find(name)
        if meaning is None:
            return None
        for kind, steps in self._wordnet.above(meaning.number):
            if 0 < steps <= RELATED and self._by_kind[kind.number]:
                return kind, list(dict.fromkeys(item.node.name for item in self._by_kind[kind.number]))
        return None


@lru_cache(maxsize=1)
def load_known() -> dict[str, Vocabulary]:
    """The trees of all data manifests that name things, by the manifest's name."""
    trees = {name: manifest_tree(name) for name in manifest_names()}
    return {name: tree for name, tree in trees.items() if tree is not None and tree.object_names != NAMELESS}


def manifest_tree(name: str) -> Vocabulary | None:
    """The tree that a data manifest states; None where the names come with the source.

    Raises:
        UserError: there is no manifest of that name.
    """
    stated: Mapping[str, Sequence[str]] = load_manifest(name).vocabulary
    if not stated:
        return None
    return Vocabulary(tuple(ObjectNode(owner, tuple(map(PartNode, parts))) for owner, parts in stated.items()))


def _key(name: str) -> str:
    return spelling_key(bare(name)[0])
