from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from langhops_cli.data.collate import Batch
from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.sampling.mixture import MixedSet, training_loader
from langhops_cli.data.sampling.sampler import Draw, MixtureSampler
from langhops_cli.errors import DATA, UserError


def _draws(sampler: MixtureSampler, steps: int) -> list[Draw]:
    return [draw for step in range(steps) for draw in sampler.batch(step)]


def test_sets_are_drawn_in_proportion_whatever_their_size() -> None:
    counts = Counter(draw.dataset for draw in _draws(MixtureSampler([5, 1000, 40], [1, 6, 3], batch_size=4), 250))
    assert counts == {0: 100, 1: 600, 2: 300}


def test_fractional_ratios_are_met_within_a_round() -> None:
    counts = Counter(draw.dataset for draw in _draws(MixtureSampler([9, 9], [0.3, 0.7], batch_size=10), 100))
    assert counts == {0: 300, 1: 700}


def test_a_set_is_gone_through_before_any_picture_comes_again_and_in_new_order() -> None:
    draws = [d.index for d in _draws(MixtureSampler([20, 7], [1, 1], batch_size=2), 40) if d.dataset == 0]
    first, second = draws[:20], draws[20:40]
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


def test_going_on_at_a_step_sees_what_would_have_been_seen() -> None:
    whole = list(MixtureSampler([30, 11], [1, 2], batch_size=3, seed=4, steps=12))
    assert list(MixtureSampler([30, 11], [1, 2], batch_size=3, seed=4, steps=12, start_step=7)) == whole[7:]
    assert list(MixtureSampler([30, 11], [1, 2], batch_size=3, seed=5, steps=12)) != whole


def test_ranks_share_the_draws_of_one_larger_batch() -> None:
    single = MixtureSampler([30, 11], [1, 2], batch_size=4)
    ranks = [MixtureSampler([30, 11], [1, 2], batch_size=2, rank=rank, world_size=2) for rank in range(2)]
    for step in range(5):
        assert [draw for rank in ranks for draw in rank.batch(step)] == single.batch(step)


@pytest.mark.parametrize(
    ("lengths", "ratios", "says"),
    [([], [], "at least one"), ([3], [], "a ratio for each"), ([0], [1], "no picture"), ([3], [0], "above 0"),
     ([3, 3], [1, float("nan")], "above 0")],
)  # fmt: skip
def test_impossible_mixtures_are_refused(lengths: list[int], ratios: list[float], says: str) -> None:
    with pytest.raises(UserError, match=says):
        MixtureSampler(lengths, ratios, batch_size=1)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    if hasattr(value, "__dataclass_fields__"):
        return [tensor for field in fields(value) for tensor in _tensors(getattr(value, field.name))]
    return []


def _same(one: Batch, two: Batch) -> bool:
    pairs = zip(_tensors(one), _tensors(two), strict=True)
    return one.vocabulary.texts == two.vocabulary.texts and all(torch.equal(a, b) for a, b in pairs)


def test_batches_depend_on_seed_and_step_alone(prepared_dogs: PreparedDataset) -> None:
    def load(**options: Any) -> list[Batch]:
        return list(
            training_loader([MixedSet(prepared_dogs)], batch_size=2, size=64, **{"steps": 4, "workers": 0, **options})
        )

    whole = load()
    assert len(whole) == 4
    assert all(map(_same, whole, load(workers=2)))
    assert all(map(_same, whole[2:], load(start_step=2, workers=1)))
    assert not all(map(_same, whole, load(seed=1)))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_picture_stops_training_with_one_line_that_names_it(prepared_dogs: PreparedDataset, workers: int) -> None:
    prepared_dogs.image_path(1).write_bytes(b"")
    loader = training_loader([MixedSet(prepared_dogs)], batch_size=2, size=64, steps=1, workers=workers)
    with pytest.raises(UserError) as caught:
        list(loader)
    assert caught.value.code == DATA
    assert str(caught.value).startswith(str(prepared_dogs.image_path(1)))
    assert "\n" not in str(caught.value)


def test_parts_keep_their_object_through_the_whole_pipeline(
    shared_data: Path, prepare_coco: Callable[..., tuple[dict[str, Any], Path]]
) -> None:
    """On real cars every part lies inside its car, which is the union of its parts, after any augmentation."""
    source = shared_data / "car_parts"
    _, folder = prepare_coco(source, val=source / "val.json", object_name="car", union=True)
    dataset = PreparedDataset(folder, "val")
    for batch in training_loader([MixedSet(dataset)], batch_size=4, size=128, steps=4, workers=0):
        for target in batch.targets:
            assert target.parts.parents is not None
            assert target.parts.masks is not None
            assert target.objects.masks is not None
            for mask, parent in zip(target.parts.masks, target.parts.parents, strict=True):
                assert parent >= 0
                assert bool((target.objects.masks[parent] >= mask).all())


def test_absent_names_are_asked_about_and_are_negatives(prepared_dogs: PreparedDataset) -> None:
    """They stand behind the set's own names, so that its labels stay, and no instance ever has them."""
    own = prepared_dogs.vocabulary.object_names
    loader = training_loader(
        [MixedSet(prepared_dogs, absent=("car", "sofa"))], batch_size=2, size=64, steps=2, workers=0
    )
    for batch in loader:
        names = [batch.vocabulary.texts[index] for index in batch.vocabulary.objects[0].tolist()]
        assert names == [*own, "car", "sofa"]
        for target in batch.targets:
            assert target.objects.negatives[len(own) :].all()
            assert not (target.objects.labels >= len(own)).any()


def test_a_name_of_the_set_cannot_be_absent_from_it(prepared_dogs: PreparedDataset) -> None:
    with pytest.raises(UserError, match=r"'dog' is an object of .* cannot be absent"):
        MixedSet(prepared_dogs, absent=("sofa", "dog"))
