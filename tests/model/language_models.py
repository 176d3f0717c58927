"""Small language models of random weights, of the kinds that refine part queries."""

from __future__ import annotations

from typing import Any


def families(layers: int) -> dict[str, dict[str, Any]]:
    """Configurations of 32 channels and so many layers, by kind."""
    sizes = {
        "vocab_size": 50,
        "hidden_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
    }
    heads = {"num_key_value_heads": 1, "head_dim": 16}
    return {
        "bert": {"model_type": "bert", **sizes},
        "llama": {"model_type": "llama", **sizes, **heads},
        "qwen": {"model_type": "qwen2", **sizes, "num_key_value_heads": 1},
        "gemma": {"model_type": "gemma2", **sizes, **heads, "query_pre_attn_scalar": 16, "sliding_window": 4},
    }
