"""Backbones: from a padded batch of pictures to four feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn


class Backbone(nn.Module):
    """What every backbone offers: its channels, its strides and its own normalisation of pixels.

    Args:
        channels: channels of the four maps, finest first.
        pixel_mean: mean of each colour channel on 0..255, RGB.
        pixel_std: what each channel is divided by.
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    strides: tuple[int, ...] = (4, 8, 16, 32)

    def __init__(self, *, channels: Sequence[int], pixel_mean: Sequence[float], pixel_std: Sequence[float]) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Self:
        """Switch the mode; a frozen backbone stays in evaluation mode, as drop path would only blur what it sees."""
        return super().train(mode and any(parameter.requires_grad for parameter in self.parameters()))

    def normalise(self, pixels: Tensor, valid: Tensor | None = None) -> Tensor:
        """Bring pixels to the scale the weights expect; padding becomes zero.

        Args:
            pixels: RGB in 0..255, uint8 or float, (B, 3, H, W).
            valid: True where there is picture, (B, H, W), or None when there is no padding.

        Returns:
            Normalised pixels, (B, 3, H, W), float.
        """
        normalised = (pixels.to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_std
        return normalised if valid is None else normalised * valid.unsqueeze(1)

    def forward(self, pixels: Tensor, valid: Tensor | None = None) -> list[Tensor]:
        """Extract features.

        Args:
            pixels: normalised pixels, (B, 3, H, W); H and W multiples of 64.
            valid: True where there is picture, (B, H, W), or None when there is no padding.

        Returns:
            Four maps (B, C, H / s, W / s) for s in `strides`, zero on padding.
        """
        raise NotImplementedError


class TransformersBackbone(Backbone):
    """Any backbone of transformers with four maps, such as `SwinBackbone`.

    Pixels and features of the padding are zeroed. Window attention itself has no way to mask padding: a window that
    spans the edge of a picture also reads zeros beyond it, as it did when its weights were trained, so features near
    that edge depend a little on whether the canvas goes on there.

    Args:
        backbone: a module that takes `pixel_values` and returns `feature_maps`.
        channels: channels of its four maps, finest first.
        pixel_mean: mean of each colour channel on 0..255, RGB.
        pixel_std: what each channel is divided by.
    Source: LangHOPS, section 4.1 (Swin-L, arXiv 2103.14030).
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        channels: Sequence[int],
        pixel_mean: Sequence[float] = (123.675, 116.28, 103.53),
        pixel_std: Sequence[float] = (58.395, 57.12, 57.375),
    ) -> None:
        super().__init__(channels=channels, pixel_mean=pixel_mean, pixel_std=pixel_std)
        self.backbone = backbone

    def forward(self, pixels: Tensor, valid: Tensor | None = None) -> list[Tensor]:
        """Extract features; see `Backbone.forward`."""
        if valid is None:
            return list(self.backbone(pixel_values=pixels).feature_maps)
        maps = self.backbone(pixel_values=pixels * valid.unsqueeze(1)).feature_maps
        return [
            features * valid[:, None, ::stride, ::stride] for features, stride in zip(maps, self.strides, strict=True)
        ]
