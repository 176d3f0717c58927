"""Part queries grounded in language: what the detector saw joined with what language says may be there."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from .structures import NO_PART, DecoderOutput, KeptObjects, Names, PartQueries, VocabularyBatch

Norm = Literal["layer", "none"]


class HierarchyQueries(nn.Module):
    """One initial query for each (kept object, candidate part of its class, slot).

    Source: LangHOPS, section 3.2.

    Args:
        query_dim: width of object queries and name embeddings, d.
        hidden_dim: width of the language model that reads the queries, D.
        slots: how many instances of one part can be asked for.
        max_queries: part queries of one picture; those of the weakest objects are left out beyond it.
        empty_queries: an object without candidate parts has one query, made of zeros, that the others can see; as the
            release was trained.
        norm: "layer" for our models, "none" for converted ones, whose norm is folded into the next layer.
        scale: root mean square of a fresh query. That of the language model's word embeddings is right: larger ones
            drown the positions that a language model adds to them, and with them the order of the objects.
    """

    def __init__(
        self,
        *,
        query_dim: int,
        hidden_dim: int,
        slots: int = 64,
        max_queries: int = 512,
        empty_queries: bool = False,
        norm: Norm = "layer",
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.max_queries = max_queries
        self.empty_queries = empty_queries
        self.slots = nn.Embedding(slots, query_dim)
        nn.init.normal_(self.slots.weight, std=0.02)
        last = nn.Linear(hidden_dim, hidden_dim)
        nn.init.normal_(last.weight, std=scale / hidden_dim**0.5)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(
            nn.Linear(2 * query_dim, hidden_dim),
            nn.ReLU(),
            _norm(norm, hidden_dim),
            nn.Linear(hidden_dim, hidden_dim),
            nn.ReLU(),
            _norm(norm, hidden_dim),
            last,
        )

    def forward(
        self, kept: KeptObjects, parts: Names, vocabulary: VocabularyBatch, *, trace: dict[str, Tensor] | None = None
    ) -> PartQueries:
        """Ask for the parts of the kept objects.

        Args:
            kept: the K objects of each picture.
            parts: embeddings of the picture's part names.
            vocabulary: for the candidate parts of every object name.
            trace: filled with named tensors on the way when given.

        Returns:
            PartQueries of width D, packed to the front in the order of the objects.
        """
        rows = kept.classes.unsqueeze(-1).expand(-1, -1, vocabulary.children.shape[-1])
        names = vocabulary.children.gather(1, rows)
        slots = vocabulary.child_slot.gather(1, rows)
        asked = vocabulary.child_valid.gather(1, rows) & kept.valid.unsqueeze(-1)
        if self.empty_queries:
            alone = kept.valid.unsqueeze(-1) & ~asked.any(-1, keepdim=True)
            names, slots, asked = pad(names, (1, 0), value=NO_PART), pad(slots, (1, 0)), torch.cat([alone, asked], -1)
        parents = torch.arange(names.shape[1], device=names.device)[None, :, None].expand_as(names)

        # a stable sort moves what is asked to the front without asking the device how much that is
        order = (~asked.flatten(1)).byte().argsort(dim=1, stable=True)[:, : self.max_queries]
        name, slot, parent, valid = (table.flatten(1).gather(1, order) for table in (names, slots, parents, asked))
        dim = kept.queries.shape[-1]
        objects = kept.queries.gather(1, parent.unsqueeze(-1).expand(-1, -1, dim))
        candidates = parts.embeddings.gather(1, name.clamp(min=0).unsqueeze(-1).expand(-1, -1, dim)) + self._slot(slot)
        initial = torch.cat([objects, candidates], dim=-1).masked_fill((name == NO_PART).unsqueeze(-1), 0.0)
        mapped = self.mlp(initial)
        if trace is not None:
            trace["initial_queries"], trace["mapped_queries"] = initial, mapped
        return PartQueries(mapped, parent, name, valid, slot)

    def _slot(self, slot: Tensor) -> Tensor:
        """The first slot is the part itself, so that an only instance is named by language alone."""
        embedded: Tensor = self.slots(slot)
        return embedded * (slot > 0).unsqueeze(-1)


def _norm(norm: Norm, dim: int) -> nn.Module:
    return nn.LayerNorm(dim) if norm == "layer" else nn.Identity()


def keep_objects(objects: DecoderOutput, count: int) -> KeptObjects:
    """The `count` objects with the highest logit of any name, best first, each with its likeliest name."""
    scores, classes = objects.final.logits.max(-1)
    scores, index = scores.topk(min(count, scores.shape[1]), dim=1)
    states = objects.queries.gather(1, index.unsqueeze(-1).expand(-1, -1, objects.queries.shape[-1]))
    boxes = objects.final.boxes.gather(1, index.unsqueeze(-1).expand(-1, -1, 4))
    return KeptObjects(index, states, classes.gather(1, index), scores, objects.valid.gather(1, index), boxes)
