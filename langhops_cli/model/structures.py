"""What the parts of the model hand to one another.

Symbols as in the paper: B pictures, H x W the padded canvas, Q object queries, K kept objects, M part queries,
Co / Cp object and part names of one picture's vocabulary, d the query width, D the language model's width.
Every padded axis comes with a boolean mask that is True where the entry is real.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

if TYPE_CHECKING:
    from langhops_cli.vocabulary import Vocabulary


class Movable:
    """A dataclass whose tensors, and structures of tensors, move to a device together."""

    def to(self, device: torch.device | str) -> Self:
        """Return a copy on `device`; what is no tensor stays as it is."""
        moved = {}
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            if isinstance(value, Tensor | Movable):
                moved[item.name] = value.to(device)
        return replace(self, **moved)  # type: ignore[type-var]


@dataclass(frozen=True)
class Pictures(Movable):
    """A padded batch of pictures; each fills the top left corner of its canvas.

    Args:
        pixels: RGB in 0..255, uint8 or float, (B, 3, H, W); H and W multiples of 64, so that all strides divide them.
        sizes: height and width of each picture on the canvas in pixels, (B, 2), int64.
        mllm_pixels: the same pictures as the language model's own image tower wants them, (B, 3, h, w), or None.
    """

    pixels: Tensor
    sizes: Tensor
    mllm_pixels: Tensor | None = None

    @property
    def extent(self) -> Tensor:
        """Share of the canvas that each picture fills, (B, 2) as (x, y) in 0..1: scales boxes to the canvas."""
        height, width = self.pixels.shape[-2:]
        return self.sizes.flip(-1) / self.sizes.new_tensor([width, height])

    def valid(self, stride: int) -> Tensor:
        """Cells of the map of this stride that hold picture, (B, ceil(H / stride), ceil(W / stride)), bool."""
        rows, columns = (torch.arange(0, side, stride, device=self.sizes.device) for side in self.pixels.shape[-2:])
        inside_y = rows < self.sizes[:, :1]
        inside_x = columns < self.sizes[:, 1:]
        return inside_y[:, :, None] & inside_x[:, None, :]


@dataclass(frozen=True)
class VocabularyBatch(Movable):
    """The vocabularies of a batch: each name once in `texts`, and per picture which of them are its names.

    Args:
        texts: U different names, as the text encoder reads them.
        objects: index into `texts` of each object name, (B, Co), with `object_valid`.
        parts: index into `texts` of each part name ("dog head"), (B, Cp), with `part_valid`.
        children: for every object name its candidate part queries as indices into the picture's parts, (B, Co, P),
            with `child_valid`; a part with a count stands once a slot.
        child_slot: number of the repetition of a part, from 0, (B, Co, P).
        deeper: the same with the parts in the place of the objects: what is asked of the parts that have parts when
            the part stage runs again; None where it runs once.
        levels: how often it runs.
    """

    texts: tuple[str, ...]
    objects: Tensor
    object_valid: Tensor
    parts: Tensor
    part_valid: Tensor
    children: Tensor
    child_valid: Tensor
    child_slot: Tensor
    deeper: VocabularyBatch | None = None
    levels: int = 1

    @classmethod
    def of(
        cls, vocabularies: Sequence[Vocabulary], *, queries_per_part: int = 1, by_level: bool = False
    ) -> VocabularyBatch:
        """Tabulate vocabularies.

        Args:
            vocabularies: one a picture.
            queries_per_part: how often a part without a count of its own is asked for.
            by_level: after all parts, however deep, were asked of the object at once, as in training, ask for the
                parts of parts again in the parts that were found, level by level.
        """
        texts: dict[str, int] = {}
        objects = [[texts.setdefault(name, len(texts)) for name in v.object_names] for v in vocabularies]
        parts = [[texts.setdefault(part.text, len(texts)) for part in v.part_classes] for v in vocabularies]
        asked: list[list[list[tuple[int, int]]]] = []  # of every object the (part, slot) pairs
        below: list[list[list[tuple[int, int]]]] = []  # of every part
        for vocabulary in vocabularies:
            of_objects: list[list[tuple[int, int]]] = [[] for _ in vocabulary.object_names]
            of_parts: list[list[tuple[int, int]]] = [[] for _ in vocabulary.part_classes]
            for index, part in enumerate(vocabulary.part_classes):
                pairs = [(index, slot) for slot in range(part.count if part.count > 1 else queries_per_part)]
                of_objects[part.object].extend(pairs)
                if part.parent is not None:
                    of_parts[part.parent].extend(pairs)
            asked.append(of_objects)
            below.append(of_parts)
        # a path begins with the object's name
        levels = max([1, *(len(path) - 1 for vocabulary in vocabularies for path in vocabulary.part_paths)])
        named, named_parts = _pad(objects), _pad(parts)
        table = cls(tuple(texts), *named, *named_parts, *_pad_rows(asked))
        if levels == 1 or not by_level:
            return table
        return replace(table, deeper=cls((), *named_parts, *named_parts, *_pad_rows(below)), levels=levels)


def _pad_rows(tables: Sequence[Sequence[Sequence[tuple[int, int]]]]) -> tuple[Tensor, Tensor, Tensor]:
    """First numbers of the pairs in each row of each table, whether there is one, and second numbers, (B, R, P)."""
    width = max([1, *(len(row) for table in tables for row in table)])
    pairs = torch.zeros(len(tables), max([1, *map(len, tables)]), width, 2, dtype=torch.long)
    valid = torch.zeros(pairs.shape[:-1], dtype=torch.bool)
    for b, table in enumerate(tables):
        for r, row in enumerate(table):
            if row:
                pairs[b, r, : len(row)] = torch.tensor(row)
                valid[b, r, : len(row)] = True
    return pairs[..., 0], valid, pairs[..., 1]


def _pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    width = max([1, *map(len, rows)])  # never empty, so that a gather has something to point at
    index = torch.zeros(len(rows), width, dtype=torch.long)
    valid = torch.zeros(len(rows), width, dtype=torch.bool)
    for b, row in enumerate(rows):
        index[b, : len(row)] = torch.as_tensor(row, dtype=torch.long)
        valid[b, : len(row)] = True
    return index, valid


@dataclass(frozen=True)
class Names(Movable):
    """Embeddings of one level's names, (B, C, d), with the names that are real, (B, C)."""

    embeddings: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Instances(Movable):
    """What is true in one picture at one level (objects or parts).

    Args:
        labels: index into the picture's names of the level, (N,), int64.
        boxes: centre x, centre y, width, height as shares of the picture, (N, 4), float32.
        masks: (N, h, w), uint8 0/1, at the picture's own size on the canvas; None where only boxes are known.
        negatives: names an unmatched query may be told it is not, (C,), bool: all of them in an exhaustively
            labelled picture, else only names known to be absent or not annotated.
        parents: for parts the index of the object instance they belong to, -1 where unknown, (N,), int64.
    """

    labels: Tensor
    boxes: Tensor
    masks: Tensor | None
    negatives: Tensor
    parents: Tensor | None = None


