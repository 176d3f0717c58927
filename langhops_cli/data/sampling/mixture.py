"""The batches of a training: pictures of several sets, read and changed by processes that work ahead."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from langhops_cli.data.collate import Batch, Collate
from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.names import ask_for_absent
from langhops_cli.data.sample import Sample
from langhops_cli.data.sampling.repeats import repeat_factors
from langhops_cli.data.sampling.sampler import Draw, MixtureSampler
from langhops_cli.data.streamed import StreamedDataset
from langhops_cli.data.transforms import flip, jitter_colour, jitter_crop, jittered_size
from langhops_cli.errors import UserError

TrainingDataset = PreparedDataset | StreamedDataset
"""What a training reads from."""


@dataclass(frozen=True)
class MixedSet:
    """A set in a mixture.

    Args:
        dataset: the set, prepared on this machine or streamed.
        ratio: how often it is drawn, whatever its size.
        absent: names of objects that none of its pictures holds, which it is asked about as well.
        repeat_threshold: names in a smaller share of its pictures than this are drawn more often, see
            `repeat_factors`; None draws every picture as often as any other.

    Raises:
        UserError: a name is one of the set's own, or pictures of a streamed set are to be repeated.
    """

    dataset: TrainingDataset
    ratio: float = 1.0
    absent: tuple[str, ...] = ()
    repeat_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.repeat_threshold is not None:
            self._prepared("repeat_threshold")
        for name in self.absent:
            if name in self.dataset.vocabulary.object_names:
                raise UserError(f"'{name}' is an object of {self.dataset.name} and cannot be absent from it.")

    def factors(self) -> np.ndarray | None:
        """How often each picture stands in an epoch on the average; None for once each."""
        if self.repeat_threshold is None:
            return None
        return repeat_factors(self._prepared("repeat_threshold"), self.repeat_threshold)

    def sizes(self) -> np.ndarray:
        """Height and width of its pictures in pixels, (N, 2).

        Raises:
            UserError: the set is streamed: they are not known before it is read.
        """
        dataset = self._prepared("group_by_aspect")
        return np.stack([dataset.column(side).to_numpy() for side in ("height", "width")], axis=1)

    def _prepared(self, key: str) -> PreparedDataset:
        if isinstance(self.dataset, StreamedDataset):
            raise UserError(
                f"{key} needs a prepared set, and {self.dataset.name} is streamed: leave one of the two out."
            )
        return self.dataset


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

    def load(self, dataset: TrainingDataset, index: int, generator: np.random.Generator) -> Sample:
        """Read a picture and change it; the generator's state decides all."""
        scale = self._draw_scale(generator)
        mirrored = bool(generator.random() < self.flip)
        sample = dataset.load(index, longest=math.ceil(self.size * scale))
        sample = jitter_crop(sample, size=self.size, scale=scale, generator=generator)
        if mirrored:
            sample = flip(sample)
        return jitter_colour(sample, strength=self.colour, generator=generator)

    def size_of(self, size: tuple[int, int], generator: np.random.Generator) -> tuple[int, int]:
        """Height and width that `load` makes of a picture of some height and width, to a pixel."""
        height, width = jittered_size(size, canvas=self.size, scale=self._draw_scale(generator))
        return min(height, self.size), min(width, self.size)

    def _draw_scale(self, generator: np.random.Generator) -> float:
        return float(generator.uniform(*self.jitter))


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
        generator = self._generator(draw)
        chosen = self.sets[draw.dataset]
        try:
            sample = self.augmentation.load(chosen.dataset, draw.index, generator)
        except UserError as error:
            return _Fault(str(error), error.code)
        sample = ask_for_absent(sample, chosen.absent)
        return replace(sample, draw=int(generator.integers(2**31)))

    def sizes(self) -> Callable[[Draw], tuple[int, int]]:
        """What tells the height and width of a draw's picture in training, without reading it."""
        sizes = [item.sizes() for item in self.sets]

        def size_of(draw: Draw) -> tuple[int, int]:
            height, width = sizes[draw.dataset][draw.index].tolist()
            return self.augmentation.size_of((height, width), self._generator(draw))

        return size_of

    def _generator(self, draw: Draw) -> np.random.Generator:
        return np.random.default_rng([self.seed, draw.seed])


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
    group_by_aspect: bool = False,
    queries_per_part: int = 1,
    max_names: int = 300,
    drop_parts: float = 0.0,
    tower_size: int | None = None,
) -> TrainingLoader:
    """Endless or counted batches of augmented pictures; step k of a seed is always the same, whatever the workers.

    With a streamed set, step k depends on the number of workers as well.

    Args:
        sets: prepared or streamed sets with the ratios by which they are drawn.
        batch_size: pictures a step and rank.
        size: side of the square canvas in pixels.
        jitter: smallest and largest scale, 1 for a picture that just fills the canvas.
        flip: chance of mirroring; colour: strength of the colour jitter.
        seed: decides every draw.
        workers: processes that read ahead; 0 reads in this one.
        start_step: the step to begin at, to go on with a training.
        steps: the step to end before; without end when left out.
        rank: number of this process; world_size: number of processes.
        group_by_aspect: put pictures that need a like canvas after the jitter into one batch, for less padding; every
            picture is drawn as often as without.
        queries_per_part: how often a part without a count of its own is asked for.
        max_names: most object names and most part names of a picture.
        drop_parts: chance with which each part name is left out of a picture's vocabulary.
        tower_size: side of the pictures for the language model's own image tower in pixels; None where it has none.

    Raises:
        UserError: pictures of a streamed set are to be grouped; or, when iterated, a picture cannot be read, which the
            message names.
    """
    examples = _Examples(sets, Augmentation(size=size, jitter=jitter, flip=flip, colour=colour), seed)
    sampler = MixtureSampler(
        [len(item.dataset) for item in sets],
        [item.ratio for item in sets],
        groups=[item.dataset.groups if isinstance(item.dataset, StreamedDataset) else None for item in sets],
        factors=[item.factors() for item in sets],
        size_of=examples.sizes() if group_by_aspect else None,
        batch_size=batch_size,
        seed=seed,
        start_step=start_step,
        steps=steps,
        rank=rank,
        world_size=world_size,
        workers=workers,
    )
    collate = Collate(
        queries_per_part=queries_per_part, max_names=max_names, drop_parts=drop_parts, tower_size=tower_size
    )
    loader = DataLoader(
        examples,
        batch_sampler=sampler,
        collate_fn=_CollateOrFault(collate),
        num_workers=workers,
        worker_init_fn=_start_worker if workers else None,
        prefetch_factor=4 if workers else None,
    )
    return TrainingLoader(loader, sampler)
