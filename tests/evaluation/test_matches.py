"""What is kept of a scoring: by hand, saved and read, weighted by picture, and averaged."""

from __future__ import annotations

import copy
import json
from dataclasses import fields

import numpy as np
import pytest

from langhops_cli.errors import UserError
from langhops_cli.evaluation.instances.instance_ap import levels, score
from langhops_cli.evaluation.instances.matches import (
    AREAS,
    Matches,
    load_matches,
    mean_precision,
    mean_recall,
    save_matches,
    tables,
)

from .scenes import annotation, random_scene, result, truth


def distinct_scene(seed):
    """A scene in which no two results have one score."""
    truth_, results = random_scene(seed)
    shares = np.random.default_rng(seed).permutation(len(results)) / max(len(results), 1)
    for entry, share in zip(results, shares.tolist(), strict=True):
        entry["score"] = share
    return truth_, results


def assert_same(one: Matches, other: Matches):
    for item in fields(Matches):
        ours, theirs = getattr(one, item.name), getattr(other, item.name)
        if isinstance(ours, np.ndarray):
            assert ours.dtype == theirs.dtype, item.name
            np.testing.assert_array_equal(ours, theirs, err_msg=item.name)
        else:
            assert ours == theirs, item.name


def test_one_right_one_wrong_by_hand():
    annotations = [
        annotation(1, 1, 0, 0, 20, 20),
        annotation(2, 3, 0, 0, 50, 50),
        annotation(2, 3, 0, 0, 9, 9, iscrowd=1),
    ]
    results = [result(2, 3, 0.4, 0, 0, 9, 9), result(1, 1, 0.5, 0, 0, 20, 15), result(1, 1, 0.9, 60, 60, 20, 20)]
    matches = score(truth(annotations, pictures=2), results).matches["mask"]
    assert [(name.id, name.level, name.instances) for name in matches.names] == [(1, "object", 1), (3, "part", 1)]
    assert matches.image_ids == (1, 2)
    assert (matches.name.tolist(), matches.picture.tolist()) == ([0, 0, 1], [0, 0, 1])
    assert matches.score.tolist() == [0.9, 0.5, 0.4]
    # an overlap of 0.75 reaches the thresholds 0.50 .. 0.75, the first six bits
    assert matches.right[:, 0].tolist() == [0, 0b111111, 0]
    # 20 x 20 pixels are small: as medium or large the results do not count, right or wrong
    assert matches.ignored[:2].tolist() == [[0, 0, 1023, 1023]] * 2
    # on a crowd: never counted
    assert matches.ignored[2].tolist() == [1023] * 4
    assert matches.truth_counts.tolist() == [[True, True, False, False], [True, False, True, False]]
    assert (matches.truth_name.tolist(), matches.truth_picture.tolist()) == ([0, 1], [0, 1])


def test_pictures_are_ordered_by_id_as_coco_does():
    """Equal scores stay in the order of the pictures' ids, in which the right one comes first here."""
    made = truth([annotation(2, 1, 0, 0, 20, 20)], pictures=2)
    made["images"].reverse()
    for image, other in zip(made["images"], (10, 3), strict=True):
        image["id"] = {2: 3, 1: 10}[image["id"]] if other else 0
    made["annotations"][0]["image_id"] = 3
    results = [result(10, 1, 0.5, 60, 60, 20, 20), result(3, 1, 0.5, 0, 0, 20, 20)]
    figures = score(made, results)
    assert figures.matches["mask"].image_ids == (3, 10)
    assert figures.mask.obj.ap == pytest.approx(1.0)


@pytest.mark.parametrize("seed", [0, 3, 5, 7])
def test_a_file_gives_back_what_was_written(tmp_path, seed):
    figures = score(*random_scene(seed))
    save_matches(tmp_path / "matches.npz", figures.matches)
    read = load_matches(tmp_path / "matches.npz")
    assert [*read] == ["mask", "box"]
    for kind, matches in figures.matches.items():
        assert_same(read[kind], matches)
    assert levels(read["mask"]) == figures.mask


