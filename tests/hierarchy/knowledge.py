"""A small world for the tests: a few nouns, two trees, and texts whose similarity is known."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from langhops_cli.hierarchy.known import KnownTrees
from langhops_cli.hierarchy.similarity import NameEmbeddings
from langhops_cli.hierarchy.wordnet import WordNet
from langhops_cli.vocabulary import parse_vocabulary

LINES = """
animal	9	10
canine	0	11
dog,domestic dog	1
husky	2
equine	0
horse	4
zebra	4
person,human
mug#2,fool	7
thing
animal's head,head
paw	12
foot
car,auto		14,15
car door,door
hood#3,bonnet#2
hood
bonnet
bat	0	19
wing
bat#2,cricket bat	9
head#2,chief	7
mug#3,beaker	9	23
handle
athlete	7	25
human body		26
torso,trunk
""".strip("\n").splitlines()
"""What each is a kind of, and its parts, by number: a dog is a canine, that an animal."""

FIRST = parse_vocabulary('dog:head,leg*4,tail; horse:head,hoof,mane; "car (automobile)":hood,wheel*4,door')
SECOND = parse_vocabulary("dog:head,paw,snout; bicycle:wheel,saddle")


def wordnet() -> WordNet:
    """The nouns above."""
    return WordNet(LINES)


def known() -> KnownTrees:
    """Two trees of two families."""
    return KnownTrees({"first": FIRST, "second": SECOND}, wordnet())


def letters(texts: Sequence[str]) -> np.ndarray:
    """Unit vectors of texts: how often they hold each pair of letters."""
    rows = np.zeros((len(texts), 27 * 27), np.float32)
    for row, text in zip(rows, texts, strict=True):
        codes = [ord(letter) - 96 if letter.isalpha() else 0 for letter in f" {text.lower()} "]
        for one, other in pairwise(codes):
            row[(one * 27 + other) % rows.shape[1]] += 1
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def embeddings() -> NameEmbeddings:
    """Similar are names that share letters: quick, and easy to foresee."""
    return NameEmbeddings(letters)


def given(cosines: dict[tuple[str, str], float]) -> NameEmbeddings:
    """Embeddings with the given similarities of pairs of names; all other names are at right angles.

    Args:
        cosines: of two names each; no name in two pairs.
    """
    vectors: dict[str, np.ndarray] = {}

    def axis(number: int) -> np.ndarray:
        row = np.zeros(512, np.float32)
        row[number] = 1
        return row

    for (one, other), cosine in cosines.items():
        base, side = axis(2 * len(vectors)), axis(2 * len(vectors) + 1)
        vectors[one], vectors[other] = base, cosine * base + np.sqrt(1 - cosine**2) * side

    def embed(texts: Sequence[str]) -> np.ndarray:
        for text in texts:
            vectors.setdefault(text, axis(511 - len(vectors)))
        return np.stack([vectors[text] for text in texts])

    return NameEmbeddings(embed)
