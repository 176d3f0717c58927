"""What may not be scored: wrong entries, files that end early and damaged masks are named, each with its number."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from langhops_cli.errors import UserError
from langhops_cli.evaluation.instances.instance_ap import score
from langhops_cli.evaluation.instances.run_lengths import fill, run_lengths

from .scenes import SIDE, annotation, rectangle, result, truth


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
        (b'[{"image_id": 1, "categ', "is no JSON (Unterminated string"),
        (b"", "holds no list"),
        (b"\xff\xfe\x00", "is no text in UTF-8"),
        (b'{"annotations": []}', "holds no list"),
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


def test_a_file_that_ends_early_says_where(tmp_path):
    file = tmp_path / "results.json"
    text = json.dumps([result(1, 1, 0.9, 0, 0, 20, 20)] * 3)
    file.write_text(text[: text.rindex("score")])
    with pytest.raises(UserError, match="Entry 2 is the first that cannot be read; nothing was scored") as caught:
        score(truth([annotation(1, 1, 0, 0, 20, 20)]), file)
    assert str(caught.value).startswith(str(file))
    file.write_text(text[:-1])
    with pytest.raises(UserError, match="Entry 3 is the first that cannot be read"):
        score(truth([annotation(1, 1, 0, 0, 20, 20)]), file)


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


def test_masks_checked_together_are_those_checked_alone():
    """One damaged text among others, an empty one, and one that goes below nothing."""
    whole = rectangle(0, 0, 5, 5)["counts"]
    texts = [whole, "04", "\x01", whole, "", whole[:-1] + "P", "ä", "000000PPPPPPPP0", whole]
    area = SIDE * SIDE
    assert fill(texts, [area] * len(texts)) == [fill([text], [area])[0] for text in texts]
    assert fill(texts, [area] * len(texts)) == [True, False, None, True, False, None, None, None, True]
    assert fill([whole, "04", "", whole], [area, 4, 0, area + 1]) == [True, True, True, False]
    assert fill([], []) == []


def test_runs_below_nothing_do_not_fill():
    """-5 + 5 + 14400 add up to the picture."""
    below = coco_text([-5, 5, SIDE * SIDE])
    assert run_lengths(below).tolist() == [-5, 5, SIDE * SIDE]
    assert fill([below], [SIDE * SIDE]) == [False]


def coco_text(runs):
    """COCO's code, a run at a time."""
    text = ""
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        while True:
            low = value & 31
            value >>= 5
            done = value == (-1 if low & 16 else 0)
            text += chr(48 + low + (0 if done else 32))
            if done:
                break
    return text