def test_names_and_ids_may_be_any_text(tmp_path):
    made = truth([annotation("b", 1, 0, 0, 20, 20)])
    made["images"] = [{"id": name, "height": 120, "width": 120} for name in ("b", "ä", 7)]
    made["categories"][0]["name"] = "ein 'Wagen'\n"
    save_matches(tmp_path / "m.npz", score(made, []).matches)
    read = load_matches(tmp_path / "m.npz")["box"]
    assert (read.image_ids, read.names[0].name) == ((7, "b", "ä"), "ein 'Wagen'\n")


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-40], lambda data: b"", lambda data: b"{}", lambda data: data[:200]]
)
def test_a_damaged_file_is_named(tmp_path, damage):
    file = tmp_path / "matches.npz"
    save_matches(file, score(*random_scene(3)).matches)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=r"matches\.npz is damaged .*; evaluate again"):
        load_matches(file)


def test_a_missing_file_and_one_of_another_format_are_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.npz does not exist"):
        load_matches(tmp_path / "none.npz")
    about = np.frombuffer(json.dumps({"format": 99, "kinds": {}}).encode(), np.uint8)
    np.savez(tmp_path / "new.npz", about=about)
    with pytest.raises(UserError, match=r"new\.npz is of format 99, not 1"):
        load_matches(tmp_path / "new.npz")


@pytest.mark.parametrize("seed", range(20))
def test_weights_are_pictures_that_are_there_so_often(seed):
    truth_, results = distinct_scene(seed)
    weights = np.random.default_rng(seed).integers(0, 4, len(truth_["images"]))
    weighted = tables(score(truth_, results).matches["mask"], weights)
    again = {key: copy.deepcopy(truth_[key]) for key in ("info", "categories")} | {"images": [], "annotations": []}
    more = []
    for image, weight in zip(truth_["images"], weights.tolist(), strict=True):
        for copied in range(weight):
            image_id = 10 * image["id"] + copied
            again["images"].append({**image, "id": image_id})
            for rows, target in ((truth_["annotations"], again["annotations"]), (results, more)):
                target += [{**row, "image_id": image_id} for row in rows if row["image_id"] == image["id"]]
    copies = score(again, more).matches["mask"]
    expected = tables(copies)
    names = [name.id for name in score(truth_, results).matches["mask"].names]
    for place, name in enumerate(names):
        there = [number for number, other in enumerate(copies.names) if other.id == name]
        if not there:
            assert (weighted.precision[:, :, place] == -1).all() and (weighted.recall[:, place] == -1).all()
            continue
        np.testing.assert_allclose(weighted.precision[:, :, place], expected.precision[:, :, there[0]], atol=1e-12)
        np.testing.assert_allclose(weighted.recall[:, place], expected.recall[:, there[0]], atol=1e-12)


def test_single_areas_are_columns_of_all():
    matches = score(*random_scene(5)).matches["mask"]
    whole = tables(matches)
    some = tables(matches, areas=["large", "all"])
    np.testing.assert_array_equal(some.precision, whole.precision[..., [3, 0]])
    np.testing.assert_array_equal(some.recall, whole.recall[:, :, [3, 0]])
    assert AREAS == ("all", "small", "medium", "large")


@pytest.mark.parametrize("weights", [[1.0, 1.0], [1], [1, -1], [[1, 1]]])
def test_weights_that_are_none_are_refused(weights):
    matches = score(truth([annotation(1, 1, 0, 0, 9, 9)], pictures=2), []).matches["mask"]
    with pytest.raises(ValueError, match="weights must be 2 whole numbers"):
        tables(matches, np.array(weights))
    with pytest.raises(ValueError, match="no area 'tiny'"):
        tables(matches, areas=["tiny"])


def test_means_leave_out_names_without_such_instances():
    annotations = [annotation(1, 1, 0, 0, 20, 20), annotation(1, 3, 0, 0, 50, 50)]
    found = tables(score(truth(annotations), [result(1, 1, 0.9, 0, 0, 20, 20)]).matches["mask"])
    assert mean_precision(found.precision, [0, 1]) == pytest.approx(0.5)
    assert mean_precision(found.precision, [0, 1], area=1) == pytest.approx(1.0)
    assert mean_precision(found.precision, [1], area=1) is None
    assert mean_recall(found.recall, [0, 1]) == 0.5
    assert mean_recall(found.recall, []) is None
    with pytest.raises(ValueError, match=r"no threshold 0\.52"):
        mean_precision(found.precision, [0], threshold=0.52)
