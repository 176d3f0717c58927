"""Names of a tree that answer a question: "what can I hold it by?" over cups and doors gives their handles."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from langhops_cli.errors import UserError
from langhops_cli.hierarchy.similarity import NameEmbeddings
from langhops_cli.hierarchy.spelling import bare, spelling_key
from langhops_cli.vocabulary import ObjectNode, PartNode, Vocabulary
from langhops_cli.vocabulary.tree import NamePath

if TYPE_CHECKING:
    from langhops_cli.hierarchy.likelihood import PartLikelihood

MARGIN = 0.03
"""Names whose score is at most this far below the best are chosen as well. A wider margin finds more of what is wanted
and chooses more that is not: of the names chosen on the questions "choose" of tests/hierarchy/questions.yaml 89 % were
right and 85 % of those wanted were found; with 0.01 89 % and 77 %, with 0.05 81 % and 88 %. On the questions "report",
which the rule was not made on, it was 67 % and 72 %, and the best name was right in 69 %; one taken by chance is in
23 %."""
LIKELIHOOD_WEIGHT = 0.1
"""What a nat a token of a language model counts beside the cosine. SmolLM2-135M changed little: on "report" 69 % of the
names chosen were right then and 74 % of those wanted were found. Alone its best name was right less often than that of
the cosine, 59 % against 70 %; how likely it finds the names behind the question told less than the other way round."""
SHORTLIST = 64
"""A language model reads the question behind so many names at most, those most similar to it."""
UNSURE = 0.25
"""Below this similarity an answer is called a guess: none of 54 questions had its best name so far from it, but 62 %
of the same questions put to the names of another one."""
PROMPT = "Question: What is the {} for?\nQuestion:"
"""What a language model reads before the question."""
LONGEST_NAME = 4
"""Words of a name that are looked for in the question."""


@dataclass(frozen=True)
class Choice:
    """A name that answers the question.

    Args:
        path: the object and, for a part, the parts down to it: ("dog", "head", "ear").
        score: the higher, the better it fits; to be compared within one question.
    """

    path: NamePath
    score: float

    def __str__(self) -> str:
        return " ".join(self.path)


@dataclass(frozen=True)
class Answer:
    """What of a tree answers a question.

    Args:
        question: as it was asked.
        vocabulary: the names chosen, with the objects and parts that they belong to; nothing else of the tree.
        chosen: the names, the best first; at least one.
        left: the best of the names that were not chosen; None if all were.
        unsure: whether no name is similar to the question.
        asked: what chose, in words.
    """

    question: str
    vocabulary: Vocabulary
    chosen: tuple[Choice, ...]
    left: Choice | None
    unsure: bool
    asked: str

    @property
    def remarks(self) -> list[str]:
        """What a user should know of it, a line each."""
        named = ", ".join(f"{choice} ({choice.score:.2f})" for choice in self.chosen)
        after = f"; next would be {self.left} ({self.left.score:.2f})" if self.left else ""
        lines = [f"'{self.question}': {named}, chosen by {self.asked}{after}"]
        if self.unsure:
            lines.append("none of the names is near to this question: take the answer as a guess")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the question, the names chosen with their scores, what chose, and the tree that is left."""
        return {
            "question": self.question,
            "chosen": [{"path": list(choice.path), "score": choice.score} for choice in self.chosen],
            "unsure": self.unsure,
            "asked": self.asked,
            "vocabulary": self.vocabulary.to_dict(),
        }


