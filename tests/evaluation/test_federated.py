"""Truths of which each picture was searched for some names only: LVIS's rules, by hand and against plain Python."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from langhops_cli.data.formats.federated import FederatedReader
from langhops_cli.data.records import Picture
from langhops_cli.errors import UserError
from langhops_cli.evaluation.instances.federated import knowledge
from langhops_cli.evaluation.instances.instance_ap import score
from langhops_cli.evaluation.instances.matches import AREA_LIMITS, RECALLS, THRESHOLDS, tables

from .scenes import SIDE, annotation, result, truth

ONE, HALF = pytest.approx(1.0, abs=1e-12), pytest.approx(0.5, abs=1e-12)


def lvis(annotations, lists, **more):
    """A truth whose pictures have these lists: absent names, and names not annotated exhaustively."""
    made = truth(annotations, pictures=len(lists), **more)
    for image, (absent, unsure) in zip(made["images"], lists, strict=True):
        image |= {"neg_category_ids": absent, "not_exhaustive_category_ids": unsure}
    return made


def prepared(made):
    """The same as a prepared set has it."""
    other = copy.deepcopy(made)
    other["info"] = {"exhaustive": False}
    for image in other["images"]:
        annotated = {row["category_id"] for row in other["annotations"] if row["image_id"] == image["id"]}
        known = set(image.pop("neg_category_ids")) | annotated
        image["checked_category_ids"] = sorted(known - set(image.pop("not_exhaustive_category_ids")))
    return other


class TestByHand:
    """A car in picture 1, and a result at its place; a second result of higher score lies elsewhere."""

    car = annotation(1, 1, 0, 0, 20, 20)
    found = result(1, 1, 0.8, 0, 0, 20, 20)

    @pytest.mark.parametrize("form", [lambda made: made, prepared])
    @pytest.mark.parametrize(
        ("lists", "stray", "expected"),
        [
            # the car is annotated exhaustively: a second one is wrong
            (([], []), (1, 1), (HALF, 0)),
            # not exhaustively: a second one is neither right nor wrong, the first still right
            (([], [1]), (1, 1), (ONE, 0)),
            # known to be absent from picture 2: wrong
            (([1], []), (2, 1), (HALF, 0)),
            # nobody looked for it in picture 2
            (([], []), (2, 1), (ONE, 1)),
            (([2], []), (2, 1), (ONE, 1)),
        ],
    )
    def test_what_a_second_result_costs(self, form, lists, stray, expected):
        all_lists = [lists, ([], [])] if stray[0] == 1 else [([], []), lists]
        figures = score(form(lvis([self.car], all_lists)), [self.found, result(*stray, 0.9, 60, 60, 20, 20)])
        assert (figures.mask.obj.ap, figures.set_aside) == expected
        assert (figures.federated, figures.exhaustive) == (True, False)

    def test_a_miss_counts_whether_or_not_the_name_is_exhaustive(self):
        second = annotation(1, 1, 60, 60, 20, 20)
        for unsure in ([], [1]):
            figures = score(lvis([self.car, second], [([], unsure)]), [self.found])
            assert figures.mask.obj.recall50 == 0.5

    def test_a_second_match_of_one_instance_is_no_match(self):
        """Exhaustive: found twice is once wrong, after full recall. Not exhaustive: it is ignored."""
        again = result(1, 1, 0.7, 0, 0, 20, 20)
        for unsure, wrong in (([], 1), ([1], 0)):
            matches = score(lvis([self.car], [([], unsure)]), [self.found, again]).matches["mask"]
            right, ignored = matches.right[:, 0] & 1, matches.ignored[:, 0] & 1
            assert (right.tolist(), int((1 - right - ignored).sum())) == ([1, 0], wrong)

    def test_three_hundred_of_a_picture_count_over_all_names(self):
        """300 dogs, known to be absent and nowhere annotated, come before the car."""
        dogs = [result(1, 2, 0.9, 40, 40, 9, 9) for _ in range(300)]
        made = lvis([self.car], [([2], [])])
        pushed, kept = (score(made, [*dogs[: 300 - spare], self.found], max_detections=300) for spare in (0, 1))
        assert (pushed.mask.obj.ap, pushed.per_picture, pushed.max_detections) == (0.0, True, 300)
        assert kept.mask.obj.ap == ONE

    def test_with_a_hundred_coco_counts_each_name_by_itself(self):
        dogs = [result(1, 2, 0.9, 40, 40, 9, 9) for _ in range(300)]
        figures = score(lvis([self.car], [([2], [])]), [*dogs, self.found])
        assert (figures.mask.obj.ap, figures.per_picture) == (ONE, False)

    def test_a_truth_without_lists_keeps_coco_s_limit_at_three_hundred(self):
        dogs = [result(1, 2, 0.9, 40, 40, 9, 9) for _ in range(300)]
        figures = score(truth([self.car]), [*dogs, self.found], max_detections=300)
        assert (figures.mask.obj.ap, figures.per_picture, figures.federated) == (ONE, False, False)

    def test_pictures_with_and_without_lists_in_one_truth(self):
        """Picture 2 has no lists: the truth's own word holds there."""
        made = lvis([self.car], [([], []), ([], [])])
        del made["images"][1]["neg_category_ids"], made["images"][1]["not_exhaustive_category_ids"]
        results = [self.found, result(2, 1, 0.9, 60, 60, 20, 20)]
        assert score(made, results).mask.obj.ap == HALF
        made["info"]["exhaustive"] = False
        assert (score(made, results).mask.obj.ap, score(made, results).set_aside) == (ONE, 1)

    def test_a_list_that_is_none_is_named(self):
        made = lvis([self.car], [("cat", [])])
        with pytest.raises(UserError, match=r"images: 1 of 1 entries are wrong.*neg_category_ids 'cat' is no list"):
            score(made, [])