@dataclass(frozen=True)
class Targets(Movable):
    """What is true in one picture; `name` says which picture, for messages."""

    objects: Instances
    parts: Instances
    name: str = ""


@dataclass(frozen=True)
class Predictions(Movable):
    """What the heads say of a set of queries.

    Args:
        logits: (B, Q, C); padded names hold a large negative number.
        boxes: centre x, centre y, width, height as shares of the picture, (B, Q, 4).
        masks: logits at stride 4 over the canvas, (B, Q, H / 4, W / 4), or None where no masks were asked for.
    """

    logits: Tensor
    boxes: Tensor
    masks: Tensor | None


@dataclass(frozen=True)
class Denoising(Movable):
    """Noised true instances that ride along with the queries of a decoder in training (DN-DETR).

    Args:
        content: (B, N, d); reference: box logits (B, N, 4); valid: (B, N).
        groups: how many groups of N / groups queries there are; each holds every instance once.
        target: index of the picture's true instance each one was made from, (B, N).
    """

    content: Tensor
    reference: Tensor
    valid: Tensor
    groups: int
    target: Tensor


@dataclass(frozen=True)
class DecoderOutput(Movable):
    """One decoder's answer for its Q queries.

    Args:
        queries: final states, (B, Q, d); valid: (B, Q).
        final: predictions of the last layer.
        auxiliary: predictions before each layer, starting content first; empty outside training.
        proposals: predictions of the starting content, with gradient to the proposals; None outside training.
        denoising: predictions for the denoising queries, one for each of `auxiliary` and `final`; empty without them.
        intermediates: named tensors on the way, when asked for.
    """

    queries: Tensor
    valid: Tensor
    final: Predictions
    auxiliary: tuple[Predictions, ...] = ()
    proposals: Predictions | None = None
    denoising: tuple[Predictions, ...] = ()
    intermediates: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class KeptObjects(Movable):
    """The K best objects of each picture, best first.

    Args:
        index: of the object query, (B, K); queries: its state, (B, K, d).
        classes: its likeliest name, (B, K); scores: that name's logit, (B, K).
        valid: (B, K).
        boxes: centre x, centre y, width, height as shares of the picture, (B, K, 4).
    """

    index: Tensor
    queries: Tensor
    classes: Tensor
    scores: Tensor
    valid: Tensor
    boxes: Tensor


ANY_PART, NO_PART = -1, -2


@dataclass(frozen=True)
class PartQueries(Movable):
    """One query for each (kept object, candidate part, slot), packed to the front.

    Args:
        embeds: (B, M, D) before the language model, (B, M, d) after it.
        parent: index into the kept objects, (B, M).
        name: index into the picture's part names, (B, M); ANY_PART where a query was made for none of them, NO_PART
            where it only stands for an object without parts.
        valid: (B, M).
        slot: number of the repetition of its part, from 0, (B, M); None where no part is asked for twice.
        host: index of the part query in whose part it was looked for, -1 where that was the object itself, (B, M);
            None where all were.
    """

    embeds: Tensor
    parent: Tensor
    name: Tensor
    valid: Tensor
    slot: Tensor | None = None
    host: Tensor | None = None


@dataclass(frozen=True)
class Output(Movable):
    """The model's answer.

    Args:
        objects: the object decoder's; kept: the objects whose parts were looked for.
        part_queries: what the part decoder was asked; parts: its answer, query for query. None in stage 1, or where
            parts were not wanted. What was looked for in parts stands behind them.
        noised: the denoising queries of this step, and of its parts, for the criterion; None outside training.
        dense: per-pixel logits of object names and part names (B, Co + Cp, H / 4, W / 4), when trained with them.
        intermediates: named tensors on the way, when asked for.
    """

    objects: DecoderOutput
    kept: KeptObjects
    part_queries: PartQueries | None = None
    parts: DecoderOutput | None = None
    noised: Denoising | None = None
    noised_parts: Denoising | None = None
    dense: Tensor | None = None
    intermediates: dict[str, Tensor] = field(default_factory=dict)
