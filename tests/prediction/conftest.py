"""Model outputs with known masks, made by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from langhops_cli.model.structures import DecoderOutput, KeptObjects, Output, PartQueries, Predictions
from langhops_cli.vocabulary import Vocabulary, parse_vocabulary

PADDED_NAME = -1e4
SURE = math.log(0.9 / 0.1)
"""Mask logit whose probability is 0.9, inside; -SURE outside."""

Rectangle = tuple[int, int, int, int]


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


@dataclass
class Scene:
    """Queries of one picture, written down in cells of stride 4: (name, likelihood, rectangle left top right bottom).

    `objects` name an object of the vocabulary; a part has the index of its object query in front.
    """

    vocabulary: Vocabulary
    objects: list[tuple[str, float, Rectangle]]
    parts: list[tuple[int, str, float, Rectangle]] = field(default_factory=list)
    cells: tuple[int, int] = (16, 16)

    def output(self) -> Output:
        v = self.vocabulary
        texts = [part.text for part in v.part_classes]
        objects = _predictions(
            [(v.object_names.index(name), p, box) for name, p, box in self.objects], len(v.object_names), self.cells
        )
        parts = _predictions([(texts.index(name), p, box) for _, name, p, box in self.parts], len(texts), self.cells)
        best, classes = objects.logits.max(-1)
        scores, index = best.sort(descending=True, stable=True)
        # Part queries are packed in the order of the kept objects, which are sorted by score.
        rank = {int(query): position for position, query in enumerate(index[0])}
        kept = KeptObjects(
            index,
            torch.zeros(1, len(self.objects), 8),
            classes.gather(1, index),
            scores,
            torch.ones_like(index, dtype=torch.bool),
            objects.boxes[:, index[0]],
        )
        queries = PartQueries(
            torch.zeros(1, len(self.parts), 8),
            torch.tensor([[rank[parent] for parent, *_ in self.parts]], dtype=torch.long),
            torch.tensor([[texts.index(name) for _, name, *_ in self.parts]], dtype=torch.long),
            torch.ones(1, len(self.parts), dtype=torch.bool),
        )
        return Output(_decoder(objects), kept, queries, _decoder(parts))


def _decoder(predictions: Predictions) -> DecoderOutput:
    count = predictions.logits.shape[1]
    return DecoderOutput(torch.zeros(1, count, 8), torch.ones(1, count, dtype=torch.bool), predictions)


def _predictions(rows: list[tuple[int, float, Rectangle]], names: int, cells: tuple[int, int]) -> Predictions:
    height, width = cells
    logits = torch.full((1, len(rows), names), -9.0)
    masks = torch.full((1, len(rows), height, width), -SURE)
    boxes = torch.zeros(1, len(rows), 4)
    for query, (name, likelihood, (left, top, right, bottom)) in enumerate(rows):
        logits[0, query, name] = logit(likelihood)
        masks[0, query, top:bottom, left:right] = SURE
        centre = ((left + right) / 2 / width, (top + bottom) / 2 / height)
        boxes[0, query] = torch.tensor([*centre, (right - left) / width, (bottom - top) / height])
    return Predictions(logits, boxes, masks)


def pad(output: Output, *, queries: int, names: int, cells: int) -> Output:
    """The same output as it looks beside a larger picture: more queries, names and cells, all of them padding."""

    def wider(tensor: Tensor, sizes: dict[int, int], value: float) -> Tensor:
        shape = list(tensor.shape)
        for axis, extra in sizes.items():
            shape[axis] += extra
        wide = torch.full(shape, value, dtype=tensor.dtype)
        wide[tuple(slice(0, side) for side in tensor.shape)] = tensor
        return wide

    def decoder(old: DecoderOutput) -> DecoderOutput:
        final = old.final
        assert final.masks is not None
        padded = Predictions(
            # Real queries hold a large negative number for padded names; padded queries hold nonsense.
            wider(wider(final.logits, {2: names}, PADDED_NAME), {1: queries}, 5.0),
            wider(final.boxes, {1: queries}, 0.5),
            wider(final.masks, {1: queries, 2: cells, 3: cells}, 7.0),
        )
        return DecoderOutput(wider(old.queries, {1: queries}, 0.0), wider(old.valid, {1: queries}, False), padded)

    kept, asked = output.kept, output.part_queries
    assert asked is not None
    assert output.parts is not None
    return Output(
        decoder(output.objects),
        KeptObjects(
            wider(kept.index, {1: 2}, 0),
            wider(kept.queries, {1: 2}, 0.0),
            wider(kept.classes, {1: 2}, 0),
            wider(kept.scores, {1: 2}, 9.0),
            wider(kept.valid, {1: 2}, False),
            wider(kept.boxes, {1: 2}, 0.0),
        ),
        PartQueries(
            wider(asked.embeds, {1: queries}, 0.0),
            wider(asked.parent, {1: queries}, 0),
            wider(asked.name, {1: queries}, 0),
            wider(asked.valid, {1: queries}, False),
        ),
        decoder(output.parts),
    )


@pytest.fixture
def scene() -> Callable[..., Scene]:
    def make(vocabulary: str, objects: list, parts: list | None = None, **extra: object) -> Scene:  # type: ignore[type-arg]
        return Scene(parse_vocabulary(vocabulary), objects, parts or [], **extra)  # type: ignore[arg-type]

    return make


@pytest.fixture(name="pad")
def pad_fixture() -> Callable[..., Output]:
    return pad
