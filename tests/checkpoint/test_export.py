"""The exported vision part computes what the model computes, or is not there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import SwinBackbone, SwinConfig

from langhops_cli.checkpoint import export as exporting
from langhops_cli.checkpoint.build import build_model
from langhops_cli.checkpoint.export import ABOUT, export_vision
from langhops_cli.data.canvas import to_canvas
from langhops_cli.errors import UserError
from langhops_cli.model.backbone import Backbone, TransformersBackbone
from langhops_cli.model.configuration import ModelConfig
from langhops_cli.model.efficientnet import EfficientNetLite0
from langhops_cli.model.langhops import LangHOPSModel
from langhops_cli.model.pixel_decoder import PixelDecoder
from langhops_cli.model.structures import VocabularyBatch
from langhops_cli.vocabulary import parse_vocabulary

MINI = ModelConfig.preset("mini")
SMALL = {"dim": 32, "feedforward": 32, "heads": 4, "encoder_layers": 1, "object_layers": 1, "num_queries": 12}
CONFIG = replace(MINI, level="objects", decoder=replace(MINI.decoder, **SMALL))


class Steps(Backbone):
    """A backbone of four convolutions: what is exported grows with every layer, and so does the time it takes."""

    def __init__(self) -> None:
        super().__init__(channels=(8, 8, 8, 8), pixel_mean=(127.0,) * 3, pixel_std=(128.0,) * 3)
        self.first = nn.Conv2d(3, 8, 4, stride=4)
        self.others = nn.ModuleList(nn.Conv2d(8, 8, 2, stride=2) for _ in range(3))

    def forward(self, pixels: Tensor, valid: Tensor | None = None) -> list[Tensor]:
        maps = [self.first(pixels)]
        for convolution in self.others:
            maps.append(convolution(maps[-1].relu()))
        return maps


def with_backbone(backbone: Backbone) -> LangHOPSModel:
    """A small model with another backbone."""
    torch.manual_seed(0)
    model = build_model(CONFIG, pretrained=False)
    model.backbone = backbone
    model.pixel_decoder = PixelDecoder(channels=backbone.channels, dim=32, layers=1, feedforward=32, heads=4)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> LangHOPSModel:
    return with_backbone(Steps())


@pytest.fixture(scope="module")
def exported(model: LangHOPSModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, dict[str, Any]]:
    """What another program loads: the module, and what the file says of itself."""
    path = tmp_path_factory.mktemp("exported") / "below" / "model.pt2"
    written = export_vision(model, path, height=64, width=128, batch=2, about={"checkpoint": "small"})
    assert written.difference <= 1e-4
    files = {ABOUT: ""}
    loaded = torch.export.load(path, extra_files=files).module()
    return loaded, json.loads(files[ABOUT])


def test_it_finds_what_the_whole_model_finds(model: LangHOPSModel, exported: tuple[nn.Module, object]) -> None:
    vocabularies = [parse_vocabulary("dog; cat; car; tree; house"), parse_vocabulary("dog; cat; car; tree; house")]
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((64, 100), (40, 128))]
    pictures = to_canvas(images)
    with torch.no_grad():
        expected = model(pictures, VocabularyBatch.of(vocabularies))
        names = model.text_encoder(("dog", "cat", "car", "tree", "house"))
        found = exported[0](pictures.pixels.float(), pictures.sizes, names)
    final = expected.objects.final
    for name, value in {"logits": final.logits, "boxes": final.boxes, "masks": final.masks}.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-4)
    torch.testing.assert_close(found["queries"], expected.objects.queries, rtol=0, atol=1e-4)


def test_it_says_what_it_takes(exported: tuple[nn.Module, dict[str, Any]]) -> None:
    about = exported[1]
    assert about["inputs"]["pixels"]["shape"] == [2, 3, 64, 128]
    assert about["inputs"]["names"]["shape"] == ["any", 32]
    assert about["checkpoint"] == "small"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["swin", "efficientnet-lite0"])
def test_every_backbone_is_exported(kind: str, tmp_path: Path) -> None:
    stages = ["stage1", "stage2", "stage3", "stage4"]
    swin = SwinBackbone(SwinConfig(embed_dim=8, depths=[2] * 4, num_heads=[1] * 4, window_size=4, out_features=stages))
    backbone = TransformersBackbone(swin, channels=swin.channels) if kind == "swin" else EfficientNetLite0()
    written = export_vision(with_backbone(backbone), tmp_path / "model.pt2", height=64, width=128)
    assert written.difference <= 1e-4


class Forgetful(nn.Module):
    """Stands for an exporter that loses something: its outputs are not the model's."""

    def module(self) -> nn.Module:
        return self

    def forward(self, pixels: Tensor, sizes: Tensor, names: Tensor) -> dict[str, Tensor]:
        return {name: torch.tensor(float("nan")) for name in exporting.OUTPUTS}


def test_what_computes_something_else_is_not_kept(
    model: LangHOPSModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.export, "export", lambda *args, **options: None)
    monkeypatch.setattr(torch.export, "save", lambda program, file, extra_files: file.write(b"half"))
    monkeypatch.setattr(torch.export, "load", lambda file: Forgetful())
    (tmp_path / "model.pt2").write_bytes(b"an older one")
    with pytest.raises(UserError, match=r"model\.pt2 was not written: exported, it differs from the model by nan"):
        export_vision(model, tmp_path / "model.pt2", height=64, width=64)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]
    assert (tmp_path / "model.pt2").read_bytes() == b"an older one"


@pytest.mark.parametrize(("side", "near"), [(100, 128), (1, 64), (0, 64), (65, 64)])
def test_sizes_that_do_not_fit_are_refused_with_the_nearest(
    model: LangHOPSModel, tmp_path: Path, side: int, near: int
) -> None:
    with pytest.raises(UserError, match=f"use multiples of 64, {near} in place of {side}"):
        export_vision(model, tmp_path / "model.pt2", height=side, width=64)
    assert not list(tmp_path.iterdir())
