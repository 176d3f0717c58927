"""Several prepared sets drawn by ratio: which picture each step reads depends on the seed and the step alone."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from langhops_cli.data.collate import Batch, Collate
from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.names import ask_for_absent
from langhops_cli.data.sample import Sample
from langhops_cli.data.transforms import flip, jitter_colour, jitter_crop
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

    Args:
        lengths: number of pictures of each set.
        ratios: how often each set is drawn, whatever its size; only their proportion counts.
        batch_size: pictures a step and rank.
        seed: decides every draw.
        start_step: the first step to yield.
        steps: the step to end before; without end when left out.
        rank: number of this process; world_size: number of processes.

    Raises:
        UserError: a set is empty, or a ratio is not above 0.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        ratios: Sequence[float],
        *,
        batch_size: int,
        seed: int = 0,
        start_step: int = 0,
        steps: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not lengths or len(lengths) != len(ratios):
            raise UserError("training needs at least one data set, and a ratio for each.")
        if min(lengths) < 1:
            raise UserError("a data set for training holds no picture.")
        if not all(math.isfinite(ratio) and ratio > 0 for ratio in ratios):
            raise UserError(f"data ratios must be above 0, not {list(ratios)}.")
        self.lengths = tuple(lengths)
        self.quotas = _quotas(ratios)
        self.batch_size = batch_size
        self.seed = seed
        self.start_step = start_step
        self.steps = steps
        self.rank = rank
        self.world_size = world_size
        self._shuffled = lru_cache(maxsize=4 * len(lengths) + 8)(self._permute)

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
        first = (step * self.world_size + self.rank) * self.batch_size
        return [self.draw(first + place) for place in range(self.batch_size)]

    def draw(self, slot: int) -> Draw:
        """The draw of one slot of the whole training."""
        round_number, place = divmod(slot, sum(self.quotas))
        turns = self._shuffled(0, round_number, sum(self.quotas))
        owners = np.repeat(np.arange(len(self.quotas)), self.quotas)[turns]
        dataset = int(owners[place])
        taken = round_number * self.quotas[dataset] + int((owners[:place] == dataset).sum())
        epoch, position = divmod(taken, self.lengths[dataset])
        index = int(self._shuffled(1 + dataset, epoch, self.lengths[dataset])[position])
        return Draw(dataset, index, slot)

    def _permute(self, stream: int, number: int, length: int) -> np.ndarray:
        return np.random.default_rng([self.seed, stream, number]).permutation(length)


def _quotas(ratios: Sequence[float]) -> tuple[int, ...]:
    """Slots of each set in a round, in proportion to the ratios, at least one each."""
    whole = [round(ratio) for ratio in ratios]
    if sum(whole) <= ROUND and all(abs(ratio - number) < 1e-9 for ratio, number in zip(ratios, whole, strict=True)):
        shared = math.gcd(*whole)
        return tuple(number // shared for number in whole)
    return tuple(max(1, round(ROUND * ratio / sum(ratios))) for ratio in ratios)


@dataclass(frozen=True)
class MixedSet:
    """A prepared set in a mixture.

    Args:
        dataset: the set.
        ratio: how often it is drawn, whatever its size.
        absent: names of objects that none of its pictures holds, which it is asked about as well.

    Raises:
        UserError: a name is one of the set's own.
    """

    dataset: PreparedDataset
    ratio: float = 1.0
    absent: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.absent:
            if name in self.dataset.vocabulary.object_names:
                raise UserError(f"'{name}' is an object of {self.dataset.name} and cannot be absent from it.")


@dataclass(frozen=True)
class Augmentation:
    """How training pictures are changed.

    Args:
        size: side of the square canvas in pixels.
        jitter: smallest and largest scale of the picture, 1 for just filling the canvas.
        flip: chance of mirroring.
        colour: how much brightness, contrast and saturation may change, 0..1.
    """

    size: int
    jitter: tuple[float, float] = (0.6, 1.6)
    flip: float = 0.5
    colour: float = 0.3

    def load(self, dataset: PreparedDataset, index: int, generator: np.random.Generator) -> Sample:
        """Read a picture and change it; the generator's state decides all."""
        scale = float(generator.uniform(*self.jitter))
        mirrored = bool(generator.random() < self.flip)
        sample = dataset.load(index, longest=math.ceil(self.size * scale))
        sample = jitter_crop(sample, size=self.size, scale=scale, generator=generator)
        if mirrored:
            sample = flip(sample)
        return jitter_colour(sample, strength=self.colour, generator=generator)


