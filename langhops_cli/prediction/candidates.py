"""Queries that may become instances: scored by their masks, sorted, duplicates suppressed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from langhops_cli.prediction.masks import mask_quality, overlaps, suppress
from langhops_cli.vocabulary import Vocabulary

SAME_NAME_LIMIT = 0.5
"""Mask IoU above which two objects of one name are one object."""
ANY_NAME_LIMIT = 0.7
"""Mask IoU above which two objects of different names are one object, with the better name."""
PART_LIMIT = 0.6
"""Mask IoU above which two parts of one object and one name are one part."""
ANY_PART_LIMIT = 0.8
"""Mask IoU above which two parts of one object are one part, with the better name; a part may fill the one it is of."""


@dataclass(frozen=True)
class Candidates:
    """Queries under a name with their score, best first: query (N,), name (N,), score (N,), masks (N, h, w) logits."""

    query: Tensor
    name: Tensor
    score: Tensor
    masks: Tensor

    def take(self, index: Tensor | list[int]) -> Candidates:
        """Return the candidates of these indices."""
        return Candidates(self.query[index], self.name[index], self.score[index], self.masks[index])

    def scoring(self, least: float) -> Candidates:
        """Return those that score `least` or more."""
        return self.take(torch.nonzero(self.score >= least).flatten())

    def without_duplicates(self, limits: Tensor) -> Candidates:
        """Return those that overlap no better one by more than the pair's limit, a mask IoU, (N, N)."""
        iou, _ = overlaps(self.masks > 0)
        return self.take(suppress(iou, limits))

    @classmethod
    def of(cls, query: Tensor, name: Tensor, likelihood: Tensor, masks: Tensor) -> Candidates:
        """Weigh each query's likelihood by the quality of its mask and sort; empty masks are dropped."""
        chosen = masks[query].float()
        score = likelihood * mask_quality(chosen)
        order = score.argsort(descending=True, stable=True)
        order = order[score[order] > 0]
        return cls(query[order], name[order], score[order], chosen[order])

    @classmethod
    def join(cls, groups: Sequence[Candidates]) -> Candidates:
        """Put groups behind one another, each best first; there is at least one."""
        columns = ((group.query, group.name, group.score, group.masks) for group in groups)
        return cls(*(torch.cat(column) for column in zip(*columns, strict=True)))


def merge_levels(
    levels: Sequence[Candidates], host: Tensor, objects: Tensor, vocabulary: Vocabulary
) -> tuple[Candidates, list[int]]:
    """Make one of parts that were found twice, asked of the object and asked of the part they are in.

    The better one stays and takes the place of the other: what was in that is in this, and it is where that was.

    Args:
        levels: candidates of each run of the part stage, what each was looked for in being in an earlier one.
        host: for every part query that in whose part it was looked for, -1 for none, (M,).
        objects: for every part query its object, (M,).
        vocabulary: what was looked for.

    Returns:
        The candidates, parts of objects first, each level of the vocabulary best first, and for each the index of the
        one it is in, -1 for none.
    """
    found = Candidates.join(levels)
    found = found.take(found.score.argsort(descending=True, stable=True))
    owner, count = objects[found.query], len(found.query)
    if not count:
        return found, []
    iou, _ = overlaps(found.masks > 0)
    kept = torch.zeros(count, dtype=torch.bool, device=iou.device)
    kept[suppress(iou, part_limits(found.name, owner, vocabulary))] = True
    numbers = torch.arange(count, device=iou.device)
    twice = (found.name[:, None] == found.name) & (owner[:, None] == owner) & (iou > PART_LIMIT) & kept
    stands_for = torch.where(kept, numbers, torch.where(twice.any(1), twice.byte().argmax(1), -1))
    place = torch.full_like(host, -1)
    place[found.query] = numbers
    asked_in = host[found.query]
    above = torch.where(asked_in >= 0, stands_for[place[asked_in.clamp(min=0)]], -1)
    there = kept & ((asked_in < 0) | (above >= 0))
    for _ in levels:  # what is in a part that is not there goes with it
        there = there & ((above < 0) | there[above.clamp(min=0)])
    heirs = (stands_for == numbers[:, None]) & (above >= 0) & there[above.clamp(min=0)]
    above = torch.where((above < 0) & heirs.any(1), above[heirs.byte().argmax(1)], above)
    depth = torch.tensor([*map(len, vocabulary.part_paths)], device=iou.device)[found.name]
    order = depth.argsort(stable=True)
    order = order[there[order]]
    position = torch.full_like(numbers, -1)
    position[order] = numbers[: len(order)]
    inside = torch.where(above[order] < 0, -1, position[above[order].clamp(min=0)])
    return found.take(order), inside.tolist()


def object_limits(names: Tensor) -> Tensor:
    """Greatest mask IoU that two objects of these names may have, (N,) to (N, N)."""
    return torch.where(names[:, None] == names[None, :], SAME_NAME_LIMIT, ANY_NAME_LIMIT)


def part_limits(names: Tensor, objects: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Greatest mask IoU that two parts of these names and of these objects may have, (N,) and (N,) to (N, N).

    It is unlimited for parts of two objects, and for a part and what it is a part of.
    """
    same = names[:, None] == names[None, :]
    within = _within(vocabulary).to(names.device)[names[:, None], names[None, :]]
    limits = torch.where(same, PART_LIMIT, torch.where(within, torch.inf, ANY_PART_LIMIT))
    return torch.where(objects[:, None] == objects[None, :], limits, torch.inf)


def part_likelihood(logits: Tensor, own_name: Tensor, *, any_name: bool) -> tuple[Tensor, Tensor]:
    """Likelihood and name of each part query.

    Args:
        logits: of all part names, (M, Cp).
        own_name: the name each was asked for, -1 for none, (M,).
        any_name: take the likeliest of all names; else its own name counts, where it has one.

    Returns:
        (M,) in 0..1, and (M,).
    """
    best = logits.argmax(1)
    name = best if any_name else torch.where(own_name < 0, best, own_name)
    return logits.gather(1, name[:, None]).squeeze(1).sigmoid(), name


def _within(vocabulary: Vocabulary) -> Tensor:
    """Pairs of part names of which one is a part of the other, at any depth, (Cp, Cp), bool."""
    classes = vocabulary.part_classes
    related = torch.zeros(len(classes), len(classes), dtype=torch.bool)
    for index, item in enumerate(classes):
        above = item.parent
        while above is not None:
            related[index, above] = related[above, index] = True
            above = classes[above].parent
    return related
