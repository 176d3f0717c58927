"""Mapping the names of one tree onto those of another."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from langhops_cli.hierarchy.similarity import NameEmbeddings
from langhops_cli.hierarchy.spelling import bare, marks, spelling_key
from langhops_cli.hierarchy.wordnet import WordNet
from langhops_cli.vocabulary import Vocabulary
from langhops_cli.vocabulary.tree import name_key

MIN_SIMILARITY = 0.65
"""Least similarity of two names that are mapped: of the listed synonyms of the manifests' names 46 % reach it, of the
pairs of parts that a manifest tells apart in one object 1.0 %, of objects 0.2 %."""
ELSEWHERE = 0.75
"""Least similarity of a part with one of the same name of an object that its own was not mapped onto, both read with
their objects: "cat tail", "dog tail"."""
SURE: Mapping[str, float] = {"exact": 4.0, "spelling": 3.0, "same meaning": 2.0}
"""What comes before any similarity."""

How = Literal["exact", "spelling", "same meaning", "similar", "none"]


@dataclass(frozen=True)
class Match:
    """A name and its counterpart.

    Args:
        object: of the first tree.
        part: of that object, as "head" or, for a part of a part, "head: eye"; None for the object itself.
        to_object: of the second tree; None where there is no counterpart.
        to_part: likewise.
        how: "exact" but for case; "spelling" but for plural, hyphens, American letters and remarks in brackets; words
            with the "same meaning" in WordNet; "similar" texts; "none".
        similarity: of the texts, -1..1; 1 for equal spellings; None without a counterpart.
        elsewhere: the part's counterpart belongs to another object than its object's counterpart.
    """

    object: str
    part: str | None
    to_object: str | None
    to_part: str | None
    how: How
    similarity: float | None
    elsewhere: bool = False


@dataclass(frozen=True)
class TreeMap:
    """All names of a tree with their counterparts in another.

    Args:
        matches: objects in their order, each followed by its parts.
        many: several names may share a counterpart.
    """

    matches: tuple[Match, ...]
    many: bool

    def found(self, *, parts: bool) -> tuple[int, int]:
        """How many parts, or objects, have a counterpart; and how many there are."""
        wanted = [match for match in self.matches if (match.part is not None) == parts]
        return sum(match.how != "none" for match in wanted), len(wanted)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the counts, and every match."""
        counts = {}
        for level in ("objects", "parts"):
            found, total = self.found(parts=level == "parts")
            counts[level] = {"mapped": found, "of": total}
        return {"many": self.many, **counts, "matches": [asdict(match) for match in self.matches]}

    def to_yaml(self) -> str:
        """The mapping alone, as YAML: object -> {to: object, parts: {part: part}}; nothing where there is none."""
        import yaml

        tree: dict[str, dict[str, Any]] = {}
        for match in self.matches:
            entry = tree.setdefault(match.object, {"to": None, "parts": {}})
            if match.part is None:
                entry["to"] = match.to_object
            elif match.elsewhere:
                entry["parts"][match.part] = {"object": match.to_object, "part": match.to_part}
            else:
                entry["parts"][match.part] = match.to_part
        return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=1000)


def compare_trees(
    first: Vocabulary,
    second: Vocabulary,
    *,
    wordnet: WordNet,
    embeddings: NameEmbeddings,
    many: bool = False,
    min_similarity: float = MIN_SIMILARITY,
) -> TreeMap:
    """Map the names of a tree onto those of another.

    Objects are mapped first; then the parts of each onto the parts of its counterpart; what is left over of the parts
    onto parts of the same name of any other object, read with their objects: "dog head". Equal spellings come before
    words of one meaning, and these before similar ones; objects that WordNet knows to be two are not mapped by
    similarity. One to one, the sum over all pairs is the largest possible.

    Args:
        first: the tree whose names are mapped.
        second: the tree they are mapped onto.
        wordnet: words of one meaning.
        embeddings: of names.
        many: several names of the first tree may share a counterpart: each takes its best. Else each name of the second
            is taken once.
        min_similarity: least similarity of similar names, -1..1.
    """
    matcher = _Matcher(wordnet, embeddings, many, min_similarity)
    objects = matcher.match(first.object_names, second.object_names)
    paths, to_paths = _paths(first), _paths(second)
    parts: dict[tuple[str, str], Match] = {}
    taken: set[tuple[str, str]] = set()
    for owner, to in zip(first.object_names, objects, strict=True):
        if to is None:
            continue
        to_owner = second.object_names[to.place]
        names, others = list(paths[owner]), list(to_paths[to_owner])
        found = matcher.match(
            [paths[owner][name] for name in names], [to_paths[to_owner][other] for other in others], parts=True
        )
        for name, pair in zip(names, found, strict=True):
            if pair is not None:
                other = others[pair.place]
                parts[owner, name] = Match(owner, name, to_owner, other, pair.how, pair.similarity)
                taken.add((to_owner, other))
    parts |= _elsewhere(matcher, paths, to_paths, parts, taken)
    matches = []
    for owner, to in zip(first.object_names, objects, strict=True):
        none = Match(owner, None, None, None, "none", None)
        matches.append(
            none if to is None else Match(owner, None, second.object_names[to.place], None, to.how, to.similarity)
        )
        matches += [parts.get((owner, name), Match(owner, name, None, None, "none", None)) for name in paths[owner]]
    return TreeMap(tuple(matches), many)


