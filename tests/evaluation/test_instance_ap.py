"""Instance AP: COCO's own loop as the oracle, hand-worked values, levels, and what may not be scored."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from langhops_cli.errors import UserError
from langhops_cli.evaluation.instance_ap import score
from langhops_cli.evaluation.validation import run_lengths

from .scenes import SIDE, annotation, encode, random_scene, rectangle, result, truth

OBJECTS, PARTS = [1, 2], [3, 4, 5]
# pycocotools adds one unit of rounding to the denominator of a precision
ONE, HALF = pytest.approx(1.0, abs=1e-12), pytest.approx(0.5, abs=1e-12)
ORDER = ["ap", "ap50", "ap75", "small", "medium", "large", "recall1", "recall10", "recall100"]


def coco_stats(truth_, results, kind, categories):
    """The twelve figures that pycocotools prints, by its own loader, loop and summary."""
    reference = COCO()
    reference.dataset = copy.deepcopy(truth_)
    reference.createIndex()
    # pycocotools takes the box's area for masks too where a box is given
    given = [{key: value for key, value in entry.items() if kind != "segm" or key != "bbox"} for entry in results]
    run = COCOeval(reference, reference.loadRes(copy.deepcopy(given)), kind)
    run.params.catIds = categories
    run.evaluate()
    run.accumulate()
    run.summarize()
    return run.stats[:9]


@pytest.mark.parametrize("seed", range(50))
def test_same_figures_as_pycocotools(seed):
    """Crowds, empty pictures, all sizes, equal scores, more than 100 results of a name: figure by figure."""
    truth_, results = random_scene(seed)
    if not results:
        results = [result(1, 1, 0.5, 0, 0, 9, 9)]
    ours = score(truth_, results)
    for kind, levels in (("segm", ours.mask), ("bbox", ours.box)):
        for group, categories in ((levels.obj, OBJECTS), (levels.part, PARTS), (levels.all, OBJECTS + PARTS)):
            expected = coco_stats(truth_, results, kind, categories)
            mine = [-1 if getattr(group, key) is None else getattr(group, key) for key in ORDER]
            np.testing.assert_allclose(mine, expected, rtol=0, atol=1e-12)


def test_more_instances_and_results_than_a_byte_counts():
    """A picture with 300 windows, each found: 100 results of a name count, so recall ends at a third."""
    places = [(4 * (i % 30), 4 * (i // 30), 3, 3) for i in range(300)]
    annotations = [annotation(1, 3, *place) for place in places]
    results = [result(1, 3, 0.9 - i / 1000, *place) for i, place in enumerate(places)]
    figures = score(truth(annotations), results)
    np.testing.assert_allclose(figures.mask.part.recall100, 1 / 3)
    expected = coco_stats(truth(annotations), results, "segm", PARTS)[0]
    assert figures.mask.part.ap == pytest.approx(expected, abs=1e-12)


def test_perfect_results_score_one():
    annotations = [annotation(1, 1, 0, 0, 60, 60), annotation(1, 3, 2, 2, 10, 10), annotation(2, 5, 5, 5, 20, 20)]
    results = [result(a["image_id"], a["category_id"], 0.9, *map(int, a["bbox"])) for a in annotations]
    figures = score(truth(annotations, pictures=2), results)
    for group in (figures.mask.obj, figures.mask.part, figures.mask.all, figures.box.all):
        assert (group.ap, group.ap50, group.ap75, group.recall50) == (ONE, ONE, ONE, ONE)
    assert (figures.mask.all.small, figures.mask.all.medium, figures.mask.all.large) == (ONE, ONE, None)


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        # found, then a false one: precision 1 at every recall
        ([(0.9, 0, 0, 20, 20), (0.8, 60, 60, 20, 20)], 1.0),
        # a false one, then found: precision 1/2 at every recall
        ([(0.8, 0, 0, 20, 20), (0.9, 60, 60, 20, 20)], 0.5),
        # IoU 15/20 = 0.75: thresholds 0.50 .. 0.75 are met, six of ten
        ([(0.9, 0, 0, 20, 15)], 0.6),
        # IoU 10/20 = 0.5: one threshold of ten
        ([(0.9, 0, 0, 20, 10)], 0.1),
        # found twice: the second one is false, and comes after full recall
        ([(0.9, 0, 0, 20, 20), (0.8, 0, 0, 20, 20)], 1.0),
        ([], 0.0),
    ],
)
def test_ap_of_one_instance_worked_by_hand(results, expected):
    figures = score(truth([annotation(1, 1, 0, 0, 20, 20)]), [result(1, 1, *entry) for entry in results])
    assert figures.mask.obj.ap == pytest.approx(expected)


def test_one_of_two_found_counts_up_to_half_recall():
    """Recall 0.5 with precision 1: 51 of COCO's 101 recall levels (0.00 .. 0.50) have precision 1."""
    figures = score(
        truth([annotation(1, 1, 0, 0, 20, 20), annotation(1, 1, 60, 60, 20, 20)]), [result(1, 1, 0.9, 0, 0, 20, 20)]
    )
    assert figures.mask.obj.ap == pytest.approx(51 / 101)
    assert figures.mask.obj.recall50 == 0.5


