"""Where the parts of an object are named, and how much that says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from langhops_cli.hierarchy.known import KnownObject, KnownTrees
from langhops_cli.hierarchy.similarity import NameEmbeddings
from langhops_cli.hierarchy.spelling import bare, spelling_key, without_owner
from langhops_cli.hierarchy.wordnet import Meaning, WordNet

SourceKind = Literal[
    "tree",
    "tree of a kind",
    "tree of a relative",
    "tree of the nearest",
    "similar objects",
    "WordNet",
    "WordNet, inherited",
]

STRENGTH: dict[SourceKind, float] = {
    "tree": 0.6,
    "tree of a kind": 0.5,
    "tree of a relative": 0.35,
    "tree of the nearest": 0.5,
    "similar objects": 0.3,
    "WordNet": 0.3,
    "WordNet, inherited": 0.2,
}
"""How sure a source alone makes one of a part. That of the nearest is multiplied by the similarity, that of similar
objects by the share of them that have the part.

Chosen so that the order is the measured one. Each of the four lists with masks was left out in turn and guessed from
the others: a part that another list names for the object was in it in 46 % of the cases (in 85 % where WordNet has it,
too), one of a kind of it in 24 %, one of the nearest object in 14 to 29 %, one of WordNet in 23 %, an inherited one in
15 %. The lists are far from complete, so that the true shares are higher."""
FAMILIES = {"pascal-part-116": "pascal-part", "shapes": "partimagenet"}
"""Trees that were made from another one: they are no second opinion."""
NEAREST = 0.55
"""Least similarity of an object whose parts are borrowed; below it less than one part in five fits; a robot would be
a bicycle."""
SIMILAR = 5
"""How many of the most similar objects are asked."""


@dataclass(frozen=True)
class Source:
    """Why a part is proposed.

    Args:
        kind: of the source.
        name: of the tree, or "WordNet".
        owner: the object there that has the part.
        strength: how sure the source alone makes one, 0..1.
    """

    kind: SourceKind
    name: str
    owner: str
    strength: float

    def __str__(self) -> str:
        return f"{self.name} ({self.owner})"


@dataclass(frozen=True)
class Evidence:
    """A part that something names.

    Args:
        name: of the part, without its object's.
        count: how many of it the source looks for.
        source: what names it.
    """

    name: str
    count: int
    source: Source

    @property
    def key(self) -> str:
        """What all spellings of the part share."""
        return spelling_key(self.name)


@dataclass(frozen=True)
class Knowledge:
    """All that parts are proposed from.

    Args:
        trees: the known objects.
        wordnet: the nouns.
        embeddings: of names.
    """

    trees: KnownTrees
    wordnet: WordNet
    embeddings: NameEmbeddings


@dataclass(frozen=True)
class Gathered:
    """What is known of an object.

    Args:
        evidence: parts by source; a part may stand several times.
        understood: what the object was taken for where no tree has it itself, in words; None where one has.
    """

    evidence: list[Evidence]
    understood: str | None


def gather(name: str, knowledge: Knowledge) -> Gathered:
    """Find everything that names parts of an object.

    Args:
        name: of the object.
        knowledge: where to look.
    """
    own = knowledge.trees.find(name)
    found = list(_of_trees(name, own, "tree", 1.0))
    understood = None
    if not own:
        borrowed, understood = _borrow(name, knowledge)
        found += borrowed
    found += _of_similar(name, knowledge)
    known = {item.key for item in found} | {spelling_key(part) for part in knowledge.trees.part_names}
    return Gathered([*found, *_of_wordnet(name, knowledge.wordnet, known)], understood)


def _borrow(name: str, knowledge: Knowledge) -> tuple[list[Evidence], str | None]:
    """Parts of what the object is a kind of, else of a relative, else of the object with the nearest name."""
    kind = knowledge.trees.find_kind(name)
    if kind is not None:
        meaning, _, items = kind
        owner = items[0].node.name
        via = "" if owner in meaning.words else f" ({meaning.words[0]})"
        return list(_of_trees(name, items, "tree of a kind", 1.0)), f"a kind of {owner}{via}, says WordNet"
    relatives = knowledge.trees.find_relatives(name)
    if relatives is not None:
        meaning, owners = relatives
        owner = next(other for other, _ in _nearest(name, knowledge) if other in owners)
        found = list(_of_trees(name, knowledge.trees.find(owner), "tree of a relative", 1.0))
        return found, f"like {owner} a kind of {meaning.words[0]}, says WordNet"
    nearest = _nearest(name, knowledge)[:1]
    if nearest and nearest[0][1] >= NEAREST:
        owner, similarity = nearest[0]
        items = knowledge.trees.find(owner)
        found = list(_of_trees(name, items, "tree of the nearest", similarity))
        return found, f"most like {owner} of all known objects (similarity {similarity:.2f}); a guess"
    return [], "unlike every known object"


def _of_trees(name: str, items: Sequence[KnownObject], kind: SourceKind, factor: float) -> Iterator[Evidence]:
    for item in items:
        source = Source(kind, item.source, item.node.name, round(STRENGTH[kind] * factor, 4))
        for part in item.node.parts:
            yield Evidence(without_owner(part.name, bare(name)[0], item.node.name), part.count, source)


def _of_similar(name: str, knowledge: Knowledge) -> Iterator[Evidence]:
    """Parts that several of the most similar objects share, each object counted by the square of its similarity."""
    near = [(owner, score**2) for owner, score in _nearest(name, knowledge)[:SIMILAR] if score > 0]
    total = sum(weight for _, weight in near)
    shares: dict[str, tuple[str, float, list[str]]] = {}
    for owner, weight in near:
        parts = {spelling_key(part.name): part.name for item in knowledge.trees.find(owner) for part in item.node.parts}
        for key, part in parts.items():
            spelt, share, owners = shares.get(key, (part, 0.0, []))
            shares[key] = spelt, share + weight / total, [*owners, owner]
    for part, share, owners in shares.values():
        if len(owners) > 1:
            strength = round(STRENGTH["similar objects"] * share, 4)
            yield Evidence(part, 1, Source("similar objects", "similar objects", ", ".join(owners), strength))


def _nearest(name: str, knowledge: Knowledge) -> list[tuple[str, float]]:
    """The known objects by similarity of their names, the most similar first, without the object itself."""
    own = {item.node.name for item in knowledge.trees.find(name)}
    others = [other for other in knowledge.trees.names if other not in own]
    scores = knowledge.embeddings.cosines([bare(name)[0]], [bare(other)[0] for other in others]).ravel()
    return sorted(zip(others, scores.tolist(), strict=True), key=lambda pair: -pair[1])


def _of_wordnet(name: str, wordnet: WordNet, known: set[str]) -> Iterator[Evidence]:
    meaning = wordnet.find(name)
    if meaning is None:
        return
    # words for the object itself, but for unusual ones: a bicycle may be called a wheel, and still has some
    own = {spelling_key(word) for word in meaning.words if wordnet.find(word) == meaning}
    for part, kind, steps in wordnet.parts_of(meaning.number):
        told = _part_name(part, [*meaning.words, *kind.words, bare(name)[0]], known)
        if spelling_key(told) in own:
            continue
        how: SourceKind = "WordNet, inherited" if steps else "WordNet"
        yield Evidence(told, 1, Source(how, "WordNet", kind.words[0], STRENGTH[how]))


def _part_name(part: Meaning, owners: Sequence[str], known: set[str]) -> str:
    """The word for a part that the trees know, else the most usual one; "dog tail" of a dog is a tail."""
    words = [without_owner(word, *owners) for word in part.words]
    return next((word for word in words if spelling_key(word) in known), words[0])
