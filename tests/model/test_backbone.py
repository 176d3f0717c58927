from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from langhops_cli.checkpoint.base_models import build_random, load_efficientnet_lite0
from langhops_cli.model.backbone import TransformersBackbone
from langhops_cli.model.efficientnet import EfficientNetLite0
from langhops_cli.resources import assets_folder

PICTURES = assets_folder().parents[1] / "imgs"


@pytest.fixture(scope="module")
def weights():
    return load_efficientnet_lite0(classifier=True)


@pytest.fixture
def backbone(weights):
    module = EfficientNetLite0()
    module.load_state_dict({name: weights[name] for name in module.state_dict()})
    return module.eval()


def on_canvas(picture: torch.Tensor, height: int, width: int, fill: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture (3, h, w) in the corner of a canvas whose padding holds rubbish."""
    pixels = torch.full((1, 3, height, width), fill)
    valid = torch.zeros(1, height, width, dtype=torch.bool)
    pixels[0, :, : picture.shape[1], : picture.shape[2]] = picture
    valid[0, : picture.shape[1], : picture.shape[2]] = True
    return pixels, valid


def test_published_weights_fit_to_the_name(weights):
    ours = set(EfficientNetLite0().state_dict())
    assert set(load_efficientnet_lite0()) == ours
    assert {name.split(".")[0] for name in set(weights) - ours} == {"_conv_head", "_bn1", "_fc"}


def test_four_maps_at_their_strides(backbone):
    maps = backbone(torch.zeros(2, 3, 128, 192))
    assert [tuple(m.shape) for m in maps] == [
        (2, channels, 128 // stride, 192 // stride)
        for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]


def test_folded_norm_is_convolution_then_norm(weights, backbone):
    """The whole net by PyTorch's own convolution and batch norm, with the padding that TensorFlow works out."""

    def convolve(x, name, norm, stride=1, groups=1):
        weight = weights[f"{name}.weight"]
        pads = []
        for side in (x.shape[-1], x.shape[-2]):
            total = max((-(-side // stride) - 1) * stride + weight.shape[-1] - side, 0)
            pads += [total // 2, total - total // 2]
        x = F.conv2d(F.pad(x, pads), weight, stride=stride, groups=groups)
        statistics = [weights[f"{norm}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *statistics, eps=1e-3)

    pixels = torch.randn(1, 3, 64, 128)
    x = F.relu6(convolve(pixels, "_conv_stem", "_bn0", 2))
    taps = []
    for i in range(16):
        inner, block = x, f"_blocks.{i}"
        if f"{block}._expand_conv.weight" in weights:
            inner = F.relu6(convolve(inner, f"{block}._expand_conv", f"{block}._bn0"))
        stride = 2 if i in (1, 3, 5, 11) else 1
        inner = F.relu6(convolve(inner, f"{block}._depthwise_conv", f"{block}._bn1", stride, inner.shape[1]))
        inner = convolve(inner, f"{block}._project_conv", f"{block}._bn2")
        x = x + inner if x.shape == inner.shape else inner
        taps.append(x)
    expected = [taps[i] for i in (2, 4, 10, 15)]
    for ours, reference in zip(backbone(pixels), expected, strict=True):
        assert_close(ours, reference, atol=2e-4, rtol=1e-4)


@pytest.mark.skipif(not any(PICTURES.glob("coffee.*")), reason="no picture of a coffee in imgs")
def test_a_coffee_is_an_espresso(weights, backbone):
    import numpy as np
    from PIL import Image

    image = Image.open(next(PICTURES.glob("coffee.*"))).convert("RGB").resize((320, 256))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    with torch.no_grad():
        x = F.conv2d(backbone(backbone.normalise(pixels))[-1], weights["_conv_head.weight"])
        statistics = [weights[f"_bn1.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        x = F.relu6(F.batch_norm(x, *statistics, eps=1e-3)).mean((2, 3))
        logits = F.linear(x, weights["_fc.weight"], weights["_fc.bias"])
    assert logits.argmax().item() == 967


@pytest.mark.parametrize(("height", "width"), [(64, 64), (37, 90), (1, 1), (100, 51)])
def test_the_canvas_never_changes_a_picture(backbone, height, width):
    picture = torch.randn(3, height, width)
    small = backbone(*on_canvas(picture, 128, 128, fill=0.0))
    large = backbone(*on_canvas(picture, 192, 320, fill=9.0))
    for stride, a, b in zip(backbone.strides, small, large, strict=True):
        rows, columns = -(-height // stride), -(-width // stride)
        # kernels split the work by size and threads, so sums differ in their last digits; 1e-4 is the promise
        assert_close(b[:, :, :rows, :columns], a[:, :, :rows, :columns], atol=1e-4, rtol=0)
        assert not b[:, :, rows:].any()
        assert not b[:, :, :, columns:].any()


def test_no_padding_needs_no_mask(backbone):
    pixels = torch.randn(1, 3, 64, 64)
    masked = backbone(pixels, torch.ones(1, 64, 64, dtype=torch.bool))
    for a, b in zip(backbone(pixels), masked, strict=True):
        assert_close(a, b, atol=1e-6, rtol=0)


def test_a_canvas_that_does_not_divide_is_refused(backbone):
    with pytest.raises(ValueError, match="multiples of 32"):
        backbone(torch.zeros(1, 3, 65, 64))


def test_norm_statistics_are_frozen_and_the_affine_part_trains(backbone):
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    backbone.train()
    sum(m.square().mean() for m in backbone(torch.randn(2, 3, 64, 64))).backward()
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is not None for parameter in backbone.parameters())
    assert backbone._blocks[3]._bn1.weight.grad.abs().sum() > 0
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)


def test_normalise_scales_and_blanks_padding(backbone):
    pixels = torch.full((1, 3, 1, 2), 255, dtype=torch.uint8)
    normalised = backbone.normalise(pixels, torch.tensor([[[True, False]]]))
    assert normalised[0, :, 0].tolist() == [[1.0, 0.0]] * 3


SWIN = {
    "model_type": "swin",
    "image_size": 64,
    "patch_size": 4,
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 4,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}


def test_swin_maps_and_their_padding():
    backbone = TransformersBackbone(build_random(SWIN), channels=(8, 16, 32, 64)).eval()
    pixels, valid = on_canvas(torch.randn(3, 64, 96), 128, 128, fill=5.0)
    clean, _ = on_canvas(torch.zeros(3, 64, 96), 128, 128, fill=0.0)
    clean[:, :, :64, :96] = pixels[:, :, :64, :96]
    maps = backbone(pixels, valid)
    assert [tuple(m.shape) for m in maps] == [(1, 8 * 2**i, 32 // 2**i, 32 // 2**i) for i in range(4)]
    for stride, ours, expected in zip(backbone.strides, maps, backbone(clean, valid), strict=True):
        assert_close(ours, expected)
        assert not ours[:, :, 64 // stride :].any()
        assert ours[:, :, : 64 // stride, : 96 // stride].any()


def test_swin_pixels_are_normalised_as_imagenet_was():
    backbone = TransformersBackbone(build_random(SWIN), channels=(8, 16, 32, 64))
    white = backbone.normalise(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten()
    assert_close(white, torch.tensor([131.325 / 58.395, 138.72 / 57.12, 151.47 / 57.375]))