def test_levels_average_over_their_own_names():
    """Objects all found, of the two part names one: obj 1, part 1/2, all (1 + 1 + 0) / 3; no name without truth."""
    annotations = [annotation(1, 1, 0, 0, 60, 60), annotation(1, 3, 2, 2, 10, 10), annotation(1, 4, 30, 30, 10, 10)]
    found = [result(1, 1, 0.9, 0, 0, 60, 60), result(1, 3, 0.9, 2, 2, 10, 10), result(1, 2, 0.9, 0, 0, 9, 9)]
    figures = score(truth(annotations), found)
    assert (figures.mask.obj.ap, figures.mask.part.ap) == (ONE, HALF)
    assert figures.mask.all.ap == pytest.approx(2 / 3)
    assert (figures.mask.obj.names, figures.mask.part.names, figures.mask.all.instances) == (1, 2, 3)
    assert figures.without_truth == 1
    assert [(row.name, row.level, row.mask_ap, row.results) for row in figures.per_name] == [
        ("car", "object", ONE, 1),
        ("car wheel", "part", ONE, 1),
        ("car door", "part", 0.0, 0),
    ]


def test_recall_is_over_instances_and_not_over_names():
    annotations = [annotation(1, 3, 20 * i, 0, 10, 10) for i in range(4)] + [annotation(1, 4, 60, 60, 10, 10)]
    figures = score(truth(annotations), [result(1, 4, 0.9, 60, 60, 10, 10)])
    assert figures.mask.part.recall50 == 1 / 5
    assert figures.mask.part.recall100 == 1 / 2


def test_box_and_mask_are_scored_apart():
    """A triangle-like mask in the right box: the box is right, the mask is half of it."""
    half = np.zeros((SIDE, SIDE))
    half[0:20, 0:9] = 1
    entry = {**result(1, 1, 0.9, 0, 0, 20, 20), "segmentation": encode(half)}
    figures = score(truth([annotation(1, 1, 0, 0, 20, 20)]), [entry])
    assert (figures.mask.obj.ap, figures.box.obj.ap) == (0.0, ONE)


def test_a_box_left_out_is_the_masks():
    entry = result(1, 1, 0.9, 0, 0, 20, 20)
    del entry["bbox"]
    assert score(truth([annotation(1, 1, 0, 0, 20, 20)]), [entry]).box.obj.ap == ONE


def test_a_truth_of_boxes_has_box_figures_only():
    boxes = truth([annotation(1, 1, 0, 0, 20, 20, segmentation=None)])
    figures = score(boxes, [result(1, 1, 0.9, 0, 0, 20, 20)])
    assert figures.mask is None
    assert figures.main.obj.ap == ONE


class TestNotExhaustive:
    """Picture 1 has a car, picture 2 a dog's head; what is not annotated there is unknown."""

    annotations = (annotation(1, 1, 0, 0, 20, 20), annotation(2, 5, 0, 0, 20, 20))
    found = (result(1, 1, 0.9, 0, 0, 20, 20), result(2, 5, 0.9, 0, 0, 20, 20))

    def test_a_name_that_is_not_annotated_in_the_picture_costs_nothing(self):
        stray = [result(2, 1, 0.99, 60, 60, 20, 20), result(1, 5, 0.99, 60, 60, 20, 20)]
        open_ = score(truth([*self.annotations], pictures=2, exhaustive=False), [*self.found, *stray])
        closed = score(truth([*self.annotations], pictures=2), [*self.found, *stray])
        assert (open_.mask.all.ap, open_.set_aside, open_.exhaustive) == (ONE, 2, False)
        assert (closed.mask.all.ap, closed.set_aside, closed.exhaustive) == (HALF, 0, True)

    def test_a_name_that_is_annotated_there_counts_as_always(self):
        wrong = result(1, 1, 0.99, 60, 60, 20, 20)
        figures = score(truth([*self.annotations], pictures=2, exhaustive=False), [*self.found, wrong])
        assert (figures.mask.obj.ap, figures.mask.part.ap, figures.set_aside) == (HALF, ONE, 0)


