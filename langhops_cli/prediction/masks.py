"""Mask logits to masks: quality, overlap, suppression of duplicates, and the way back to the picture's own pixels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from langhops_cli.prediction.results import Mask

STRIDE = 4
"""Canvas pixels a cell of the mask logits covers."""


def crop_to_picture(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut padding off mask logits.

    Args:
        logits: (..., H / 4, W / 4) over the canvas.
        size: height and width of the picture on the canvas in pixels.

    Returns:
        (..., ceil(height / 4), ceil(width / 4)).
    """
    height, width = size
    return logits[..., : -(-height // STRIDE), : -(-width // STRIDE)]


def mask_quality(logits: Tensor) -> Tensor:
    """Mean mask probability inside each mask, 0 where the mask is empty: (N, h, w) to (N,) in 0..1.

    Source: section 3.2 of Mask2Former's inference; MaskDINO scores its instances so.
    """
    inside = logits > 0
    total = (logits.sigmoid() * inside).flatten(1).sum(1)
    return total / inside.flatten(1).sum(1).clamp(min=1)


def overlaps(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Compare every mask with every other.

    Args:
        masks: (N, h, w), bool.

    Returns:
        Intersection over union (N, N), and the share of the row's mask inside the column's, (N, N); 0 for empty masks.
    """
    flat = masks.flatten(1).float()
    shared = flat @ flat.T
    area = flat.sum(1)
    union = area[:, None] + area[None, :] - shared
    return shared / union.clamp(min=1), shared / area[:, None].clamp(min=1)


def suppress(iou: Tensor, limits: Tensor) -> list[int]:
    """Walk from the best to the worst and drop whatever overlaps a kept one by more than their limit.

    Args:
        iou: (N, N), candidates in order of falling score.
        limits: greatest overlap that a pair may have, (N, N).

    Returns:
        Indices of the kept ones, rising.
    """
    clashes = (iou > limits).cpu().numpy()
    kept: list[int] = []
    for index in range(len(clashes)):
        if not clashes[index, kept].any():
            kept.append(index)
    return kept


def to_original(logits: Tensor, size: tuple[int, int], original: tuple[int, int]) -> Mask:
    """Bring one mask to the picture's own pixels: bilinear in the logits, then above 0.

    Only the window where the mask can be is worked out, so that a small part of a large photograph costs little.

    Args:
        logits: one picture's cropped mask logits at stride 4, (h, w).
        size: height and width of the picture on the canvas in pixels.
        original: height and width of the picture as it came, in pixels.

    Returns:
        The mask, (height, width), bool.
    """
    # Column by column in memory, as run lengths are encoded.
    columns_first = np.zeros(original[::-1], dtype=bool)
    cells = logits.detach().to("cpu", torch.float32)
    positive = cells > 0
    rows, down = _interpolation(positive.any(1), size[0], original[0])
    columns, across = _interpolation(positive.any(0), size[1], original[1])
    columns_first[columns, rows] = (across @ cells.T @ down.T > 0).numpy()
    return columns_first.T


def _interpolation(positive: Tensor, side: int, original: int) -> tuple[slice, Tensor]:
    """For one axis: the pixels that a positive cell can reach, and the share of every cell in each of them.

    Args:
        positive: whether a row or column of cells holds a positive one, (cells,), bool.
        side: pixels of the picture on the canvas; original: as it came.

    Returns:
        The pixels, and (pixels, cells) with two shares a row that add up to 1.
    """
    centres = (torch.arange(original) + 0.5) * (side / (original * STRIDE)) - 0.5
    centres = centres.clamp(0, len(positive) - 1)
    low = centres.long()
    high = (low + 1).clamp(max=len(positive) - 1)
    reached = torch.nonzero(positive[low] | positive[high]).flatten().tolist()
    window = slice(reached[0], reached[-1] + 1) if reached else slice(0, 0)
    share = (centres - low)[window, None]
    shares = torch.zeros(len(share), len(positive))
    shares.scatter_add_(1, low[window, None], 1 - share)
    shares.scatter_add_(1, high[window, None], share)
    return window, shares
