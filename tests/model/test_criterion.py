"""What the criterion asks of each output, by hand and by the gradients that it sends."""

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from langhops_cli.model.criterion import Criterion, dense_labels, focal_loss, mask_distances
from langhops_cli.model.matcher import NonFiniteCost, Truth
from langhops_cli.model.structures import (
    DecoderOutput,
    Denoising,
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


@pytest.fixture
def random():
    return torch.Generator().manual_seed(0)


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
        kept=KeptObjects(index, blank[..., None], blank, blank, yes(pictures, KEPT)),
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


def score(output, targets, *, pictures=None, vocabulary=None, seed=3, denoising=None, **settings):
    count = len(targets)
    return Criterion(**settings)(
        output,
        targets,
        pictures or some_pictures(count),
        vocabulary or some_vocabulary(count),
        denoising=denoising,
        generator=torch.Generator().manual_seed(seed),
    )


def leaves(decoder):
    outputs = [decoder.final, *decoder.auxiliary, decoder.proposals, *decoder.denoising]
    return [tensor for item in outputs for tensor in (item.logits, item.boxes, item.masks)]


def objects_only(output):
    return replace(output, part_queries=None, parts=None, dense=None)


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


def forbidden(output, matched, parts, **settings):
    truth = Truth.of([parts], num_names=PARTS)
    return Criterion(**settings).forbidden(output.part_queries, output.kept, torch.tensor([matched]), truth)[0]


def test_a_part_query_answers_only_for_its_own_object_and_name(random):
    """Object query 2 (kept first) is matched to instance 1, query 4 (kept third) to instance 0, query 0 to none."""
    output = some_output(random, 1)
    parts = some_instances(random, 3, PARTS, parents=torch.tensor([1, 0, -1]))
    parts.labels[:] = torch.tensor([1, 2, 0])
    matched = [-1, -1, 1, -1, 0]
    by_parent = torch.tensor([[1, 0, 1], [1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 1, 1], [0, 1, 1]], dtype=torch.bool)
    by_name = torch.tensor([[0, 0, 1], [1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=torch.bool)
    assert_close(forbidden(output, matched, parts, tied=False), ~by_parent)
    assert_close(forbidden(output, matched, parts, parent_aware=False), ~by_name)
    assert_close(forbidden(output, matched, parts), ~(by_parent & by_name))
    assert not forbidden(output, matched, parts, parent_aware=False, tied=False).any()


def test_a_query_without_name_or_parent_is_free(random):
    output = some_output(random, 1)
    queries = replace(output.part_queries, name=torch.full((1, ASKED), -1), parent=torch.full((1, ASKED), -1))
    parts = some_instances(random, 3, PARTS, parents=torch.tensor([1, 0, -1]))
    assert not forbidden(replace(output, part_queries=queries), [-1] * QUERIES, parts).any()


def test_parts_follow_the_final_matching_of_their_objects(random):
    """At the end query 2 is the object, before it was query 0: only the part queries of query 2 learn a box."""
    output, target = some_output(random, 1), some_targets(random, 1, 2)
    decoder = output.objects
    for item, best in ((decoder.final, 2), (decoder.auxiliary[0], 0), (decoder.auxiliary[1], 0)):
        item.logits.data[:] = item.masks.data[:] = 0
        item.boxes.data[:] = 0.01
        item.boxes.data[0, best] = target.objects.boxes[0]
    score(output, [target], tied=False)["total"].backward()
    for item in (output.parts.final, *output.parts.auxiliary, output.parts.proposals):
        assert (item.boxes.grad[0] != 0).any(-1).tolist() == [True, True, False, False, False, False]


def test_parts_are_divided_by_the_number_of_parts(random):
    """No query asks for the name of the three parts, so that all are told what they are not."""
    output, target = some_output(random, 1), some_targets(random, 1, 3)
    target.parts.labels[:] = 3
    output.part_queries.name.data = torch.zeros(1, ASKED, dtype=torch.long)
    losses = score(output, [target])
    expected = sum(focal(logit, False) for logit in output.parts.final.logits.flatten().tolist())
    assert losses["parts/final/class"].item() == pytest.approx(4 * expected / 3, rel=1e-5)
    assert losses["parts/final/box"].item() == 0


@pytest.mark.parametrize("level", ["objects", "parts"])
def test_a_broken_prediction_names_its_picture(random, level):
    output = some_output(random)
    getattr(output, level).auxiliary[0].boxes.data[1] = torch.inf
    settings = {"tied": False, "parent_aware": False}
    with pytest.raises(NonFiniteCost, match=r"dog\.jpg"):
        score(output, [some_targets(random), some_targets(random, name="dog.jpg")], **settings)


def some_denoising(target, valid):
    target, valid = torch.tensor(target), torch.tensor(valid)
    empty = torch.zeros(*valid.shape, 4)
    return Denoising(empty, empty, valid, torch.zeros(0, dtype=torch.bool), target)


def test_denoising_by_hand(random):
    """Two noised queries of one instance, and one that is padding; the mean is over the two."""
    output, target = objects_only(some_output(random, 1)), some_targets(random, 1)
    noised = [some_predictions(random, 1, 3, OBJECTS) for _ in range(2)]
    output = replace(output, objects=replace(output.objects, denoising=tuple(noised)))
    losses = score(output, [target], denoising=some_denoising([[0, 0, 0]], [[True, True, False]]))
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
    output = replace(output, objects=replace(output.objects, denoising=(noised,)))
    losses = score(output, [some_targets(random, 0, 0)], denoising=some_denoising([[0]], [[False]]))
    losses["total"].backward()
    assert losses["denoising/final/class"].item() == losses["denoising/final/giou"].item() == 0
    assert all((part.grad == 0).all() for part in (noised.logits, noised.boxes, noised.masks))


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
    assert dense_labels(instances, (4, 4)).tolist() == [[1, 0, -1, -1], [0, 0, -1, -1], [-1] * 4, [-1] * 4]
    assert (dense_labels(replace(instances, masks=None), (4, 4)) == -1).all()


def test_dense_loss_by_hand(random):
    """One labelled cell a level; a padded name takes no part in the softmax."""
    output, vocabulary = some_output(random, 1), some_vocabulary(1)
    vocabulary.object_valid[:, 2] = False
    masks = torch.zeros(1, SIDE, SIDE, dtype=torch.uint8)
    masks[:, 4:8, 8:12] = 1  # row 1, column 2
    instance = Instances(torch.tensor([1]), torch.full((1, 4), 0.5), masks, yes(PARTS), torch.tensor([0]))
    losses = score(output, [Targets(replace(instance, negatives=yes(2)), instance)], vocabulary=vocabulary)
    cell = output.dense.detach()[0, :, 1, 2]
    assert_close(losses["dense/objects"], -cell[:2].log_softmax(0)[1])
    assert_close(losses["dense/parts"], -cell[OBJECTS:].log_softmax(0)[1])


def test_focal_loss_in_closed_form():
    logits = torch.tensor([-2.0, 0.0, 3.0, torch.nan])
    loss = focal_loss(logits, torch.tensor([True, False, True, False]), torch.tensor([True, True, True, False]))
    assert loss.tolist() == pytest.approx([focal(-2.0, True), focal(0.0, False), focal(3.0, True), 0.0], rel=1e-5)


def test_mask_distances_by_hand():
    """Probabilities one half against one point in and one out: dice 1 - (2 * 0.5 + 1) / (1 + 1 + 1)."""
    entropy, dice = mask_distances(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    assert float(entropy) == pytest.approx(math.log(2))
    assert float(dice) == pytest.approx(1 / 3)
