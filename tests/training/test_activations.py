"""Activations that are computed again: the same losses and gradients, less that is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from langhops_cli.data.collate import Collate
from langhops_cli.data.index import PreparedDataset
from langhops_cli.model.criterion import Criterion
from langhops_cli.training.activations import checkpoint_activations
from langhops_cli.training.recipe import load_recipe
from langhops_cli.training.setup import build_stage, model_config

from .tiny import TINY, make_recipe


@pytest.mark.parametrize("refiner", ["mllm", "qformer"])
def test_losses_and_gradients_stay_and_less_is_kept(prepared: Path, tmp_path: Path, refiner: str) -> None:
    model_section = TINY | {"refiner": {"kind": refiner}}
    recipe = load_recipe(make_recipe(tmp_path / "tiny.yaml", "parts", model=model_section))
    model, _ = build_stage(recipe, model_config(recipe), None)
    model.train()
    dataset = PreparedDataset(prepared / "cars", "train")
    batch = Collate()([dataset[0], dataset[3]])
    names = list(model.state_dict())

    def learn() -> tuple[dict[str, float], dict[str, torch.Tensor], int]:
        kept = 0

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        model.zero_grad()
        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = model(batch.pictures, batch.vocabulary, batch.targets)
        losses = Criterion()(output, batch.targets, batch.pictures, batch.vocabulary)
        losses["total"].backward()
        gradients = {name: item.grad for name, item in model.named_parameters() if item.grad is not None}
        return {name: float(value.detach()) for name, value in losses.items()}, gradients, kept

    losses, gradients, kept = learn()
    assert checkpoint_activations(model) > 10
    again, gradients_again, kept_again = learn()
    assert again == pytest.approx(losses, rel=1e-6, abs=1e-6)
    assert gradients_again.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(gradients_again[name], gradient, rtol=1e-4, atol=1e-5), name
    assert kept_again < 0.6 * kept
    assert list(model.state_dict()) == names
    model.eval()
    with torch.no_grad():
        model(batch.pictures, batch.vocabulary)


def test_a_backbone_of_transformers_computes_its_layers_again() -> None:
    from transformers import SwinBackbone, SwinConfig

    config = SwinConfig(
        embed_dim=8, depths=[1, 1, 2, 1], num_heads=[1, 1, 2, 2], window_size=4, out_indices=[1, 2, 3, 4], image_size=64
    )
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"backbone": SwinBackbone(config)}).train()
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    layer = model["backbone"].swin.encoder.layers[2].blocks[0].attention
    layer.register_forward_hook(count)

    def learn() -> torch.Tensor:
        model.zero_grad()
        torch.manual_seed(1)  # paths are dropped at random
        maps = model["backbone"](pixel_values=torch.ones(1, 3, 64, 64)).feature_maps
        torch.stack([item.square().mean() for item in maps]).sum().backward()
        return next(model.parameters()).grad.clone()

    plain = learn()
    assert passes == 1
    assert checkpoint_activations(model) > 0
    assert torch.allclose(learn(), plain, rtol=1e-4, atol=1e-6)
    assert passes == 3
