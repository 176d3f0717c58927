"""Losses that are no numbers, memory that runs out, a rank that is gone: each in one line that helps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from langhops_cli.cli.train import train_stage1
from langhops_cli.data.collate import Batch, Collate
from langhops_cli.data.index import PreparedDataset
from langhops_cli.errors import UserError
from langhops_cli.training.faults import Fault, RankLost, in_one_line, not_finite, plain, statistics, write_bundle
from langhops_cli.training.recipe import Recipe, load_recipe
from langhops_cli.training.run import Run

from .ranks import poisoned
from .tiny import make_recipe


def recipe_with(folder: Path, *overrides: str) -> Recipe:
    return load_recipe(make_recipe(folder / "tiny.yaml", "objects"), overrides)


def told(error: BaseException, recipe: Recipe, saved: int | None = None) -> str:
    problem = in_one_line(error, recipe=recipe, step=7, saved=saved)
    assert problem is not None
    assert problem.code == 5
    assert "\n" not in str(problem)
    return str(problem)


def test_the_first_loss_that_is_no_number_is_named() -> None:
    assert not_finite({"a": 1.0, "b": 2.0}) is None
    assert not_finite({"a": 1.0, "b": float("inf"), "total": float("nan")}) == "the loss b is inf"


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), "the GPU's memory ran out"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory\nmore"), "the machine's memory"),
        (MemoryError(), "the machine's memory ran out"),
    ],
)
def test_memory_that_runs_out_names_three_settings_with_their_values(
    tmp_path: Path, error: BaseException, where: str
) -> None:
    text = told(error, recipe_with(tmp_path), saved=5)
    assert text.startswith(f"step 7: {where}")
    for setting in (
        "data.batch (now 2",
        "data.image_size (now 64)",
        "distributed.checkpoint_activations=true (now false)",
    ):
        assert setting in text
    assert "the save of step 5 is whole" in text


@pytest.mark.parametrize(
    ("overrides", "third"),
    [
        (["distributed.checkpoint_activations=true"], "raise distributed.zero (now 0)"),
        (
            ["distributed.checkpoint_activations=true", "distributed.zero=3"],
            "distributed.offload=parameters (now none)",
        ),
    ],
)
def test_the_third_setting_is_one_that_is_not_used_yet(tmp_path: Path, overrides: list[str], third: str) -> None:
    text = told(MemoryError(), recipe_with(tmp_path, "distributed.checkpoint_activations=true", *overrides))
    assert third in text
    assert "nothing was saved yet" in text


def test_a_rank_that_is_gone_and_a_reader_that_was_killed_are_told(tmp_path: Path) -> None:
    recipe = recipe_with(tmp_path, "data.workers=3")
    lost = RuntimeError("[../gloo/transport/tcp/pair.cc:525] Connection closed by peer [10.0.0.1]:4711")
    assert isinstance(in_one_line(lost, recipe=recipe, step=7, saved=None), RankLost)
    assert "another rank of the run has ended or does not answer" in told(lost, recipe)
    killed = RuntimeError("DataLoader worker (pid 17) is killed by signal: Killed. ")
    assert "lower data.workers (now 3)" in told(killed, recipe)


def test_a_mistake_of_ours_is_not_explained_away(tmp_path: Path) -> None:
    error = RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")
    assert in_one_line(error, recipe=recipe_with(tmp_path), step=7, saved=None) is None


def test_statistics_count_what_is_no_number() -> None:
    facts = statistics(torch.tensor([[1.0, float("nan"), float("-inf")], [-2.0, 3.0, 0.0]]))
    assert facts == {"shape": [2, 3], "nan": 1, "infinite": 1, "smallest": -2.0, "largest": 3.0}
    assert statistics(torch.tensor([float("nan")]))["largest"] is None


def test_a_bundle_holds_the_batch_and_says_what_is_not_finite(prepared: Path, tmp_path: Path) -> None:
    dataset = PreparedDataset(prepared / "cars", "train")
    batch = Collate()([dataset[0], dataset[1]])
    model = torch.nn.Linear(2, 2)
    with torch.no_grad():
        model.weight[0, 1] = float("inf")
    fault = Fault("the loss total is nan", ("0.png", "1.png"), rank=1)
    folder = tmp_path / "debug" / "step_3"
    output = (torch.ones(2), [torch.tensor([float("nan"), 1.0])])
    write_bundle(
        folder,
        fault,
        recipe=recipe_with(tmp_path),
        step=3,
        seed=42,
        batch=batch,
        losses={"a": 1.0, "total": float("nan")},
        output=output,
        model=model,
    )
    report = json.loads((folder / "report_rank1.json").read_text())
    assert (report["step"], report["seed"], report["pictures"]) == (3, 42, ["0.png", "1.png"])
    assert report["losses"] == {"a": 1.0, "total": "nan"}
    assert {name: facts["nan"] for name, facts in report["predictions"].items()} == {".1.0": 1}
    assert {name: facts["infinite"] for name, facts in report["parameters"].items()} == {"weight": 1}
    stored = torch.load(folder / "batch_rank1.pt", weights_only=True)
    assert torch.equal(stored["pictures"]["pixels"], batch.pictures.pixels)
    assert stored["targets"][0]["name"] == batch.targets[0].name
    assert load_recipe(folder / "recipe.yaml").stage.level == "objects"


def test_plain_values_keep_what_is_no_tensor() -> None:
    assert plain({"a": 1}) == {"a": 1}
    assert plain(("x", None, 2)) == ["x", None, 2]


def test_so_many_batches_are_left_out_and_one_more_ends_the_run(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(make_recipe(tmp_path / "tiny.yaml", "objects"))
    command = {"out": tmp_path / "run", "data_root": prepared}
    with poisoned(1, on=0):
        train_stage1(recipe, ["optimizer.skip_nonfinite=2", "schedule.steps=3"], **command)
    assert "step 2: the loss objects/final/mask is nan; the batch was" in (said := capsys.readouterr().err)
    assert "left out, 1 of 2 that may be" in said
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 3]
    # what was left out before counts when the run is gone on with
    with poisoned(0, 1, on=0), pytest.raises(UserError, match=r"step 5: .* is nan; the batch was .*\.png") as caught:
        train_stage1(recipe, ["optimizer.skip_nonfinite=2", "schedule.steps=9"], **command)
    assert caught.value.code == 5
    assert f"--init {tmp_path / 'run'} and a new --out" in str(caught.value)
    assert "left out, 2 of 2 that may be" in capsys.readouterr().err
    assert (tmp_path / "run" / "debug" / "step_5" / "batch_rank0.pt").is_file()
    assert (tmp_path / "run" / "resume" / "step_0000003").is_dir()


def test_memory_that_runs_out_in_a_step_keeps_the_last_save(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = Run._score

    def score_or_fail(self: Run, batch: Batch, turn: int) -> object:
        if turn == 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")
        return score(self, batch, turn)

    recipe = str(make_recipe(tmp_path / "tiny.yaml", "objects", logging={"every": 1, "save_every": 1}))
    monkeypatch.setattr(Run, "_score", score_or_fail)
    with pytest.raises(UserError, match=r"^step 2: the machine's memory ran out: .* the save of step 1 is whole"):
        train_stage1(recipe, [], out=tmp_path / "run", data_root=prepared)