def federated_scene(seed):
    """Three pictures; names are absent, unsure or unknown at random; sometimes more than 300 results."""
    random = np.random.default_rng(seed)

    def box():
        width, height = random.integers(4, [110, 110] if random.random() < 0.4 else [40, 40])
        x, y = random.integers(0, [SIDE - width + 1, SIDE - height + 1])
        return [int(side) for side in (x, y, width, height)]

    annotations, results, lists = [], [], []
    for image_id in (1, 2, 3):
        for _ in range(int(random.integers(0, 8))):
            place, category = box(), int(random.integers(1, 5))
            annotations.append(annotation(image_id, category, *place))
            for _ in range(int(random.integers(0, 4))):
                x, y = (np.array(place[:2]) + random.integers(-3, 4, 2)).clip(0, SIDE - 4).tolist()
                size = (min(place[2], SIDE - x), min(place[3], SIDE - y))
                results.append(result(image_id, category, round(float(random.random()), 2), x, y, *size))
        results += [
            result(image_id, int(random.integers(1, 6)), round(float(random.random()), 3), *box())
            for _ in range(330 if seed % 10 == 0 and image_id == 1 else int(random.integers(0, 9)))
        ]
        there = {row["category_id"] for row in annotations if row["image_id"] == image_id}
        absent = [name for name in range(1, 6) if name not in there and random.random() < 0.4]
        lists.append((absent, [name for name in sorted(there) if random.random() < 0.4]))
    return lvis(annotations, lists), results


def plain_lvis(made, results, low, high):
    """LVIS's rules, one result at a time: {name: [average precision at each threshold]}."""
    by_picture = {}
    for image in made["images"]:
        found = [row for row in results if row["image_id"] == image["id"]]
        by_picture[image["id"]] = sorted(found, key=lambda row: -row["score"])[:300]
    answer = {}
    for name in sorted({row["category_id"] for row in made["annotations"]}):
        told = {round(float(threshold), 2): [] for threshold in THRESHOLDS}
        instances = 0
        for image in made["images"]:
            true = [r for r in made["annotations"] if (r["image_id"], r["category_id"]) == (image["id"], name)]
            if not true and name not in image["neg_category_ids"]:
                continue
            found = [row for row in by_picture[image["id"]] if row["category_id"] == name]
            instances += sum(low <= row["area"] <= high for row in true)
            for threshold, rows in told.items():
                lenient = name in image["not_exhaustive_category_ids"]
                rows += plain_match(true, found, threshold, low, high, lenient)
        answer[name] = [plain_ap(rows, instances) for rows in told.values()] if instances else None
    return answer


