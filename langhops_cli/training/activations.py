"""Activations that are computed again in the backward pass instead of being kept: time for memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from langhops_cli.model.efficientnet import InvertedResidual
from langhops_cli.model.pixel_decoder import EncoderLayer
from langhops_cli.model.query_decoder import DecoderLayer

LAYERS = (InvertedResidual, EncoderLayer, DecoderLayer, nn.TransformerDecoderLayer)
"""Layers that keep only what they are given: those of the small backbone, of the decoders and of the Q-Former."""


def checkpoint_activations(model: nn.Module) -> int:
    """Let the layers of a model keep only what they are given, in training; names and results stay as they are.

    Args:
        model: changed in place, before an engine is built around it.

    Returns:
        How many layers, and models of transformers that do it in their own way, now do so.
    """
    changed = 0
    for module in model.modules():
        if isinstance(module, LAYERS):
            vars(module)["forward"] = partial(_forward, module, module.forward)
            changed += 1
    for module in _pretrained(model):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # it has another name from transformers 6 on
            module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        _keep_innermost(module)
        changed += 1
    model.train(model.training)  # a frozen language model is in evaluation mode but for what computes again
    return changed


def _forward(module: nn.Module, forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    if not module.training:
        return forward(*inputs, **named)
    return checkpoint(forward, *inputs, use_reentrant=False, **named)


def _keep_innermost(pretrained: nn.Module) -> None:
    """Of layers within layers only the inner ones: else those are computed three times, and all of them at once."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    for layer in pretrained.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            inner = (item for item in layer.modules() if item is not layer)
            if any(isinstance(item, GradientCheckpointingLayer) for item in inner):
                layer.gradient_checkpointing = False


def _pretrained(model: nn.Module) -> Iterator[Any]:
    """Models of transformers through which gradients pass: the backbone and the language model."""
    for module in model.modules():
        trained = any(parameter.requires_grad for parameter in module.parameters())
        if trained and getattr(module, "supports_gradient_checkpointing", False):
            yield module
