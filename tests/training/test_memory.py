"""The estimate of a step's memory: what it counts is what autograd keeps, and what the settings do to it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from langhops_cli.checkpoint.skeleton import build_skeleton
from langhops_cli.training.memory import (
    BUCKET,
    MemoryEstimate,
    count_parameters,
    estimate_memory,
    kept_bytes,
    weight_bytes,
)
from langhops_cli.training.recipe import Recipe, load_recipe
from langhops_cli.training.setup import batches, build_stage, model_config, open_datasets

from .tiny import make_recipe

NAMES = (2, 1)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return make_recipe(tmp_path / "tiny.yaml", "parts")


def kept(path: Path, *overrides: str) -> int:
    recipe = load_recipe(path, overrides)
    config = model_config(recipe)
    return kept_bytes(build_skeleton(config), recipe, config, names=NAMES)


def estimate(path: Path, *overrides: str, processes: int = 1, device: str = "cpu") -> MemoryEstimate:
    recipe = load_recipe(path, overrides)
    config = model_config(recipe)
    return estimate_memory(build_skeleton(config), recipe, config, processes=processes, names=NAMES, device=device)


def really_kept(recipe: Recipe, data_root: Path) -> int:
    """Bytes that autograd keeps of the first batch, on the CPU."""
    config = model_config(recipe)
    model, _ = build_stage(recipe, config, None)
    model.train()
    datasets, _ = open_datasets(recipe, data_root)
    batch = next(iter(batches(recipe, config, datasets, first=0)))
    known = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    found: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(batch.pictures, batch.vocabulary, batch.targets)
    return sum(storage.nbytes() for storage in found.values())


def test_what_is_counted_of_shapes_is_what_is_kept_of_numbers(tiny: Path, prepared: Path) -> None:
    recipe = load_recipe(tiny)
    assert kept(tiny) == pytest.approx(really_kept(recipe, prepared), rel=0.08)


def test_activations_grow_with_the_batch_and_with_the_picture(tiny: Path) -> None:
    one, two, four = (kept(tiny, f"data.batch={number}") for number in (1, 2, 4))
    assert four - two == pytest.approx(2 * (two - one), rel=0.02)
    assert two > 1.5 * one
    larger = kept(tiny, "data.batch=1", "data.image_size=128")
    assert larger > 1.3 * one  # the language model reads as many tokens of it as before
    assert kept(tiny, "data.batch=1", "data.image_size=100") == larger


def test_activations_that_are_computed_again_and_bfloat16_take_less(tiny: Path) -> None:
    plain = kept(tiny)
    assert kept(tiny, "distributed.checkpoint_activations=true") < 0.6 * plain
    assert 0.7 * plain < kept(tiny, "distributed.precision=bf16") < 0.9 * plain


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the forward pass out, where only weights are asked for."""
    monkeypatch.setattr("langhops_cli.training.memory.kept_bytes", lambda *given, **named: 0)


@pytest.mark.usefixtures("no_pictures")
def test_what_is_sure_follows_from_the_number_of_parameters(tiny: Path) -> None:
    recipe = load_recipe(tiny)
    trained, frozen = count_parameters(build_skeleton(model_config(recipe)))
    whole = estimate(tiny, processes=4)
    assert (whole.weights, whole.gradients, whole.optimizer) == (4 * (trained + frozen), 4 * trained, 8 * trained)
    assert whole.sure == whole.weights + whole.gradients + whole.optimizer
    assert whole.total == whole.sure + whole.activations + whole.program
    shared = estimate(tiny, "distributed.zero=2", processes=4)
    assert (shared.weights, shared.gradients, shared.optimizer) == (whole.weights, trained, 3 * trained)
    assert estimate(tiny, "distributed.zero=1", processes=4).gradients == whole.gradients


@pytest.mark.usefixtures("no_pictures")
def test_what_is_left_to_the_machine_is_not_on_the_gpu(tiny: Path) -> None:
    trained, _ = count_parameters(build_skeleton(model_config(load_recipe(tiny))))
    left = estimate(tiny, "distributed.zero=2", "distributed.offload=optimizer", device="cuda")
    assert (left.gradients, left.optimizer, left.host) == (0, 0, 16 * trained)
    assert left.program == (1 << 30) + 4 * BUCKET
    spread = estimate(tiny, "distributed.zero=3", "distributed.offload=parameters", processes=2)
    assert spread.host > 8 * trained
    assert spread.weights < estimate(tiny, "distributed.zero=3", processes=2).weights


def test_a_trained_text_encoder_and_a_large_language_model_are_counted(tmp_path: Path) -> None:
    """The full model, at a size at which it takes a moment."""
    recipe = load_recipe(
        make_recipe(tmp_path / "paper.yaml", "parts", model={"preset": "paper"}),
        ["data.image_size=64", "data.batch=1", "model.decoder.encoder_layers=1", "model.decoder.object_layers=1",
         "model.decoder.part_layers=1"],
    )  # fmt: skip
    config = model_config(recipe)
    both = kept_bytes(build_skeleton(config), recipe, config, names=(20, 60))
    model = build_skeleton(config)
    model.text_encoder.requires_grad_(False)
    assert kept_bytes(model, recipe, config, names=(20, 60)) < both
    model = build_skeleton(config)
    whole, quarter = weight_bytes(model), weight_bytes(model, four_bit=True)
    assert 6e9 < whole < 8e9
    assert 3e9 < quarter < 0.6 * whole
