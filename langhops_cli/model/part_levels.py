"""Parts of parts: the parts that were found take the place of the kept objects, level by level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from .structures import DecoderOutput, KeptObjects, PartQueries, Predictions, VocabularyBatch


@dataclass(frozen=True)
class PartLevel:
    """One run of the part stage.

    Args:
        hosts: the objects, or the parts of the level above, whose parts were looked for.
        queries: what was asked; parts: the answer, query for query.
    """

    hosts: KeptObjects
    queries: PartQueries
    parts: DecoderOutput


def keep_parts(level: PartLevel, has_parts: Tensor, count: int) -> KeptObjects:
    """The likeliest parts of a level that have parts themselves, best first, each under the name it was asked for.

    A part of an object that is hardly there counts as little as the object: every object asks for a head, and those
    that are none point at the next dog's.

    Args:
        level: a run of the part stage.
        has_parts: part names that count, (B, Cp), bool.
        count: how many are kept at most.

    Returns:
        As kept objects: `index` counts the level's part queries, `classes` the picture's part names.
    """
    queries, final = level.queries, level.parts.final
    name = queries.name.clamp(min=0)
    scores = final.logits.gather(2, name.unsqueeze(-1)).squeeze(-1).float()
    above = level.hosts.scores.float().gather(1, queries.parent)
    usable = queries.valid & level.parts.valid & (queries.name >= 0) & has_parts.gather(1, name)
    likelihood = (logsigmoid(scores) + logsigmoid(above) / 2).masked_fill(~usable, -torch.inf)
    index = likelihood.topk(min(count, likelihood.shape[1]), dim=1).indices
    return KeptObjects(
        index,
        _rows(level.parts.queries, index),
        name.gather(1, index),
        scores.gather(1, index),
        usable.gather(1, index),
        _rows(final.boxes, index),
    )


def parts_of_parts(deeper: VocabularyBatch) -> Tensor:
    """Whether each part name is that of a part of a part, (B, Cp), bool; `deeper` as in `VocabularyBatch`."""
    count = torch.zeros_like(deeper.part_valid, dtype=torch.long)
    return count.scatter_add(1, deeper.children.flatten(1), deeper.child_valid.flatten(1).long()) > 0


def join_levels(levels: Sequence[PartLevel]) -> tuple[PartQueries, DecoderOutput]:
    """Queries and answers of all levels behind one another.

    Args:
        levels: the parts of the objects first, then each level's hosts are from the one before it.

    Returns:
        The queries, whose `parent` is the kept object at the root and whose `host` the part query above; the answers.
    """
    if len(levels) == 1:
        return levels[0].queries, levels[0].parts
    parents = [levels[0].queries.parent]
    hosts = [torch.full_like(parents[0], -1)]
    passed = 0
    for above, level in pairwise(levels):
        source = level.hosts.index.gather(1, level.queries.parent)
        parents.append(parents[-1].gather(1, source))
        hosts.append(source + passed)
        passed += above.queries.parent.shape[1]
    asked, answers = [level.queries for level in levels], [level.parts for level in levels]
    slots = [item.slot for item in asked if item.slot is not None]
    masks = [item.final.masks for item in answers if item.final.masks is not None]
    queries = PartQueries(
        torch.cat([item.embeds for item in asked], dim=1),
        torch.cat(parents, dim=1),
        torch.cat([item.name for item in asked], dim=1),
        torch.cat([item.valid for item in asked], dim=1),
        torch.cat(slots, dim=1) if slots else None,
        torch.cat(hosts, dim=1),
    )
    final = Predictions(
        torch.cat([item.final.logits for item in answers], dim=1),
        torch.cat([item.final.boxes for item in answers], dim=1),
        torch.cat(masks, dim=1) if masks else None,
    )
    states = torch.cat([item.queries for item in answers], dim=1)
    return queries, DecoderOutput(states, torch.cat([item.valid for item in answers], dim=1), final)


def _rows(table: Tensor, index: Tensor) -> Tensor:
    return table.gather(1, index.unsqueeze(-1).expand(-1, -1, table.shape[-1]))