def ask(
    question: str,
    vocabulary: Vocabulary,
    language_model: PartLikelihood | str | Path | None = None,
    *,
    embeddings: NameEmbeddings | None = None,
) -> Answer:
    """Choose the names of a tree that answer a question; nothing is generated, names are ranked.

    A name is the better, the more similar its text ("handle of the cup") is to the question, and, with a language
    model, the likelier that finds the question behind the name. Names that stand in the question are no answers to it,
    unless there are no others. Names that are alike have one score, the best one, unless the question names an object.
    The best is chosen with those close behind it; an object of which a part is chosen comes with it and is not listed.

    Args:
        question: in English, "what can I hold it by?".
        vocabulary: the tree; objects and parts of all levels may be chosen.
        language_model: a causal one: loaded, or its folder, GGUF file or Hub id; without, the text embeddings choose.
        embeddings: of names and questions; those of all-MiniLM-L6-v2 when left out.

    Returns:
        The answer, with at least one name.

    Raises:
        UserError: the question holds no word, or a model cannot be had.
    """
    question = " ".join(question.split())
    if not any(character.isalnum() for character in question):
        raise UserError("--ask needs a question, such as --ask 'what can I hold it by?'")
    if isinstance(language_model, str | Path):
        from langhops_cli.hierarchy.likelihood import PartLikelihood

        language_model = PartLikelihood.from_pretrained(language_model)
    paths = [*((name,) for name in vocabulary.object_names), *vocabulary.part_paths]
    mentioned = _mentioned(question)
    candidates = [path for path in paths if spelling_key(bare(path[-1])[0]) not in mentioned] or paths
    object_named = any(spelling_key(bare(name)[0]) in mentioned for name in vocabulary.object_names)

    texts = [" of the ".join(bare(name)[0] for name in reversed(path)) for path in candidates]
    similar = (embeddings or NameEmbeddings()).cosines([question], texts)[0].astype(np.float64)
    scores = similar if language_model is None else _weighed(question, candidates, similar, language_model)
    if not object_named:
        scores = _shared(scores, [spelling_key(path[-1]) for path in candidates])
    order = np.lexsort((-similar, -scores))
    ranked = [Choice(candidates[place], round(float(scores[place]), 4)) for place in order]
    near = [choice for choice in ranked if choice.score >= ranked[0].score - MARGIN]
    owners = {choice.path[:length] for choice in near for length in range(1, len(choice.path))}
    chosen = tuple(choice for choice in near if choice.path not in owners)
    asked = "the similarity of names and question"
    if language_model is not None:
        asked += " and the likelihood of a language model"
    return Answer(
        question=question,
        vocabulary=_reduced(vocabulary, {choice.path for choice in chosen}),
        chosen=chosen,
        left=ranked[len(near)] if len(near) < len(ranked) else None,
        unsure=bool(similar.max() < UNSURE),
        asked=asked,
    )


def _mentioned(question: str) -> set[str]:
    """Keys of every run of words in the question that may be a name."""
    words = re.findall(r"\w+(?:[-']\w+)*", question.lower().replace("\u2019", "'"))
    words = [word.removesuffix("'s") for word in words]
    return {
        spelling_key(" ".join(words[start : start + length]))
        for length in range(1, LONGEST_NAME + 1)
        for start in range(len(words) - length + 1)
    }


def _weighed(
    question: str, candidates: Sequence[NamePath], similar: NDArray[np.float64], language_model: PartLikelihood
) -> NDArray[np.float64]:
    """Similarities with the language model's word added; names off the shortlist get the worst one of it."""
    nearest = np.argsort(-similar, kind="stable")[:SHORTLIST]
    prompts = [PROMPT.format(" ".join(bare(name)[0] for name in candidates[place])) for place in nearest]
    likelihood = language_model.log_likelihoods_behind(prompts, question[0].upper() + question[1:])
    scores = similar + LIKELIHOOD_WEIGHT * (likelihood.min() - likelihood.mean())
    scores[nearest] = similar[nearest] + LIKELIHOOD_WEIGHT * (likelihood - likelihood.mean())
    return scores


def _shared(scores: NDArray[np.float64], keys: Sequence[str]) -> NDArray[np.float64]:
    """Give names of one key the best of their scores."""
    _, group = np.unique(keys, return_inverse=True)
    best = np.full(group.max() + 1, -np.inf)
    np.maximum.at(best, group, scores)
    return best[group]


def _reduced(vocabulary: Vocabulary, chosen: Collection[NamePath]) -> Vocabulary:
    """The tree with the chosen names and what they belong to."""
    kept = {path[:length] for path in chosen for length in range(1, len(path) + 1)}

    def keep(parts: Sequence[PartNode], owner: NamePath) -> tuple[PartNode, ...]:
        return tuple(
            PartNode(part.name, part.count, keep(part.parts, (*owner, part.name)))
            for part in parts
            if (*owner, part.name) in kept
        )

    return Vocabulary(
        tuple(
            ObjectNode(item.name, keep(item.parts, (item.name,))) for item in vocabulary.objects if (item.name,) in kept
        )
    )
