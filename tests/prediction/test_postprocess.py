from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch.nn.functional import interpolate

from langhops_cli.prediction.masks import scored_mask, to_original
from langhops_cli.prediction.postprocess import coco_results, picture_output, predict_instances

SIZE = (64, 64)
SURE = math.log(0.9 / 0.1)  # of the masks of a scene


def found(scene, *, original=SIZE, size=SIZE, output=None, **options):
    v = scene.vocabulary
    picture = picture_output(
        output or scene.output(),
        0,
        names=(len(v.object_names), len(v.part_classes)),
        size=size,
        original=original,
    )
    return predict_instances(picture, v, picture_name="p.jpg", **options)


def summary(prediction):
    return [(item.path, round(item.score, 4), item.parent) for item in prediction]


def test_scores_boxes_and_parents_by_hand(scene):
    """Object: 0.8 x 0.9. Part: 0.7 x 0.9 x sqrt(0.72). Cells cover 4 pixels; bilinear logits of equal size cross zero
    at the border between two cells."""
    made = scene("dog:head", [("dog", 0.8, (2, 4, 12, 14))], [(0, "dog head", 0.7, (2, 4, 6, 8))])
    prediction = found(made)
    assert summary(prediction) == [
        (("dog",), 0.72, None),
        (("dog", "head"), round(0.63 * math.sqrt(0.72), 4), 0),
    ]
    assert prediction[0].box == (8, 16, 48, 56)
    assert prediction[1].box == (8, 16, 24, 32)
    assert [item.level for item in prediction] == ["object", "part"]


def test_flat_scoring_leaves_the_objects_score_out(scene):
    made = scene("dog:head", [("dog", 0.8, (2, 4, 12, 14))], [(0, "dog head", 0.7, (2, 4, 6, 8))])
    assert found(made, hierarchical=False)[1].score == pytest.approx(0.63)