def plain_match(true, found, threshold, low, high, lenient):
    """(score, "right" | "wrong" | "ignored") of each result, best first."""
    outside = [not low <= row["area"] <= high for row in true]
    order = sorted(range(len(true)), key=lambda number: outside[number])
    taken, rows = set(), []
    for row in found:
        best, overlap = None, threshold
        for number in order:
            if number in taken or (best is not None and outside[number] and not outside[best]):
                continue
            share = plain_iou(row["bbox"], true[number]["bbox"])
            if share >= overlap:
                best, overlap = number, share
        if best is not None:
            taken.add(best)
            rows.append((row["score"], "ignored" if outside[best] else "right"))
        else:
            beyond = not low <= row["bbox"][2] * row["bbox"][3] <= high
            rows.append((row["score"], "ignored" if lenient or beyond else "wrong"))
    return rows


def plain_iou(one, other):
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def plain_ap(rows, instances):
    points, right, wrong = [], 0, 0
    for _, verdict in sorted(rows, key=lambda row: -row[0]):
        right += verdict == "right"
        wrong += verdict == "wrong"
        if right + wrong:
            points.append((right / instances, right / (right + wrong)))
    reached = [max([precision for recall, precision in points if recall >= level], default=0) for level in RECALLS]
    return sum(reached) / len(reached)


@pytest.mark.parametrize("seed", range(30))
def test_lvis_rules_against_plain_python(seed):
    """Rectangles, so that masks and boxes overlap alike; LVIS's own form and the prepared one."""
    made, results = federated_scene(seed)
    for form in (made, prepared(made)):
        figures = score(form, results, max_detections=300)
        for matches in figures.matches.values():
            precision = tables(matches).precision
            for area, (low, high) in enumerate(AREA_LIMITS):
                expected = plain_lvis(made, results, low, high)
                assert [name.id for name in matches.names] == [*expected]
                for place, aps in enumerate(expected.values()):
                    ours = precision[:, :, place, area].mean(1)
                    np.testing.assert_allclose(ours, -1 if aps is None else aps, rtol=0, atol=1e-12)


def test_the_scenes_show_what_they_are_for():
    """Names that nobody looked for, names that are not annotated exhaustively, and more than 300 results."""
    scenes = [federated_scene(seed) for seed in range(0, 30, 10)]
    assert all(sum(row["image_id"] == 1 for row in results) > 300 for _, results in scenes)
    assert sum(score(*scene, max_detections=300).set_aside for scene in scenes) > 10
    assert any(image["not_exhaustive_category_ids"] for made, _ in scenes for image in made["images"])


@pytest.mark.parametrize("seed", range(20))
def test_training_and_scoring_know_the_same_of_a_picture(seed):
    """What the reader of a source writes into a prepared set is what scoring reads out of the source's lists."""
    random = np.random.default_rng(seed)
    annotated = sorted({int(number) for number in random.integers(1, 7, 3)})
    image = {"id": 1}
    for key in ("neg_category_ids", "not_exhaustive_category_ids"):
        if random.random() < 0.7:
            image[key] = [int(number) for number in random.integers(1, 7, 2)]
    rows = [
        {"id": n, "category_id": n, "segmentation": [[0, 0, 9, 0, 9, 9, 0, 9]], "iscrowd": 0, "image_id": 1}
        for n in annotated
    ]
    lists = (image.get("neg_category_ids"), image.get("not_exhaustive_category_ids"))
    reader = FederatedReader({n: ((f"name {n}", None),) for n in range(1, 7)}, {})
    read = reader("1.jpg", Picture(1, "1.jpg", (20, 20), 0, ([json.dumps(row) for row in rows], lists)), (20, 20))
    known = knowledge(image, annotated, exhaustive=False)
    if read.checked is None:
        assert known.checked is None
    else:
        assert {f"name {n}" for n in known.checked} == {name for name, _ in read.checked}
