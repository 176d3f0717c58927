"""Repeat-factor sampling: pictures of seldom names are drawn more often, in the expected number exactly."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.masks import encode
from langhops_cli.data.sampling.mixture import MixedSet, training_loader
from langhops_cli.data.sampling.repeats import RepeatedEpochs, repeat_factors
from langhops_cli.data.sampling.sampler import Draw, MixtureSampler
from langhops_cli.data.shards import write_shards
from langhops_cli.data.streamed import StreamedDataset
from langhops_cli.errors import UserError
from tests.handmade import write_index

from .cars import prepare_cars

CAR, WHEEL, DOG, HORN = 1, 2, 3, 4
SHOWN = [[CAR, WHEEL], [CAR, WHEEL], [CAR], [DOG, DOG], [], [CAR, HORN], [CAR], [CAR]]
"""What each picture shows: cars in 6 of 8, a wheel in 2, a dog (twice) and a horn in 1 each."""
WHOLE = encode(np.ones((32, 32)))


def _make_set(root: Path, *, hierarchy: str = "car: {wheel: , horn: }\ndog:\n", crowd: int | None = None) -> Path:
    root.mkdir()
    images, annotations = [], []
    for number, shown in enumerate(SHOWN):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(root / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 32, "height": 32})
        for category in shown:
            part = category in (WHEEL, HORN)
            row = {"id": len(annotations) + 1, "image_id": number, "category_id": category, "segmentation": WHOLE}
            annotations.append(
                row | {"parent_id": len(annotations) if part else None, "iscrowd": int(category == crowd)}
            )
    categories = [
        {"id": CAR, "name": "car", "parent_id": None},
        {"id": WHEEL, "name": "car wheel", "part_name": "wheel", "parent_id": CAR},
        {"id": DOG, "name": "dog", "parent_id": None},
        {"id": HORN, "name": "car horn", "part_name": "horn", "parent_id": CAR},
    ]
    info = {"format": 1, "exhaustive": True, "image_root": "."}
    content = {"info": info, "images": images, "annotations": annotations, "categories": categories}
    (root / "train.json").write_text(json.dumps(content))
    (root / "hierarchy.yaml").write_text("car: {wheel: , horn: }\ndog:\n")
    write_index(root, "train")
    (root / "hierarchy.yaml").write_text(hierarchy)
    return root


@pytest.fixture
def dataset(tmp_path: Path) -> PreparedDataset:
    return PreparedDataset(_make_set(tmp_path / "toys"), "train")


def test_factors_are_those_of_the_paper(dataset: PreparedDataset) -> None:
    """At t = 1/2: car 6/8 -> 1, wheel 2/8 -> sqrt(2), dog 1/8 (counted once) -> 2, horn 1/8 -> 2."""
    wheel = 2**0.5
    assert repeat_factors(dataset, 0.5) == pytest.approx([wheel, wheel, 1, 2, 1, 2, 1, 1])
    assert repeat_factors(dataset, 0.25) == pytest.approx([1, 1, 1, wheel, 1, wheel, 1, 1])
    assert repeat_factors(dataset, 0.125).tolist() == [1] * 8


def test_what_is_not_read_does_not_count(tmp_path: Path) -> None:
    taken_out = PreparedDataset(_make_set(tmp_path / "a", hierarchy="car: {wheel: }\ndog:\n"), "train")
    assert repeat_factors(taken_out, 0.5)[5] == 1
    crowds = PreparedDataset(_make_set(tmp_path / "b", crowd=DOG), "train")
    assert repeat_factors(crowds, 0.5)[3] == 1
    only = PreparedDataset(_make_set(tmp_path / "c", hierarchy="dog:\n", crowd=DOG), "train")
    assert repeat_factors(only, 0.5).tolist() == [1] * 8


def _counts(epochs: RepeatedEpochs, turns: range, pictures: int) -> np.ndarray:
    return np.bincount([epochs.picture(turn) for turn in turns], minlength=pictures)


FACTORS = np.array([1, 1.25, 2**0.5, 2, 3.9, 1, 1.5])


def _lengths(epochs: RepeatedEpochs, number: int) -> list[int]:
    counts: Counter[int] = Counter()
    turn = 0
    while len(counts) <= number:
        counts[epochs.locate(turn)[0]] += 1
        turn += 1
    return [counts[epoch] for epoch in range(number)]


def test_a_picture_stands_in_an_epoch_as_often_as_its_factor_rounded_up_or_down() -> None:
    epochs = RepeatedEpochs(FACTORS, (3, 1))
    starts = np.append(0, np.cumsum(_lengths(epochs, 50)))
    assert set(np.diff(starts)) == {12, 13}  # the factors add up to 12.06
    seen = []
    for first, end in pairwise(starts):
        seen.append(_counts(epochs, range(first, end), len(FACTORS)))
        assert ((seen[-1] >= np.floor(FACTORS)) & (seen[-1] <= np.ceil(FACTORS))).all()
    assert len({tuple(row) for row in seen}) > 1


def test_the_expected_counts_are_the_factors() -> None:
    """Over 4,000 epochs a count strays from its factor by less than 4.5 standard errors of a fair rounding."""
    number = 4000
    epochs = RepeatedEpochs(FACTORS, (0, 1))
    turns = range(sum(_lengths(epochs, number)))
    share = FACTORS % 1
    allowed = 4.5 * np.sqrt(share * (1 - share) / number) + 1e-9
    assert (np.abs(_counts(epochs, turns, len(FACTORS)) / number - FACTORS) <= allowed).all()
    assert len(turns) == pytest.approx(number * FACTORS.sum(), abs=4.5 * (0.25 * number) ** 0.5)


def test_any_turn_is_found_without_the_ones_before() -> None:
    whole = RepeatedEpochs(FACTORS, (5, 1))
    order = [whole.picture(turn) for turn in range(2000)]
    for turn in (1999, 0, 700, 13, 1234):
        assert RepeatedEpochs(FACTORS, (5, 1)).picture(turn) == order[turn]
    far = RepeatedEpochs(FACTORS, (5, 1))
    epoch, place = far.locate(10**7)
    assert 0 <= place < 13
    assert epoch == pytest.approx(10**7 / FACTORS.sum(), rel=1e-3)
    assert [RepeatedEpochs(FACTORS, (6, 1)).picture(turn) for turn in range(50)] != order[:50]


def test_the_copies_of_a_picture_do_not_stand_together() -> None:
    epochs = RepeatedEpochs(np.full(200, 2.0), (0, 1))
    order = [epochs.picture(turn) for turn in range(400)]
    assert Counter(order) == dict.fromkeys(range(200), 2)
    assert sum(one == two for one, two in pairwise(order)) < 10


def _sampler(**options: Any) -> MixtureSampler:
    settings: dict[str, Any] = {"factors": [FACTORS, None], "batch_size": 3, "seed": 4, "steps": 200}
    return MixtureSampler([7, 11], [1, 2], **{**settings, **options})


def test_a_mixture_with_repeats_keeps_its_ratio_and_goes_on_anywhere() -> None:
    whole = list(_sampler())
    assert Counter(draw.dataset for batch in whole for draw in batch) == {0: 200, 1: 400}
    assert list(_sampler(start_step=137)) == whole[137:]
    plain = [draw for batch in _sampler(factors=None) for draw in batch]
    draws = [draw for batch in whole for draw in batch]
    assert [d for d in draws if d.dataset == 1] == [d for d in plain if d.dataset == 1]
    often = Counter(draw.index for draw in draws if draw.dataset == 0)
    assert often[4] == pytest.approx(200 * 3.9 / FACTORS.sum(), abs=4)


def test_two_ranks_share_the_slots() -> None:
    one = list(_sampler(batch_size=6, steps=40))
    ranks = [list(_sampler(batch_size=3, rank=rank, world_size=2, steps=40)) for rank in range(2)]
    assert [[*left, *right] for left, right in zip(*ranks, strict=True)] == one
    slots = [{draw.seed for batch in rank for draw in batch} for rank in ranks]
    assert not slots[0] & slots[1]


def test_repeats_beside_a_streamed_set_are_shared_among_the_lanes() -> None:
    def draws(rank: int) -> list[Draw]:
        sampler = MixtureSampler(
            [7, 12], [1, 1], groups=[None, [4, 4, 4]], factors=[FACTORS, None],
            batch_size=2, steps=600, rank=rank, world_size=2, workers=2,
        )  # fmt: skip
        return [draw for batch in sampler for draw in batch if draw.dataset == 0]

    often = Counter(draw.index for rank in range(2) for draw in draws(rank))
    assert sum(often.values()) == 1200
    assert [often[index] / 1200 for index in range(7)] == pytest.approx(FACTORS / FACTORS.sum(), abs=0.01)


def test_the_loader_repeats_pictures_of_seldom_names(dataset: PreparedDataset) -> None:
    def names(**options: Any) -> list[str]:
        sets = [MixedSet(dataset, repeat_threshold=0.5)]
        loader = training_loader(sets, batch_size=4, size=64, workers=0, **options)
        return [Path(target.name).stem for batch in loader for target in batch.targets]

    often = Counter(names(steps=30))
    assert often["3"] == pytest.approx(2 * often["2"], abs=2)
    assert often["0"] == pytest.approx(2**0.5 * often["2"], abs=3)
    assert names(steps=6)[8:] == names(steps=6, start_step=2)


def test_a_streamed_set_is_refused_in_one_line(tmp_path: Path) -> None:
    write_shards(prepare_cars(tmp_path, pictures=4), tmp_path / "shards")
    with pytest.raises(UserError, match="repeat_threshold needs a prepared set, and shards/train is streamed") as error:
        MixedSet(StreamedDataset(tmp_path / "shards", "train"), repeat_threshold=0.1)
    assert "\n" not in str(error.value)
