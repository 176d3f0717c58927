"""Every recipe of the package takes two steps, its model shrunk and its data generated; fine-tuning trains adapters."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from langhops_cli.checkpoint import base_models
from langhops_cli.checkpoint.base_models import load_minilm
from langhops_cli.checkpoint.folder import load_checkpoint, read_config, read_tensors
from langhops_cli.data.generated.shapes import generate
from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.prepare import prepare
from langhops_cli.errors import UserError
from langhops_cli.model.langhops import LangHOPSModel
from langhops_cli.training.loop import train
from langhops_cli.training.needs import find_start, prepare_command, require_sets, set_states
from langhops_cli.training.recipe import Recipe, load_recipe
from langhops_cli.training.recipe_files import describe, merge, shipped_recipes
from langhops_cli.training.setup import model_config
from langhops_cli.training.trainable import set_trainable

from .tiny import TINY

SHIPPED = shipped_recipes()
UNSEEN = ["bird", "car"]
# What makes an experiment what it is, and must not be shrunk away.
OWN = {
    "hierarchy": ("source", "detach_object_queries"),
    "refiner": ("kind",),
}


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data root with a small set of generated scenes."""
    root = tmp_path_factory.mktemp("shapes")
    prepare(partial(generate, train=6, val=2, size=64, seed=0), root / "shapes", inputs={}, workers=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield root
    torch.set_num_threads(threads)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def shrunk(path: Path, *overrides: str) -> Recipe:
    """A recipe with the smallest model and generated data, but with its own stage, losses and ablations."""
    whole = load_recipe(path)
    model = merge(TINY, {"hierarchy": {"num_kept": 2, "learned_queries": 2}, "refiner": {"qformer_layers": 1}})
    for section, keys in OWN.items():
        own = whole.model.overrides.get(section, {})
        model[section] |= {key: own[key] for key in keys if key in own}
    if "part_scoring" in whole.model.overrides:
        model["part_scoring"] = whole.model.overrides["part_scoring"]
    if whole.model.preset == "init":
        model = {"preset": "init"}
    sets = [{"name": "shapes", "without": UNSEEN if item.without else []} for item in whole.data.train[:1]]
    changes = {
        "model": model,
        "stage.init": None,
        "data.train": sets,
        "data.val": [],
        "data.image_size": 64,
        "data.batch": 1,
        "data.accumulate": 1,
        "data.workers": 0,
        "schedule": {"steps": 2, "warmup": 1},
        "distributed.precision": "fp32",
        "distributed.zero": 0,
        "logging": {"every": 1, "save_every": 100},
    }
    return load_recipe(path, [*(f"{key}={json.dumps(value)}" for key, value in changes.items()), *overrides])


def run(recipe: Recipe, folder: Path, root: Path, init: Path | None = None) -> list[dict[str, Any]]:
    """Train, and return the lines of the log."""
    train(recipe, folder=folder, data_root=root, init=init)
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module", autouse=True)
def language_model_is_read_once() -> Iterator[None]:
    """Each of the thirty runs would read the same file twice."""
    first = load_minilm()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base_models, "load_minilm", lambda: (copy.deepcopy(first[0]), first[1]))
        yield


