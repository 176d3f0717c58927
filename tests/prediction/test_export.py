from __future__ import annotations

import json
import os
import tracemalloc

import numpy as np
import pytest
from pycocotools.coco import COCO

from langhops_cli.errors import DATA, UserError
from langhops_cli.prediction.export import CocoWriter, read_predictions, write_coco
from langhops_cli.prediction.results import Detection, Prediction
from langhops_cli.vocabulary import parse_vocabulary

VOCABULARY = parse_vocabulary("犬:head(ear); cat")


def prediction(name, seed):
    random = np.random.default_rng(seed)
    size = (13 + seed, 17)
    return Prediction(
        name,
        size,
        (
            Detection.from_mask(("犬",), 0.9, random.random(size) > 0.5),
            Detection.from_mask(("犬", "head"), 0.8, random.random(size) > 0.7, parent=0),
            Detection.from_mask(("犬", "head", "ear"), 0.7, random.random(size) > 0.7, parent=1),
        ),
    )


def test_file_opens_in_pycocotools_with_equal_masks(tmp_path):
    path = tmp_path / "predictions.json"
    given = [prediction("a.jpg", 1), Prediction("nothing.jpg", (4, 5)), prediction('b/ü "x".jpg', 2)]
    with CocoWriter(path, VOCABULARY) as writer:
        assert [writer.add(item) for item in given] == [1, 2, 3]
    coco = COCO(str(path))
    assert [image["file_name"] for image in coco.dataset["images"]] == [item.picture for item in given]
    for image_id, item in enumerate(given, 1):
        rows = coco.loadAnns(coco.getAnnIds(imgIds=image_id))
        assert len(rows) == len(item)
        for row, found in zip(rows, item, strict=True):
            assert np.array_equal(coco.annToMask(row).astype(bool), found.mask)
            assert row["area"] == found.mask.sum()
            parent = None if row["parent_id"] is None else coco.anns[row["parent_id"]]
            assert parent is None or parent["image_id"] == image_id
            assert (parent is None) == (found.parent is None)
    # Names that were looked for but not found are categories too.
    assert [row["name"] for row in coco.dataset["categories"]] == ["犬", "cat", "犬 head", "犬 ear"]
    assert coco.dataset["info"]["vocabulary"] == str(VOCABULARY)
    assert [p.name for p in tmp_path.iterdir()] == ["predictions.json"]


def test_a_file_name_that_is_no_unicode_is_kept(tmp_path):
    name = os.fsdecode(b"caf\xe9 \xe7.jpg")
    with CocoWriter(tmp_path / "p.json", VOCABULARY) as writer:
        writer.add(Prediction(name, (4, 5)))
        writer.add(Prediction("ü.jpg", (4, 5)))
    images = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))["images"]
    assert [image["file_name"] for image in images] == [name, "ü.jpg"]


def test_no_picture_at_all_is_still_a_file(tmp_path):
    with CocoWriter(tmp_path / "p.json", VOCABULARY):
        pass
    assert json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))["annotations"] == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_interruption_leaves_the_older_file(tmp_path, error):
    path = tmp_path / "p.json"
    path.write_text("older")
    with pytest.raises(error), CocoWriter(path, VOCABULARY) as writer:  # noqa: PT012 (both lines belong to it)
        writer.add(prediction("a.jpg", 1))
        raise error
    assert path.read_text() == "older"
    assert [p.name for p in tmp_path.iterdir()] == ["p.json"]


def test_unknown_name_is_refused_and_leaves_nothing(tmp_path):
    strange = Prediction("a.jpg", (4, 4), (Detection.from_mask(("horse",), 0.5, np.ones((4, 4), dtype=bool)),))
    with pytest.raises(KeyError), CocoWriter(tmp_path / "p.json", VOCABULARY) as writer:
        writer.add(strange)
    assert not list(tmp_path.iterdir())


def test_writer_must_be_open(tmp_path):
    with pytest.raises(ValueError, match="not open"):
        CocoWriter(tmp_path / "p.json", VOCABULARY).add(prediction("a.jpg", 1))


def test_predictions_of_a_record_become_the_same_file(tmp_path):
    given = [prediction("a.jpg", 1), Prediction("nothing.jpg", (4, 5)), prediction(os.fsdecode(b"\xe9\xc2\x85.jpg"), 2)]
    record = tmp_path / "predictions.jsonl"
    record.write_text("".join(f"{item.to_json()}\n" for item in given), encoding="utf-8")
    assert list(read_predictions(record)) == given
    info = {"image_root": "../pictures"}
    assert write_coco(tmp_path / "read.json", read_predictions(record), VOCABULARY, info=info) == 3
    with CocoWriter(tmp_path / "added.json", VOCABULARY, info=info) as writer:
        for item in given:
            writer.add(item)
    assert (tmp_path / "read.json").read_bytes() == (tmp_path / "added.json").read_bytes()
    assert json.loads((tmp_path / "read.json").read_text("utf-8"))["info"]["image_root"] == "../pictures"


def test_memory_does_not_grow_with_the_pictures(tmp_path):
    one = Prediction("a" * 20_000, (4, 5))
    peaks = []
    for number in (20, 220):
        tracemalloc.start()
        write_coco(tmp_path / "p.json", (one for _ in range(number)), VOCABULARY)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 500_000  # the entries of 200 pictures take 4 MB


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe\n", "no text in UTF-8"),
        (b'{"picture": "b"}\n', "line 2 is damaged"),
        (prediction("b.jpg", 2).to_json().encode()[:-20], "line 2 is damaged"),
    ],
)
def test_a_record_that_is_damaged(tmp_path, content, message):
    path = tmp_path / "predictions.jsonl"
    if content is not None:
        path.write_bytes(prediction("a.jpg", 1).to_json().encode() + b"\n" + content)
    with pytest.raises(UserError, match=message) as caught:
        list(read_predictions(path))
    assert str(path) in str(caught.value)
    assert caught.value.code == DATA
