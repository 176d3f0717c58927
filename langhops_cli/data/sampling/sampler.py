"""Several sets drawn by ratio: which picture each step reads depends on the seed and the step alone.

Where a set is streamed, it depends on the number of readers as well: each has its own share of the row groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from torch.utils.data import Sampler

from langhops_cli.data.sampling.aspect import PICTURES, STEPS, arrange
from langhops_cli.data.sampling.repeats import RepeatedEpochs
from langhops_cli.errors import UserError

ROUND = 1000
"""Slots in which the ratios are met exactly; ratios that are small whole numbers need only their sum."""


@dataclass(frozen=True)
class Draw:
    """One picture of one step: which set, which picture of it, and the number that seeds its augmentation."""

    dataset: int
    index: int
    seed: int


class MixtureSampler(Sampler[list[Draw]]):
    """Batches of draws from several sets.

    Slot n of the training (counted over steps, ranks and places in the batch) always holds the same draw, so that a
    training that goes on at step k sees what it would have seen. The sets take turns in shuffled rounds that meet the
    ratios; each set is gone through without repetition, in a new order every time.

    A set that is streamed is read by lanes, one for each worker of each rank: step s of rank r belongs to lane
    (s mod workers) * world_size + r. Row groups are shuffled for every epoch, and rows within them; the lanes cut that
    order into equal pieces and read theirs from one end to the other, so that each row group is read once, or twice
    where a cut goes through it. The last lanes draw again what the first ones draw, fewer pictures than there are
    lanes, where the pictures cannot be shared out evenly. In a mixture with a streamed set each lane has rounds of its
    own, and the draws of all sets depend on the number of lanes.

    Where the sizes of pictures are told, up to `STEPS` steps, no more than the shortest epoch of a set fills, exchange
    their draws, so that pictures of one size come together: the same draws are made, some of them earlier or later.
    All ranks have one size in a step, as each of them waits for the slowest.

    Args:
        lengths: number of pictures of each set.
        ratios: how often each set is drawn, whatever its size; only their proportion counts.
        groups: for each set the pictures of its row groups, or None where it is not streamed; none is when left out.
        factors: for each set how often each picture stands in an epoch on the average, None for once each; not for
            streamed sets.
        size_of: height and width of a draw's picture in training; batches are made at random when left out. Not
            together with streamed sets.
        batch_size: pictures a step and rank.
        seed: decides every draw.
        start_step: the first step to yield.
        steps: the step to end before; without end when left out.
        rank: number of this process; world_size: number of processes.
        workers: processes that read ahead on each rank, 0 where the rank reads itself; only streamed sets ask for it.

    Raises:
        UserError: a set is empty, or a ratio is not above 0.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        ratios: Sequence[float],
        *,
        groups: Sequence[Sequence[int] | None] | None = None,
        factors: Sequence[np.ndarray | None] | None = None,
        size_of: Callable[[Draw], tuple[int, int]] | None = None,
        batch_size: int,
        seed: int = 0,
        start_step: int = 0,
        steps: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
    ) -> None:
        if not lengths or len(lengths) != len(ratios):
            raise UserError("training needs at least one data set, and a ratio for each.")
        if min(lengths) < 1:
            raise UserError("a data set for training holds no picture.")
        if not all(math.isfinite(ratio) and ratio > 0 for ratio in ratios):
            raise UserError(f"data ratios must be above 0, not {list(ratios)}.")
        self.lengths = tuple(lengths)
        self.quotas = _quotas(ratios)
        self.groups = [None if rows is None else np.array(rows) for rows in groups or [None] * len(lengths)]
        self.batch_size = batch_size
        self.seed = seed
        self.start_step = start_step
        self.steps = steps
        self.rank = rank
        self.world_size = world_size
        self.workers = max(workers, 1)
        self.streams = any(rows is not None for rows in self.groups)
        self.lanes = self.workers * world_size if self.streams else 1
        self.size_of = size_of
        repeated = enumerate(factors or [])
        self._repeats = {at: RepeatedEpochs(item, (seed, 1 + at)) for at, item in repeated if item is not None}
        epochs = (length * sum(self.quotas) // quota for length, quota in zip(lengths, self.quotas, strict=True))
        self._window = max(1, min(STEPS, min(PICTURES, *epochs) // (batch_size * world_size)))
        self._exchanged = lru_cache(maxsize=2)(self._exchange)
        self._shuffled = lru_cache(maxsize=(4 * len(lengths) + 8) * self.workers)(self._permute)
        self._ordered = lru_cache(maxsize=2 * len(lengths))(self._order)

    def __iter__(self) -> Iterator[list[Draw]]:
        step = self.start_step
        while self.steps is None or step < self.steps:
            yield self.batch(step)
            step += 1

    def __len__(self) -> int:
        if self.steps is None:
            raise TypeError("an endless sampler has no length")
        return max(0, self.steps - self.start_step)

    def batch(self, step: int) -> list[Draw]:
        """The draws of one step of this rank."""
        own = slice(self.rank * self.batch_size, (self.rank + 1) * self.batch_size)
        if self.size_of is not None:
            window, place = divmod(step, self._window)
            return self._exchanged(window)[place][own]
        return [self.draw(slot) for slot in self._slots(step, 1)[own]]

    def draw(self, slot: int) -> Draw:
        """The draw of one slot of the whole training."""
        lane, turn = self._lane(slot)
        round_number, place = divmod(turn, sum(self.quotas))
        turns = self._shuffled(sum(self.quotas), 0, round_number * self.lanes + lane)
        owners = np.repeat(np.arange(len(self.quotas)), self.quotas)[turns]
        dataset = int(owners[place])
        taken = round_number * self.quotas[dataset] + int((owners[:place] == dataset).sum())
        if self.groups[dataset] is not None:
            return Draw(dataset, self._next_of_lane(dataset, lane, taken), slot)
        turn = taken * self.lanes + lane
        if dataset in self._repeats:
            return Draw(dataset, self._repeats[dataset].picture(turn), slot)
        epoch, position = divmod(turn, self.lengths[dataset])
        index = int(self._shuffled(self.lengths[dataset], 1 + dataset, epoch)[position])
        return Draw(dataset, index, slot)

    def _slots(self, step: int, steps: int) -> range:
        """The slots of some steps, of all ranks."""
        pictures = self.batch_size * self.world_size
        return range(step * pictures, (step + steps) * pictures)

    def _exchange(self, window: int) -> list[list[Draw]]:
        """The draws of all ranks in each step of a window, with pictures of one size put together."""
        assert self.size_of is not None
        draws = [self.draw(slot) for slot in self._slots(window * self._window, self._window)]
        generator = np.random.default_rng([self.seed, 1 + len(self.lengths), window])
        sizes = [self.size_of(draw) for draw in draws]
        places = arrange(sizes, batch_size=self.batch_size * self.world_size, generator=generator)
        return [[draws[place] for place in step] for step in places.tolist()]

    def _lane(self, slot: int) -> tuple[int, int]:
        """Which lane a slot belongs to, and how many of the lane's slots come before it."""
        if not self.streams:
            return 0, slot
        block, place = divmod(slot, self.batch_size)
        step, rank = divmod(block, self.world_size)
        return step % self.workers * self.world_size + rank, step // self.workers * self.batch_size + place

    def _next_of_lane(self, dataset: int, lane: int, taken: int) -> int:
        """The picture of a streamed set that a lane reads after it has read `taken` of it."""
        length = self.lengths[dataset]
        share = -(-length // self.lanes)
        epoch, place = divmod(taken, share)
        position = (lane * share + place) % length
        order, firsts, starts = self._ordered(dataset, epoch)
        at = int(np.searchsorted(firsts, position, side="right")) - 1
        group = int(order[at])
        rows = self._shuffled(int(starts[group + 1] - starts[group]), 1 + dataset, epoch, 1 + group)
        return int(starts[group] + rows[position - firsts[at]])

    def _order(self, dataset: int, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row groups in the order of an epoch, where each begins in that order, and where each begins in the set."""
        sizes = self.groups[dataset]
        assert sizes is not None
        order = self._permute(len(sizes), 1 + dataset, epoch)
        return order, np.cumsum(sizes[order]) - sizes[order], np.append(0, np.cumsum(sizes))

    def _permute(self, length: int, *stream: int) -> np.ndarray:
        return np.random.default_rng([self.seed, *stream]).permutation(length)


def _quotas(ratios: Sequence[float]) -> tuple[int, ...]:
    """Slots of each set in a round, in proportion to the ratios, at least one each."""
    whole = [round(ratio) for ratio in ratios]
    if sum(whole) <= ROUND and all(abs(ratio - number) < 1e-9 for ratio, number in zip(ratios, whole, strict=True)):
        shared = math.gcd(*whole)
        return tuple(number // shared for number in whole)
    return tuple(max(1, round(ROUND * ratio / sum(ratios))) for ratio in ratios)
