"""EfficientNet-Lite0, a backbone small enough for a CPU, whose features never depend on padding."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from langhops_cli.model.backbone import Backbone

# repeats, channels out, expansion, kernel, stride of each stage
STAGES = (
    (1, 16, 1, 3, 1),
    (2, 24, 6, 3, 2),
    (2, 40, 6, 5, 2),
    (3, 80, 6, 3, 2),
    (3, 112, 6, 5, 1),
    (4, 192, 6, 5, 2),
    (1, 320, 6, 3, 1),
)
STEM_CHANNELS = 32
TAPPED_BLOCKS = (2, 4, 10, 15)  # the last block of each stride


def _convolution(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def _convolve(x: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """Convolution with TensorFlow's SAME padding, then the batch norm, as one convolution.

    The norm's statistics are frozen, so it is an affine map that folds into the convolution: the gradient still reaches
    the weights of both, and the two passes over the map that a separate norm costs are saved.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    weight = convolution.weight * scale.view(-1, 1, 1, 1)
    bias = norm.bias - norm.running_mean * scale
    kernel, stride = convolution.kernel_size[0], convolution.stride[0]
    before = (kernel - stride) // 2  # sides are even wherever the stride is 2, so the padding is known
    after = kernel - stride - before
    if before != after:
        x = F.pad(x, (before, after, before, after))
        before = 0
    return F.conv2d(x, weight, bias, convolution.stride, before, 1, convolution.groups)


class InvertedResidual(nn.Module):
    """Expand, convolve each channel by itself, project; a shortcut where the shapes allow it.

    Args:
        inputs: channels in.
        outputs: channels out.
        expansion: how many times wider the block is inside.
        kernel: side of the depthwise convolution.
        stride: of the depthwise convolution.
    """

    def __init__(self, *, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.stride = stride
        self.expands = expansion != 1
        self.has_shortcut = stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv = _convolution(inputs, width, 1)
            self._bn0 = _norm(width)
        self._depthwise_conv = _convolution(width, width, kernel, stride=stride, groups=width)
        self._bn1 = _norm(width)
        self._project_conv = _convolution(width, outputs, 1)
        self._bn2 = _norm(outputs)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Args:
            x: (B, inputs, h, w).
            mask: 1 where the map holds picture, (B, 1, h, w), or None when there is no padding.

        Returns:
            (B, outputs, h / stride, w / stride).
        """
        inner = F.relu6(_convolve(x, self._expand_conv, self._bn0)) if self.expands else x
        if mask is not None:
            inner = inner * mask
        inner = F.relu6(_convolve(inner, self._depthwise_conv, self._bn1))
        inner = _convolve(inner, self._project_conv, self._bn2)
        return x + inner if self.has_shortcut else inner


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0 without its classifier; state-dict names are those of the published weights.

    Padding is zeroed before every convolution that looks at neighbours, so a picture has the same features on any
    canvas. Batch-norm statistics are frozen, in training too; the norms' weights and biases train.
    Source: EfficientNet, arXiv 1905.11946; the Lite variant has no squeeze-excite and uses ReLU6.
    """

    def __init__(self) -> None:
        super().__init__(channels=(24, 40, 112, 320), pixel_mean=(127.0,) * 3, pixel_std=(128.0,) * 3)
        self._conv_stem = _convolution(3, STEM_CHANNELS, 3, stride=2)
        self._bn0 = _norm(STEM_CHANNELS)
        blocks: list[nn.Module] = []
        inputs = STEM_CHANNELS
        for repeats, outputs, expansion, kernel, stride in STAGES:
            for repeat in range(repeats):
                blocks.append(
                    InvertedResidual(
                        inputs=inputs,
                        outputs=outputs,
                        expansion=expansion,
                        kernel=kernel,
                        stride=stride if repeat == 0 else 1,
                    )
                )
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Switch the mode of everything but the batch norms, which always use their running statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, pixels: Tensor, valid: Tensor | None = None) -> list[Tensor]:
        """Extract features; see `Backbone.forward`."""
        if pixels.shape[-2] % 32 or pixels.shape[-1] % 32:
            raise ValueError(f"canvas sides must be multiples of 32, got {tuple(pixels.shape[-2:])}")
        stride = 1
        mask = None if valid is None else valid.unsqueeze(1).to(pixels.dtype)
        x = (pixels if mask is None else pixels * mask).contiguous(memory_format=torch.channels_last)  # faster on a CPU
        x = F.relu6(_convolve(x, self._conv_stem, self._bn0))
        stride = 2
        mask = None if valid is None else valid[:, None, ::stride, ::stride].to(x.dtype)
        maps: list[Tensor] = []
        for index, block in enumerate(self._blocks):
            x = block(x, mask)
            if block.stride == 2:
                stride *= 2
                mask = None if valid is None else valid[:, None, ::stride, ::stride].to(x.dtype)
            if index in TAPPED_BLOCKS:
                maps.append(x if mask is None else x * mask)
        return maps
