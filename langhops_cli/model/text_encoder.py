"""Names to embeddings, by a pretrained text encoder and one learned projection."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNK = 256  # texts encoded at once: bounds memory for vocabularies of thousands of names
CACHE_LIMIT = 65_536  # texts remembered; beyond it the memory starts afresh


@dataclass(frozen=True)
class TokenStates:
    """Token states of U texts, (U, T, width), and the tokens that are real, (U, T), with what the tokens were."""

    states: Tensor
    attended: Tensor
    ids: Tensor


class TextEncoder(nn.Module):
    """Embeds names: token states times a learned projection, averaged over the attended tokens.

    The average of token states is linear in the projection, so it is what the cache keeps: a frozen encoder runs once
    for every new name and costs nothing afterwards, while the projection stays trainable. A trainable encoder runs in
    every training step and has a cache only in evaluation mode. The cache is dropped when weights are loaded, when the
    module moves or changes its type, and (trainable encoder) on every call of `train()`; code that writes into the
    encoder's weights by any other way calls `reset_cache()`.

    Args:
        encoder: a transformers text model that returns `last_hidden_state` (CLIP's text tower, BERT).
        tokenizer: its tokenizer, right padding.
        width: of the encoder's states.
        query_dim: of the embeddings, d.
        trainable: train the encoder, held near a frozen copy of itself by `distillation_loss`; else it is frozen.
    Source: LangHOPS, section 3.1.
    """

    lang_projection: nn.Parameter

    def __init__(
        self, *, encoder: PreTrainedModel, tokenizer: Any, width: int, query_dim: int, trainable: bool
    ) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(trainable)
        self.teacher = copy.deepcopy(encoder).requires_grad_(False) if trainable else None
        self.tokenizer = tokenizer
        self.width = width
        self.query_dim = query_dim
        self.trainable = trainable
        self.max_length = min(int(tokenizer.model_max_length), int(encoder.config.max_position_embeddings))
        self.lang_projection = nn.Parameter(torch.randn(width, query_dim) * width**-0.5)
        self._rows: dict[str, int] = {}
        self._means: Tensor | None = None
        self._last: TokenStates | None = None
        self.register_load_state_dict_post_hook(_forget)
        self.train(self.training)

    def forward(self, texts: tuple[str, ...]) -> Tensor:
        """Embed texts.

        Args:
            texts: U names as they are, without a template.

        Returns:
            (U, d); (0, d) when there are none.
        """
        if not texts:
            return self.lang_projection.new_zeros(0, self.query_dim)
        if self.trainable and self.training:
            self._last = self.tokens(texts)
            return _mean(self._last) @ self.lang_projection
        return self._cached_means(texts).to(self.lang_projection.dtype) @ self.lang_projection

    def tokens(self, texts: tuple[str, ...]) -> TokenStates:
        """Token states of texts, straight from the encoder, without the cache."""
        device = self.lang_projection.device
        inputs = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        )
        ids, attended = inputs["input_ids"].to(device), inputs["attention_mask"].to(device)
        states = self.encoder(input_ids=ids, attention_mask=attended).last_hidden_state
        return TokenStates(states, attended.bool(), ids)

    def distillation_loss(self) -> Tensor:
        """How far the trainable encoder has moved: mean squared difference to the teacher's token states.

        It is taken over the attended tokens of the texts of the last forward pass in training mode. Zero for a frozen
        encoder, or when nothing was encoded.

        Returns:
            A scalar.
        """
        last, self._last = self._last, None
        frozen = not any(parameter.requires_grad for parameter in self.encoder.parameters())
        if self.teacher is None or last is None or frozen:
            return self.lang_projection.new_zeros(())
        with torch.no_grad():
            target = self.teacher(input_ids=last.ids, attention_mask=last.attended.long()).last_hidden_state
        weight = last.attended.unsqueeze(-1)
        squared = (last.states.float() - target.float()).square() * weight
        return squared.sum() / (weight.sum() * self.width)

    def reset_cache(self) -> None:
        """Forget every remembered text."""
        self._rows = {}
        self._means = None

    def train(self, mode: bool = True) -> Self:
        """Switch the mode; the encoder and its teacher stay in evaluation mode: no dropout on names."""
        super().train(mode)
        self.encoder.eval()
        if self.teacher is not None:
            self.teacher.eval()
            self._last = None
            self.reset_cache()
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self.reset_cache()
        self._last = None
        return super()._apply(fn, recurse)

    def _cached_means(self, texts: tuple[str, ...]) -> Tensor:
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if new and len(self._rows) + len(new) > CACHE_LIMIT:
            self.reset_cache()
            new = list(dict.fromkeys(texts))
        # normal tensors at full precision, whatever mode the caller is in: they outlive this call
        device = self.lang_projection.device
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
            for start in range(0, len(new), CHUNK):
                chunk = new[start : start + CHUNK]
                means = _mean(self.tokens(tuple(chunk)))
                self._means = means if self._means is None else torch.cat([self._means, means])
                self._rows.update({text: len(self._rows) + i for i, text in enumerate(chunk)})
        assert self._means is not None
        index = torch.tensor([self._rows[text] for text in texts])
        return self._means[index.to(device, non_blocking=True)]


def _mean(tokens: TokenStates) -> Tensor:
    weight = tokens.attended.unsqueeze(-1).to(tokens.states.dtype)
    return (tokens.states * weight).sum(1) / weight.sum(1)


def _forget(module: nn.Module, _keys: object) -> None:
    assert isinstance(module, TextEncoder)
    module.reset_cache()
