"""The low-rank corrections of a language model folded into its weights, for speed or for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from langhops_cli.checkpoint import base_models
from langhops_cli.checkpoint.files import whole_folder
from langhops_cli.errors import MISMATCH, UserError
from langhops_cli.model.configuration import BaseModelConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""The largest difference of the states that merging may bring, as a share of the largest state; weights are rounded."""
PROBED = 16
"""Positions that the comparison reads."""


def merge_lora(language_model: PreTrainedModel) -> int:
    """Fold every low-rank correction into the weight that it corrects, in place; what is left is a plain model.

    Args:
        language_model: what `add_lora` returned, trained or not. Its checkpoint can no longer be saved: that keeps the
            corrections apart.

    Returns:
        How many layers were merged; 0 for a model without corrections.

    Raises:
        UserError: its weights are held in 4 bits, or a merged weight is not finite.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    if getattr(language_model, "is_loaded_in_4bit", False):
        raise UserError("4-bit weights cannot take up the corrections; set model.refiner.precision to bf16 or fp32")
    corrected = [(name, layer) for name, layer in language_model.named_modules() if isinstance(layer, BaseTunerLayer)]
    for name, layer in corrected:
        try:
            layer.merge(safe_merge=True)
        except ValueError as error:  # peft found a number that is none
            raise UserError(f"{name} of the language model cannot be merged: {error}", code=MISMATCH) from None
        place, _, attribute = name.rpartition(".")
        setattr(language_model.get_submodule(place), attribute, layer.get_base_layer())
    if hasattr(language_model, "peft_config"):
        del language_model.peft_config
    return len(corrected)


def save_merged(language_model: PreTrainedModel, folder: Path, *, base: BaseModelConfig) -> float:
    """Merge a language model and write it as a plain folder of transformers, with its tokenizer; all or nothing.

    Args:
        language_model: what `add_lora` returned; it is merged in place.
        folder: made where missing; it must be empty.
        base: where the model came from, for the tokenizer.

    Returns:
        The largest difference between the states of the merged and of the unmerged model, for a line of random tokens,
        as a share of the largest state.

    Raises:
        UserError: the folder holds something, or the merged model computes something else; nothing is written then.
    """
    check_empty(folder)
    embeddings = _probe(language_model)
    before = _states(language_model, embeddings)
    merge_lora(language_model)
    difference = float((before - _states(language_model, embeddings)).abs().max() / before.abs().max())
    limit = TOLERANCE[language_model.dtype]
    if not difference <= limit:
        raise UserError(
            f"{folder} was not written: merged, the language model differs by {difference:.1e} of its largest state, "
            f"more than {limit:.0e}",
            code=MISMATCH,
        )
    with whole_folder(folder) as beside:
        language_model.save_pretrained(beside)
        base_models.load_tokenizer(base.source, base.revision).save_pretrained(beside)
    return difference


def check_empty(folder: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        UserError: it does, or it is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder; name another one for the language model")


def _probe(language_model: PreTrainedModel) -> Tensor:
    """Random embeddings of the size that the model is used to, (1, PROBED, D)."""
    embeddings: nn.Module = language_model.get_input_embeddings()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, language_model.config.vocab_size, (1, PROBED), generator=generator)
    with torch.no_grad():
        return embeddings(ids.to(language_model.device))


@torch.no_grad()
def _states(language_model: Any, embeddings: Tensor) -> Tensor:
    return language_model.eval()(inputs_embeds=embeddings).last_hidden_state.float()
