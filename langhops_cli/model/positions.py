"""Sine embeddings of places and boxes, and the logit space in which boxes are refined."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sine_embedding(coordinates: Tensor, width: int, temperature: float = 10_000.0) -> Tensor:
    """Embed every coordinate by sines and cosines of falling frequency.

    Args:
        coordinates: shares in 0..1, (..., n).
        width: numbers for each coordinate, even.

    Returns:
        (..., n * width), sine and cosine interleaved, the coordinates one after the other.

    Source: DETR, arXiv 2005.12872, and for boxes DAB-DETR, arXiv 2201.12329.
    """
    steps = torch.arange(width // 2, device=coordinates.device, dtype=torch.float32)
    frequencies = (2 * math.pi) * temperature ** (-2 * steps / width)
    angles = coordinates.unsqueeze(-1) * frequencies.to(coordinates.dtype)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-3)


def map_positions(valid: Tensor, dim: int) -> Tensor:
    """Sine embedding of the cells of a map, y then x, counted over the cells that hold picture.

    Args:
        valid: (B, h, w), bool.
        dim: width of the embedding, d.

    Returns:
        (B, h, w, d)
    """
    cells = valid.float()
    y = cells.cumsum(1) / cells.sum(1, keepdim=True).clamp(min=1)
    x = cells.cumsum(2) / cells.sum(2, keepdim=True).clamp(min=1)
    return sine_embedding(torch.stack([y, x], dim=-1), dim // 2)


def box_positions(boxes: Tensor, dim: int) -> Tensor:
    """Sine embedding of boxes (x, y, w, h as shares), in the order y, x, w, h: (..., 4) to (..., 2 d)."""
    return sine_embedding(boxes[..., [1, 0, 2, 3]], dim // 2)


def logit(share: Tensor, eps: float = 1e-5) -> Tensor:
    """Inverse of the sigmoid, finite at 0 and 1."""
    share = share.clamp(0, 1)
    return torch.log(share.clamp(min=eps) / (1 - share).clamp(min=eps))


def box_in_frame(boxes: Tensor, frames: Tensor) -> Tensor:
    """Boxes told as shares of a frame, as shares of what the frame is a share of; both centre and size, (..., 4)."""
    centre, size = boxes.split(2, dim=-1)
    origin, scale = frames.split(2, dim=-1)
    return torch.cat([origin + (centre - 0.5) * scale, size * scale], dim=-1)


def box_around(masks: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest box that holds a mask.

    Args:
        masks: cells of the canvas that belong to it, (B, N, h, w), bool.
        extent: share of the canvas that each picture fills, (B, 2) as (x, y).

    Returns:
        Boxes (x, y, w, h as shares of the picture), (B, N, 4), and whether the mask has any cell, (B, N).
    """
    spans = []
    for axis, shown in enumerate((masks.any(-2), masks.any(-1))):
        count = shown.shape[-1]
        first = shown.byte().argmax(-1)
        last = count - shown.flip(-1).byte().argmax(-1)
        spans.append(torch.stack([first, last], dim=-1) / (count * extent[:, axis, None, None]))
    low, high = torch.stack(spans, dim=-2).unbind(-1)  # B, N, 2
    return torch.cat([(low + high) / 2, high - low], dim=-1), masks.flatten(2).any(-1)