def _elsewhere(
    matcher: _Matcher,
    paths: Mapping[str, Mapping[str, str]],
    to_paths: Mapping[str, Mapping[str, str]],
    done: Mapping[tuple[str, str], Match],
    taken: set[tuple[str, str]],
) -> dict[tuple[str, str], Match]:
    """Map the parts that are left over onto parts of the same name of other objects."""
    left = [(owner, part) for owner, parts in paths.items() for part in parts if (owner, part) not in done]
    free = [
        (owner, part)
        for owner, parts in to_paths.items()
        for part in parts
        if matcher.many or (owner, part) not in taken
    ]
    texts = [f"{bare(owner)[0]} {paths[owner][part]}" for owner, part in left]
    to_texts = [f"{bare(owner)[0]} {to_paths[owner][part]}" for owner, part in free]
    same_part = _equal(
        [spelling_key(paths[owner][part]) for owner, part in left],
        [spelling_key(to_paths[owner][part]) for owner, part in free],
    )
    strict = replace(matcher, min_similarity=max(matcher.min_similarity, ELSEWHERE))
    found = strict.match(texts, to_texts, allowed=same_part)
    return {
        pair: Match(*pair, *free[to.place], to.how, to.similarity, elsewhere=True)
        for pair, to in zip(left, found, strict=True)
        if to is not None
    }


@dataclass(frozen=True)
class _Pair:
    place: int
    how: How
    similarity: float


@dataclass(frozen=True)
class _Matcher:
    wordnet: WordNet
    embeddings: NameEmbeddings
    many: bool
    min_similarity: float

    def match(
        self,
        names: Sequence[str],
        others: Sequence[str],
        *,
        parts: bool = False,
        allowed: NDArray[np.bool_] | None = None,
    ) -> list[_Pair | None]:
        """Find the counterpart of each name among others.

        Args:
            names: to be mapped.
            others: to be mapped onto.
            parts: the names are of parts of two objects that were mapped; else of objects.
            allowed: (names, others), which pairs may be formed; all when left out.
        """
        if not names or not others:
            return [None] * len(names)
        similarity = self.embeddings.cosines([bare(name)[0] for name in names], [bare(name)[0] for name in others])
        how = np.full(similarity.shape, "similar", dtype=object)
        value = similarity.astype(np.float64)
        for kind, equal in (  # the strictest last: it has the last word
            ("same meaning", self._same_meaning(names, others, parts=parts)),
            ("spelling", _equal(_spelt(names), _spelt(others))),
            ("exact", _equal([name_key(name) for name in names], [name_key(name) for name in others])),
        ):
            how[equal] = kind
            value[equal] = similarity[equal] + SURE[kind]
        apart = ~_equal(list(map(marks, names)), list(map(marks, others)))
        if not parts:
            unlike = self.wordnet.unlike
            for row, column in np.argwhere((how == "similar") & (value >= self.min_similarity) & ~apart).tolist():
                apart[row, column] = unlike(names[row], others[column])
        possible = (value >= self.min_similarity) & ~(apart & (how == "similar"))
        if allowed is not None:
            possible &= allowed
        chosen = _best(value, possible) if self.many else _assign(value, possible)
        return [
            None if place is None else _Pair(place, how[row, place], _shown(how[row, place], similarity[row, place]))
            for row, place in enumerate(chosen)
        ]

    def _same_meaning(self, names: Sequence[str], others: Sequence[str], *, parts: bool) -> NDArray[np.bool_]:
        """Which words share a meaning, (names, others): of objects the most usual one, of parts any."""
        if not parts:
            return _equal(self._usual(names), self._usual(others))
        shared = np.zeros((len(names), len(others)), dtype=bool)
        columns = [self.wordnet.meanings_of(other) for other in others]
        for row, name in enumerate(names):
            if own := self.wordnet.meanings_of(name):
                shared[row] = [not own.isdisjoint(column) for column in columns]
        return shared

    def _usual(self, names: Sequence[str]) -> list[int | None]:
        found = map(self.wordnet.find, names)
        return [None if meaning is None else meaning.number for meaning in found]


def _spelt(names: Sequence[str]) -> list[str]:
    return [spelling_key(bare(name)[0]) for name in names]


def _equal(rows: Sequence[Hashable | None], columns: Sequence[Hashable | None]) -> NDArray[np.bool_]:
    """Which of two lists' items are equal, (rows, columns); None equals nothing."""
    numbers = {item: number for number, item in enumerate(dict.fromkeys([*rows, *columns]))}
    one = np.array([-1 if item is None else numbers[item] for item in rows])
    other = np.array([-2 if item is None else numbers[item] for item in columns])
    return one[:, None] == other[None, :]


def _shown(how: How, similarity: float) -> float:
    return 1.0 if how in ("exact", "spelling") else round(float(similarity), 4)


def _best(value: NDArray[np.float64], possible: NDArray[np.bool_]) -> list[int | None]:
    ranked = np.where(possible, value, -np.inf)
    return [int(row.argmax()) if np.isfinite(row.max()) else None for row in ranked]


def _assign(value: NDArray[np.float64], possible: NDArray[np.bool_]) -> list[int | None]:
    from scipy.optimize import linear_sum_assignment

    gain = np.where(possible, value, 0.0)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    chosen: list[int | None] = [None] * len(value)
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        if possible[row, column]:
            chosen[row] = column
    return chosen


def _paths(vocabulary: Vocabulary) -> dict[str, dict[str, str]]:
    """For each object its parts by the way to them, "head: eye", each with its own name."""
    found: dict[str, dict[str, str]] = {name: {} for name in vocabulary.object_names}
    ways: list[str] = []
    for part in vocabulary.part_classes:
        ways.append(part.name if part.parent is None else f"{ways[part.parent]}: {part.name}")
        found[vocabulary.object_names[part.object]][ways[-1]] = part.name
    return found
