"""Multi-scale deformable attention in plain PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shapes = Sequence[tuple[int, int]]


class DeformableAttention(nn.Module):
    """Each query reads a few learned places around its reference on every level of a feature pyramid.

    Source: Deformable DETR, arXiv 2010.04159, section 4.1.

    Args:
        dim: width of queries and memory, d; divisible by `heads`.
        heads, levels, points: attention heads, pyramid levels, places read per head and level.
    """

    def __init__(self, *, dim: int, heads: int = 8, levels: int = 4, points: int = 4) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(dim, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dim, heads * levels * points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """Start as the paper does: heads look in different directions, point p looks p + 1 cells away, evenly."""
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions = directions / directions.abs().amax(dim=-1, keepdim=True)
        reach = torch.arange(1, self.points + 1).view(1, 1, -1, 1)
        offsets = directions.view(self.heads, 1, 1, 2).expand(-1, self.levels, -1, -1) * reach
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.flatten())
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, queries: Tensor, reference: Tensor, memory: Tensor, valid: Tensor, shapes: Shapes) -> Tensor:
        """Read the pyramid.

        Args:
            queries: (B, Q, d), position embedding included.
            reference: points (B, Q, 2) or boxes (B, Q, 4: centre, size), as shares of the canvas.
            memory: the levels flattened one after the other, (B, S, d).
            valid: cells that hold picture, (B, S); padding reads as zero.
            shapes: height and width of each level, in the order of `memory`.

        Returns:
            (B, Q, d)
        """
        values = self.value_proj(memory) * valid.unsqueeze(-1)
        values = values.unflatten(-1, (self.heads, -1))
        places, weights = self.sample(queries, reference, shapes)

        # one grid a level with the heads in the batch; grid_sample wants -1..1
        grids = (2 * places - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)
        shares = weights.permute(3, 0, 2, 1, 4).flatten(1, 2).unsqueeze(2)
        levels = values.split([height * width for height, width in shapes], dim=1)
        total = queries.new_zeros(())
        for level, shape, grid, share in zip(levels, shapes, grids, shares, strict=True):
            maps = level.permute(0, 2, 3, 1).flatten(0, 1).unflatten(-1, shape)
            read = F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
            total = total + (read * share).sum(-1)  # (B h, d / h, Q), summed over the points
        heads = total.unflatten(0, (len(queries), self.heads)).flatten(1, 2)
        output: Tensor = self.output_proj(heads.transpose(1, 2))
        return output

    def sample(self, queries: Tensor, reference: Tensor, shapes: Shapes) -> tuple[Tensor, Tensor]:
        """Where the queries read, and how much each place counts; arguments as for `forward`.

        Returns:
            (x, y) as shares of the canvas, (B, Q, heads, levels, points, 2), and the weights without the last axis,
            which add up to 1 for each head.
        """
        split = (*queries.shape[:2], self.heads, self.levels, self.points)
        offsets = self.sampling_offsets(queries).view(*split, 2)
        weights = self.attention_weights(queries).view(*split[:3], -1).softmax(-1).view(split)
        if reference.shape[-1] == 2:
            cells = queries.new_tensor([[width, height] for height, width in shapes])
            places = reference[:, :, None, None, None] + offsets / cells[:, None]
        else:
            # offsets in units of half a box, shared among the points
            centre, size = reference[:, :, None, None, None].split(2, dim=-1)
            places = centre + offsets / self.points * size * 0.5
        return places, weights
