"""Looks at a model in training: the same pictures every time, nothing disturbed, and the best one known again."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from langhops_cli.checkpoint.folder import read_config
from langhops_cli.data.index import PreparedDataset
from langhops_cli.model.langhops import LangHOPSModel
from langhops_cli.training import observing
from langhops_cli.training.logging import TrainingLog
from langhops_cli.training.loop import train
from langhops_cli.training.observing import Observer, choose_pictures, figures_in_words, mean_figure
from langhops_cli.training.recipe import Recipe, load_recipe
from langhops_cli.training.setup import build_stage, model_config

from .tiny import make_recipe, make_set


@pytest.fixture(scope="module")
def recipe(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    path = make_recipe(tmp_path_factory.mktemp("recipe") / "tiny.yaml", "parts")
    return load_recipe(path, ["logging.evaluate_every=2", "logging.evaluate_pictures=2", "logging.sheet=3"])


@pytest.fixture(scope="module")
def model(recipe: Recipe) -> LangHOPSModel:
    return build_stage(recipe, model_config(recipe), None)[0].train()


def open_log(folder: Path) -> TrainingLog:
    folder.mkdir(exist_ok=True)
    return TrainingLog(folder / "log.jsonl", steps=5, first=0, every=1)


def observe(recipe: Recipe, folder: Path, held_out: list[PreparedDataset], **more: Any) -> Observer:
    return Observer(recipe, folder, held_out, model_config(recipe), **({"first": 0} | more))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_a_look_is_due_every_so_many_steps_and_after_the_last(recipe: Recipe, tmp_path: Path) -> None:
    observer = observe(recipe, tmp_path, [])
    assert [step for step in range(1, 6) if observer.due(step)] == [2, 4, 5]
    never = recipe.model_copy(deep=True)
    never.logging.evaluate_every = None
    assert not any(observe(never, tmp_path, []).due(step) for step in range(1, 6))


def test_a_look_reports_figures_and_draws_the_same_pictures_every_time(
    recipe: Recipe, model: LangHOPSModel, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = [PreparedDataset(prepared / name, "val") for name in ("cars", "one")]
    modes = {name: module.training for name, module in model.named_modules()}
    random.seed(1)
    np.random.seed(2)  # noqa: NPY002
    torch.manual_seed(3)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    with open_log(tmp_path) as log:
        observer = observe(recipe, tmp_path, held_out)
        figures = observer.look(model, 2, log)
        again = observe(recipe, tmp_path, held_out, first=2).look(model, 4, log)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    assert before == after
    assert modes == {name: module.training for name, module in model.named_modules()}
    assert figures is not None
    assert set(figures) == {f"{name}/{level}" for name in ("cars", "one") for level in ("objects", "parts", "all")}
    assert all(0 <= figure <= 100 for figure in figures.values())
    assert again == figures
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(record["step"], record["evaluation"]) for record in records] == [(2, figures), (4, figures)]
    first, second = (pixels(tmp_path / "sheets" / f"step_{step:07d}.png") for step in (2, 4))
    assert first.shape == second.shape
    title = 56
    assert (first[title:] == second[title:]).all()
    assert "step 2: mask AP cars objects" in capsys.readouterr().err


def test_the_sheet_shows_what_the_model_finds_beside_what_is_annotated(
    recipe: Recipe, model: LangHOPSModel, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    sheet = observing.comparison_sheet

    def watch(items: list[Any], *, title: str) -> Image.Image:
        drawn.extend(items)
        return sheet(items, title=title)

    monkeypatch.setattr(observing, "comparison_sheet", watch)
    config = replace(model_config(recipe), min_score=0.0)  # an untrained model is sure of nothing
    held_out = [PreparedDataset(prepared / "cars", "val")]
    observer = Observer(recipe, tmp_path, held_out, config, first=0)
    with open_log(tmp_path) as log:
        observer.look(model, 2, log)
    assert [Path(item.caption).name for item in drawn] == ["val 0.png", "val 1.png", "val 2.png"]
    for item in drawn:
        assert [found.title for found in item.truth] == ["car", "car wheel"]
        assert item.image.size == (64, 64)
        assert item.found.size == (64, 64)
        assert item.found
        assert {found.name for found in item.found} <= {"car", "wheel", "dog"}


def test_training_pictures_are_shown_where_nothing_is_held_out(
    recipe: Recipe, model: LangHOPSModel, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    observer = observe(recipe, tmp_path, [], training=[PreparedDataset(prepared / "cars", "train")])
    with open_log(tmp_path) as log:
        assert observer.look(model, 2, log) is None
    assert not observer.is_best
    assert not (tmp_path / "best.json").exists()
    assert (tmp_path / "sheets" / "step_0000002.png").is_file()
    assert "step 2: not measured, as no set is held out (data.val)" in capsys.readouterr().err


def test_a_picture_that_is_gone_is_said_and_does_not_stop_the_training(
    recipe: Recipe, model: LangHOPSModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_set(tmp_path / "gone", pictures=2)
    dataset = PreparedDataset(tmp_path / "gone", "val")
    (tmp_path / "gone" / "0.png").unlink()
    with open_log(tmp_path / "run") as log:
        observer = observe(recipe, tmp_path / "run", [dataset])
        assert observer.look(model, 2, log) is None
    assert not observer.is_best
    said = capsys.readouterr().err
    assert "step 2: not measured: " in said
    assert "step 2: no sheet: " in said
    assert "0.png" in said
    assert model.training


def test_another_process_measures_but_writes_nothing(
    recipe: Recipe, model: LangHOPSModel, prepared: Path, tmp_path: Path
) -> None:
    observer = observe(recipe, tmp_path, [PreparedDataset(prepared / "one", "val")], writes=False)
    with TrainingLog(tmp_path / "log.jsonl", steps=5, first=0, every=1, writes=False) as log:
        assert observer.look(model, 2, log) is not None
    assert observer.is_best
    assert list(tmp_path.iterdir()) == []


def scripted(monkeypatch: pytest.MonkeyPatch, *figures: dict[str, float | None]) -> None:
    """Let the next measurements of two sets give these mask APs of parts."""
    coming = iter(figures)

    def measure(*_: object, **__: object) -> dict[str, dict[str, Any]]:
        return {name: {"split": "val", "pictures": 2, "parts": figure} for name, figure in next(coming).items()}

    monkeypatch.setattr(observing, "measure", measure)


def bests(recipe: Recipe, folder: Path, held_out: list[PreparedDataset], *, first: int, steps: list[int]) -> list[bool]:
    observer = observe(recipe, folder, held_out, first=first)
    said = []
    with open_log(folder) as log:
        for step in steps:
            observer.look(torch.nn.Linear(1, 1), step, log)
            said.append(observer.is_best)
    return said


def test_the_best_is_the_highest_mean_over_the_sets_and_a_run_that_goes_on_knows_it(
    recipe: Recipe, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = [PreparedDataset(prepared / "cars", "val")]
    watched = recipe.model_copy(deep=True)
    watched.logging.best, watched.logging.sheet = "parts", 0
    means = [{"a": 10.0, "b": 30.0}, {"a": None, "b": 20.0}, {"a": 12.0, "b": 30.0}, {"a": None, "b": None}]
    scripted(monkeypatch, *means)
    assert bests(watched, tmp_path, held_out, first=0, steps=[2, 4, 6, 8]) == [True, False, True, False]
    record = json.loads((tmp_path / "best.json").read_text())
    assert (record["step"], record["figure"], record["level"]) == (6, 21.0, "parts")
    assert record["evaluation"] == {"a/parts": 12.0, "b/parts": 30.0}

    # Stopped between the look and the save, the run takes step 6 again: its model still has to be kept.
    scripted(monkeypatch, {"a": 20.0}, {"a": 21.0}, {"a": 21.0}, {"a": 22.0})
    assert bests(watched, tmp_path, held_out, first=3, steps=[4, 6, 8, 10]) == [False, True, False, True]

    scripted(monkeypatch, {"a": 1.0})
    assert bests(watched, tmp_path, held_out, first=0, steps=[2]) == [True]  # a new run in the folder

    watched.logging.best = "all"
    scripted(monkeypatch, {"a": 0.5})
    assert bests(watched, tmp_path, held_out, first=2, steps=[4]) == [False]  # has no such figure
    watched.logging.best = "parts"
    (tmp_path / "best.json").write_text('{"figure": ')
    scripted(monkeypatch, {"a": 0.5})
    assert bests(watched, tmp_path, held_out, first=2, steps=[4]) == [True]


def test_pictures_are_spread_over_the_sets_and_over_each_and_show_something(tmp_path: Path) -> None:
    make_set(tmp_path / "many", pictures=7)
    make_set(tmp_path / "few", pictures=2)
    many, few = (PreparedDataset(tmp_path / name, "val") for name in ("many", "few"))
    assert choose_pictures([many], 3) == [(0, 0), (0, 2), (0, 5)]
    assert choose_pictures([many, few], 5) == [(0, 0), (0, 2), (0, 5), (1, 0), (1, 1)]
    assert choose_pictures([few, many], 4) == [(0, 0), (0, 1), (1, 0), (1, 4)]
    # The last picture shows nothing, and comes only where all are wanted.
    assert (0, 6) not in choose_pictures([many], 6)
    assert choose_pictures([many], 50) == [(0, place) for place in range(7)]


def test_figures_in_words_and_their_mean() -> None:
    figures = {"cars/objects": 40.04, "cars/all": 9.0, "new/cars/parts": 3.0, "new/cars/all": 11.0}
    assert figures_in_words(figures) == "mask AP cars objects 40.0, new/cars parts 3.0"
    assert mean_figure(figures, "all") == 10.0
    assert mean_figure(figures, "parts") == 3.0
    assert mean_figure({}, "all") is None
    assert figures_in_words({}) == "mask AP unknown"


def test_a_training_that_is_looked_at_learns_the_same_and_keeps_its_best(prepared: Path, tmp_path: Path) -> None:
    data = {"train": [{"name": "cars"}], "image_size": 64, "batch": 2, "workers": 0, "val": ["one"], "val_pictures": 1}
    path = make_recipe(tmp_path / "tiny.yaml", "objects", data=data)
    losses = {}
    for name, every in (("alone", "null"), ("looked_at", "1")):
        chosen = load_recipe(path, ["schedule.steps=3", f"logging.evaluate_every={every}"])
        train(chosen, folder=tmp_path / name, data_root=prepared)
        lines = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        losses[name] = [line["losses"] for line in lines if "losses" in line]
        figures = [line["evaluation"] for line in lines if "evaluation" in line]
    assert losses["looked_at"] == losses["alone"]
    assert [set(line) for line in figures] == [{"one/objects", "one/all"}] * 3  # this model has no parts
    assert not (tmp_path / "alone" / "sheets").exists()
    assert len(list((tmp_path / "looked_at" / "sheets").glob("*.png"))) == 3
    best = json.loads((tmp_path / "looked_at" / "best.json").read_text())
    assert read_config(tmp_path / "looked_at" / "best")["step"] == best["step"]
    assert figures[best["step"] - 1]["one/all"] == max(line["one/all"] for line in figures)
