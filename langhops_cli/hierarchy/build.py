"""Parts for objects that come without: proposed from trees, WordNet and a language model, with reasons."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langhops_cli.hierarchy.evidence import FAMILIES, Evidence, Knowledge, Source, gather
from langhops_cli.hierarchy.known import KnownTrees, load_known
from langhops_cli.hierarchy.similarity import NameEmbeddings
from langhops_cli.hierarchy.spelling import bare
from langhops_cli.hierarchy.wordnet import WordNet, load_wordnet
from langhops_cli.vocabulary import ObjectNode, PartNode, Vocabulary

if TYPE_CHECKING:
    from langhops_cli.hierarchy.likelihood import PartLikelihood

MIN_CONFIDENCE = 0.3
"""Parts less sure than this are left out, unless told otherwise."""
MOST = 12
"""Parts that an object gets at most, unless told otherwise."""
LARGEST_ADVANTAGE = 2.0
"""A language model changes the odds of a part by at most this power of e, either way."""


@dataclass(frozen=True)
class ProposedPart:
    """A part that an object may have.

    Args:
        name: of the part.
        confidence: how sure it is that the object has such a part and that one can see it, 0..1. Each source alone
            makes one as sure as its strength; together they fail only where all fail: 1 minus the product of what
            each leaves open. Trees of one family count once. A language model then multiplies the odds by how many
            times likelier, on average over its tokens, it finds the name than those of the other candidates.
        sources: what names the part, the strongest first.
        similarity: of the part with its object's name, as texts; it decides between parts that are equally sure.
        advantage: what the language model says, in nats a token; None without one.
        count: how many of it an object may show.
    """

    name: str
    confidence: float
    sources: tuple[Source, ...]
    similarity: float
    advantage: float | None
    count: int


@dataclass(frozen=True)
class ProposedObject:
    """An object with the parts it may have, the surest first.

    Args:
        name: as it was given.
        parts: proposed for it.
        understood: what it was taken for where no tree has it, in words.
        left_out: how many parts were less sure than asked for, or too many.
    """

    name: str
    parts: tuple[ProposedPart, ...]
    understood: str | None
    left_out: int


@dataclass(frozen=True)
class Proposal:
    """Parts for objects.

    Args:
        objects: in the order in which they were asked for.
        ranked_by: how the parts were put in order, in words.
    """

    objects: tuple[ProposedObject, ...]
    ranked_by: str

    @property
    def vocabulary(self) -> Vocabulary:
        """The proposal as a tree, to look for in pictures."""
        return Vocabulary(
            tuple(
                ObjectNode(item.name, tuple(PartNode(part.name, part.count) for part in item.parts))
                for item in self.objects
            )
        )

    @property
    def remarks(self) -> list[str]:
        """What a user should know of it, a line each."""
        lines = [f"{item.name} is {item.understood}" for item in self.objects if item.understood]
        lines += [f"nothing is known of the parts of {item.name}" for item in self.objects if not item.parts]
        return [*lines, f"parts ranked by {self.ranked_by}"]

    def to_dict(self) -> dict[str, Any]:
        """Plain values: for each object its parts with confidence, sources and, with a language model, advantage."""
        return {
            "ranked_by": self.ranked_by,
            "objects": [
                {
                    "name": item.name,
                    "understood": item.understood,
                    "left_out": item.left_out,
                    "parts": [
                        {
                            "name": part.name,
                            "confidence": part.confidence,
                            "count": part.count,
                            "similarity": part.similarity,
                            "advantage": part.advantage,
                            "sources": [vars(source) for source in part.sources],
                        }
                        for part in item.parts
                    ],
                }
                for item in self.objects
            ],
        }


def build_parts(
    objects: Sequence[str],
    *,
    trees: Mapping[str, Vocabulary] | None = None,
    language_model: PartLikelihood | str | Path | None = None,
    min_confidence: float = MIN_CONFIDENCE,
    most: int = MOST,
    embeddings: NameEmbeddings | None = None,
    wordnet: WordNet | None = None,
) -> Proposal:
    """Propose parts for objects.

    Args:
        objects: their names.
        trees: known trees by name; those of the data manifests when left out.
        language_model: a causal one that ranks the candidates: loaded, or its folder, GGUF file or Hub id.
        min_confidence: parts less sure are left out, 0..1.
        most: parts an object gets at most, 1 or more.
        embeddings: of names; those of all-MiniLM-L6-v2 when left out.
        wordnet: the nouns; the table that comes with the package when left out.

    Returns:
        The proposal; an object of which nothing is known stays without parts.

    Raises:
        UserError: a name is empty or given twice, or the language model cannot be had.
    """
    Vocabulary(tuple(map(ObjectNode, objects)))  # empty names, and names given twice, end here
    nouns = wordnet or load_wordnet()
    knowledge = Knowledge(
        KnownTrees(load_known() if trees is None else trees, nouns), nouns, embeddings or NameEmbeddings()
    )
    if isinstance(language_model, str | Path):
        from langhops_cli.hierarchy.likelihood import PartLikelihood

        language_model = PartLikelihood.from_pretrained(language_model)
    proposed = tuple(_propose(name, knowledge, language_model, min_confidence, most) for name in objects)
    by = "sources, then similarity of the names; no language model was asked"
    return Proposal(proposed, "sources and the likelihood of a language model" if language_model else by)


def complete(vocabulary: Vocabulary, **options: Any) -> tuple[Vocabulary, Proposal | None]:
    """Give parts to the objects of a vocabulary that have none.

    Args:
        vocabulary: left as it is where every object has parts.
        options: as for `build_parts`.

    Returns:
        The vocabulary with the proposed parts, and the proposal; None where nothing was missing.

    Raises:
        UserError: as for `build_parts`.
    """
    bare_objects = [item.name for item in vocabulary.objects if not item.parts]
    if not bare_objects:
        return vocabulary, None
    proposal = build_parts(bare_objects, **options)
    found = {item.name: item for item in proposal.vocabulary.objects}
    return Vocabulary(tuple(found.get(item.name, item) for item in vocabulary.objects)), proposal


def _propose(
    name: str, knowledge: Knowledge, language_model: PartLikelihood | None, min_confidence: float, most: int
) -> ProposedObject:
    gathered = gather(name, knowledge)
    groups: dict[str, list[Evidence]] = defaultdict(list)
    for item in gathered.evidence:
        groups[item.key].append(item)
    spelt = [group[0].name for group in groups.values()]
    if not spelt:
        return ProposedObject(name, (), gathered.understood, 0)
    plain = bare(name)[0]
    similar = knowledge.embeddings.cosines([plain], [f"{plain} {part}" for part in spelt]).ravel().tolist()
    advantages = None if language_model is None else language_model.advantage(plain, spelt).tolist()
    parts = []
    for place, (part, group) in enumerate(zip(spelt, groups.values(), strict=True)):
        advantage = None if advantages is None else round(advantages[place], 4)
        sources = sorted(dict.fromkeys(item.source for item in group), key=lambda source: -source.strength)
        sure = round(_confidence(sources, advantage), 4)
        count = max(item.count for item in group)
        parts.append(ProposedPart(part, sure, tuple(sources), round(similar[place], 4), advantage, count))
    parts.sort(key=lambda part: (-part.confidence, -part.similarity, part.name))
    kept = [part for part in parts if part.confidence >= min_confidence][:most]
    return ProposedObject(name, tuple(kept), gathered.understood, len(parts) - len(kept))


def _confidence(sources: Sequence[Source], advantage: float | None) -> float:
    """How sure sources make one together; see `ProposedPart`."""
    families: dict[str, float] = defaultdict(float)
    for source in sources:
        family = FAMILIES.get(source.name, source.name)
        families[family] = max(families[family], source.strength)
    sure = 1 - math.prod(1 - strength for strength in families.values())
    if advantage is None:
        return sure
    bounded = min(max(advantage, -LARGEST_ADVANTAGE), LARGEST_ADVANTAGE)
    return sure / (sure + (1 - sure) * math.exp(-bounded))
