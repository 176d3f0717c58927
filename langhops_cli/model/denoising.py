"""Denoising queries: true instances, made noisy, that the decoder learns to put right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from .structures import Denoising, Instances, Names


class DenoisingQueries(nn.Module):
    """Noised copies of the true objects, or parts, with a content made from their name's text embedding.

    A query's content speaks of a name and not of a class number, so that any vocabulary can be denoised.
    Source: DN-DETR (arXiv 2203.01305), sections 4.1 to 4.3; Mask DINO (arXiv 2206.02777).

    Args:
        query_dim: width of queries and name embeddings, d.
        num_queries: at most this many noised queries a picture.
        label_flip: how often a query is given a random name instead of its own, 0..1.
        box_jitter: how far a box may move, in half sizes, and grow or shrink, in sizes, 0..1.
    """

    def __init__(
        self, *, query_dim: int, num_queries: int = 100, label_flip: float = 0.2, box_jitter: float = 0.4
    ) -> None:
        super().__init__()
        self.projection = nn.Linear(query_dim, query_dim)
        self.num_queries = num_queries
        self.label_flip = label_flip
        self.box_jitter = box_jitter

    def forward(
        self,
        instances: Sequence[Instances],
        names: Names,
        *,
        generator: torch.Generator | None = None,
    ) -> Denoising:
        """Make as many groups of all instances as fit; without any instance one query that is not valid.

        Args:
            instances: the true ones of the B pictures.
            names: embeddings of their level's names, (B, C, d); a picture's real names stand in front.
            generator: source of randomness on the device of the instances.

        Returns:
            Denoising with N = groups x (most instances in a picture) queries.
        """
        device = names.embeddings.device
        rows = [_chosen(len(item.labels), self.num_queries).to(device) for item in instances]
        index = pad_sequence(rows, batch_first=True, padding_value=-1)
        index = pad(index, (0, int(not index.shape[1])), value=-1)  # one place at least, so that all ranks run alike
        groups = max(1, self.num_queries // index.shape[1])
        valid = (index >= 0).repeat(1, groups)
        index = index.clamp(min=0).repeat(1, groups)
        labels = _padded([item.labels for item in instances]).gather(1, index)
        boxes = _padded([item.boxes.float() for item in instances])
        boxes = boxes.gather(1, index.unsqueeze(-1).expand(-1, -1, 4))

        labels = self._flip(labels, names.valid, generator)
        embeddings = pad(names.embeddings, (0, 0, 0, 1))  # a row to read where a picture has no names
        content = self.projection(embeddings.gather(1, labels.unsqueeze(-1).expand(-1, -1, embeddings.shape[-1])))
        return Denoising(
            content=content,
            reference=torch.logit(self._jitter(boxes, generator), eps=1e-4),
            valid=valid,
            groups=groups,
            target=index,
        )

    def _flip(self, labels: Tensor, valid: Tensor, generator: torch.Generator | None) -> Tensor:
        draw = torch.rand(2, *labels.shape, generator=generator, device=labels.device)
        other = (draw[0] * valid.sum(1, keepdim=True)).long()
        return torch.where(draw[1] < self.label_flip, other, labels)

    def _jitter(self, boxes: Tensor, generator: torch.Generator | None) -> Tensor:
        draw = torch.rand(boxes.shape, generator=generator, device=boxes.device) * 2 - 1
        reach = boxes[..., 2:].repeat(1, 1, 2) * boxes.new_tensor([0.5, 0.5, 1.0, 1.0])
        return boxes + draw * reach * self.box_jitter


def attention_mask(valid: Tensor, *, groups: int, num_matched: int) -> Tensor:
    """Who may not look at whom, so that no true answer leaks.

    A noised query sees its own group and all queries that are matched; those see no noised query.

    Args:
        valid: noised queries that are real, group by group, (B, N).
        groups: number of groups, a divisor of N.
        num_matched: Q, the queries that are matched.

    Returns:
        True where a row may NOT attend to a column, (B, N + Q, N + Q).

    Source: DN-DETR (arXiv 2203.01305), section 4.2.
    """
    noised = valid.shape[1]
    group = torch.arange(noised, device=valid.device) // (noised // groups)
    group = pad(group, (0, num_matched), value=-1)
    is_noised = group >= 0
    hidden = is_noised & (group[:, None] != group)
    return hidden | (is_noised & ~pad(valid, (0, num_matched), value=True))[:, None]


def _chosen(count: int, most: int) -> Tensor:
    """Instances that take part: all, or a random choice where they are too many."""
    return torch.randperm(count)[:most] if count > most else torch.arange(count)


def _padded(rows: Sequence[Tensor]) -> Tensor:
    """Rows of unequal length as one tensor that is never empty."""
    padded = pad_sequence(list(rows), batch_first=True)
    missing = int(not padded.shape[1])
    return torch.cat([padded, padded.new_zeros(len(padded), missing, *padded.shape[2:])], dim=1)
