"""In which numbers the frozen weights of a base model are held: full, half, or quantised to 4 bits."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from langhops_cli.errors import ENVIRONMENT, UserError
from langhops_cli.model.configuration import Precision

INSTALL = "pip install 'langhops[4bit]'"


def float_type(precision: Precision) -> torch.dtype:
    """The type that a model of this precision computes in."""
    return torch.float32 if precision == "fp32" else torch.bfloat16


def loading_options(precision: Precision) -> dict[str, Any]:
    """What `from_pretrained` of transformers is told, so that weights arrive in a precision and never in a wider one.

    Args:
        precision: "fp32", "bf16", or "4bit" for normal-float quantisation with double quantised scales.

    Raises:
        UserError: 4 bits without a GPU or without bitsandbytes.
    Source: QLoRA, arXiv 2305.14314.
    """
    if precision != "4bit":
        return {"dtype": float_type(precision)}
    if not torch.cuda.is_available():
        raise UserError(
            "model.refiner.precision is 4bit, which needs a GPU, and torch finds none; set it to bf16 or fp32",
            code=ENVIRONMENT,
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"model.refiner.precision is 4bit, which needs bitsandbytes: {INSTALL}; or set it to bf16",
            code=ENVIRONMENT,
        )
    from transformers import BitsAndBytesConfig

    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    # quantised on the GPU weight by weight: host memory never holds the whole model
    return {"dtype": torch.bfloat16, "quantization_config": quantisation, "device_map": {"": 0}}
