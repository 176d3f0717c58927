from __future__ import annotations

import json
import os

import numpy as np
import pytest
from pycocotools.coco import COCO

from langhops_cli.prediction.export import CocoWriter
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
