"""Models with the shapes of their base models and none of their weights: to count, to measure, to try things out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from langhops_cli.checkpoint import base_models
from langhops_cli.checkpoint.build import build_model
from langhops_cli.checkpoint.precision import float_type
from langhops_cli.errors import ENVIRONMENT, UserError
from langhops_cli.model.configuration import PALIGEMMA2_3B, QWEN2_5_500M, SMOLLM2_135M, ModelConfig, Precision
from langhops_cli.model.efficientnet import EfficientNetLite0
from langhops_cli.model.langhops import LangHOPSModel

if TYPE_CHECKING:
    from transformers import BertModel, PreTrainedModel

GEMMA2_2B: dict[str, Any] = {
    "model_type": "gemma2",
    "vocab_size": 256_000,
    "hidden_size": 2304,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "intermediate_size": 9216,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    base_models.SWIN_L: base_models.SWIN_L_CONFIG,
    base_models.CLIP: {
        "model_type": "clip_text_model",
        "vocab_size": 49_408,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "max_position_embeddings": 77,
    },
    PALIGEMMA2_3B.source: {
        "model_type": "paligemma",
        "projection_dim": 2304,
        "vision_config": {
            "model_type": "siglip_vision_model",
            "image_size": 448,
            "patch_size": 14,
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "vision_use_head": False,
        },
        "text_config": GEMMA2_2B | {"vocab_size": 257_216},
    },
    "google/gemma-2-2b": GEMMA2_2B,
    SMOLLM2_135M.source: {
        "model_type": "llama",
        "vocab_size": 49_152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
    },
    QWEN2_5_500M.source: {
        "model_type": "qwen2",
        "vocab_size": 151_936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32_768,
    },
}
"""What is published of the base models that cannot be had without a network: fields of their configurations."""


def build_skeleton(config: ModelConfig, *, device: torch.device | str = "meta") -> LangHOPSModel:
    """Build a model without fetching anything: every base model has its shapes and random weights.

    Args:
        config: as for `build_model`.
        device: "meta" takes no memory and computes nothing; on another one the model runs.

    Returns:
        A model of the right shapes and types. Its tokenizer is that of MiniLM, whatever the base models are.

    Raises:
        UserError: a base model is unknown.
    """
    with torch.device(device):
        return build_model(config, pretrained=False, bases=RandomBases())


def architecture(source: str) -> dict[str, Any]:
    """The fields of a base model's configuration, of one in `ARCHITECTURES` or in a folder.

    Raises:
        UserError: it is neither.
    """
    path = Path(source) / "config.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    if source not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise UserError(f"the shapes of {source} are not known; known are {known}, and any folder", code=ENVIRONMENT)
    return ARCHITECTURES[source]


class RandomBases:
    """Offers what `base_models` does, with random weights."""

    def load_minilm(self) -> tuple[BertModel, Any]:
        """See `base_models.load_minilm`."""
        return base_models.load_minilm(pretrained=False)

    def load_efficientnet_lite0(self) -> dict[str, torch.Tensor]:
        """See `base_models.load_efficientnet_lite0`."""
        return EfficientNetLite0().state_dict()

    def load_swin_l(self, source: str, revision: str | None = None) -> PreTrainedModel:
        """See `base_models.load_swin_l`."""
        return self._build(source, torch.float32)

    def load_clip_text(self, source: str, revision: str | None = None) -> tuple[PreTrainedModel, Any]:
        """See `base_models.load_clip_text`."""
        return self._build(source, torch.float32), self._tokenizer()

    def load_paligemma(
        self, source: str, revision: str | None = None, *, precision: Precision = "bf16"
    ) -> tuple[PreTrainedModel, Any]:
        """See `base_models.load_paligemma`."""
        return self._build(source, float_type(precision)), self._tokenizer()

    def load_language_model(
        self, source: str, revision: str | None = None, *, precision: Precision = "fp32"
    ) -> tuple[PreTrainedModel, Any]:
        """See `base_models.load_language_model`."""
        return self._build(source, float_type(precision)), self._tokenizer()

    def _build(self, source: str, dtype: torch.dtype) -> PreTrainedModel:
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)  # built in its own type at once: a conversion would need both in memory
        try:
            return base_models.build_random(architecture(source)).eval()
        finally:
            torch.set_default_dtype(before)

    def _tokenizer(self) -> Any:
        return base_models.load_tokenizer(base_models.MINILM)
