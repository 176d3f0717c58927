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
    """Bring one mask to the picture's own pixels.

    Args:
        logits: one picture's cropped mask logits at stride 4, (h, w).
        size: height and width of the picture on the canvas in pixels.
        original: height and width of the picture as it came, in pixels.

    Returns:
        The mask, (height, width), bool.
    """
    window, values = _in_window(logits, size, original)
    return _placed(window, values, original)


def scored_mask(logits: Tensor, size: tuple[int, int], original: tuple[int, int]) -> tuple[Mask, float]:
    """Bring one mask to the picture's own pixels, with its mean probability inside them.

    Published figures rest on this quality; `mask_quality` is the same over the cells, for when there is no time.

    Args:
        logits, size, original: as for `to_original`.

    Returns:
        The mask, (height, width), bool, and the quality in 0..1, 0 for an empty mask.
    """
    window, values = _in_window(logits, size, original)
    return _placed(window, values, original), float(mask_quality(values[None])[0])


def resized(logits: Tensor, size: tuple[int, int], original: tuple[int, int], *, rows: slice = slice(None)) -> Tensor:
    """Mask logits (..., h, w) at the picture's own size, (..., height, width), of some `rows` only; see `to_original`.

    They stay on their device.
    """
    down, across = (
        _interpolation(torch.ones(cells, dtype=torch.bool), side, pixels)[1].to(logits.device)
        for cells, side, pixels in zip(logits.shape[-2:], size, original, strict=True)
    )
    return down[rows] @ logits.detach().float() @ across.T


def _in_window(logits: Tensor, size: tuple[int, int], original: tuple[int, int]) -> tuple[tuple[slice, slice], Tensor]:
    """Logits of the picture's pixels, bilinear over the canvas and then over the picture, as the field does it.

    Only the window where the mask can be is worked out, so that a small part of a large photograph costs little.

    Returns:
        Columns and rows of the window, and the logits in it, (columns, rows): run lengths are encoded so.
    """
    cells = logits.detach().to("cpu", torch.float32)
    positive = cells > 0
    rows, down = _interpolation(positive.any(1), size[0], original[0])
    columns, across = _interpolation(positive.any(0), size[1], original[1])
    return (columns, rows), across @ cells.T @ down.T


def _placed(window: tuple[slice, slice], values: Tensor, original: tuple[int, int]) -> Mask:
    columns_first = np.zeros(original[::-1], dtype=bool)
    columns_first[window] = (values > 0).numpy()
    return columns_first.T


def _interpolation(positive: Tensor, side: int, original: int) -> tuple[slice, Tensor]:
    """For one axis: the pixels that a positive cell can reach, and the share of every cell in each of them.

    Both steps are linear, so each pixel as it came is a sum of four cells at most.

    Args:
        positive: whether a row or column of cells holds a positive one, (cells,), bool.
        side: pixels of the picture on the canvas; original: as it came.

    Returns:
        The pixels, and (pixels, cells) with shares that add up to 1.
    """
    cells = len(positive)
    places, weights = [], []
    for pixel, share in _neighbours(torch.arange(original), side / original, side):
        for cell, part in _neighbours(pixel, 1 / STRIDE, cells):
            places.append(cell)
            weights.append(share * part)
    place, weight = torch.stack(places, 1), torch.stack(weights, 1)
    reached = torch.nonzero(positive[place].any(1)).flatten().tolist()
    window = slice(reached[0], reached[-1] + 1) if reached else slice(0, 0)
    shares = torch.zeros(window.stop - window.start, cells)
    return window, shares.scatter_add_(1, place[window], weight[window])


def _neighbours(pixels: Tensor, scale: float, count: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The two of `count` cells that a pixel's centre lies between, `scale` cells to a pixel, each with its share."""
    centres = ((pixels + 0.5) * scale - 0.5).clamp(0, count - 1)
    low = centres.long()
    share = centres - low
    return (low, 1 - share), ((low + 1).clamp(max=count - 1), share)
