"""Makes data_manifests/names/wordnet_parts.tsv, the nouns of WordNet that parts can be proposed for.

    apt-get download wordnet-base && dpkg -x wordnet-base_*.deb wordnet
    python data_manifests/names/wordnet_table.py wordnet/usr/share/wordnet data_manifests/names/wordnet_parts.tsv

Kept are concrete nouns that have visible parts or inherit some, the objects of the data manifests and their kinds, what
all these are kinds of, and the parts. Of people only those whom WordNet met in its texts are kept, as they all have
the same parts. Left out are names in capitals (scientific names, places, brands) and those of more than three words.
"""

from __future__ import annotations

import argparse
import re
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

ANIMAL, ARTEFACT, BODY, FOOD, OBJECT, PERSON, PLANT = 5, 6, 8, 13, 17, 18, 20
KEPT = {ANIMAL, ARTEFACT, BODY, FOOD, OBJECT, PERSON, PLANT}
"""Lexicographer files of WordNet that a picture may show something of."""
PARTS = KEPT - {PERSON}
GENERIC = {
    "whole",
    "organism",
    "object",
    "cell",
    "part",
    "body part",
    "plant part",
    "living thing",
    "substance",
    "physical entity",
}
"""Names that say nothing of what a thing looks like: their parts are not inherited, and they are no parts."""
UNSEEN = {"organism", "internal organ", "bone", "muscle", "blood vessel", "gland", "tissue", "animal tissue"}
UNSEEN |= {
    "plant tissue",
    "body substance",
    "system",
    "nerve",
    "membrane",
    "duct",
    "stomach",
    "cartilage",
    "body fluid",
}
UNSEEN |= {"room", "liquid body substance", "vascular system", "digestive system"}
"""What is of these kinds is inside a thing, or, as a bird in a flock, no part of one: it is not taken for a part."""
SENSES = 12
WORDS = 3


class Synset(NamedTuple):
    """A meaning: its file, its words, the meanings above it and its parts, by offset."""

    file: int
    words: tuple[str, ...]
    kinds: tuple[str, ...]
    parts: tuple[str, ...]


