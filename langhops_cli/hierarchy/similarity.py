"""How near two names are in meaning: the cosine of their text embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to unit vectors, (n, width)."""


class NameEmbeddings:
    """Unit vectors of names, each text embedded once.

    Args:
        embed: texts to vectors; the text encoder of the embedded model when left out.
    """

    def __init__(self, embed: Embed | None = None) -> None:
        self._embed = embed
        self._known: dict[str, NDArray[np.float32]] = {}

    def __call__(self, names: Sequence[str]) -> NDArray[np.float32]:
        """Embed names.

        Returns:
            (n, width), rows of length 1.

        Raises:
            UserError: the package with the text encoder is not installed.
        """
        new = [name for name in dict.fromkeys(names) if name not in self._known]
        if new:
            self._embed = self._embed or load_embed()
            self._known.update(zip(new, self._embed(new), strict=True))
        return np.stack([self._known[name] for name in names]) if names else np.zeros((0, 1), np.float32)

    def cosines(self, rows: Sequence[str], columns: Sequence[str]) -> NDArray[np.float32]:
        """Similarity of every name of one list with every name of another.

        Returns:
            (rows, columns), -1..1.
        """
        if not rows or not columns:
            return np.zeros((len(rows), len(columns)), np.float32)
        return self(rows) @ self(columns).T


def load_embed(chunk: int = 256) -> Embed:
    """all-MiniLM-L6-v2 from its package: the mean of the token states over the text, at length 1.

    Args:
        chunk: texts at once.

    Raises:
        UserError: the package is not installed.
    """
    import torch

    from langhops_cli.checkpoint.base_models import load_minilm

    model, tokenizer = load_minilm()

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        rows = []
        with torch.inference_mode():
            for start in range(0, len(texts), chunk):
                inputs = tokenizer(
                    list(texts[start : start + chunk]), padding=True, truncation=True, return_tensors="pt"
                )
                states = model(**inputs).last_hidden_state
                weight = inputs["attention_mask"].unsqueeze(-1).to(states.dtype)
                mean = (states * weight).sum(1) / weight.sum(1)
                rows.append(torch.nn.functional.normalize(mean, dim=-1).numpy())
        return np.concatenate(rows)

    return embed
