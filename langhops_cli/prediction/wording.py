"""What is looked for, put together with the model that looks: likely parts added, and what it cannot do said."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from langhops_cli.errors import UserError
from langhops_cli.vocabulary import Vocabulary

if TYPE_CHECKING:
    from langhops_cli.prediction.predictor import Predictor


def with_proposed_parts(vocabulary: Vocabulary, checkpoint: str | Path | None) -> tuple[Vocabulary, list[str]]:
    """Give objects the parts that they most likely have, where no part at all is named.

    Args:
        vocabulary: left as it is where it names a part.
        checkpoint: of the model that will look for them: the names it was trained with are known too; None for the
            one that comes with the package.

    Returns:
        The vocabulary, and what to tell of it, a line each.
    """
    if vocabulary.part_classes:
        return vocabulary, []
    from langhops_cli.hierarchy.build import complete
    from langhops_cli.hierarchy.known import load_known
    from langhops_cli.hierarchy.sources import EMBEDDED, checkpoint_names

    trees = dict(load_known())
    with suppress(UserError):  # a checkpoint may keep no names
        trees["this model"] = checkpoint_names(EMBEDDED if checkpoint is None else checkpoint)
    completed, proposal = complete(vocabulary, trees=trees)
    remarks = [] if proposal is None else list(proposal.remarks)
    if completed.part_classes:
        remarks.append(f"no parts were named; looked for are {completed}")
    return completed, remarks


def limits(predictor: Predictor, vocabulary: Vocabulary) -> list[str]:
    """Say what of a vocabulary a model cannot look for, a line each; none where it can do all of it."""
    if not vocabulary.part_classes:
        return []
    if not predictor.finds_parts:
        return ["this model was trained on objects only: parts are not looked for"]
    limit = predictor.config.hierarchy.max_queries
    repeats = predictor.config.hierarchy.queries_per_part
    asked: Counter[str] = Counter()  # parts of parts are asked of the object as well
    for part in vocabulary.part_classes:
        asked[vocabulary.object_names[part.object]] += part.count if part.count > 1 else repeats
    return [
        f"{name} has {number:,} parts to look for, this model takes {limit} at a time: the last ones are left out"
        for name, number in asked.items()
        if number > limit
    ]


def count(number: int, noun: str) -> str:
    """Return a number with its noun: "1 picture", "2 pictures"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
