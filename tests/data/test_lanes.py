"""Which row groups of a streamed set each reader of a training goes through."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest

from langhops_cli.data.sampling.sampler import Draw, MixtureSampler


def _lanes(sampler: Callable[..., MixtureSampler], *, ranks: int, workers: int, steps: int) -> dict[int, list[Draw]]:
    """The draws of each lane, in its order: of each worker of each rank."""
    lanes: dict[int, list[Draw]] = {}
    for rank in range(ranks):
        for step, batch in enumerate(sampler(rank=rank, world_size=ranks, workers=workers, steps=steps)):
            lanes.setdefault(step % max(workers, 1) * ranks + rank, []).extend(batch)
    return lanes


def _streamed(groups: list[int], *, batch_size: int = 2, seed: int = 0) -> Callable[..., MixtureSampler]:
    return lambda **options: MixtureSampler(
        [sum(groups)], [1], groups=[groups], batch_size=batch_size, seed=seed, **options
    )


def _group_of(groups: list[int]) -> list[int]:
    return [number for number, rows in enumerate(groups) for _ in range(rows)]


@pytest.mark.parametrize("groups", [[4] * 8, [5, 3, 7, 1, 6, 4, 6]])
def test_two_ranks_with_two_workers_see_each_picture_once_an_epoch(groups: list[int]) -> None:
    assert sum(groups) == 32
    group_of = _group_of(groups)
    lanes = _lanes(_streamed(groups), ranks=2, workers=2, steps=16)  # two epochs of eight pictures a lane
    assert {lane: len(draws) for lane, draws in lanes.items()} == dict.fromkeys(range(4), 16)
    orders = []
    for epoch in range(2):
        seen = [[draw.index for draw in lanes[lane][8 * epoch :][:8]] for lane in range(4)]
        assert sorted(index for indices in seen for index in indices) == list(range(32))
        runs = [[group_of[index] for index in indices] for indices in seen]
        changes = [[run[0], *(b for a, b in pairwise(run) if a != b)] for run in runs]
        for visited in changes:
            assert len(visited) == len(set(visited))  # a lane comes to a row group once an epoch
        assert sum(map(len, changes)) <= len(groups) + 3
        assert any(indices != sorted(indices) for indices in seen)
        orders.append(seen)
    assert orders[0] != orders[1]
    assert _lanes(_streamed(groups, seed=1), ranks=2, workers=2, steps=16) != lanes


@pytest.mark.parametrize(("groups", "ranks", "workers"), [([5, 5, 3], 2, 2), ([2, 1], 2, 4), ([7], 3, 0), ([1], 1, 1)])
def test_what_cannot_be_shared_evenly_is_drawn_again_by_few(groups: list[int], ranks: int, workers: int) -> None:
    total, lanes = sum(groups), ranks * max(workers, 1)
    share = -(-total // lanes)
    drawn = _lanes(_streamed(groups, batch_size=share), ranks=ranks, workers=workers, steps=max(workers, 1))
    counts = Counter(draw.index for draws in drawn.values() for draw in draws)
    assert set(counts) == set(range(total))
    assert sum(counts.values()) - total < lanes


def test_going_on_with_streamed_sets_draws_what_would_have_been_drawn() -> None:
    def sampler(**options: int) -> MixtureSampler:
        return MixtureSampler(
            [40, 9], [2, 1], groups=[[8] * 5, None], batch_size=3, seed=4, world_size=2, rank=1, workers=3, **options
        )

    whole = list(sampler(steps=50))
    assert list(sampler(steps=50, start_step=17)) == whole[17:]
    assert len(list(sampler(steps=10**6 + 2, start_step=10**6))) == 2
    assert sampler().batch(49) == whole[49]


def test_a_streamed_set_in_a_mixture_keeps_its_share_and_its_order() -> None:
    groups = [4] * 6
    lanes = _lanes(
        lambda **options: MixtureSampler([24, 10], [3, 1], groups=[groups, None], batch_size=4, **options),
        ranks=2, workers=2, steps=20,
    )  # fmt: skip
    for draws in lanes.values():
        assert Counter(draw.dataset for draw in draws) == {0: 30, 1: 10}
    assert Counter(draw.index for d in lanes.values() for draw in d if draw.dataset == 1) == dict.fromkeys(range(10), 4)
    for epoch in range(5):  # of six pictures a lane
        seen = [[draw.index for draw in draws if draw.dataset == 0][6 * epoch :][:6] for draws in lanes.values()]
        assert sorted(index for indices in seen for index in indices) == list(range(24))
    assert len({draw.seed for draws in lanes.values() for draw in draws}) == 4 * 40


def test_sets_that_are_not_streamed_are_drawn_as_ever() -> None:
    """The numbers are those from before sets could be streamed: an older run that goes on sees what it would have."""
    sampler = MixtureSampler([30, 11], [1, 2], batch_size=3, seed=4, steps=12, workers=3)
    expected = [(0, 11), (1, 8), (1, 0), (1, 10), (1, 9), (0, 4), (1, 4), (0, 14), (1, 2), (0, 16), (1, 5), (1, 3)]
    assert [(draw.dataset, draw.index) for step in range(4) for draw in sampler.batch(step)] == expected
    assert list(sampler) == list(MixtureSampler([30, 11], [1, 2], batch_size=3, seed=4, steps=12))
