"""Whole runs through the command's own function: both stages, stopping, going on, and what goes wrong."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from langhops_cli.checkpoint.folder import load_checkpoint, read_config, read_tensors, save_checkpoint
from langhops_cli.cli.train import train_stage1, train_stage2
from langhops_cli.errors import UserError
from langhops_cli.training.recipe import load_recipe

from .tiny import make_recipe

STEPS = 5


def losses_of(run: Path, kind: str = "total") -> list[float]:
    """The sum of the losses whose names begin so, step by step."""
    steps = [json.loads(line)["losses"] for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [sum(value for name, value in losses.items() if name.startswith(kind)) for losses in steps]


@pytest.fixture(scope="module")
def stage1(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stage1")
    recipe = make_recipe(folder / "tiny.yaml", "objects")
    train_stage1(str(recipe), [f"schedule.steps={STEPS}"], out=folder / "run", data_root=prepared)
    return folder / "run"


def test_a_run_of_stage_1_leaves_a_checkpoint_that_loads_by_itself(stage1: Path) -> None:
    losses = losses_of(stage1)
    assert len(losses) == STEPS
    assert all(0 < loss < 1000 for loss in losses)
    model, metadata = load_checkpoint(stage1)
    assert model.part_branch is None
    assert metadata["step"] == STEPS
    assert metadata["vocabulary"] == {"car": {"wheel": None}, "dog": None}
    assert metadata["data"]["cars"]["pictures"] == 4
    assert load_recipe(stage1 / "recipe.yaml").schedule.steps == STEPS

    assert [path.name for path in (stage1 / "resume").iterdir() if path.is_dir()] == [f"step_{STEPS:07d}"]


def test_a_run_that_is_stopped_goes_on_exactly(
    stage1: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from langhops_cli.training.loop import Run

    step = Run.step

    def step_and_signal(self: Run, batch: Any, number: int) -> dict[str, float]:
        if number == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, number)

    recipe = str(make_recipe(tmp_path / "tiny.yaml", "objects"))
    command = {"out": tmp_path / "run", "data_root": prepared}
    with monkeypatch.context() as patch:
        patch.setattr(Run, "step", step_and_signal)
        train_stage1(recipe, [], **command)
    assert "stopped after step 2 of 5 (SIGTERM); run the same command again to go on" in capsys.readouterr().err
    assert read_config(tmp_path / "run")["step"] == 2
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    train_stage1(recipe, [], **command)
    assert "going on after step 2 of 5" in capsys.readouterr().err
    assert losses_of(tmp_path / "run") == losses_of(stage1)
    ours, theirs = read_tensors(tmp_path / "run"), read_tensors(stage1)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    with pytest.raises(UserError, match=r"holds a run with optimizer\.learning_rate = 0\.001, not 0\.002") as caught:
        train_stage1(recipe, ["optimizer.learning_rate=2e-3"], **command)
    assert caught.value.code == 2


def test_stage_2_starts_from_stage_1_and_learns_one_picture(
    stage1: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"train": [{"name": "one"}], "image_size": 64, "batch": 1, "workers": 0}
    data |= {"jitter": [1, 1], "flip": 0, "colour": 0, "val": ["one"]}
    recipe = make_recipe(tmp_path / "tiny.yaml", "parts", data=data)
    overrides = ["schedule.steps=8", "schedule.decay=drops", "distributed.zero=2", "optimizer.learning_rate=2e-3"]
    train_stage2(str(recipe), overrides, out=tmp_path / "run", init=stage1, data_root=prepared)
    said = capsys.readouterr().err
    assert f"weights from {stage1}" in said
    assert "part decoder starts as the object decoder" in said
    losses = losses_of(tmp_path / "run", "objects/")  # parts count only once their objects are found
    assert losses[-1] < 0.6 * losses[0]
    model, metadata = load_checkpoint(tmp_path / "run")
    assert model.part_branch is not None
    assert metadata["recipe"]["stage"]["init"] == stage1.name
    assert str(prepared.parent) not in (tmp_path / "run" / "config.json").read_text()
    measured = metadata["measured"]["one"]
    assert measured["pictures"] == 1
    assert all(0 <= measured[level] <= 100 for level in ("objects", "parts", "all"))
    assert "one: mask AP objects" in said
    assert f"| one, val | 1 | {measured['objects']} |" in (tmp_path / "run" / "README.md").read_text()
    assert not any("base_layer" in name or "word_embeddings" in name for name in read_tensors(tmp_path / "run"))


def test_a_step_of_several_batches_counts_once_and_goes_on_exactly(prepared: Path, tmp_path: Path) -> None:
    recipe = str(make_recipe(tmp_path / "tiny.yaml", "objects", schedule={"steps": 3, "warmup": 0}))
    settings = ["data.accumulate=2", "data.batch=1", "distributed.zero=1"]
    train_stage1(recipe, settings, out=tmp_path / "whole", data_root=prepared)
    train_stage1(recipe, [*settings, "schedule.steps=1"], out=tmp_path / "run", data_root=prepared)
    train_stage1(recipe, settings, out=tmp_path / "run", data_root=prepared)
    assert len(losses_of(tmp_path / "whole")) == 3
    assert losses_of(tmp_path / "run") == losses_of(tmp_path / "whole")


def test_the_save_before_takes_the_place_of_a_damaged_one(
    stage1: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(make_recipe(tmp_path / "tiny.yaml", "objects", logging={"every": 1, "save_every": 1, "keep": 2}))
    command = {"out": tmp_path / "run", "data_root": prepared}
    with patch("langhops_cli.training.loop.Interruption.code", signal.SIGTERM):
        train_stage1(recipe, [], **command)
        train_stage1(recipe, [], **command)
    saves = tmp_path / "run" / "resume"
    assert sorted(path.name for path in saves.iterdir()) == ["step_0000001", "step_0000002"]
    state = saves / "step_0000002" / "mp_rank_00_model_states.pt"
    state.write_bytes(state.read_bytes()[:1000])
    capsys.readouterr()
    train_stage1(recipe, [], **command)
    said = capsys.readouterr().err
    assert f"{saves / 'step_0000002'} is damaged (mp_rank_00_model_states.pt has 1000 bytes, not " in said
    assert "going on after step 1 of 5" in said
    assert losses_of(tmp_path / "run") == losses_of(stage1)


def test_a_full_disk_is_said_and_the_run_goes_on(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint cannot be written at first; at the end it has to be."""
    recipe = str(make_recipe(tmp_path / "tiny.yaml", "objects", logging={"every": 1, "save_every": 2}))
    command = {"out": tmp_path / "run", "data_root": prepared}
    full = OSError(28, "No space left on device")

    def write_or_not(*given: Any, metadata: dict[str, Any], **named: Any) -> None:
        if metadata["step"] == 2:
            raise full
        save_checkpoint(*given, metadata=metadata, **named)

    with patch("langhops_cli.training.run.save_checkpoint", write_or_not):
        train_stage1(recipe, [], **command)
    said = capsys.readouterr().err
    assert f"step 2 cannot be saved in {tmp_path / 'run'} (No space left on device); nothing is saved yet" in said
    with (
        patch("langhops_cli.training.run.save_checkpoint", side_effect=full),
        pytest.raises(UserError, match=r"step 7 cannot be saved .* the save of step 5 is whole; make room") as caught,
    ):
        train_stage1(recipe, ["schedule.steps=7"], **command)
    assert caught.value.code == 5
    assert read_config(tmp_path / "run")["step"] == 5