@pytest.mark.parametrize("original", [(64, 64), (128, 128), (640, 640), (31, 47), (7, 5)])
def test_masks_come_back_at_the_pictures_own_size(scene, original):
    made = scene("dog", [("dog", 0.8, (4, 4, 12, 12))])
    mask = found(made, original=original)[0].mask
    assert mask.shape == original
    rows, columns = ((np.arange(side) + 0.5) / side for side in original)
    inside = ((rows > 0.25) & (rows < 0.75))[:, None] & ((columns > 0.25) & (columns < 0.75))
    # Only the four corners may differ: interpolation rounds them.
    assert (mask != inside).mean() <= 0.005
    assert mask[original[0] // 2, original[1] // 2]
    assert not mask[0].any()


def enlarged(logits, size, original):
    """An oracle: bilinear to the canvas, cut to the picture, bilinear to the picture as it came."""
    canvas = interpolate(logits[None, None], scale_factor=4, mode="bilinear", align_corners=False)
    inside = canvas[..., : size[0], : size[1]]
    return interpolate(inside, size=original, mode="bilinear", align_corners=False)[0, 0]


@pytest.mark.parametrize("size", [(48, 80), (45, 71)])
@pytest.mark.parametrize("original", [(131, 97), (30, 50)])
def test_upsampling_agrees_with_torch(size, original):
    logits = torch.randn(12, 20, generator=torch.Generator().manual_seed(1))
    expected = enlarged(logits, size, original)
    mask, quality = scored_mask(logits, size, original)
    assert (mask != (expected > 0).numpy()).mean() < 1e-3
    assert quality == pytest.approx(expected.sigmoid()[expected > 0].mean().item(), abs=1e-5)
    assert np.array_equal(mask, to_original(logits, size, original))


def test_window_of_a_small_mask_loses_nothing():
    logits = torch.full((30, 30), -1.0)
    logits[7, 22] = 8.0
    expected = enlarged(logits, (120, 120), (211, 300)) > 0
    assert np.array_equal(to_original(logits, (120, 120), (211, 300)), expected.numpy())


def test_picture_that_ends_inside_a_cell_keeps_its_scale(scene):
    """A picture of 62 pixels fills 15.5 cells: a mask's edge at pixel 32 lies at 32 of 62, not at 8 of 16 cells."""
    made = scene("dog", [("dog", 0.8, (0, 0, 8, 16))])
    mask = found(made, size=(62, 62), original=(620, 620))[0].mask
    assert mask[:, :320].all()
    assert not mask[:, 320:].any()


def test_padding_changes_nothing(scene, pad):
    made = scene(
        "dog:head,leg; cat",
        [("dog", 0.8, (0, 0, 8, 8)), ("cat", 0.9, (8, 8, 16, 16))],
        [(0, "dog head", 0.7, (0, 0, 4, 4)), (0, "dog leg", 0.6, (4, 4, 8, 8))],
    )
    padded = pad(made.output(), queries=5, names=3, cells=16)
    assert summary(found(made, output=padded)) == summary(found(made))
    assert len(found(made)) == 4


def test_duplicates_of_an_object_go_and_take_their_parts_along(scene):
    """The second query sees 14 of 16 columns of the first: IoU 0.875."""
    made = scene(
        "dog:head",
        [("dog", 0.8, (0, 0, 14, 8)), ("dog", 0.9, (0, 0, 16, 8))],
        [(0, "dog head", 0.9, (0, 0, 4, 4)), (1, "dog head", 0.8, (8, 0, 12, 4))],
    )
    prediction = found(made)
    assert [(item.path, item.box) for item in prediction] == [
        (("dog",), (0, 0, 64, 32)),
        (("dog", "head"), (32, 0, 48, 16)),
    ]


@pytest.mark.parametrize(
    ("names", "width", "kept"),
    [
        (("dog", "dog"), 10, 1),  # IoU 10 / 16 = 0.63: one dog
        (("dog", "cat"), 10, 2),  # a cat on a dog may overlap as much
        (("dog", "cat"), 12, 1),  # IoU 0.75: one animal with two names
        (("dog", "dog"), 7, 2),  # IoU 0.44: two dogs
    ],
)
def test_objects_overlap_less_under_one_name_than_under_two(scene, names, width, kept):
    made = scene("dog; cat", [(names[0], 0.9, (0, 0, 16, 8)), (names[1], 0.8, (0, 0, width, 8))])
    assert len(found(made)) == kept


def test_duplicate_parts_are_suppressed_within_one_object_only(scene):
    same = (0, 0, 4, 4)
    made = scene(
        "dog:leg*3,paw; cat:leg",
        [("dog", 0.9, (0, 0, 8, 8)), ("cat", 0.9, (0, 8, 8, 16))],
        [
            (0, "dog leg", 0.9, same),
            (0, "dog leg", 0.8, same),  # gone: same object, same name, same place
            (0, "dog leg", 0.7, (4, 4, 8, 8)),
            (0, "dog paw", 0.6, same),  # gone: the leg is the better name for what is there
            (1, "cat leg", 0.6, same),
        ],
    )
    names = [(item.path, item.parent) for item in found(made, hierarchical=False)][2:]
    assert names == [(("dog", "leg"), 0), (("dog", "leg"), 0), (("cat", "leg"), 1)]


def test_a_part_may_fill_the_part_that_it_is_of(scene):
    place = (2, 2, 6, 6)
    made = scene(
        "dog:eye(iris),nose",
        [("dog", 0.9, (0, 0, 8, 8))],
        [(0, "dog eye", 0.8, place), (0, "dog iris", 0.7, place), (0, "dog nose", 0.6, place)],
    )
    assert [item.name for item in found(made)] == ["dog", "eye", "iris"]


def test_parts_go_with_an_object_below_the_limit(scene):
    made = scene("dog:head", [("dog", 0.3, (0, 0, 8, 8))], [(0, "dog head", 0.99, (0, 0, 4, 4))])
    assert len(found(made, min_score=0.3)) == 0
    assert len(found(made, min_score=0.2)) == 2


def test_parts_of_parts_belong_to_the_part_that_holds_most_of_them(scene):
    boxes = {"first head": (0, 0, 6, 6), "second head": (8, 0, 14, 6)}
    made = scene(
        "dog:head*2(ear*3)",
        [("dog", 0.9, (0, 0, 16, 16))],
        [
            (0, "dog head", 0.9, boxes["first head"]),
            (0, "dog head", 0.8, boxes["second head"]),
            (0, "dog ear", 0.9, (4, 0, 7, 3)),  # 2 of 3 columns in the first head
            (0, "dog ear", 0.8, (9, 2, 12, 4)),  # inside the second
            (0, "dog ear", 0.7, (10, 10, 12, 12)),  # in neither: the dog's
        ],
    )
    prediction = found(made, hierarchical=False)
    heads = [index for index, item in enumerate(prediction) if item.name == "head"]
    ears = [item for item in prediction if item.name == "ear"]
    assert [item.path for item in ears] == [("dog", "head", "ear")] * 3
    assert [item.parent for item in ears] == [heads[0], heads[1], 0]


def test_open_scoring_takes_the_best_name(scene):
    made = scene("dog:head,tail", [("dog", 0.9, (0, 0, 8, 8))], [(0, "dog head", 0.4, (0, 0, 4, 4))])
    output = made.output()
    output.parts.final.logits[0, 0, 1] = math.log(0.8 / 0.2)
    tied = found(made, output=output, part_scoring="tied", hierarchical=False)
    opened = found(made, output=output, part_scoring="open", hierarchical=False)
    assert (tied[1].name, tied[1].score) == ("head", pytest.approx(0.36))
    assert (opened[1].name, opened[1].score) == ("tail", pytest.approx(0.72))


def test_learned_queries_have_no_name_of_their_own(scene):
    """They are scored on all names, however parts are scored otherwise."""
    made = scene("dog:head,tail", [("dog", 0.9, (0, 0, 8, 8))], [(0, "dog tail", 0.8, (0, 0, 4, 4))])
    output = made.output()
    output.part_queries.name.fill_(-1)
    prediction = found(made, output=output, hierarchical=False)
    assert (prediction[1].name, prediction[1].score) == ("tail", pytest.approx(0.72))
    assert sum(row["category_id"] >= 20 for row in results(made, output=output)) == 2


def test_empty_masks_are_no_instances(scene):
    made = scene(
        "dog:head", [("dog", 0.9, (0, 0, 0, 0)), ("dog", 0.9, (0, 0, 8, 8))], [(1, "dog head", 0.9, (3, 3, 3, 3))]
    )
    assert summary(found(made, min_score=0.0)) == [(("dog",), 0.81, None)]


def test_mask_that_vanishes_between_the_pixels_is_dropped(scene):
    made = scene("dog", [("dog", 0.9, (15, 15, 16, 16))])
    assert len(found(made, original=(1, 1))) == 0


def test_objects_only(scene):
    made = scene("dog:head", [("dog", 0.9, (0, 0, 8, 8))])
    output = made.output()
    stage1 = type(output)(output.objects, output.kept)
    assert [item.path for item in found(made, output=stage1)] == [("dog",)]


def test_no_vocabulary_of_parts(scene):
    made = scene("dog; cat", [("cat", 0.9, (0, 0, 8, 8))])
    assert [item.path for item in found(made)] == [("cat",)]


@pytest.mark.parametrize("limit", [-0.1, 1.1, math.nan])
def test_limit_outside_its_range(scene, limit):
    with pytest.raises(ValueError, match="min_score"):
        found(scene("dog", [("dog", 0.9, (0, 0, 8, 8))]), min_score=limit)


def test_output_without_masks_is_refused(scene):
    from dataclasses import replace

    made = scene("dog", [("dog", 0.9, (0, 0, 8, 8))])
    output = made.output()
    bare = replace(output, objects=replace(output.objects, final=replace(output.objects.final, masks=None)))
    with pytest.raises(ValueError, match="no masks"):
        found(made, output=bare)


def results(scene, output=None, **options):
    v = scene.vocabulary
    settings = {
        "sizes": [SIZE],
        "originals": [(128, 128)],
        "image_ids": [7],
        "object_categories": [10 + i for i in range(len(v.object_names))],
        "part_categories": [20 + i for i in range(len(v.part_classes))],
        "part_objects": [part.object for part in v.part_classes],
    }
    return coco_results(output or scene.output(), **{**settings, **options})


def quality_of(rectangle):
    """Mean probability inside the mask of a rectangle, at the picture's own size."""
    left, top, right, bottom = rectangle
    logits = torch.full((16, 16), -SURE)
    logits[top:bottom, left:right] = SURE
    grown = enlarged(logits, SIZE, (128, 128))
    return grown.sigmoid()[grown > 0].mean().item()


def test_results_for_average_precision(scene):
    """Every pair counts, with no suppression and no limit; boxes are the box head's at the picture's own size."""
    made = scene(
        "dog:head; cat",
        [("dog", 0.8, (0, 0, 8, 8)), ("dog", 0.7, (0, 0, 8, 8))],
        [(0, "dog head", 0.6, (0, 0, 4, 4))],
    )
    rows = results(made)
    quality = quality_of((0, 0, 8, 8))
    assert [row["category_id"] for row in rows[:2]] == [10, 10]
    assert [row["score"] for row in rows[:2]] == pytest.approx([0.8 * quality, 0.7 * quality])
    assert {row["category_id"] for row in rows} == {10, 11, 20}
    assert len(rows) == 5
    assert {row["image_id"] for row in rows} == {7}
    assert rows[0]["bbox"] == [0, 0, 64, 64]
    assert rows[-1]["score"] == pytest.approx(0.6 * quality_of((0, 0, 4, 4)))
    assert isinstance(rows[0]["segmentation"]["counts"], str)
    mask = coco_mask.decode(rows[0]["segmentation"])
    assert mask.shape == (128, 128)
    assert mask[:62, :62].all()
    assert mask.sum() == pytest.approx(64 * 64, abs=20)


def test_results_keep_the_best_pairs_of_each_level(scene):
    made = scene(
        "dog:head,tail; cat",
        [("dog", 0.8, (0, 0, 8, 8)), ("cat", 0.9, (8, 8, 16, 16))],
        [(0, "dog head", 0.6, (0, 0, 4, 4)), (0, "dog tail", 0.7, (4, 4, 8, 8))],
    )
    rows = results(made, max_objects=1, max_parts=1)
    assert [row["category_id"] for row in rows] == [11, 21]


def test_results_of_open_scoring_hold_all_part_names(scene):
    made = scene("dog:head,tail", [("dog", 0.8, (0, 0, 8, 8))], [(0, "dog head", 0.6, (0, 0, 4, 4))])
    assert sum(row["category_id"] >= 20 for row in results(made, part_scoring="tied")) == 1
    assert sum(row["category_id"] >= 20 for row in results(made, part_scoring="open")) == 2


def test_results_with_hierarchical_scores(scene):
    made = scene("dog:head", [("dog", 0.8, (0, 0, 8, 8))], [(0, "dog head", 0.6, (0, 0, 4, 4))])
    assert results(made, hierarchical=True)[-1]["score"] == pytest.approx(
        0.6 * quality_of((0, 0, 4, 4)) * math.sqrt(0.72)
    )


def test_results_do_not_see_padding(scene, pad):
    made = scene("dog:head", [("dog", 0.8, (0, 0, 8, 8))], [(0, "dog head", 0.6, (0, 0, 4, 4))])
    assert results(made, output=pad(made.output(), queries=4, names=2, cells=8)) == results(made)


def parents(rows):
    """Category of each part result and of the object result that it hangs from."""
    category = {row["id"]: row["category_id"] for row in rows}
    assert [row["id"] for row in rows] == [*range(1, len(rows) + 1)]
    assert not any("parent_id" in row for row in rows if row["category_id"] < 20)
    found = [(row["category_id"], row["parent_id"]) for row in rows if row["category_id"] >= 20]
    return [(part, None if parent is None else (parent, category[parent])) for part, parent in found]


TWO_DOGS = [("dog", 0.8, (0, 0, 8, 8)), ("dog", 0.7, (8, 8, 16, 16))]


def test_a_part_result_hangs_from_its_own_object_query(scene):
    """Two dogs stand under the same name; each head belongs to the query that it was looked for in."""
    heads = [(1, "dog head", 0.6, (8, 8, 12, 12)), (0, "dog head", 0.5, (0, 0, 4, 4))]
    assert parents(results(scene("dog:head", TWO_DOGS, heads))) == [(20, (2, 10)), (20, (1, 10))]


def test_a_part_result_prefers_its_own_object_name_to_a_better_one(scene):
    """The query stands first as a cat, but a dog's head belongs to the dog."""
    made = scene("dog:head; cat:head", TWO_DOGS[:1], [(0, "dog head", 0.6, (0, 0, 4, 4))])
    output = made.output()
    output.objects.final.logits[0, 0, 1] = 9.0  # of a cat
    rows = results(made, output=output)
    assert [row["category_id"] for row in rows] == [11, 10, 20]
    assert parents(rows) == [(20, (2, 10))]
    # With room for one pair only the cat is left to hang from.
    assert parents(results(made, output=output, max_objects=1)) == [(20, (1, 11))]


def test_open_scoring_gives_every_name_of_a_query_its_own_object(scene):
    made = scene("dog:head; cat:head", TWO_DOGS[:1], [(0, "dog head", 0.6, (0, 0, 4, 4))])
    found = dict(parents(results(made, part_scoring="open")))
    assert {part: parent[1] for part, parent in found.items()} == {20: 10, 21: 11}


def test_a_part_without_its_object_among_the_results_has_no_parent(scene):
    made = scene("dog:head", TWO_DOGS, [(1, "dog head", 0.6, (8, 8, 12, 12))])
    assert parents(results(made, max_objects=1)) == [(20, None)]
    assert parents(results(made, max_objects=0)) == [(20, None)]


def test_names_without_a_category_take_their_place_and_are_left_out(scene):
    """A name that is not scored competes: with room for two pairs it takes one from the dogs."""
    made = scene("dog:head; cat", [*TWO_DOGS, ("cat", 0.9, (0, 8, 8, 16))], [(0, "dog head", 0.6, (0, 0, 4, 4))])
    rows = results(made, object_categories=[10, None], max_objects=2)
    assert [row["category_id"] for row in rows] == [10, 20]
    assert parents(rows) == [(20, (1, 10))]
    assert [row["category_id"] for row in results(made, part_categories=[None], max_objects=2)] == [11, 10]
