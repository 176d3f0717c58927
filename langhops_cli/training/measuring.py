"""What a finished run reaches on the sets that its recipe holds out; it goes into the checkpoint and its card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from langhops_cli.data.index import PreparedDataset
from langhops_cli.evaluation.runner import evaluate_model
from langhops_cli.model.configuration import ModelConfig

LEVELS = ("objects", "parts", "all")


def measure(
    model: nn.Module, datasets: Sequence[PreparedDataset], config: ModelConfig, *, pictures: int
) -> dict[str, dict[str, Any]]:
    """Mask AP of a model on the first pictures of each set.

    Args:
        model: on any device; its mode stays.
        datasets: held out from the training.
        config: says the size of the pictures and how parts are scored.
        pictures: at most this many of each set.

    Returns:
        By set: `pictures`, and the mask AP in percent of `objects`, `parts` and `all`, None where there are none. A
        model without a part branch has no figure for parts, and its figure for objects is that for all.
    """
    measured = {}
    for dataset in datasets:
        chosen = range(min(pictures, len(dataset)))
        levels = evaluate_model(model, dataset, config=config, pictures=chosen).mask
        shares: dict[str, float | None] = dict.fromkeys(LEVELS)
        if levels is not None and config.level == "objects":
            shares |= {"objects": levels.obj.ap, "all": levels.obj.ap}
        elif levels is not None:
            shares |= {"objects": levels.obj.ap, "parts": levels.part.ap, "all": levels.all.ap}
        percent = {name: None if share is None else round(100 * share, 1) for name, share in shares.items()}
        measured[dataset.root.name] = {"split": dataset.split, "pictures": len(chosen), **percent}
    return measured


def in_words(measured: dict[str, Any]) -> str:
    """One set's figures as a line: "mask AP objects 61.0, parts 22.3 (100 pictures)"."""
    figures = ", ".join(f"{name} {measured[name]}" for name in ("objects", "parts") if measured.get(name) is not None)
    return f"mask AP {figures or 'unknown: nothing to find'} ({measured['pictures']} pictures)"
