"""Aspect grouping: pictures that need a like canvas come in one batch, and nothing else changes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.sampling.aspect import STEPS, arrange
from langhops_cli.data.sampling.mixture import Augmentation, MixedSet, training_loader
from langhops_cli.data.sampling.sampler import Draw, MixtureSampler
from langhops_cli.data.shards import write_shards
from langhops_cli.data.streamed import StreamedDataset
from langhops_cli.errors import UserError

from .cars import prepare_cars

WIDE, TALL, SQUARE = (128, 320), (320, 128), (320, 320)


def _size_of(draw: Draw) -> tuple[int, int]:
    return (WIDE, TALL, SQUARE)[draw.index % 3]


def _sampler(**options: Any) -> MixtureSampler:
    settings: dict[str, Any] = {"size_of": _size_of, "batch_size": 4, "seed": 3, "steps": 90}
    return MixtureSampler([120, 60], [2, 1], **{**settings, **options})


def _draws(batches: Sequence[Sequence[Draw]]) -> list[Draw]:
    return sorted((draw for batch in batches for draw in batch), key=lambda draw: draw.seed)


def test_pictures_of_one_canvas_are_put_together() -> None:
    sizes = [(100, 30), (30, 100), (64, 64), (33, 65), (90, 64), (1, 64)]  # 2x1, 1x2, 1x1, 1x2, 2x1, 1x1 cells
    orders = set()
    for seed in range(10):
        batches = arrange(sizes, batch_size=2, generator=np.random.default_rng(seed)).tolist()
        assert {frozenset(batch) for batch in batches} == {frozenset({0, 4}), frozenset({1, 3}), frozenset({2, 5})}
        orders.add(str(batches))
    assert len(orders) > 3


def test_batches_hold_one_shape_but_where_a_window_runs_out_of_it() -> None:
    mixed = [len({_size_of(draw) for draw in batch}) > 1 for batch in _sampler()]
    plain = [len({_size_of(draw) for draw in batch}) > 1 for batch in _sampler(size_of=None)]
    assert sum(mixed) <= 2 * 90 / 45 + 2  # two seams a window of 45 batches: an epoch of either set
    assert sum(plain) > 70


def test_the_same_draws_are_made_as_without() -> None:
    """Two windows of 45 batches: the ratio, the pictures of each epoch and the augmentations stay."""
    grouped, plain = list(_sampler()), list(_sampler(size_of=None))
    assert grouped != plain
    assert _draws(grouped) == _draws(plain)
    for half in (grouped[:45], grouped[45:]):
        assert Counter(draw.dataset for batch in half for draw in batch) == {0: 120, 1: 60}
        counts = Counter((draw.dataset, draw.index) for batch in half for draw in batch)
        assert set(counts.values()) == {1}
        assert len(counts) == 180
    assert grouped[:45] != [[replace(d, seed=d.seed - 180) for d in batch] for batch in grouped[45:]]


def test_going_on_at_any_step_sees_what_would_have_been_seen() -> None:
    whole = list(_sampler())
    for start in (1, 44, 45, 71):
        assert list(_sampler(start_step=start)) == whole[start:]
    assert list(_sampler(seed=4)) != whole


def test_ranks_are_disjoint_and_have_one_shape_in_a_step() -> None:
    single = list(_sampler(batch_size=12, steps=30))
    ranks = [list(_sampler(rank=rank, world_size=3, steps=30)) for rank in range(3)]
    assert [[*one, *two, *three] for one, two, three in zip(*ranks, strict=True)] == single
    seen = [{draw.seed for batch in rank for draw in batch} for rank in ranks]
    assert len(seen[0] | seen[1] | seen[2]) == 3 * 30 * 4
    mixed = [len({_size_of(draw) for draw in step}) > 1 for step in single]
    assert sum(mixed) <= 2 * 30 / 15 + 2


def test_the_sequence_of_batches_does_not_run_from_wide_to_tall() -> None:
    shapes = [_size_of(batch[0]) for batch in _sampler()]
    assert sum(one != two for one, two in pairwise(shapes)) > 30


@pytest.mark.parametrize(
    ("lengths", "batch_size", "window"), [([10_000], 4, STEPS), ([10_000], 1000, 4), ([12], 4, 3), ([3], 4, 1)]
)
def test_pictures_are_exchanged_within_an_epoch_at_most(lengths: list[int], batch_size: int, window: int) -> None:
    """Else a small set's pictures of one shape would meet themselves in a batch."""
    sampler = MixtureSampler(lengths, [1], size_of=lambda _: SQUARE, batch_size=batch_size, steps=2 * window)
    first = [draw.seed for batch in list(sampler)[:window] for draw in batch]
    assert sorted(first) == list(range(window * batch_size))


@pytest.fixture(scope="module")
def cars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_cars(tmp_path_factory.mktemp("cars"), pictures=24)


@pytest.mark.parametrize("jitter", [(0.6, 1.6), (0.1, 2.0)])
def test_the_size_is_that_of_the_picture_in_training(cars: Path, jitter: tuple[float, float]) -> None:
    dataset = PreparedDataset(cars, "train")
    augmentation = Augmentation(size=64, jitter=jitter)
    for number in range(12):
        sample = augmentation.load(dataset, number, np.random.default_rng(number))
        told = augmentation.size_of((96, 96), np.random.default_rng(number))
        assert np.abs(np.subtract(told, sample.size)).max() <= 1


def test_grouped_batches_of_a_real_set_have_less_padding(cars: Path) -> None:
    def load(**options: Any) -> list[Any]:
        sets = [MixedSet(PreparedDataset(cars, "train"))]
        settings = {"batch_size": 4, "size": 256, "jitter": (0.1, 1.0), "steps": 12, "workers": 0}
        return list(training_loader(sets, **{**settings, **options}))

    def canvas(batches: list[Any]) -> int:
        return sum(batch.pictures.pixels.numel() for batch in batches)

    grouped, plain = load(group_by_aspect=True), load()
    names = [sorted(target.name for batch in batches for target in batch.targets) for batches in (grouped, plain)]
    assert names[0] == names[1]
    assert canvas(grouped) < 0.8 * canvas(plain)
    again = load(group_by_aspect=True, start_step=5, workers=2)
    assert all((one.pictures.pixels == two.pictures.pixels).all() for one, two in zip(grouped[5:], again, strict=True))


def test_a_streamed_set_is_refused_in_one_line(cars: Path, tmp_path: Path) -> None:
    write_shards(cars, tmp_path / "shards")
    sets = [MixedSet(PreparedDataset(cars, "train")), MixedSet(StreamedDataset(tmp_path / "shards", "train"))]
    with pytest.raises(UserError, match="group_by_aspect needs a prepared set, and shards/train is streamed") as error:
        training_loader(sets, batch_size=2, size=64, group_by_aspect=True)
    assert "\n" not in str(error.value)
