"""From samples to a padded batch with its vocabularies and targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from langhops_cli.data.canvas import to_canvas
from langhops_cli.data.names import choose_names, leave_parts_out
from langhops_cli.data.sample import Sample, SampleInstance
from langhops_cli.model.structures import Instances, Movable, Pictures, Targets, VocabularyBatch


@dataclass(frozen=True)
class Batch(Movable):
    """What one training step reads.

    Args:
        pictures: the padded pictures.
        vocabulary: the names of each picture.
        targets: what is true in each picture.
    """

    pictures: Pictures
    vocabulary: VocabularyBatch
    targets: list[Targets]

    def to(self, device: torch.device | str) -> Batch:
        """Return a copy on `device`."""
        moved = super().to(device)
        return replace(moved, targets=[target.to(device) for target in self.targets])


class Collate:
    """Makes a batch of samples whose vocabularies and sizes may differ.

    Args:
        queries_per_part: how often a part without a count of its own is asked for.
        max_names: most object names and most part names of one picture; from a larger vocabulary the names in the
            picture are taken and others drawn at random, by the sample's `draw`.
        drop_parts: chance with which each part name is left out of a picture's vocabulary, by the same, 0..1.
        tower_size: side of the pictures for the language model's own image tower in pixels; None where it has none.
    """

    def __init__(
        self,
        *,
        queries_per_part: int = 1,
        max_names: int = 300,
        drop_parts: float = 0.0,
        tower_size: int | None = None,
    ) -> None:
        self.queries_per_part = queries_per_part
        self.max_names = max_names
        self.drop_parts = drop_parts
        self.tower_size = tower_size

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        samples = [self._ask(sample, np.random.default_rng([sample.draw, 7])) for sample in samples]
        pictures = to_canvas([np.asarray(sample.image) for sample in samples], tower_size=self.tower_size)
        vocabulary = VocabularyBatch.of(
            [sample.vocabulary for sample in samples], queries_per_part=self.queries_per_part
        )
        return Batch(pictures, vocabulary, [to_targets(sample) for sample in samples])

    def _ask(self, sample: Sample, generator: np.random.Generator) -> Sample:
        if self.drop_parts:
            sample = leave_parts_out(sample, chance=self.drop_parts, generator=generator)
        return choose_names(sample, max_names=self.max_names, generator=generator)


def to_targets(sample: Sample) -> Targets:
    """Tensors of what is true in a picture."""
    vocabulary = sample.vocabulary
    parents = torch.tensor([part.parent for part in sample.parts], dtype=torch.int64)
    return Targets(
        objects=_to_instances(sample.objects, sample, len(vocabulary.objects), sample.unsure_objects),
        parts=replace(
            _to_instances(sample.parts, sample, len(vocabulary.part_classes), sample.unsure_parts), parents=parents
        ),
        name=sample.name,
    )


def _to_instances(items: Sequence[SampleInstance], sample: Sample, names: int, unsure: frozenset[int]) -> Instances:
    height, width = sample.size
    corners = torch.tensor([item.box for item in items], dtype=torch.float32).reshape(-1, 4)
    corners = corners / torch.tensor([width, height, width, height], dtype=torch.float32)
    low, high = corners[:, :2], corners[:, 2:]
    negatives = torch.ones(names, dtype=torch.bool)
    negatives[list(unsure)] = False
    return Instances(
        labels=torch.tensor([item.label for item in items], dtype=torch.int64),
        boxes=torch.cat([(low + high) / 2, high - low], dim=1),
        masks=_stack_masks(items, height, width),
        negatives=negatives,
    )


def _stack_masks(items: Sequence[SampleInstance], height: int, width: int) -> torch.Tensor | None:
    """(N, h, w) uint8; None if any instance is known by its box only."""
    masks = [item.mask for item in items if item.mask is not None]
    if len(masks) < len(items):
        return None
    if not masks:
        return torch.zeros(0, height, width, dtype=torch.uint8)
    return torch.from_numpy(np.stack(masks).astype(np.uint8, copy=False))