def test_a_checkpoint_of_another_shape_is_refused_by_the_name_of_a_tensor(
    stage1: Path, prepared: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(tmp_path / "tiny.yaml", "parts")
    with pytest.raises(UserError, match=r"has the shape .* and the model wants") as caught:
        train_stage2(
            str(recipe), ["model.decoder.feedforward=16"], out=tmp_path / "run", init=stage1, data_root=prepared
        )
    assert caught.value.code == 3
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_loss_that_is_not_finite_stops_and_names_the_pictures(prepared: Path, tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path / "tiny.yaml", "objects")
    overrides = ["optimizer.learning_rate=1e30", "schedule.warmup=0"]
    with pytest.raises(UserError, match=r"step [23]: .*batch was .*\.png") as caught:
        train_stage1(str(recipe), overrides, out=tmp_path / "run", data_root=prepared)
    assert caught.value.code == 5


def test_a_recipe_of_the_other_stage_and_a_missing_set_are_refused(prepared: Path, tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path / "tiny.yaml", "objects")
    with pytest.raises(UserError, match="use langhops train-stage1"):
        train_stage2(str(recipe), [], out=tmp_path / "run", data_root=prepared)
    with pytest.raises(UserError, match="missing"):
        train_stage1(str(recipe), ["data.train.0.name=missing"], out=tmp_path / "run", data_root=prepared)
    with pytest.raises(UserError, match=r"model\.decoder\.dim = 'wide'"):
        train_stage1(str(recipe), ["model.decoder.dim=wide"], out=tmp_path / "run", data_root=prepared)
    assert not (tmp_path / "run").exists()


def test_every_trained_parameter_has_a_gradient_whatever_the_batch_holds(prepared: Path, tmp_path: Path) -> None:
    """A parameter without one would make ZeRO wait for ever on another rank."""
    from langhops_cli.data.collate import Collate
    from langhops_cli.data.index import PreparedDataset
    from langhops_cli.model.criterion import Criterion
    from langhops_cli.training.setup import build_stage, model_config

    recipe = load_recipe(make_recipe(tmp_path / "tiny.yaml", "parts"))
    model, _ = build_stage(recipe, model_config(recipe), None)
    model.train()
    criterion = Criterion()
    dataset = PreparedDataset(prepared / "cars", "train")
    for pictures in ([0, 1], [3], [0, 3]):  # with parts; nothing at all; mixed
        batch = Collate()([dataset[number] for number in pictures])
        model.zero_grad()
        output = model(batch.pictures, batch.vocabulary, batch.targets)
        criterion(output, batch.targets, batch.pictures, batch.vocabulary)["total"].backward()
        without = [name for name, item in model.named_parameters() if item.requires_grad and item.grad is None]
        assert without == [], pictures
    assert {name for name, item in model.named_parameters() if item.requires_grad} <= model.saved_names()