def main() -> None:
    """Read the database, choose, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", type=Path, help="folder with data.noun, index.noun and cntlist.rev")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    synsets = read_synsets(arguments.database / "data.noun")
    senses, met = read_senses(arguments.database)
    objects = read_objects(arguments.out.parent.parent)
    kept = choose(synsets, senses, met, objects)
    numbers = {offset: number for number, offset in enumerate(kept)}
    lines = [row(synsets[offset], offset, senses, parts, numbers) for offset, parts in kept.items()]
    licence = [f"# {line[4:].strip()}".rstrip() for line in head(arguments.database / "data.noun")]
    text = "\n".join([*ABOUT, *licence, *lines]) + "\n"
    arguments.out.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{len(lines):,} nouns, {sum(map(bool, kept.values())):,} with parts of their own\n")


ABOUT = (
    "# Nouns for things that pictures show, what they are kinds of, and their parts, taken from WordNet 3.0 by",
    "# wordnet_table.py, which lies beside it. A line is a meaning: its words, #n behind one whose n-th meaning it is "
    "(n > 1); lines",
    "# of what it is a kind of; the lines of its parts. Lines are counted from 0, without these remarks.",
    "# What follows is the licence of WordNet, which holds for this table as well.",
    "#",
)


def head(path: Path) -> list[str]:
    """The lines of the licence at the head of a file of WordNet."""
    with path.open(encoding="latin-1") as file:
        return [line.rstrip("\n") for line in file if line.startswith("  ")]


def read_synsets(path: Path) -> dict[str, Synset]:
    """All noun meanings by offset."""
    found = {}
    for line in path.open(encoding="latin-1"):
        if line.startswith("  "):
            continue
        fields = line.partition("|")[0].split()
        count = int(fields[3], 16)
        words = tuple(fields[4 + 2 * number].replace("_", " ") for number in range(count))
        at = 4 + 2 * count
        pointers = [(fields[at + 1 + 4 * n], fields[at + 2 + 4 * n]) for n in range(int(fields[at]))]
        kinds = tuple(target for sign, target in pointers if sign in ("@", "@i"))
        parts = tuple(target for sign, target in pointers if sign == "%p")
        found[fields[0]] = Synset(int(fields[1]), words, kinds, parts)
    return found


def read_senses(folder: Path) -> tuple[dict[tuple[str, str], int], set[tuple[str, int]]]:
    """Which meaning of a word a synset is, counted from 1; and the meanings that WordNet met in texts."""
    senses = {}
    for line in (folder / "index.noun").open(encoding="latin-1"):
        if not line.startswith("  "):
            fields = line.split()
            for sense, offset in enumerate(fields[6 + int(fields[3]) :], 1):
                senses[fields[0].replace("_", " "), offset] = sense
    met = set()
    for line in (folder / "cntlist.rev").open(encoding="latin-1"):
        key, sense, _ = line.split()
        word, _, rest = key.partition("%")
        if rest.startswith("1:"):
            met.add((word.replace("_", " "), int(sense)))
    return senses, met


def read_objects(folder: Path) -> set[str]:
    """The objects of the data manifests, without remarks in brackets."""
    manifests = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in folder.glob("*.yaml")]
    return {name.partition(" (")[0] for manifest in manifests for name in manifest.get("vocabulary", ())}


def plain_words(synset: Synset, offset: str, senses: dict[tuple[str, str], int]) -> list[tuple[str, int]]:
    """The words of a synset that a user may type, each with its sense."""
    fitting = [word for word in synset.words if re.fullmatch(r"[a-z' -]+", word) and len(word.split()) <= WORDS]
    return [(word, senses[word, offset]) for word in fitting if senses[word, offset] <= SENSES]


def choose(
    synsets: dict[str, Synset], senses: dict[tuple[str, str], int], met: set[tuple[str, int]], objects: set[str]
) -> dict[str, list[str]]:
    """The offsets to keep, in the order of the database, each with the offsets of its visible parts."""

    def ancestors(offset: str) -> set[str]:
        found: set[str] = set()
        todo = [offset]
        while todo:
            new = [kind for kind in synsets[todo.pop()].kinds if kind not in found]
            found.update(new)
            todo += new
        return found

    def among(offsets: set[str], names: set[str]) -> bool:
        return any(not names.isdisjoint(synsets[offset].words) for offset in offsets)

    def named(offset: str) -> list[tuple[str, int]]:
        return plain_words(synsets[offset], offset, senses)

    @cache
    def visible_parts(offset: str) -> list[str]:
        found = [part for part in synsets[offset].parts if synsets[part].file in PARTS and named(part)]
        return [part for part in found if not among({part}, GENERIC) and not among({part, *ancestors(part)}, UNSEEN)]

    kept: set[str] = set()
    for offset, synset in synsets.items():
        words = named(offset)
        if synset.file not in KEPT or not words or among({offset}, GENERIC):
            continue
        if synset.file == PERSON and not any(word in met for word in words):
            continue
        chain = {offset, *(above for above in ancestors(offset) if not among({above}, GENERIC) and named(above))}
        known = any(word in objects for above in chain for word, _ in named(above))
        if known or any(visible_parts(above) for above in chain):
            kept |= chain
    todo = list(kept)
    while todo:  # the parts, and theirs: a face is part of a head
        new = set(visible_parts(todo.pop())) - kept
        kept |= new
        todo += new
    return {offset: visible_parts(offset) if synsets[offset].file != FOOD else [] for offset in sorted(kept)}


def row(
    synset: Synset, offset: str, senses: dict[tuple[str, str], int], parts: list[str], numbers: dict[str, int]
) -> str:
    """A line of the table."""
    words = [word if sense == 1 else f"{word}#{sense}" for word, sense in plain_words(synset, offset, senses)]
    kinds = [str(numbers[kind]) for kind in synset.kinds if kind in numbers]
    return "\t".join([",".join(words), ",".join(kinds), ",".join(str(numbers[part]) for part in parts)]).rstrip("\t")


if __name__ == "__main__":
    main()