def test_a_choice_of_pictures_restricts_truth_and_results():
    annotations = [annotation(1, 1, 0, 0, 20, 20), annotation(2, 1, 0, 0, 20, 20)]
    results = [result(1, 1, 0.5, 0, 0, 20, 20), result(2, 1, 0.9, 60, 60, 20, 20)]
    whole, first = (
        score(truth(annotations, pictures=2), results),
        score(truth(annotations, pictures=2), results, image_ids=[1]),
    )
    assert whole.mask.obj.ap < 0.5
    assert (first.mask.obj.ap, first.pictures, first.results) == (ONE, 1, 1)
    with pytest.raises(UserError, match="no picture with the id 9"):
        score(truth(annotations, pictures=2), results, image_ids=[9])


def test_an_annotation_id_of_zero_is_an_instance():
    """pycocotools marks "not matched" with 0, and would take the instance with this id for missed."""
    only = truth([annotation(1, 1, 0, 0, 20, 20)])
    only["annotations"][0]["id"] = 0
    assert score(only, [result(1, 1, 0.9, 0, 0, 20, 20)]).mask.obj.ap == ONE


def test_files_and_memory_give_the_same(tmp_path, capfd):
    truth_, results = random_scene(4)
    (tmp_path / "val.json").write_text(json.dumps(truth_))
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert score(tmp_path / "val.json", tmp_path / "results.json") == score(truth_, results)
    assert capfd.readouterr().out == ""


def test_the_inputs_are_left_as_they_are():
    truth_, results = random_scene(3)
    before = copy.deepcopy((truth_, results))
    score(truth_, results)
    assert (truth_, results) == before


def test_nothing_annotated_is_no_figure():
    figures = score(truth([]), [result(1, 1, 0.9, 0, 0, 20, 20)])
    assert (figures.mask.all.ap, figures.mask.all.recall50, figures.per_name) == (None, None, ())


def test_polygons_and_plain_runs_are_read():
    square = truth([annotation(1, 1, 10, 10, 20, 20)])
    square["annotations"][0]["segmentation"] = [[10, 10, 30, 10, 30, 30, 10, 30]]
    runs = run_lengths(rectangle(10, 10, 20, 20)["counts"]).tolist()
    plain = {**result(1, 1, 0.9, 10, 10, 20, 20), "segmentation": {"size": [SIDE, SIDE], "counts": runs}}
    assert score(square, [plain]).mask.obj.ap == ONE


def change(**fields):
    return {**result(1, 1, 0.9, 0, 0, 20, 20), **fields}


