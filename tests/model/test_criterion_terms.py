"""The single terms of the loss: denoising, distillation, dense labels, focal loss and mask distances."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import pad
from torch.testing import assert_close

from langhops_cli.model.criterion import Criterion, dense_labels, focal_loss, mask_distances
from langhops_cli.model.structures import Denoising, Instances, Targets

from .criterion_cases import (
    OBJECTS,
    PARTS,
    SIDE,
    focal,
    objects_only,
    score,
    some_output,
    some_pictures,
    some_predictions,
    some_targets,
    some_vocabulary,
    yes,
)


@pytest.fixture
def random():
    return torch.Generator().manual_seed(0)


def some_denoising(target, valid):
    target, valid = torch.tensor(target), torch.tensor(valid)
    empty = torch.zeros(*valid.shape, 4)
    return Denoising(empty, empty, valid, 1, target)


def test_denoising_by_hand(random):
    """Two noised queries of one instance, and one that is padding; the mean is over the two."""
    output, target = objects_only(some_output(random, 1)), some_targets(random, 1)
    noised = [some_predictions(random, 1, 3, OBJECTS) for _ in range(2)]
    asked = some_denoising([[0, 0, 0]], [[True, True, False]])
    output = replace(output, objects=replace(output.objects, denoising=tuple(noised)), noised=asked)
    losses = score(output, [target])
    for name, item in zip(("auxiliary0", "final"), noised, strict=True):
        named = sum(
            focal(item.logits[0, q, c].item(), c == int(target.objects.labels[0]))
            for q in range(2)
            for c in range(OBJECTS)
        )
        moved = (item.boxes[0, :2] - target.objects.boxes).abs().sum().item()
        assert losses[f"denoising/{name}/class"].item() == pytest.approx(4 * named / 2, rel=1e-4)
        assert losses[f"denoising/{name}/box"].item() == pytest.approx(5 * moved / 2, rel=1e-4)
    assert "denoising/final/mask" not in losses


def test_denoising_without_instances_keeps_its_outputs_in_the_graph(random):
    output = objects_only(some_output(random, 1))
    noised = some_predictions(random, 1, 1, OBJECTS)
    asked = some_denoising([[0]], [[False]])
    output = replace(output, objects=replace(output.objects, denoising=(noised,)), noised=asked)
    losses = score(output, [some_targets(random, 0, 0)])
    losses["total"].backward()
    assert losses["denoising/final/class"].item() == losses["denoising/final/giou"].item() == 0
    assert all((part.grad == 0).all() for part in (noised.logits, noised.boxes))


def test_noised_parts_are_scored_as_parts_beside_the_noised_objects(random):
    output, target = some_output(random, 1), some_targets(random, 1, 2)
    answers = (some_predictions(random, 1, 2, PARTS),)
    output = replace(
        output,
        parts=replace(output.parts, denoising=answers),
        noised_parts=some_denoising([[0, 1]], [[True, True]]),
    )
    losses = score(output, [target])
    moved = (answers[0].boxes[0] - target.parts.boxes).abs().sum().item()
    assert losses["part_denoising/final/box"].item() == pytest.approx(5 * moved / 2, rel=1e-4)
    assert not any(name.startswith("denoising/") for name in losses)


def test_distillation_is_weighted_and_added(random):
    output, targets = objects_only(some_output(random, 1)), [some_targets(random)]
    losses = Criterion(distillation_weight=4.0)(
        output, targets, some_pictures(1), some_vocabulary(1), distillation=torch.tensor(0.5)
    )
    assert losses["text/distillation"].item() == 2.0
    assert_close(losses["total"], sum(value for name, value in losses.items() if name != "total"))


def test_dense_labels_paint_small_over_large():
    """A 12 x 10 picture: three rows and two whole columns of cells, each read at its middle pixel."""
    masks = torch.zeros(2, 12, 10, dtype=torch.uint8)
    masks[0, :4, :4] = 1  # the small one is named 1 and comes first
    masks[1, :8] = 1
    instances = Instances(torch.tensor([1, 0]), torch.zeros(2, 4), masks, yes(2))
    assert dense_labels(instances, -1, (4, 4)).tolist() == [[1, 0, -1, -1], [0, 0, -1, -1], [-1] * 4, [-1] * 4]
    assert dense_labels(instances, 7, (4, 4)).tolist() == [[1, 0, -1, -1], [0, 0, -1, -1], [7, 7, -1, -1], [-1] * 4]
    assert (dense_labels(replace(instances, masks=None), 7, (4, 4)) == -1).all()


def test_dense_loss_by_hand(random):
    """One labelled cell a level; a padded name takes no part in the softmax, nothing does with a logit of zero.

    Not all objects are labelled, so only the labelled cell of theirs counts; all parts are, and the others show none.
    """
    output, vocabulary = some_output(random, 1), some_vocabulary(1)
    vocabulary.object_valid[:, 2] = False
    masks = torch.zeros(1, SIDE, SIDE, dtype=torch.uint8)
    masks[:, 4:8, 8:12] = 1  # row 1, column 2
    instance = Instances(torch.tensor([1]), torch.full((1, 4), 0.5), masks, yes(PARTS), torch.tensor([0]))
    objects = replace(instance, negatives=torch.tensor([True, False]))
    losses = score(output, [Targets(objects, instance)], vocabulary=vocabulary)
    logits = pad(output.dense.detach()[0], (0, 0, 0, 0, 0, 1))
    assert_close(losses["dense/objects"], -logits[[0, 1, -1], 1, 2].log_softmax(0)[1])
    surprise = -logits[OBJECTS:].log_softmax(0)
    surprise[-1, 1, 2] = surprise[1, 1, 2]
    assert_close(losses["dense/parts"], surprise[-1].mean())


def test_focal_loss_in_closed_form():
    logits = torch.tensor([-2.0, 0.0, 3.0, torch.nan])
    loss = focal_loss(logits, torch.tensor([True, False, True, False]), torch.tensor([True, True, True, False]))
    assert loss.tolist() == pytest.approx([focal(-2.0, True), focal(0.0, False), focal(3.0, True), 0.0], rel=1e-5)


def test_mask_distances_by_hand():
    """Probabilities one half against one point in and one out: dice 1 - (2 * 0.5 + 1) / (1 + 1 + 1)."""
    entropy, dice = mask_distances(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    assert float(entropy) == pytest.approx(math.log(2))
    assert float(dice) == pytest.approx(1 / 3)
