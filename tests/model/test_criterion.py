"""What the criterion asks of each output, by hand and by the gradients that it sends."""

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from langhops_cli.model.structures import DecoderOutput, Instances, Output, Predictions, Targets

from .criterion_cases import (
    OBJECTS,
    QUERIES,
    SIDE,
    focal,
    leaves,
    objects_only,
    score,
    some_output,
    some_pictures,
    some_targets,
    some_vocabulary,
    yes,
)


@pytest.fixture
def random():
    return torch.Generator().manual_seed(0)


def test_every_output_of_both_levels_is_scored(random):
    losses = score(some_output(random), [some_targets(random), some_targets(random)])
    expected = {
        f"{level}/{output}/{kind}"
        for level in ("objects", "parts")
        for output in ("final", "auxiliary0", "auxiliary1", "proposals")
        for kind in ("class", "mask", "dice", "box", "giou")
    }
    assert set(losses) == expected | {"dense/objects", "dense/parts", "total"}
    assert_close(losses["total"], sum(value for name, value in losses.items() if name != "total"))


def test_weights_scale_their_own_terms_only(random):
    """With the matching unchanged, since its costs scale alike."""
    output, targets = some_output(random), [some_targets(random)] * 2
    once = score(output, targets, class_weight=1, mask_weight=1, dice_weight=1, box_weight=1, giou_weight=1)
    twice = score(
        output, targets, class_weight=2, mask_weight=2, dice_weight=2, box_weight=2, giou_weight=2, dense_weight=3
    )
    for name in once.keys() - {"total"}:
        assert_close(twice[name], once[name] * (3 if name.startswith("dense") else 2))


@pytest.mark.parametrize(("objects", "parts"), [(2, 3), (2, 0), (0, 0)])
def test_every_prediction_stays_in_the_graph(random, objects, parts):
    """ZeRO waits for every gradient, also on a rank whose pictures show nothing."""
    output = some_output(random)
    score(output, [some_targets(random, objects, parts)] * 2)["total"].backward()
    tensors = [*leaves(output.objects), *leaves(output.parts), output.dense]
    assert all(tensor.grad is not None and tensor.grad.isfinite().all() for tensor in tensors)
    assert bool((output.objects.final.masks.grad != 0).any()) == (objects > 0)
    assert bool((output.parts.proposals.boxes.grad != 0).any()) == (parts > 0)


def test_nothing_to_find_is_still_a_lesson_in_names(random):
    output = objects_only(some_output(random, 1))
    losses = score(output, [some_targets(random, 0, 0)])
    expected = sum(focal(logit, False) for logit in output.objects.final.logits.flatten().tolist())
    assert losses["objects/final/class"].item() == pytest.approx(4 * expected, rel=1e-5)
    assert losses["objects/final/box"].item() == 0


