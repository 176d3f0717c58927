"""The norm of a gradient, whatever DeepSpeed does with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from langhops_cli.training.distributed import join_processes
from langhops_cli.training.engine import build_engine
from langhops_cli.training.gradients import gradient_norm, take_step
from langhops_cli.training.recipe import load_recipe

from .tiny import make_recipe


def test_a_norm_is_that_of_all_gradients_together() -> None:
    model = nn.ModuleList([nn.Linear(1, 1, bias=False), nn.Linear(1, 1)])
    assert gradient_norm(model) == 0.0
    model[0].weight.grad = torch.tensor([[3.0]])
    model[1].weight.grad = torch.tensor([[4.0]], dtype=torch.float64).float()
    assert gradient_norm(model) == pytest.approx(5.0)


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_every_stage_of_zero_says_the_norm_before_clipping(tmp_path: Path, zero: int, accumulate: int) -> None:
    join_processes()
    path = make_recipe(tmp_path / "tiny.yaml", "objects")
    overrides = [f"distributed.zero={zero}", f"data.accumulate={accumulate}", "optimizer.clip_norm=0.01"]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    batches = torch.randn(accumulate, 2, 4)
    torch.stack([model(batch).square().sum() for batch in batches]).mean().backward()
    expected = gradient_norm(model)
    model.zero_grad()
    optimizer = torch.optim.AdamW(model.parameters())
    engine = build_engine(model, optimizer, load_recipe(path, overrides))
    engine.train()
    for batch in batches:
        engine.backward(engine(batch).square().sum())
    assert expected > 1
    assert take_step(engine) == pytest.approx(expected, rel=1e-5)
