"""Recipes: what is refused and how, what an override does, what is saved with a run."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from langhops_cli.errors import UserError
from langhops_cli.resources import recipes_folder
from langhops_cli.training.recipe import find_recipe, load_recipe

MINI = recipes_folder() / "mini_stage1.yaml"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.learning_rat=1", "unknown key optimizer.learning_rat; did you mean optimizer.learning_rate?"),
        ("schedule.learning_rate=1", "unknown key schedule.learning_rate; did you mean optimizer.learning_rate?"),
        ("sead=1", "unknown key sead; did you mean seed?"),
        ("data.train.0.ratoi=1", "unknown key data.train.0.ratoi; did you mean data.train.ratio?"),
        ("model.decoder.dimm=1", "unknown key model.decoder.dimm; did you mean model.decoder.dim?"),
        ("loss.qwertz=1", "unknown key loss.qwertz"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(MINI, [override])
    assert str(caught.value) == f"{MINI}: {message}"
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.learning_rate=-1", "optimizer.learning_rate = -1"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate = 'fast'"),
        ("distributed.zero=4", "distributed.zero = 4"),
        ("schedule.drops=[10]", "drops belong to decay: drops"),
        ("data.jitter=[2, 1]", "smallest and the largest scale"),
        ("data.train=[]", "data.train"),
        ("seed.x=1", "single value"),
        ("data.train.9.ratio=1", "no position in a list of 5"),
        ("data.train.0.stream=someone/cars", "data.train.0: give either name, a prepared set, or stream"),
        ("data.train=[{ratio: 2}]", "data.train.0: give either name, a prepared set, or stream"),
        ("data.val=[{stream: someone/cars}]", "data.val: only prepared sets are measured on"),
        ("seed", "section.key=value"),
        ("seed=[", "not YAML"),
    ],
)
def test_a_value_that_does_not_fit_is_one_clear_line(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(MINI, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overrides_are_read_as_yaml() -> None:
    recipe = load_recipe(
        MINI,
        ["optimizer.learning_rate=3e-5", "data.jitter=[1, 1]", "data.train.1.ratio=6", "model.decoder.dim=9", "seed=7"],
    )
    assert recipe.optimizer.learning_rate == 3e-5
    assert recipe.data.jitter == (1, 1)
    assert [item.ratio for item in recipe.data.train][:2] == [1, 6]
    assert recipe.model.overrides == {"decoder": {"dim": 9}}
    assert recipe.seed == 7


def test_the_resolved_recipe_is_a_recipe_with_nothing_left_open(tmp_path: Path) -> None:
    recipe = load_recipe(MINI, ["model.decoder.dim=64", "schedule.steps=3"])
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(path) == recipe
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert " ".join(written) == "model stage data loss optimizer schedule distributed logging seed"
    assert written["loss"]["giou_weight"] == 2


@pytest.mark.parametrize("content", ["- a list", "a: [", "", "just text"])
def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"mine\.yaml") as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)


def test_a_shipped_recipe_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("mini_stage1", "mini_stage1.yaml", "recipes/mini_stage1.yaml"):
        assert find_recipe(text) == MINI
    with pytest.raises(UserError, match="did you mean mini_stage1"):
        find_recipe("mini_stag1")


@pytest.mark.parametrize("path", sorted(recipes_folder().glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_keeps_the_order_of_sections(path: Path) -> None:
    order = ["base", *load_recipe(path).to_dict()]
    present = list(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert present == [name for name in order if name in present]


def test_a_recipe_is_checked_without_torch() -> None:
    code = (
        "import sys\n"
        "from langhops_cli.training.recipe import load_recipe\n"
        "from langhops_cli.errors import UserError\n"
        "from pathlib import Path\n"
        "try: load_recipe(Path(sys.argv[1]), ['model.decoder.dimm=1'])\n"
        "except UserError: pass\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(MINI)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
