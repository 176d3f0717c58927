"""Low-rank corrections: what is trained of a language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def add_lora(
    language_model: PreTrainedModel,
    *,
    rank: int = 8,
    alpha: int = 16,
    dropout: float = 0.05,
    targets: Sequence[str] | None = None,
) -> PreTrainedModel:
    """Freeze a language model and give its query and value projections trainable low-rank corrections, in place.

    Args:
        language_model: any transformers language model.
        rank: of the corrections.
        alpha: the corrections are scaled by alpha / rank.
        dropout: on what enters the corrections, in training.
        targets: names of the projections; those of Gemma, Llama, Qwen and BERT are found when left out.

    Returns:
        The same model.

    Raises:
        ValueError: when no projection has one of the names.
    Source: LangHOPS, section 4.1; LoRA, arXiv 2106.09685.
    """
    from peft import LoraConfig, inject_adapter_in_model

    language_model.requires_grad_(False)
    last_names = {name.rpartition(".")[2] for name, module in language_model.named_modules()}
    if targets is None:
        targets = next((pair for pair in (("q_proj", "v_proj"), ("query", "value")) if last_names.issuperset(pair)), ())
    if not targets or not last_names.issuperset(targets):
        wanted = ", ".join(targets) or "q_proj and v_proj, or query and value"
        raise ValueError(f"the language model has no layers named {wanted}; name its query and value projections")
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(targets), bias="none")
    adapted = inject_adapter_in_model(config, language_model)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:  # they are born in the type of the frozen weights, in which small steps would be lost
            parameter.data = parameter.data.float()
    return adapted
