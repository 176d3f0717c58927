"""Bootstrap: a drawn picture counts as pycocotools counts a set in which it stands so often."""

from __future__ import annotations

import copy
from collections import Counter

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from langhops_cli.evaluation.instances.bootstrap import draw, interval, level_means, sampled_ap
from langhops_cli.evaluation.instances.instance_ap import score
from langhops_cli.evaluation.instances.matches import tables

from .scenes import random_scene


def scene(seed):
    """A random scene whose scores differ, so that the order of results does not hang on the order of pictures."""
    truth, results = random_scene(seed)
    random = np.random.default_rng(seed)
    for entry, share in zip(results, random.permutation(len(results)), strict=True):
        entry["score"] = (share + 1) / (len(results) + 1)
    return truth, results


def duplicated(truth, results, times):
    """The same set with each picture as often as it was drawn, under a new id."""
    images, annotations, found = [], [], []
    for place, image in enumerate(truth["images"]):
        for _ in range(times[place]):
            number = len(images) + 1
            images.append({**image, "id": number})
            for entries, copies in ((truth["annotations"], annotations), (results, found)):
                copies += [{**entry, "image_id": number} for entry in entries if entry["image_id"] == image["id"]]
    annotations = [{**entry, "id": number} for number, entry in enumerate(annotations, 1)]
    return {**truth, "images": images, "annotations": annotations}, found


def coco_ap(truth, results, kind, category):
    """AP of one name by pycocotools' own loader and loop; NaN where it has no instance."""
    if Counter(entry["category_id"] for entry in truth["annotations"] if not entry["iscrowd"])[category] == 0:
        return np.nan
    if not results:
        return 0.0
    reference = COCO()
    reference.dataset = copy.deepcopy(truth)
    reference.createIndex()
    given = [{key: value for key, value in entry.items() if kind != "segm" or key != "bbox"} for entry in results]
    run = COCOeval(reference, reference.loadRes(copy.deepcopy(given)), kind)
    run.params.catIds = [category]
    run.evaluate()
    run.accumulate()
    return float(run.eval["precision"][:, :, 0, 0, 2].mean())


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12])
def test_a_drawn_picture_counts_as_one_that_is_there_so_often(seed):
    truth, results = scene(seed)
    found = score(truth, results).matches
    weights = draw(len(truth["images"]), 3, seed=seed)
    for kind, coco_kind in (("mask", "segm"), ("box", "bbox")):
        matches = found[kind]
        ours = sampled_ap(matches, weights)
        for sample in range(3):
            set_, given = duplicated(truth, results, weights[:, sample])
            expected = [coco_ap(set_, given, coco_kind, name.id) for name in matches.names]
            np.testing.assert_allclose(ours[:, sample], expected, rtol=0, atol=1e-12)


def test_same_as_the_tables_on_every_sample():
    """Ties of scores, many results, crowds: `tables` weighs the same way, and is far slower."""
    for seed in range(0, 21, 3):
        truth, results = random_scene(seed)
        matches = score(truth, results).matches["mask"]
        weights = draw(len(truth["images"]), 5, seed=seed)
        ours = sampled_ap(matches, weights)
        for sample in range(5):
            table = tables(matches, weights[:, sample].astype(int), areas=("all",)).precision[..., 0]
            expected = [table[:, :, k].mean() if table[0, 0, k] > -1 else np.nan for k in range(len(matches.names))]
            np.testing.assert_allclose(ours[:, sample], expected, rtol=0, atol=1e-12)


def test_samples_are_worked_out_in_pieces_as_at_once(monkeypatch):
    truth, results = scene(14)
    matches = score(truth, results).matches["mask"]
    weights = draw(len(truth["images"]), 20)
    whole = sampled_ap(matches, weights)
    monkeypatch.setattr("langhops_cli.evaluation.instances.bootstrap.AT_ONCE", 1)
    np.testing.assert_array_equal(sampled_ap(matches, weights), whole)


def test_drawing_puts_back_and_follows_the_seed():
    drawn = draw(40, 500, seed=3)
    assert (drawn.sum(0) == 40).all() and drawn.dtype == np.uint16
    np.testing.assert_array_equal(drawn, draw(40, 500, seed=3))
    assert (drawn != draw(40, 500, seed=4)).any()
    # Each is drawn by a binomial law: mean 1, variance 1 - 1/40.
    assert drawn.mean(1) == pytest.approx(np.ones(40), abs=0.2)
    assert drawn.var() == pytest.approx(1 - 1 / 40, abs=0.05)


def test_intervals_and_means_leave_out_what_is_not_there():
    assert interval(np.array([np.nan, np.nan])) is None
    assert interval(np.append(np.arange(101.0), np.nan)) == pytest.approx((2.5, 97.5))
    scores = np.array([[0.5, np.nan, np.nan], [0.1, 0.3, np.nan], [9.0, 9.0, 9.0]])
    np.testing.assert_allclose(level_means(scores, [0, 1]), [0.3, 0.3, np.nan])
    assert np.isnan(level_means(scores, [])).all()
