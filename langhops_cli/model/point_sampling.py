"""Masks compared at points instead of pixels: reading maps at points, and choosing points where a mask is unsure."""

from __future__ import annotations

import torch
from torch import Tensor


def num_points(height: int, width: int) -> int:
    """How many points a mask of this canvas is compared at.

    Args:
        height, width: of the canvas in pixels.

    Returns:
        12544 at 1024 x 1024, in proportion to the area, at least 64.

    Source: Mask2Former (arXiv 2112.01527), section 3.3, for the number at 1024 pixels.
    """
    return max(64, round(12544 * height * width / 1024**2))


def sample_points(maps: Tensor, points: Tensor, *, extent: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
    """Read maps at points, bilinearly; what lies outside a map reads as zero.

    Only the cells next to a point are touched, so large maps of bytes or bf16 are never converted whole.

    Args:
        maps: any number type, (N, C, H, W); C is 1 where `rows` is given.
        points: (x, y) as shares of the picture, 0..1, (N, P, 2). The centre of the first cell lies half a cell in.
        extent: share of each map that is picture, (N, 2) as (x, y); the rest is padding, which counts as outside.
        rows: map that each row of points reads, (M,), where that is not one to one; `points` and `extent` then
            have M rows. It spares copying the maps.

    Returns:
        float32, (N, C, P), or (M, 1, P) with `rows`.

    Source: PointRend (arXiv 1912.08193), section 3.1.
    """
    height, width = maps.shape[-2:]
    index, weight = _corners(points.float(), height, width, extent)
    flat = maps.flatten(2)
    if rows is None:
        values = flat.gather(2, index.flatten(1).unsqueeze(1).expand(-1, flat.shape[1], -1))
    else:
        if flat.shape[1] != 1:
            raise ValueError(f"maps read by rows have one channel, not {flat.shape[1]}")
        values = flat.flatten().gather(0, (index + rows[:, None, None] * (height * width)).flatten())
    values = values.view(len(points), maps.shape[1], *index.shape[1:])
    return (values.float() * weight.unsqueeze(1)).sum(2)


def _corners(points: Tensor, height: int, width: int, extent: Tensor | None) -> tuple[Tensor, Tensor]:
    """The four cells round each point as indices into the flat map, and their weights, both (N, 4, P)."""
    share = points.new_ones(len(points), 2) if extent is None else extent.to(points.dtype)
    column, across = _neighbours(points[..., 0], share[:, :1] * width)
    row, down = _neighbours(points[..., 1], share[:, 1:] * height)
    index = row.unsqueeze(2) * width + column.unsqueeze(1)
    weight = down.unsqueeze(2) * across.unsqueeze(1)
    return index.flatten(1, 2), weight.flatten(1, 2)


def _neighbours(place: Tensor, filled: Tensor) -> tuple[Tensor, Tensor]:
    """Along one axis the cells before and after each place (N, P), and their weights, both (N, 2, P)."""
    # A cell that holds any picture is inside; the slack forgives the rounding of the share.
    last = (filled - 1e-3).ceil().unsqueeze(1) - 1
    position = place * filled - 0.5
    low = position.floor()
    share = position - low
    cell = torch.stack([low, low + 1], dim=1)
    weight = torch.stack([1 - share, share], dim=1)
    inside = cell.clamp(min=0).minimum(last).clamp(min=0)
    return inside.long(), weight * (inside == cell)


@torch.no_grad()
def uncertain_points(
    mask_logits: Tensor,
    num_points: int,
    *,
    oversample: float = 3.0,
    important: float = 0.75,
    extent: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw points for the mask loss, most of them where the prediction is unsure.

    Args:
        mask_logits: one map a row, (N, 1, h, w).
        num_points: P, points a row.
        oversample: candidates per point, 1 or more.
        important: share of the points taken from the least sure candidates, 0..1; the others are uniform.
        extent: share of each map that is picture, (N, 2) as (x, y).
        generator: source of randomness on the device of the logits.

    Returns:
        (x, y) as shares of the picture, 0..1, (N, P, 2), without gradient.

    Source: PointRend (arXiv 1912.08193), section 3.1.
    """
    device = mask_logits.device
    rows = len(mask_logits)
    kept = int(important * num_points)
    candidates = torch.rand(rows, int(oversample * num_points), 2, generator=generator, device=device)
    doubt = -sample_points(mask_logits, candidates, extent=extent).squeeze(1).abs()
    best = doubt.topk(kept, dim=1).indices
    chosen = candidates.gather(1, best.unsqueeze(-1).expand(-1, -1, 2))
    uniform = torch.rand(rows, num_points - kept, 2, generator=generator, device=device)
    return torch.cat([chosen, uniform], dim=1)
