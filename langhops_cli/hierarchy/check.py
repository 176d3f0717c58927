"""What is wrong, or may go wrong, with a tree: names that say one thing twice, unknown parts, too many queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from langhops_cli.hierarchy.known import KnownTrees
from langhops_cli.hierarchy.similarity import NameEmbeddings
from langhops_cli.hierarchy.spelling import singular, spelling_key, told_apart, without_owner
from langhops_cli.hierarchy.wordnet import WordNet
from langhops_cli.vocabulary import ObjectNode, PartNode, Vocabulary

NEAR_SYNONYM = 0.75
"""Similarity from which two names may mean one thing. Of 2,753 pairs of parts that the data manifests tell apart in one
object, and whose names no word such as "left" tells apart, 1 reaches it ("cup", "food cup" of a blender), of 26,482
pairs of objects that WordNet does not know to be two things 17 ("truck", "pickup truck"). Of the listed synonyms of
their names 34 % of the objects' and 25 % of the parts' do. At 0.7 there would be 15 and 32, at 0.8 none and 7."""

Level = Literal["error", "note"]
Topic = Literal[
    "one name", "near-synonym", "object and part", "unknown part", "budget", "instances", "new to the model"
]


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Args:
        level: an error spoils the result; a note is worth a look.
        topic: what sort of thing it is.
        where: the object it concerns; empty for the tree as a whole.
        text: in words.
        similarity: of the names that it is about, where it comes from one.
    """

    level: Level
    topic: Topic
    where: str
    text: str
    similarity: float | None = None


@dataclass(frozen=True)
class Budget:
    """What a model can look for at once, and what it was trained with.

    Args:
        queries: part queries of one picture.
        kept: objects whose parts are looked for.
        per_part: queries of a part without a count.
        trained: the names it was trained with; None where it keeps none.
    """

    queries: int
    kept: int
    per_part: int
    trained: Vocabulary | None = None


def check_tree(
    vocabulary: Vocabulary,
    *,
    known: KnownTrees,
    wordnet: WordNet,
    embeddings: NameEmbeddings,
    budget: Budget | None = None,
) -> list[Finding]:
    """Look a tree over.

    Args:
        vocabulary: the tree.
        known: what the datasets know.
        wordnet: other words for a thing.
        embeddings: of names.
        budget: of the model it is meant for; not looked at when left out.

    Returns:
        What was found: errors first, then in the order of the topics.
    """
    alike = _Alike(wordnet, embeddings)
    findings = [*alike.among(vocabulary.object_names, "")]
    for item in vocabulary.objects:
        findings += alike.among([part.name for part in _walk(item.parts)], item.name)
        findings += _own_name(item)
    findings += _objects_as_parts(vocabulary)
    findings += _unknown(vocabulary, known, embeddings)
    if budget is not None:
        findings += _beyond(vocabulary, budget)
    findings += _instances(vocabulary, None if budget is None else budget.trained)
    if budget is not None and budget.trained is not None:
        findings += _new_names(vocabulary, budget.trained)
    return sorted(findings, key=lambda finding: finding.level)


class _Alike:
    """Finds names of one list that mean one thing.

    Args:
        wordnet: other words for a thing.
        embeddings: of names.
    """

    def __init__(self, wordnet: WordNet, embeddings: NameEmbeddings) -> None:
        self.wordnet = wordnet
        self.embeddings = embeddings

    def among(self, names: Sequence[str], owner: str) -> Iterator[Finding]:
        """Names of the objects of a tree (`owner` empty), or of the parts of one object."""
        groups: dict[str, list[str]] = defaultdict(list)
        for name in names:
            groups[spelling_key(name)].append(name)
        for group in groups.values():
            if len(group) > 1:
                text = f"{_listed(group)} are one name in several spellings; keep one"
                yield Finding("error", "one name", owner, text)
        distinct = [group[0] for group in groups.values()]
        likeness = self.embeddings.cosines(distinct, distinct)
        words: dict[int, list[int]] = defaultdict(list)
        for place, name in enumerate(distinct):
            for meaning in self._meanings(name, owner):
                words[meaning].append(place)
        same = {pair for places in words.values() for pair in combinations(places, 2)}
        near = {(int(one), int(other)) for one, other in np.argwhere(np.triu(likeness >= NEAR_SYNONYM, 1))}
        for one, other in sorted(same | near, key=lambda pair: -likeness[pair]):
            if (one, other) not in same and self._distinct(distinct[one], distinct[other], owner):
                continue
            similarity = round(float(likeness[one, other]), 2)
            why = "mean one thing, says WordNet" if (one, other) in same else "may mean one thing"
            text = f"'{distinct[one]}' and '{distinct[other]}' {why} (similarity {similarity:.2f})"
            yield Finding("note", "near-synonym", owner, text, similarity)

    def _distinct(self, one: str, other: str, owner: str) -> bool:
        return told_apart(one, other) or (not owner and self.wordnet.unlike(one, other))

    def _meanings(self, name: str, owner: str) -> Collection[int]:
        """Of an object its most usual meaning, as objects of a tree may be anything; of a part all that it has."""
        if owner:
            return self.wordnet.meanings_of(name)
        usual = self.wordnet.find(name)
        return () if usual is None else (usual.number,)