def without(field):
    entry = result(1, 1, 0.9, 0, 0, 20, 20)
    del entry[field]
    return entry


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (change(image_id=77), "image_id 77 is not in the ground truth"),
        (change(image_id="1"), "image_id '1' is not in the ground truth"),
        (change(category_id=9), "category_id 9 is not in the ground truth"),
        (change(category_id=True), "category_id True is not in the ground truth"),
        (change(score=math.nan), "score is nan"),
        (change(score=math.inf), "score is inf"),
        (change(score="0.9"), "score '0.9' is no number"),
        (change(score=None), "no score"),
        (without("segmentation"), "no segmentation"),
        (without("image_id"), "no image_id"),
        (change(segmentation=[[0, 0, 9, 0, 9, 9]]), "segmentation is no RLE with size and counts"),
        (
            change(segmentation=rectangle(0, 0, 5, 5, size=(60, 120))),
            "its mask is 60 x 120 (height x width), the picture 120 x 120",
        ),
        (change(segmentation={"size": [120, 120], "counts": "04"}), "the runs of its mask do not fill the picture"),
        (change(segmentation={"size": [120, 120], "counts": "\x01"}), "the counts of its mask are damaged"),
        (change(segmentation={"size": [120, 120], "counts": "ä"}), "the counts of its mask are damaged"),
        (change(segmentation={"size": [120, 120], "counts": [5, -1]}), "the runs of its mask do not fill the picture"),
        (change(segmentation={"size": [120, 120], "counts": 5}), "the counts of its mask are neither text nor a list"),
        (change(bbox=[0, 0, 5]), "bbox [0, 0, 5] is not x, y, width, height"),
        (change(bbox=[0, 0, math.nan, 5]), "bbox is nan"),
        (change(bbox=[0, 0, -1, 5]), "bbox [0, 0, -1, 5] has a negative side"),
        ("car", "'car' is no object"),
    ],
)
def test_a_wrong_result_is_named_and_nothing_is_scored(tmp_path, entry, message):
    file = tmp_path / "theirs.json"
    file.write_text(json.dumps([result(1, 1, 0.9, 0, 0, 20, 20), entry]))
    with pytest.raises(UserError) as caught:
        score(truth([annotation(1, 1, 0, 0, 20, 20)]), file)
    assert str(caught.value) == f"{file}: 1 of 2 entries are wrong, nothing was scored: entry 1: {message}."
    assert caught.value.code == 3


def test_the_first_wrong_results_are_named_and_the_rest_counted():
    entries = [change(image_id=image_id) for image_id in (1, 5, 6, 1, 7, 8, 9)]
    with pytest.raises(UserError) as caught:
        score(truth([annotation(1, 1, 0, 0, 20, 20)]), entries)
    text = str(caught.value)
    assert "results: 5 of 7 entries are wrong" in text
    assert all(f"entry {number}:" in text for number in (1, 2, 4))
    assert text.endswith("; and 2 more.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"image_id": 1, "categ', "is cut off or no JSON (Unterminated string"),
        (b"", "is cut off or no JSON (Expecting value"),
        (b"\xff\xfe\x00", "is not JSON: it is no UTF-8 text"),
        (b'{"annotations": []}', "holds no list of COCO results"),
    ],
)
def test_a_results_file_that_is_none_is_named(tmp_path, content, message):
    file = tmp_path / "results.json"
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        score(truth([annotation(1, 1, 0, 0, 20, 20)]), file)
    assert str(file) in str(caught.value)
    assert message in str(caught.value)
    assert caught.value.code == 3


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"val\.json does not exist"):
        score(tmp_path / "val.json", [])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.pop("images"), "no list 'images'"),
        (
            lambda t: t["images"][0].pop("height"),
            "images: 1 of 1 entries are wrong, nothing was scored: entry 0: no height",
        ),
        (lambda t: t["images"].append(t["images"][0]), "ids in 'images' are not unique"),
        (lambda t: t["annotations"][0].update(image_id=4), "entry 0: image_id 4 is not in the ground truth"),
        (lambda t: t["annotations"][0].update(category_id=8), "entry 0: category_id 8 is not in the ground truth"),
        (lambda t: t["annotations"][0].update(area=math.nan), "entry 0: area is nan"),
        (lambda t: t["annotations"][0].update(segmentation=[[1, 2, 3, 4]]), "entry 0: a polygon needs three points"),
        (lambda t: t["annotations"][0].update(segmentation=None, bbox=None), "entry 0: neither segmentation nor bbox"),
    ],
)
def test_a_wrong_truth_is_named(damage, message):
    damaged = truth([annotation(1, 1, 0, 0, 20, 20)])
    damage(damaged)
    with pytest.raises(UserError) as caught:
        score(damaged, [])
    assert message in str(caught.value)


def test_run_lengths_are_those_that_were_encoded():
    """Against masks of noise and of large blobs, whose runs need one to several characters."""
    random = np.random.default_rng(0)
    for share in (0.0, 0.001, 0.5, 0.999, 1.0):
        mask = random.random((211, 340)) < share
        flat = mask.ravel(order="F")
        edges = np.flatnonzero(np.diff(flat, prepend=False)) if flat.size else []
        expected = np.diff(np.concatenate([[0], edges, [flat.size]]))
        counts = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
        np.testing.assert_array_equal(run_lengths(counts), expected)
