"""AdamW, its parameter groups and its learning rate. Source: LangHOPS, section 4 (implementation details)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

# Layers whose every parameter is a scale, an offset or a table of rows: weight decay would only pull them to nothing.
UNDECAYED = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.Embedding)


def parameter_groups(
    model: nn.Module,
    *,
    learning_rate: float,
    backbone_multiplier: float,
    lora_multiplier: float,
    weight_decay: float,
) -> list[dict[str, Any]]:
    """Each trainable parameter in exactly one group, by its share of the learning rate and by its decay.

    Norms, biases and embeddings (any table of learned rows) are not decayed; projections are.

    Args:
        model: parameters below `backbone` are the backbone's; names that hold `lora_` are adapters.
        learning_rate: of all that is neither backbone nor adapter.
        backbone_multiplier: share of it for the backbone.
        lora_multiplier: share of it for the adapters.
        weight_decay: of what is decayed.

    Returns:
        Groups as `torch.optim.AdamW` takes them, none empty, with `name` saying which.
    """
    undecayed = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, UNDECAYED) or type(module).__name__.endswith("RMSNorm")
        for parameter in module.parameters(recurse=False)
    }
    shares = {"backbone": backbone_multiplier, "lora": lora_multiplier, "rest": 1.0}
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decayed = id(parameter) not in undecayed and parameter.ndim > 1 and not _is_embedding(name)
        part = "backbone" if name.split(".")[0] == "backbone" else "lora" if "lora_" in name else "rest"
        key = part if decayed else f"{part}, not decayed"
        fresh = {
            "name": key,
            "params": [],
            "lr": learning_rate * shares[part],
            "weight_decay": weight_decay if decayed else 0.0,
        }
        groups.setdefault(key, fresh)["params"].append(parameter)
    return list(groups.values())


def _is_embedding(name: str) -> bool:
    last = name.split(".")[-1]
    return "embed" in last or last.endswith(("_slots", "_table", "_token", "_tokens")) or last in ("slots", "slot")


def rate_factor(step: int, *, steps: int, warmup: int, decay: str, drops: Sequence[int] = ()) -> float:
    """Share of the learning rate at a step: linear warm-up, then a tenth at each drop, or a cosine to zero.

    Args:
        step: from 0.
        steps: of the whole run.
        warmup: steps until the full rate.
        decay: "drops" or "cosine".
        drops: steps at which the rate falls to a tenth.
    """
    factor = min(1.0, (step + 1) / (warmup + 1))
    if decay == "cosine":
        progress = (step - warmup) / max(1, steps - warmup)
        return factor * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))
    return factor * 0.1 ** sum(step >= drop for drop in drops)


def build_optimizer(groups: list[dict[str, Any]]) -> torch.optim.AdamW:
    """PyTorch's own AdamW: DeepSpeed's compiles for minutes on a machine that has a compiler, and fails without."""
    return torch.optim.AdamW(groups, betas=(0.9, 0.999))