def _own_name(item: ObjectNode) -> Iterator[Finding]:
    for part in _walk(item.parts):
        if spelling_key(part.name) == spelling_key(item.name):
            yield Finding("note", "object and part", item.name, f"'{part.name}' is a part of what has its name")
        elif (short := without_owner(part.name.lower(), item.name.lower())) != part.name.lower():
            text = f"'{part.name}' repeats its object; the model reads '{item.name} {part.name}': write '{short}'"
            yield Finding("note", "one name", item.name, text)


def _objects_as_parts(vocabulary: Vocabulary) -> Iterator[Finding]:
    objects = {spelling_key(name): name for name in vocabulary.object_names}
    owners: dict[str, list[str]] = defaultdict(list)
    for item in vocabulary.objects:
        for part in _walk(item.parts):
            key = spelling_key(part.name)
            if key in objects and key != spelling_key(item.name):
                owners[key].append(item.name)
    for key, found in owners.items():
        owned = _listed(list(dict.fromkeys(found)))
        text = f"'{objects[key]}' is an object and a part of {owned}: it may be found as both"
        yield Finding("note", "object and part", objects[key], text)


def _unknown(vocabulary: Vocabulary, known: KnownTrees, embeddings: NameEmbeddings) -> Iterator[Finding]:
    names = known.part_names
    keys = {spelling_key(name) for name in names}
    unknown = [
        (item.name, part.name)
        for item in vocabulary.objects
        for part in _walk(item.parts)
        if spelling_key(part.name) not in keys
    ]
    if not unknown or not names:
        return
    parts = list(dict.fromkeys(part for _, part in unknown))
    likeness = embeddings.cosines(parts, names)
    best = {part: (names[int(row.argmax())], float(row.max())) for part, row in zip(parts, likeness, strict=True)}
    for owner, part in unknown:
        nearest, similarity = best[part]
        text = f"no known tree has a part '{part}'; the nearest is '{nearest}' (similarity {similarity:.2f})"
        yield Finding("note", "unknown part", owner, text, round(similarity, 2))


def _beyond(vocabulary: Vocabulary, budget: Budget) -> Iterator[Finding]:
    asked = queries_of(vocabulary, budget.per_part)
    for name, number in asked.items():
        if number > budget.queries:
            text = f"{number:,} part queries, and the model has {budget.queries:,}: the last ones are never looked for"
            yield Finding("error", "budget", name, text)
    largest = max(asked, key=lambda name: asked[name])
    fitting = budget.queries // asked[largest] if asked[largest] else budget.kept
    if 0 < fitting < budget.kept:
        things = "object" if fitting == 1 else "objects"
        text = (
            f"{asked[largest]:,} part queries: of {budget.kept} such objects in a picture only the {fitting} likeliest "
            f"{things} are looked at for parts (the model has {budget.queries:,} queries)"
        )
        yield Finding("note", "budget", largest, text)


def queries_of(vocabulary: Vocabulary, per_part: int) -> dict[str, int]:
    """How many part queries one object of each name takes.

    Args:
        vocabulary: the tree.
        per_part: queries of a part without a count.
    """
    asked = dict.fromkeys(vocabulary.object_names, 0)
    for part in vocabulary.part_classes:
        asked[vocabulary.object_names[part.object]] += part.count if part.count > 1 else per_part
    return asked


def _instances(vocabulary: Vocabulary, trained: Vocabulary | None) -> Iterator[Finding]:
    counts = _counts(trained)
    for item in vocabulary.objects:
        for part in _walk(item.parts):
            usual = counts.get((spelling_key(item.name), spelling_key(part.name)), 1)
            if part.count == 1 and usual > 1:
                text = (
                    f"one {part.name} is looked for; the model was trained to find {usual}: write '{part.name}*{usual}'"
                )
                yield Finding("note", "instances", item.name, text)
            elif part.count == 1 and (one := singular(part.name)) != part.name:
                text = f"'{part.name}' is looked for once, as one thing; for several write '{one}*4'"
                yield Finding("note", "instances", item.name, text)


def _counts(trained: Vocabulary | None) -> Mapping[tuple[str, str], int]:
    if trained is None:
        return {}
    return {
        (spelling_key(item.name), spelling_key(part.name)): part.count
        for item in trained.objects
        for part in _walk(item.parts)
    }


def _new_names(vocabulary: Vocabulary, trained: Vocabulary) -> Iterator[Finding]:
    met = {spelling_key(name) for name in trained.object_names}
    new = [name for name in vocabulary.object_names if spelling_key(name) not in met]
    if new:
        text = f"{_listed(new)}: the model was not trained on {'this object' if len(new) == 1 else 'these objects'}"
        yield Finding("note", "new to the model", "", text)


def _walk(parts: Sequence[PartNode]) -> Iterator[PartNode]:
    for part in parts:
        yield part
        yield from _walk(part.parts)


def _listed(names: Sequence[str], most: int = 6) -> str:
    shown = [f"'{name}'" for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most:,} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
