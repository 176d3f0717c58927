"""From backbone features to a memory of four levels and mask features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .deformable_attention import DeformableAttention
from .positions import map_positions
from .structures import Movable, Pictures

STRIDES = (8, 16, 32, 64)


@dataclass(frozen=True)
class Pyramid(Movable):
    """What the decoders read.

    Args:
        memory: the levels flattened from the coarsest to the finest, (B, S, d); valid: (B, S).
        shapes: height and width of each level, coarsest first.
        mask_features: (B, d, H / 4, W / 4); mask_valid: pixels of theirs that hold picture, (B, H / 4, W / 4).
        extent: share of the canvas that each picture fills, (B, 2) as (x, y).
    """

    memory: Tensor
    valid: Tensor
    shapes: tuple[tuple[int, int], ...]
    mask_features: Tensor
    mask_valid: Tensor
    extent: Tensor

    def level(self, index: int) -> tuple[Tensor, Tensor]:
        """Map (B, d, h, w) and validity (B, h, w) of a level, 0 the coarsest."""
        sizes = [height * width for height, width in self.shapes]
        cells = self.memory.split(sizes, dim=1)[index].transpose(1, 2).unflatten(-1, self.shapes[index])
        return cells, self.valid.split(sizes, dim=1)[index].unflatten(-1, self.shapes[index])


class PictureGroupNorm(nn.GroupNorm):
    """GroupNorm whose statistics run over the picture and not over the padding; padding comes out as zero."""

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise (B, C, h, w) where valid, (B, h, w)."""
        inside = valid[:, None, None].to(features.dtype)
        groups = features.unflatten(1, (self.num_groups, -1))
        count = inside.sum((2, 3, 4), keepdim=True) * groups.shape[2]
        count = count.clamp(min=1)
        mean = (groups * inside).sum((2, 3, 4), keepdim=True) / count
        centred = (groups - mean) * inside
        variance = centred.square().sum((2, 3, 4), keepdim=True) / count
        normed = (centred * torch.rsqrt(variance + self.eps)).flatten(1, 2)
        return (normed * self.weight[:, None, None] + self.bias[:, None, None]) * inside.squeeze(2)


class ConvNorm(nn.Module):
    """Convolution and GroupNorm over the picture; reads and writes zeros on padding."""

    def __init__(self, *, channels: int, dim: int, kernel: int, stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, dim, kernel, stride, padding=kernel // 2, bias=bias)
        self.norm = PictureGroupNorm(32, dim)
        nn.init.xavier_uniform_(self.conv.weight)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """Features (B, c, h, w) to (B, d, h', w'), where `valid` (B, h', w') says what is picture afterwards."""
        normed: Tensor = self.norm(self.conv(features), valid)
        return normed


class EncoderLayer(nn.Module):
    """Deformable self-attention over the pyramid, then a feed-forward network, each followed by LayerNorm."""

    def __init__(self, *, dim: int, feedforward: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(dim=dim, heads=heads, levels=levels, points=points)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, feedforward)
        self.linear2 = nn.Linear(feedforward, dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(
        self, memory: Tensor, position: Tensor, reference: Tensor, valid: Tensor, shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Refine the memory, (B, S, d)."""
        memory = self.norm1(memory + self.self_attn(memory + position, reference, memory, valid, shapes))
        return self.norm2(memory + self.linear2(F.relu(self.linear1(memory))))


class PixelDecoder(nn.Module):
    """Deformable encoder over strides 8 to 64, and mask features at stride 4.

    Source: LangHOPS section 3; Mask DINO, arXiv 2206.02777; deformable attention, arXiv 2010.04159.

    Args:
        channels: widths of the backbone's maps at strides 4, 8, 16, 32.
        dim: width of memory and mask features, d; a multiple of 32.
        layers, feedforward, heads, points: of the encoder.
    """

    def __init__(
        self, *, channels: Sequence[int], dim: int, layers: int, feedforward: int, heads: int = 8, points: int = 4
    ) -> None:
        super().__init__()
        self.dim = dim
        self.input_proj = nn.ModuleList(ConvNorm(channels=width, dim=dim, kernel=1) for width in channels[1:])
        self.input_proj.append(ConvNorm(channels=channels[-1], dim=dim, kernel=3, stride=2))
        self.level_embed = nn.Parameter(torch.empty(len(STRIDES), dim).normal_())
        self.layers = nn.ModuleList(
            EncoderLayer(dim=dim, feedforward=feedforward, heads=heads, levels=len(STRIDES), points=points)
            for _ in range(layers)
        )
        self.lateral = ConvNorm(channels=channels[0], dim=dim, kernel=1, bias=False)
        self.fuse = ConvNorm(channels=dim, dim=dim, kernel=3, bias=False)
        self.mask_features = nn.Conv2d(dim, dim, 1)

    def forward(self, features: Sequence[Tensor], pictures: Pictures) -> Pyramid:
        """Encode.

        Args:
            features: backbone maps at strides 4, 8, 16, 32, zero on padding.
            pictures: for the extent of each picture on the canvas.
        """
        fine, *coarse = features
        coarse.append(coarse[-1])
        masks = [pictures.valid(stride) for stride in STRIDES]
        maps = [project(feature, valid) for project, feature, valid in zip(self.input_proj, coarse, masks, strict=True)]
        shapes = [(level.shape[-2], level.shape[-1]) for level in maps]
        memory = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)
        valid = torch.cat([mask.flatten(1) for mask in masks], dim=1)
        position = torch.cat(
            [
                map_positions(mask, self.dim).flatten(1, 2).to(memory.dtype) + embed
                for mask, embed in zip(masks, self.level_embed, strict=True)
            ],
            dim=1,
        )
        reference = torch.cat([cell_centres(shape, memory) for shape in shapes]).expand(len(memory), -1, -1)
        for layer in self.layers:
            memory = layer(memory, position, reference, valid, shapes)

        sizes = [height * width for height, width in shapes]
        levels = memory.split(sizes, dim=1)
        finest = levels[0].transpose(1, 2).unflatten(-1, shapes[0])
        inside = pictures.valid(4)
        lateral = self.lateral(fine, inside)
        fused = lateral + _upsample(finest, masks[0], lateral.shape[-2:])
        mask_features = self.mask_features(F.relu(self.fuse(fused * inside.unsqueeze(1), inside)))
        return Pyramid(
            memory=torch.cat(levels[::-1], dim=1),
            valid=torch.cat(valid.split(sizes, dim=1)[::-1], dim=1),
            shapes=tuple(shapes[::-1]),
            mask_features=mask_features,
            mask_valid=inside,
            extent=pictures.extent.to(memory.dtype),
        )


def cell_centres(shape: tuple[int, int], like: Tensor) -> Tensor:
    """Centres of the cells of a map as shares of the canvas, (h * w, 2) as (x, y)."""
    y, x = ((torch.arange(side, device=like.device, dtype=like.dtype) + 0.5) / side for side in shape)
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).flatten(0, 1)


def _upsample(features: Tensor, valid: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear enlargement in which padding has no say: the weighted mean of the cells that hold picture."""
    weight = valid.unsqueeze(1).to(features.dtype)
    total = F.interpolate(features * weight, size=tuple(size), mode="bilinear", align_corners=False)
    share = F.interpolate(weight, size=tuple(size), mode="bilinear", align_corners=False)
    return total / share.clamp(min=1e-6)