def test_one_picture_by_hand(random):
    """One instance, one query: the weighted terms over one instance, written out."""
    logits = torch.tensor([[[0.5, -1.0, 2.0]]])
    masks = torch.full((1, 1, SIDE // 4, SIDE // 4), 0.3)
    final = Predictions(logits, torch.tensor([[[0.4, 0.4, 0.2, 0.2]]]), masks)
    output = Output(DecoderOutput(torch.zeros(1, 1, 2), yes(1, 1), final), some_output(random, 1).kept)
    instance = Instances(
        labels=torch.tensor([1]),
        boxes=torch.tensor([[0.5, 0.5, 0.2, 0.2]]),
        masks=torch.ones(1, SIDE, SIDE, dtype=torch.uint8),
        negatives=yes(OBJECTS),
    )
    losses = score(output, [Targets(instance, some_targets(random, 0, 0).parts)])
    named = focal(0.5, False) + focal(-1.0, True) + focal(2.0, False)
    assert losses["objects/final/class"].item() == pytest.approx(4 * named, rel=1e-5)
    assert losses["objects/final/box"].item() == pytest.approx(5 * 0.2, rel=1e-5)
    # Overlap 0.01, union 0.07, hull 0.09.
    assert losses["objects/final/giou"].item() == pytest.approx(2 * (1 - 1 / 7 + 2 / 9), rel=1e-4)
    # The map fades into the outside within half a cell, so a few points see less than a full mask.
    assert losses["objects/final/mask"].item() == pytest.approx(5 * math.log(1 + math.exp(-0.3)), rel=0.05)


def test_the_sum_is_divided_by_the_instances_of_the_batch(random):
    """Twice the same picture is the same loss; one instance more or less is not a division by pictures."""
    output, target = objects_only(some_output(random, 1)), some_targets(random, 3)
    twice = replace(
        output,
        objects=replace(
            output.objects,
            valid=yes(2, QUERIES),
            final=Predictions(
                *(
                    getattr(output.objects.final, name).repeat(2, *([1] * dimensions))
                    for name, dimensions in (("logits", 2), ("boxes", 2), ("masks", 3))
                )
            ),
            auxiliary=(),
            proposals=None,
        ),
    )
    one, two = score(output, [target]), score(twice, [target, target])
    for kind in ("class", "box", "giou"):
        assert_close(two[f"objects/final/{kind}"], one[f"objects/final/{kind}"])


def test_unmatched_queries_learn_only_from_names_known_to_be_absent(random):
    """In a picture that is not labelled exhaustively, names that may be there unlabelled get no gradient."""
    target = some_targets(random, 1)
    target.objects.labels[:] = 0
    target = replace(target, objects=replace(target.objects, negatives=torch.tensor([False, True, False])))
    output = objects_only(some_output(random, 1))
    score(output, [target])["objects/final/class"].backward()
    taught = output.objects.final.logits.grad[0] != 0
    matched = taught.all(1)  # the query that answers for the instance learns from all names
    assert matched.sum() == 1
    assert (taught[~matched] == torch.tensor([False, True, False])).all()


def test_padding_names_and_queries_count_for_nothing(random):
    target, vocabulary = some_targets(random, 2), some_vocabulary(1)
    target.objects.labels[:] = torch.tensor([0, 1])
    target = replace(target, objects=replace(target.objects, negatives=yes(2)))  # its own two names, unpadded
    vocabulary.object_valid[:, 2] = False
    output = objects_only(some_output(random, 1))
    output.objects.valid[:, 3:] = False
    losses = []
    for junk in (0.0, -1e9, torch.nan):
        for item in (output.objects.final, *output.objects.auxiliary, output.objects.proposals):
            item.logits.data[:, :, 2] = junk
            item.logits.data[:, 3:] = junk
            item.boxes.data[:, 3:] = junk
            item.masks.data[:, 3:] = junk
        losses.append(score(output, [target], vocabulary=vocabulary))
        losses[-1]["total"].backward()
        assert output.objects.final.logits.grad.isfinite().all()
        assert (output.objects.final.logits.grad[:, 3:] == 0).all()
    for name, value in losses[0].items():
        assert value.isfinite()
        assert_close(losses[1][name], value)
        assert_close(losses[2][name], value)


def test_a_larger_canvas_changes_nothing(random):
    """The picture fills a corner of a larger canvas whose padding is junk; points are the same."""
    settings = {"points_rule": lambda height, width: 50}
    output, target = objects_only(some_output(random, 1)), some_targets(random)
    alone = score(output, [target], **settings)

    def on_canvas(item):
        masks = torch.full((1, QUERIES, SIDE // 2, SIDE // 2), 7.0)
        masks[..., : SIDE // 4, : SIDE // 4] = item.masks
        return Predictions(item.logits, item.boxes, masks)

    decoder = output.objects
    larger = replace(
        output,
        objects=replace(
            decoder,
            final=on_canvas(decoder.final),
            auxiliary=tuple(map(on_canvas, decoder.auxiliary)),
            proposals=on_canvas(decoder.proposals),
        ),
    )
    padded = score(larger, [target], pictures=some_pictures(1, canvas=2 * SIDE), **settings)
    for name, value in alone.items():
        assert_close(padded[name], value, atol=1e-4, rtol=1e-4)


def test_boxes_alone_train_everything_but_masks(random):
    output, target = objects_only(some_output(random, 1)), some_targets(random)
    target = replace(target, objects=replace(target.objects, masks=None))
    losses = score(output, [target])
    losses["total"].backward()
    assert losses["objects/final/mask"].item() == losses["objects/final/dice"].item() == 0
    assert losses["objects/final/box"].item() > 0
    assert (output.objects.final.masks.grad == 0).all()


def test_masks_may_be_left_out_of_the_predictions(random):
    output = objects_only(some_output(random, 1))
    final = replace(output.objects.final, masks=None)
    output = replace(output, objects=replace(output.objects, final=final, auxiliary=(), proposals=None))
    losses = score(output, [some_targets(random)])
    assert "objects/final/mask" not in losses
    assert losses["total"].isfinite()


def test_bf16_predictions_are_scored_in_float32(random):
    output, targets = some_output(random), [some_targets(random)] * 2

    def cast(item, dtype):
        return Predictions(*(part.detach().bfloat16().to(dtype) for part in (item.logits, item.boxes, item.masks)))

    def both(dtype):
        cut = objects_only(output)
        return replace(
            cut, objects=replace(cut.objects, final=cast(cut.objects.final, dtype), auxiliary=(), proposals=None)
        )

    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = score(both(torch.bfloat16), targets)
    high = score(both(torch.float32), targets)
    for name, value in high.items():
        assert low[name].dtype == torch.float32
        assert_close(low[name], value)
