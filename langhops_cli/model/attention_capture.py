"""What the queries of a forward pass look at, recorded on request; a model that is not watched has no trace of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .deformable_attention import DeformableAttention
from .langhops import LangHOPSModel
from .mllm import LanguageRefiner
from .query_decoder import DecoderLayer
from .structures import PartQueries


@dataclass
class Attention:
    """What was recorded of one forward pass.

    Args:
        places: where each object query read, as (x, y) shares of the canvas, a layer an entry, (B, Q, S, 2).
        weights: how much of its attention each of these places got, 1 in all, (B, Q, S).
        tokens: how the attention that each part query spent on the picture was shared out among the image tokens, the
            mean of all heads and layers of the language model, (B, M, T); None where there was no part query, or the
            refiner reads no image tokens.
    """

    places: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    tokens: Tensor | None = None


@contextmanager
def capture_attention(model: LangHOPSModel) -> Iterator[Attention]:
    """Record the attention of one forward pass.

    Meanwhile the language model attends in plain PyTorch, as fused attention does not tell its weights: its answers
    may differ in the last digits.

    Args:
        model: left as it was afterwards.
    """
    seen = Attention()
    with ExitStack() as stack:
        for layer in model.object_decoder.layers:
            assert isinstance(layer, DecoderLayer)
            stack.enter_context(layer.cross_attn.register_forward_hook(partial(_note_places, seen)))
        if model.part_branch is not None and isinstance(model.part_branch.refiner, LanguageRefiner):
            _TokenWatch(model.part_branch.refiner, seen).start(stack)
        yield seen


def _note_places(seen: Attention, module: DeformableAttention, inputs: tuple[Any, ...], _: Tensor) -> None:
    queries, reference, _, _, shapes = inputs
    places, weights = module.sample(queries, reference, shapes)
    seen.places.append(places.flatten(2, 4).detach())
    seen.weights.append(weights.flatten(2).detach() / module.heads)


class _TokenWatch:
    """Adds up the attention to the image tokens layer by layer: one layer's weights at a time are in memory."""

    def __init__(self, refiner: LanguageRefiner, seen: Attention) -> None:
        self.refiner = refiner
        self.seen = seen
        self.tokens = 0
        self.shares: Tensor | float = 0.0
        self.layers = 0

    def start(self, stack: ExitStack) -> None:
        """Watch until the stack is left."""
        refiner = self.refiner
        config = refiner.language_model.config
        stack.callback(setattr, config, "_attn_implementation", config._attn_implementation)
        config._attn_implementation = "eager"
        source = refiner.image_projector if refiner.image_tower is None else refiner.image_tower
        stack.enter_context(source.register_forward_hook(self._count_tokens))
        for module in refiner.language_model.modules():
            if hasattr(module, "q_proj") or hasattr(module, "query"):  # as LoRA finds the attentions, see `add_lora`
                stack.enter_context(module.register_forward_hook(self._add_layer))
        stack.enter_context(refiner.register_forward_hook(self._finish, with_kwargs=True))

    def _count_tokens(self, _: nn.Module, inputs: tuple[Any, ...], tokens: Tensor) -> None:
        self.tokens = tokens.shape[1]

    def _add_layer(self, _: nn.Module, inputs: tuple[Any, ...], answer: tuple[Tensor, Tensor]) -> None:
        first = len(self.refiner.before_ids)
        weights = answer[1][..., first : first + self.tokens].detach().float()  # B, heads, sequence, T
        spent = weights.sum(-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
        self.shares = self.shares + (weights / spent).mean(1)
        self.layers += 1

    def _finish(self, _: nn.Module, inputs: tuple[PartQueries], options: dict[str, Any], refined: Tensor) -> None:
        if not isinstance(self.shares, Tensor):
            return  # nothing was asked for
        rows = self.refiner.query_positions(inputs[0], num_objects=options["num_objects"], image_tokens=self.tokens)
        self.seen.tokens = self.shares.gather(1, rows.unsqueeze(-1).expand(-1, -1, self.tokens)) / self.layers