@dataclass(frozen=True)
class _Fault:
    """A user error on its way out of a worker, which would otherwise be wrapped in a traceback."""

    message: str
    code: int


class _Examples(Dataset[Sample | _Fault]):
    """Augmented samples by draw."""

    def __init__(self, sets: Sequence[MixedSet], augmentation: Augmentation, seed: int) -> None:
        self.sets = sets
        self.augmentation = augmentation
        self.seed = seed

    def __getitem__(self, draw: Draw) -> Sample | _Fault:
        generator = np.random.default_rng([self.seed, draw.seed])
        chosen = self.sets[draw.dataset]
        try:
            sample = self.augmentation.load(chosen.dataset, draw.index, generator)
        except UserError as error:
            return _Fault(str(error), error.code)
        sample = ask_for_absent(sample, chosen.absent)
        return replace(sample, draw=int(generator.integers(2**31)))


class _CollateOrFault:
    def __init__(self, collate: Collate) -> None:
        self.collate = collate

    def __call__(self, samples: Sequence[Sample | _Fault]) -> Batch | _Fault:
        good = []
        for sample in samples:
            if isinstance(sample, _Fault):
                return sample
            good.append(sample)
        return self.collate(good)


def _start_worker(_: int) -> None:
    # One thread a worker: the cores belong to the training step.
    torch.set_num_threads(1)
    # A signal to the whole process group asks the training to stop; it still wants its batches until it has saved.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class TrainingLoader:
    """The batches of a training, from `start_step` on; made by `training_loader`."""

    def __init__(self, loader: DataLoader[Sample | _Fault], sampler: MixtureSampler) -> None:
        self._loader = loader
        self.sampler = sampler

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            if isinstance(batch, _Fault):
                raise UserError(batch.message, code=batch.code)
            yield batch

    def __len__(self) -> int:
        return len(self.sampler)


def training_loader(
    sets: Sequence[MixedSet],
    *,
    batch_size: int,
    size: int,
    jitter: tuple[float, float] = (0.6, 1.6),
    flip: float = 0.5,
    colour: float = 0.3,
    seed: int = 0,
    workers: int = 1,
    start_step: int = 0,
    steps: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    queries_per_part: int = 1,
    max_names: int = 300,
    tower_size: int | None = None,
) -> TrainingLoader:
    """Endless or counted batches of augmented pictures; step k of a seed is always the same, whatever the workers.

    Args:
        sets: prepared sets with the ratios by which they are drawn.
        batch_size: pictures a step and rank.
        size: side of the square canvas in pixels.
        jitter: smallest and largest scale, 1 for a picture that just fills the canvas.
        flip: chance of mirroring; colour: strength of the colour jitter.
        seed: decides every draw.
        workers: processes that read ahead; 0 reads in this one.
        start_step: the step to begin at, to go on with a training.
        steps: the step to end before; without end when left out.
        rank: number of this process; world_size: number of processes.
        queries_per_part: how often a part without a count of its own is asked for.
        max_names: most object names and most part names of a picture.
        tower_size: side of the pictures for the language model's own image tower in pixels; None where it has none.

    Raises:
        UserError: when iterated, a picture cannot be read; the message names it.
    """
    sampler = MixtureSampler(
        [len(item.dataset) for item in sets],
        [item.ratio for item in sets],
        batch_size=batch_size,
        seed=seed,
        start_step=start_step,
        steps=steps,
        rank=rank,
        world_size=world_size,
    )
    augmentation = Augmentation(size=size, jitter=jitter, flip=flip, colour=colour)
    collate = Collate(queries_per_part=queries_per_part, max_names=max_names, tower_size=tower_size)
    loader = DataLoader(
        _Examples(sets, augmentation, seed),
        batch_sampler=sampler,
        collate_fn=_CollateOrFault(collate),
        num_workers=workers,
        worker_init_fn=_start_worker if workers else None,
        prefetch_factor=4 if workers else None,
    )
    return TrainingLoader(loader, sampler)
