"""Class-prompted IoU on scenes whose answers are known, and where it is reported."""

from __future__ import annotations

import numpy as np
import pytest

from langhops_cli.evaluation.instances.stream import scored_pictures
from langhops_cli.evaluation.prompted import PromptedIoU
from langhops_cli.evaluation.report import PROMPTED
from langhops_cli.evaluation.scoring import score_results

from .prepared import make_set
from .scenes import annotation, random_scene, result, truth

CAR, DOG, WHEEL, DOOR, HEAD = 1, 2, 3, 4, 5


def measure(truth_, results):
    stream = scored_pictures(truth_, results)
    prompted = PromptedIoU(stream.categories)
    for picture in stream:
        prompted.see(picture)
    return prompted.result()


def test_two_pictures_worked_by_hand():
    """The likeliest result answers, though another one fits better; of two instances the one that it fits counts."""
    annotations = [
        annotation(1, CAR, 0, 0, 40, 40),
        annotation(1, CAR, 60, 60, 40, 40),
        annotation(1, CAR, 0, 100, 20, 20, iscrowd=1),
        annotation(1, WHEEL, 0, 0, 10, 10),
        annotation(1, DOOR, 20, 0, 10, 10),
        annotation(2, CAR, 0, 0, 40, 40),
    ]
    results = [
        result(1, CAR, 0.9, 60, 60, 40, 20),  # half of the second
        result(1, CAR, 0.4, 0, 0, 40, 40),
        result(1, DOG, 1.0, 60, 60, 40, 40),  # nobody asked
        result(1, WHEEL, 0.1, 0, 0, 10, 4),
        result(2, CAR, 0.2, 0, 0, 40, 40),
    ]
    figures = measure(truth(annotations, pictures=2, exhaustive=False), results)
    assert figures.objects.values == [0.5, 1.0]
    assert figures.parts.values == [pytest.approx(0.4), 0.0]
    assert figures.to_dict()["objects"] == {"names": 2, "iou": 0.75, "right": 1.0, "unanswered": 0}
    assert figures.to_dict()["parts"] == {"names": 2, "iou": pytest.approx(0.2), "right": 0.0, "unanswered": 1}
    assert figures.rows()[1:] == [("objects", "2", "75.0", "100.0", "0"), ("parts", "2", "20.0", "0.0", "1")]


@pytest.mark.parametrize("seed", range(6))
def test_results_of_names_that_are_not_there_change_nothing(seed):
    scene, results = random_scene(seed)
    before = measure(scene, results)
    there = {(entry["image_id"], entry["category_id"]) for entry in scene["annotations"]}
    asked = [entry for entry in results if (entry["image_id"], entry["category_id"]) in there]
    assert measure(scene, asked) == before
    everything = [*before.objects.values, *before.parts.values]
    assert all(0 <= value <= 1 for value in everything)


def test_perfect_results_answer_all_and_none_answer_nothing():
    scene, _ = random_scene(3)
    perfect = [
        {key: entry[key] for key in ("image_id", "category_id", "segmentation", "bbox")} | {"score": 1.0}
        for entry in scene["annotations"]
        if not entry["iscrowd"]
    ]
    best, none = measure(scene, perfect), measure(scene, [])
    assert np.mean(best.parts.values) == pytest.approx(1.0) == best.objects.mean
    assert none.parts.mean == 0 == none.objects.right
    assert none.parts.unanswered == len(best.parts.values)
    nothing = measure(truth([]), [])
    assert nothing.objects.mean is None
    assert nothing.rows()[1] == ("objects", "0", "-", "-", "0")


@pytest.mark.parametrize("exhaustive", [True, False])
def test_a_report_has_it_where_the_truth_is_not_exhaustive(tmp_path, exhaustive):
    report = score_results([], make_set(tmp_path, exhaustive=exhaustive))
    assert (PROMPTED in report.sections) is not exhaustive
