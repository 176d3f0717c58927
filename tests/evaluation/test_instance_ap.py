"""Instance AP: COCO's own loop as the oracle, hand-worked values, levels, and what may not be scored."""

from __future__ import annotations

import copy
import json
import sys

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from langhops_cli.errors import UserError
from langhops_cli.evaluation.instances.instance_ap import score
from langhops_cli.evaluation.instances.matches import tables
from langhops_cli.evaluation.instances.matching import BACKENDS
from langhops_cli.evaluation.instances.run_lengths import run_lengths

from .scenes import SIDE, annotation, encode, random_scene, rectangle, result, truth

OBJECTS, PARTS = [1, 2], [3, 4, 5]
# pycocotools adds one unit of rounding to the denominator of a precision
ONE, HALF = pytest.approx(1.0, abs=1e-12), pytest.approx(0.5, abs=1e-12)
ORDER = ["ap", "ap50", "ap75", "small", "medium", "large", "recall1", "recall10", "recall_max"]


def coco_run(truth_, results, kind, *, names=OBJECTS + PARTS, most=100):
    """pycocotools' own loader and loop over the whole."""
    reference = COCO()
    reference.dataset = copy.deepcopy(truth_)
    reference.createIndex()
    # pycocotools takes the box's area for masks too where a box is given
    given = [{key: value for key, value in entry.items() if kind != "segm" or key != "bbox"} for entry in results]
    run = COCOeval(reference, reference.loadRes(copy.deepcopy(given)), kind)
    run.params.catIds = names
    run.params.maxDets = [1, 10, most]
    run.evaluate()
    run.accumulate()
    return run


def coco_stats(truth_, results, kind, categories):
    """The twelve figures that pycocotools prints."""
    run = coco_run(truth_, results, kind, names=categories)
    run.summarize()
    return run.stats[:9]


def scene(seed):
    truth_, results = random_scene(seed)
    for number, entry in enumerate(truth_["annotations"]):
        entry["ignore"] = number % 3 % 2  # which COCO's loop overwrites with the mark of a crowd
    return truth_, results or [result(1, 1, 0.5, 0, 0, 9, 9)]


@pytest.mark.parametrize("start", range(0, 200, 10))
def test_every_precision_and_recall_is_pycocotools(start):
    """Crowds, empty pictures, all sizes, equal scores, over 100 results of a name: 200 cases, every table."""
    for seed in range(start, start + 10):
        truth_, results = scene(seed)
        most = 300 if seed % 3 == 0 else 100
        figures = score(truth_, results, max_detections=most)
        for kind, matches in figures.matches.items():
            names = [name.id for name in matches.names]
            ours = tables(matches)
            if not names:
                continue
            theirs = coco_run(
                truth_, results, "segm" if kind == "mask" else "bbox", names=sorted(names), most=most
            ).eval
            order = [sorted(names).index(name) for name in names]
            np.testing.assert_allclose(ours.precision, theirs["precision"][..., -1][:, :, order], rtol=0, atol=1e-12)
            np.testing.assert_allclose(ours.recall, theirs["recall"][:, order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_same_figures_as_pycocotools(seed):
    """What it prints, for objects, parts and all."""
    truth_, results = scene(seed)
    ours = score(truth_, results)
    for kind, levels in (("segm", ours.mask), ("bbox", ours.box)):
        for group, categories in ((levels.obj, OBJECTS), (levels.part, PARTS), (levels.all, OBJECTS + PARTS)):
            expected = coco_stats(truth_, results, kind, categories)
            mine = [-1 if getattr(group, key) is None else getattr(group, key) for key in ORDER]
            np.testing.assert_allclose(mine, expected, rtol=0, atol=1e-12)


def test_more_instances_than_a_byte_counts():
    """A picture with 260 windows, each found: 100 results of a name count, so recall ends at 100 / 260."""
    places = [(4 * (i % 30), 4 * (i // 30), 3, 3) for i in range(260)]
    annotations = [annotation(1, 3, *place, segmentation=None) for place in places]
    results = [result(1, 3, 0.9 - i / 1000, *place) for i, place in enumerate(places)]
    figures = score(truth(annotations), results)
    assert figures.box.part.recall_max == pytest.approx(100 / 260)
    assert figures.box.part.ap == pytest.approx(np.mean(np.linspace(0, 1, 101) <= 100 / 260), abs=1e-12)


@pytest.mark.parametrize(("before", "most", "found"), [(99, 100, 1), (100, 100, 0), (299, 300, 1), (300, 300, 0)])
def test_so_many_results_of_a_name_count(before, most, found):
    results = [result(1, 1, 0.9, 60, 60, 20, 20) for _ in range(before)] + [result(1, 1, 0.8, 0, 0, 20, 20)]
    figures = score(truth([annotation(1, 1, 0, 0, 20, 20)]), results, max_detections=most)
    assert (figures.mask.obj.recall_max, figures.mask.obj.recall10) == (found, 0.0)
    assert (figures.max_detections, figures.per_picture, figures.results) == (most, False, before + 1)


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
    assert figures.mask.part.recall_max == 1 / 2


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


def test_other_limits_and_backends_are_refused():
    only = truth([annotation(1, 1, 0, 0, 20, 20)])
    with pytest.raises(ValueError, match="100 or 300, got 50"):
        score(only, [], max_detections=50)
    with pytest.raises(ValueError, match="got 'numpy'"):
        score(only, [], backend="numpy")


def test_a_missing_backend_is_said_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    with pytest.raises(UserError, match=r"hotcoco is not installed: run pip install 'langhops\[fast\]'") as caught:
        score(truth([annotation(1, 1, 0, 0, 20, 20)]), [], backend="hotcoco")
    assert caught.value.code == 4


@pytest.mark.parametrize("start", range(0, 40, 10))
def test_hotcoco_matches_as_pycocotools_does(start):
    pytest.importorskip("hotcoco", reason="hotcoco is not installed: pip install 'langhops[fast]'")
    for seed in range(start, start + 10):
        truth_, results = scene(seed)
        most = 300 if seed % 2 else 100
        ours, theirs = (score(truth_, results, max_detections=most, backend=name) for name in BACKENDS)
        assert ours == theirs
        for kind, matches in ours.matches.items():
            for column in ("picture", "name", "score", "right", "ignored", "truth_picture", "truth_counts"):
                expected = getattr(matches, column)
                np.testing.assert_array_equal(getattr(theirs.matches[kind], column), expected)


def test_counters_see_each_picture_once_with_checked_entries():
    class Seen:
        def __init__(self):
            self.pictures = []

        def see(self, picture):
            self.pictures.append((picture.image["id"], len(picture.truth), len(picture.results)))

    seen = Seen()
    annotations = [annotation(2, 1, 0, 0, 20, 20), annotation(2, 3, 0, 0, 9, 9)]
    score(truth(annotations, pictures=2), [result(1, 1, 0.9, 0, 0, 20, 20)], counters=[seen])
    assert seen.pictures == [(1, 0, 1), (2, 2, 0)]


def test_a_report_of_the_figures_is_plain():
    figures = score(truth([annotation(1, 1, 0, 0, 20, 20)]), [result(1, 1, 0.9, 0, 0, 20, 20)])
    plain = json.loads(json.dumps(figures.to_dict()))
    assert plain["mask"]["obj"]["ap"] == ONE
    assert plain["per_name"][0]["name"] == "car"
    assert "matches" not in plain
