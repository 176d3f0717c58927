"""Made-up outputs and targets of two pictures for the tests of the criterion."""

import math
from dataclasses import replace

import torch

from langhops_cli.model.criterion import Criterion
from langhops_cli.model.structures import (
    DecoderOutput,
    Instances,
    KeptObjects,
    Output,
    PartQueries,
    Pictures,
    Predictions,
    Targets,
    VocabularyBatch,
)

OBJECTS, PARTS, QUERIES, KEPT, ASKED, SIDE = 3, 4, 5, 3, 6, 64


def yes(*shape):
    return torch.ones(*shape, dtype=torch.bool)


def focal(logit: float, present: bool) -> float:
    p = 1 / (1 + math.exp(-logit))
    return 0.25 * (1 - p) ** 2 * -math.log(p) if present else 0.75 * p**2 * -math.log(1 - p)


def some_predictions(random, pictures, queries, names, side=SIDE):
    shapes = ((pictures, queries, names), (pictures, queries, 4), (pictures, queries, side // 4, side // 4))
    logits, boxes, masks = (torch.randn(shape, generator=random) for shape in shapes)
    return Predictions(logits.requires_grad_(), (boxes.sigmoid() * 0.5).requires_grad_(), masks.requires_grad_())


def some_decoder(random, pictures, queries, names):
    one = [some_predictions(random, pictures, queries, names) for _ in range(4)]
    return DecoderOutput(
        queries=torch.zeros(pictures, queries, 2),
        valid=yes(pictures, queries),
        final=one[0],
        auxiliary=(one[1], one[2]),
        proposals=one[3],
    )


def some_output(random, pictures=2):
    """Three kept objects, queries 2, 0 and 4, with two part queries each."""
    index = torch.tensor([2, 0, 4]).expand(pictures, -1)
    blank = torch.zeros(pictures, KEPT)
    return Output(
        objects=some_decoder(random, pictures, QUERIES, OBJECTS),
        kept=KeptObjects(index, blank[..., None], blank, blank, yes(pictures, KEPT), torch.zeros(pictures, KEPT, 4)),
        part_queries=PartQueries(
            embeds=torch.zeros(pictures, ASKED, 2),
            parent=torch.tensor([0, 0, 1, 1, 2, 2]).expand(pictures, -1),
            name=torch.tensor([0, 1, 0, 1, 2, 3]).expand(pictures, -1),
            valid=yes(pictures, ASKED),
        ),
        parts=some_decoder(random, pictures, ASKED, PARTS),
        dense=torch.randn(pictures, OBJECTS + PARTS, SIDE // 4, SIDE // 4, generator=random).requires_grad_(),
    )


def some_instances(random, count, names, *, parents=None, side=SIDE):
    return Instances(
        labels=torch.randint(0, names, (count,), generator=random),
        boxes=torch.rand(count, 4, generator=random) * 0.3 + 0.3,
        masks=torch.randint(0, 2, (count, side, side), generator=random, dtype=torch.uint8),
        negatives=yes(names),
        parents=parents,
    )


def some_targets(random, objects=2, parts=3, name="cat.jpg"):
    parents = torch.arange(parts) % max(objects, 1)
    return Targets(
        some_instances(random, objects, OBJECTS), some_instances(random, parts, PARTS, parents=parents), name
    )


def some_pictures(pictures=2, canvas=SIDE, side=SIDE):
    return Pictures(torch.zeros(pictures, 3, canvas, canvas), torch.full((pictures, 2), side))


def some_vocabulary(pictures=2):
    none = torch.zeros(pictures, OBJECTS, 0, dtype=torch.long)
    return VocabularyBatch(
        texts=(),
        objects=torch.zeros(pictures, OBJECTS, dtype=torch.long),
        object_valid=yes(pictures, OBJECTS),
        parts=torch.zeros(pictures, PARTS, dtype=torch.long),
        part_valid=yes(pictures, PARTS),
        children=none,
        child_valid=none.bool(),
        child_slot=none,
    )


def score(output, targets, *, pictures=None, vocabulary=None, seed=3, **settings):
    count = len(targets)
    return Criterion(**settings)(
        output,
        targets,
        pictures or some_pictures(count),
        vocabulary or some_vocabulary(count),
        generator=torch.Generator().manual_seed(seed),
    )


def leaves(decoder):
    outputs = [decoder.final, *decoder.auxiliary, decoder.proposals, *decoder.denoising]
    return [tensor for item in outputs for tensor in (item.logits, item.boxes, item.masks)]


def objects_only(output):
    return replace(output, part_queries=None, parts=None, dense=None)