@pytest.fixture(scope="module")
def stage1(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stage1") / "run"
    run(shrunk(SHIPPED["mini_stage1"]), folder, shapes)
    return folder


@pytest.fixture(scope="module")
def stage2(shapes: Path, stage1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stage2") / "run"
    run(shrunk(SHIPPED["mini_stage2"]), folder, shapes, stage1)
    return folder


def cases() -> list[Any]:
    """All recipes; what is the same as another one once it is shrunk is slow, as it adds little but time."""
    seen: list[dict[str, Any]] = []
    found = []
    for name, path in SHIPPED.items():
        alike = shrunk(path, "data.max_names=300").to_dict() | {"start": load_recipe(path).stage.init is None}
        found.append(pytest.param(name, marks=[pytest.mark.slow] if alike in seen else []))
        seen.append(alike)
    return found


@pytest.mark.parametrize("name", cases())
def test_a_recipe_takes_two_steps(
    name: str, shapes: Path, stage1: Path, stage2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, recipe = load_recipe(SHIPPED[name]), shrunk(SHIPPED[name])
    init = {"init": stage2, "mini": stage1, "paper": stage1}[whole.model.preset] if whole.stage.init else None
    lines = run(recipe, tmp_path / "run", shapes, init)
    assert len(lines) == 2
    losses = [value for line in lines for value in line["losses"].values()]
    assert all(map(math.isfinite, losses))
    parts = any(kind.startswith("parts/") for kind in lines[0]["losses"])
    assert parts == (whole.stage.level == "parts")
    assert all(line["losses"]["total"] > 0 for line in lines)

    metadata = read_config(tmp_path / "run")
    assert (UNSEEN[0] in metadata["vocabulary"]) != any(item.without for item in whole.data.train)
    config = model_config(recipe, init).to_dict()
    for section, keys in OWN.items():
        for key in keys:
            assert config[section][key] == model_config(whole, init).to_dict()[section][key]
    copied = "part decoder starts as the object decoder" in capsys.readouterr().err
    assert copied == (init == stage1)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_says_what_it_is_and_leads_on(name: str) -> None:
    """The head names what is reproduced and needed, and every run that a recipe starts from is one of the package."""
    told = describe(SHIPPED[name])
    assert {"about", "reproduces", "first", "run", "needs"} <= told.keys()
    assert f"recipes/{name}.yaml" in told["run"]
    recipe = load_recipe(SHIPPED[name])
    for item in recipe.data.train:
        assert f"langhops prepare {item.name} " in told["first"] or f"--name {item.name}" in told["first"]
    for held_out in recipe.data.val:
        assert f"langhops prepare {held_out} " in told["first"] or f"--name {held_out}" in told["first"]
    init = recipe.stage.init
    if init is not None and init != "embedded":
        start = SHIPPED[init.removeprefix("runs/")]
        assert load_recipe(start).stage.level == "objects"
        assert f"recipes/{start.name}" in told["first"]
        assert [item.name for item in load_recipe(start).data.train if item.name != "paco"]


def test_the_two_stages_of_an_experiment_see_the_same_sets() -> None:
    for name, path in SHIPPED.items():
        recipe = load_recipe(path)
        if recipe.stage.init and recipe.stage.init.startswith("runs/") and name != "ins_part":
            first = load_recipe(SHIPPED[recipe.stage.init.removeprefix("runs/")])
            assert {item.name for item in first.data.train} == {item.name for item in recipe.data.train}, name
            assert [item.without for item in first.data.train] == [item.without for item in recipe.data.train], name


def test_an_ablation_differs_from_the_whole_in_its_own_keys_alone() -> None:
    whole = load_recipe(SHIPPED["pps116_ins_part_stage2"]).to_dict()
    for name in ("qformer", "learned_queries", "partglee", "detached"):
        ablation = load_recipe(SHIPPED[f"ablation_{name}"]).to_dict()
        assert ablation["model"] != whole["model"]
        assert {key: value for key, value in ablation.items() if key != "model"} == {
            key: value for key, value in whole.items() if key != "model"
        }


def test_what_is_not_prepared_is_told_with_the_commands(tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "train.json").touch()
    recipe = load_recipe(SHIPPED["ins_part"])
    states = {(state.name, state.split): state for state in set_states(recipe, tmp_path)}
    assert states["coco", "train"].missing is None
    assert states["paco", "val"].missing == str(tmp_path / "paco")
    with pytest.raises(UserError) as caught:
        require_sets(recipe, tmp_path)
    assert caught.value.code == 3
    message = str(caught.value)
    assert message.startswith("4 sets are not prepared: ")
    assert f"{tmp_path / 'sa-1b'}: langhops prepare sa-1b --source DIR" in message
    assert "prepare coco " not in message
    with pytest.raises(UserError, match=r"a set is not prepared: .*/coco/val\.json: langhops prepare coco"):
        require_sets(load_recipe(SHIPPED["ins"], ["data.train=[{name: coco}]"]), tmp_path)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("paco", "langhops prepare paco --source DIR"),
        ("partimagenet-seg", "langhops prepare partimagenet --source DIR --name partimagenet-seg"),
        ("pascal-part-116", "langhops prepare pascal-part-116 --source DIR"),
        ("cars", "langhops prepare coco-parts --source DIR --name cars"),
    ],
)
def test_the_command_that_makes_a_set(name: str, command: str) -> None:
    assert prepare_command(name) == command


def test_a_run_that_is_still_to_be_made_is_told_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stage = load_recipe(SHIPPED["ins_part"]).stage
    with pytest.raises(UserError, match=r"runs/ins, .* langhops train-stage1 recipes/ins\.yaml makes it") as caught:
        find_start(stage)
    assert caught.value.code == 3
    Path("runs/ins").mkdir(parents=True)
    assert find_start(stage) == Path("runs/ins")
    embedded = find_start(load_recipe(SHIPPED["finetune"]).stage)
    assert embedded is not None
    assert read_config(embedded)["model"]["level"] == "parts"
    with pytest.raises(UserError, match="adapts a trained model: name one with --init"):
        find_start(load_recipe(SHIPPED["finetune"], ["stage.init=null"]).stage)


def test_names_that_training_never_hears_of_are_not_in_a_set(shapes: Path) -> None:
    whole = PreparedDataset(shapes / "shapes", "train")
    some = PreparedDataset(shapes / "shapes", "train", without=UNSEEN)
    assert set(whole.vocabulary.object_names) - set(some.vocabulary.object_names) == set(UNSEEN)
    for number in range(len(whole)):
        every, kept = whole[number], some[number]
        names = [every.vocabulary.object_names[item.label] for item in every.objects]
        assert [kept.vocabulary.object_names[item.label] for item in kept.objects] == [
            name for name in names if name not in UNSEEN
        ]
        owners = [names[part.parent] for part in every.parts]
        assert len(kept.parts) == sum(owner not in UNSEEN for owner in owners)
    with pytest.raises(UserError, match=r"no object 'yeti' to do without; there are quadruped, "):
        PreparedDataset(shapes / "shapes", "train", without=["yeti"])


def trained_names(model: LangHOPSModel) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_adapters_alone_change_when_they_alone_are_trained(shapes: Path, stage2: Path, tmp_path: Path) -> None:
    recipe = shrunk(SHIPPED["finetune"], "optimizer.learning_rate=1e-2", "optimizer.weight_decay=0.1")
    run(recipe, tmp_path / "run", shapes, stage2)
    before, after = read_tensors(stage2), read_tensors(tmp_path / "run")
    model, metadata = load_checkpoint(tmp_path / "run")
    assert metadata["step"] == 2
    set_trainable(model, "adapters")
    trained = trained_names(model)
    assert before.keys() == after.keys()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed <= trained
    for share in (
        "object_decoder.category_embed",
        "object_decoder.bbox_embed",
        "object_decoder.mask_embed",
        "part_branch.decoder.mask_embed",
        "part_branch.decoder.category_embed",
        "part_branch.queries.mlp",
        "part_branch.refiner.output",
        "text_encoder.lang_projection",
        "lora_B",
    ):
        assert any(share in name for name in changed), share
    for frozen in ("backbone.", "pixel_decoder.", "object_decoder.layers.", "part_branch.decoder.layers."):
        assert not any(name.startswith(frozen) for name in trained)
        assert any(name.startswith(frozen) for name in after), frozen
    assert sum(after[name].numel() for name in trained) < 0.2 * sum(tensor.numel() for tensor in after.values())


def test_a_frozen_backbone_stays_in_evaluation_mode(stage2: Path) -> None:
    model, _ = load_checkpoint(stage2)
    set_trainable(model, "all")
    assert model.train().backbone.training
    set_trainable(model, "adapters")
    assert not model.train().backbone.training
    assert model.object_decoder.training


def test_training_all_is_what_was_built(stage2: Path) -> None:
    model, _ = load_checkpoint(stage2)
    built = trained_names(model)
    set_trainable(model, "all")
    assert trained_names(model) == built
