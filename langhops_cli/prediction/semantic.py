"""From queries to a map of names, as the semantic protocols of the field read one."""

from __future__ import annotations

import torch
from torch import Tensor

from langhops_cli.prediction.masks import resized

TEMPERATURE = 0.06
"""Of the softmax over names in the published protocol."""


def semantic_scores(
    logits: Tensor,
    masks: Tensor,
    *,
    size: tuple[int, int],
    original: tuple[int, int],
    temperature: float = TEMPERATURE,
) -> Tensor:
    """How much each pixel is each name: every query gives its share of the names to the pixels of its mask.

    Args:
        logits: of N queries over C names, (N, C); minus infinity where a query cannot be the name.
        masks: logits at stride 4, (N, h, w).
        size: height and width of the picture on the canvas in pixels.
        original: height and width of the picture as it came, in pixels.
        temperature: of the softmax over the names' probabilities; small makes a query speak for one name.

    Returns:
        (C, height, width), 0 and more.

    Source: OV-PARTS (arXiv 2310.05107), section 4; EVALUATION.md, "Semantic hIoU".
    """
    shares = (logits.float().sigmoid() / temperature).softmax(-1).cpu()
    return torch.einsum("nc,nhw->chw", shares, resized(masks, size, original).sigmoid())
