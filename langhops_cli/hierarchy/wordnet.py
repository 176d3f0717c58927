"""WordNet's nouns for things that pictures show: what they are kinds of, other words for them, and their parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from langhops_cli.hierarchy.spelling import bare, singular
from langhops_cli.resources import manifests_folder

TABLE = "names/wordnet_parts.tsv"
STEPS = 9
"""How far up the kinds are followed."""


@dataclass(frozen=True)
class Meaning:
    """A meaning of a noun.

    Args:
        number: its line in the table.
        words: that have this meaning, the most usual first.
        kinds: numbers of the meanings that it is a kind of.
        parts: numbers of the meanings that are parts of it.
    """

    number: int
    words: tuple[str, ...]
    kinds: tuple[int, ...]
    parts: tuple[int, ...]


class WordNet:
    """The table of nouns.

    Args:
        lines: as `data_manifests/names/wordnet_table.py` writes them, without its remarks.
    Source: WordNet 3.0, Princeton University.
    """

    def __init__(self, lines: list[str]) -> None:
        self.meanings: list[Meaning] = []
        senses: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, line in enumerate(lines):
            words, kinds, parts = [*line.split("\t"), "", ""][:3]
            plain = []
            for word in words.split(","):
                name, _, sense = word.partition("#")
                plain.append(name)
                senses[name].append((int(sense or 1), number))
            self.meanings.append(Meaning(number, tuple(plain), _numbers(kinds), _numbers(parts)))
        self._above: dict[int, frozenset[int]] = {}
        self._senses = {name: sorted(found) for name, found in senses.items()}

    def find(self, name: str) -> Meaning | None:
        """The meaning of a name that is meant most often; a remark in brackets chooses among several.

        "bat (animal)" is the meaning whose words, or those of what it is a kind of, share most with the remark. A kind
        of people is only meant where WordNet has it first: a "mug" is no person.

        Args:
            name: of a thing, singular or plural.

        Returns:
            None if WordNet's visible things have no such name.
        """
        plain, remark = bare(name)
        found = next((self._senses[form] for form in (plain, singular(plain)) if form in self._senses), ())
        if not found:
            return None
        hints = {singular(word) for word in remark.split()}

        def rank(candidate: tuple[int, int]) -> tuple[int, bool]:
            sense, number = candidate
            around = [text for above, _ in self.above(number) for text in above.words]
            words = {word for text in around for word in text.split()}
            return len(hints & words), sense == 1 or "person" not in around

        return self.meanings[max(found, key=rank)[1]]

    def above(self, number: int) -> Iterator[tuple[Meaning, int]]:
        """A meaning and all that it is a kind of, nearest first, each with the steps to it, 0 for itself."""
        seen: set[int] = set()
        level = [number]
        for steps in range(STEPS + 1):
            level = [one for one in dict.fromkeys(level) if one not in seen]
            seen.update(level)
            for one in level:
                yield self.meanings[one], steps
            level = [kind for one in level for kind in self.meanings[one].kinds]

    def parts_of(self, number: int) -> Iterator[tuple[Meaning, Meaning, int]]:
        """The parts of a thing, its own first, then those of what it is a kind of.

        The parts of a body are those of its owner: a person has a head, though WordNet gives it to the human body.

        Yields:
            The part, the kind that has it, and the steps up to that kind.
        """
        seen: set[int] = set()
        for kind, steps in self.above(number):
            for part in self._visible(kind):
                if part.number not in seen:
                    seen.add(part.number)
                    yield part, kind, steps

    def _visible(self, kind: Meaning) -> Iterator[Meaning]:
        for number in kind.parts:
            part = self.meanings[number]
            if any(word.endswith(" body") for word in part.words):
                yield from (self.meanings[inner] for body, _ in self.above(number) for inner in body.parts)
            else:
                yield part

    def meanings_of(self, name: str) -> frozenset[int]:
        """Numbers of all meanings of a name, be they usual or not.

        Two parts of one object that share one are one part in other words: a car's "hood" and "bonnet". Of the 3,434
        pairs of parts that a data manifest tells apart in one object, three do: "grip" and "handle" of a hammer,
        "stern" and "tail" of an aeroplane, "window" and "windowpane" of a car.
        """
        plain = bare(name)[0]
        return frozenset(number for form in (plain, singular(plain)) for _, number in self._senses.get(form, ()))

    def unlike(self, one: str, other: str) -> bool:
        """Whether two things are known, in their most usual meanings, to be two, and neither a kind of the other.

        A dog is no cat, however much alike their names are used; a sailboat is a boat.
        """
        first, second = self.find(one), self.find(other)
        if first is None or second is None:
            return False
        return second.number not in self._all_above(first.number) and first.number not in self._all_above(second.number)

    def _all_above(self, number: int) -> frozenset[int]:
        if number not in self._above:
            self._above[number] = frozenset(meaning.number for meaning, _ in self.above(number))
        return self._above[number]


@lru_cache(maxsize=1)
def load_wordnet() -> WordNet:
    """The table that comes with the package."""
    text = (manifests_folder() / TABLE).read_text(encoding="utf-8")
    return WordNet([line for line in text.splitlines() if not line.startswith("#")])


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",")) if text else ()
