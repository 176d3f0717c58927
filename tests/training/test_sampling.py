"""What a recipe says of its pictures reaches the loader: repeats, groups, batches of a step."""

from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from langhops_cli.data.index import PreparedDataset
from langhops_cli.errors import USAGE, UserError
from langhops_cli.training.recipe import load_recipe
from langhops_cli.training.setup import batches, model_config

from .tiny import SIDE, make_recipe, make_set


@pytest.fixture(scope="module")
def cars(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    folder = tmp_path_factory.mktemp("data") / "cars"
    make_set(folder, pictures=6)
    return PreparedDataset(folder, "train")


def _recipe(path: Path, source: dict[str, Any], **data: Any) -> Path:
    section = {"train": [source], "image_size": SIDE, "batch": 2, "workers": 0, "jitter": [0.1, 1.0], **data}
    return make_recipe(path / "recipe.yaml", "objects", data=section)


def _seeds(path: Path, cars: PreparedDataset, *, first: int = 0, **data: Any) -> list[list[int]]:
    recipe = load_recipe(_recipe(path, {"name": "cars"}, **data))
    sampler = batches(recipe, model_config(recipe), [cars], first=first).sampler
    return [[draw.seed for draw in batch] for batch in sampler]


def test_a_step_takes_as_many_batches_as_are_accumulated(tmp_path: Path, cars: PreparedDataset) -> None:
    whole = _seeds(tmp_path, cars, accumulate=3)
    assert [*chain(*whole)] == list(range(5 * 3 * 2))  # 5 steps
    assert _seeds(tmp_path, cars, accumulate=3, first=2) == whole[6:]


def test_pictures_are_grouped_where_the_recipe_says_so(tmp_path: Path, cars: PreparedDataset) -> None:
    whole = _seeds(tmp_path, cars, group_by_aspect=True, accumulate=3)
    assert [*chain(*whole)] != list(range(30))
    assert sorted(chain(*whole)) == list(range(30))
    assert _seeds(tmp_path, cars, group_by_aspect=True, accumulate=3, first=2) == whole[6:]


def test_pictures_are_repeated_where_the_recipe_says_so(tmp_path: Path, cars: PreparedDataset) -> None:
    """A car and its wheel are on 5 of 6 pictures; at t = 0.99 these come 1.09 times as often as the empty one."""
    recipe = load_recipe(_recipe(tmp_path, {"name": "cars", "repeat_threshold": 0.99}))
    sampler = batches(recipe, model_config(recipe), [cars], first=0).sampler
    drawn = [sampler.draw(slot).index for slot in range(6000)]
    assert drawn.count(2) / drawn.count(5) == pytest.approx((0.99 * 6 / 5) ** 0.5, rel=0.01)


@pytest.mark.parametrize(
    ("source", "data", "says"),
    [
        ({"stream": "owner/cars", "repeat_threshold": 0.1}, {}, "repeat_threshold needs a prepared set"),
        ({"stream": "owner/cars"}, {"group_by_aspect": True}, "group_by_aspect needs prepared sets"),
        ({"name": "cars", "repeat_threshold": 0}, {}, "data.train.0.repeat_threshold = 0"),
        ({"name": "cars"}, {"accumulate": 0}, "data.accumulate = 0"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(
    tmp_path: Path, source: dict[str, Any], data: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says) as caught:
        load_recipe(_recipe(tmp_path, source, **data))
    assert caught.value.code == USAGE
    assert "\n" not in str(caught.value)
