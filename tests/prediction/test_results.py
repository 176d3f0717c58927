from __future__ import annotations

import json
import math
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from langhops_cli.errors import ENVIRONMENT, UserError
from langhops_cli.prediction.coco import coco_categories
from langhops_cli.prediction.results import Detection, Prediction, category_ids
from langhops_cli.vocabulary import parse_vocabulary


def block(left, top, right, bottom, size=(20, 30)):
    mask = np.zeros(size, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.fixture
def prediction():
    items = (
        Detection.from_mask(("dog",), 0.9, block(0, 0, 20, 20)),
        Detection.from_mask(("dog", "head"), 0.5, block(0, 0, 8, 8), parent=0),
        Detection.from_mask(("dog", "head", "ear"), 0.4, block(1, 1, 3, 4), parent=1),
        Detection.from_mask(("dog", "tail"), 0.7, block(15, 15, 19, 19), parent=0),
        Detection.from_mask(("cat",), 0.95, block(21, 2, 30, 9)),
    )
    return Prediction("a b/ü.jpg", (20, 30), items)


def test_masks_boxes_and_areas(prediction):
    ear = prediction[2]
    assert np.array_equal(ear.mask, block(1, 1, 3, 4))
    assert ear.mask.dtype == bool
    assert ear.box == (1, 1, 3, 4)
    assert ear.area == 6
    assert (ear.name, ear.title, ear.level) == ("ear", "dog ear", "part")
    assert len(prediction) == 5
    assert [item.name for item in prediction] == ["dog", "head", "ear", "tail", "cat"]
    assert prediction.masks.shape == (5, 20, 30)
    assert Prediction("empty", (3, 4)).masks.shape == (0, 3, 4)


def test_boxes_scores_and_parents_as_arrays(prediction):
    assert prediction.boxes.tolist()[2] == [1, 1, 3, 4]
    assert prediction.scores.tolist() == [0.9, 0.5, 0.4, 0.7, 0.95]
    assert prediction.parents.tolist() == [-1, 0, 1, 0, -1]
    assert [prediction.root(index) for index in range(5)] == [0, 0, 0, 0, 4]
    nothing = Prediction("empty", (3, 4))
    assert (nothing.boxes.shape, nothing.scores.shape, nothing.parents.shape) == ((0, 4), (0,), (0,))


def test_json_gives_an_equal_prediction(prediction):
    """Scores and boxes to the last bit, names and file names of any kind."""
    odd = Detection.from_mask(("dog", 'a\nb\u2028"ü'), 0.1 + 0.2, prediction[1].mask, parent=0, track=7)
    items = (*prediction, odd, replace(prediction[4], box=(20.75, 1 / 3, 30, 9.125), track=0))
    given = [
        prediction,
        Prediction("clip.mp4#3", (20, 30), items, frame=3, seconds=0.1),
        Prediction(os.fsdecode(b"caf\xe9.jpg"), (4, 5)),
    ]
    for item in given:
        text = item.to_json()
        assert "\n" not in text
        assert Prediction.from_json(text.encode("utf-8").decode("utf-8")) == item


def test_json_that_is_cut_off_or_changed_is_refused(prediction):
    text = prediction.to_json()
    data = json.loads(text)

    def changed(**values):
        return json.dumps({**data, "instances": [{**data["instances"][0], **values}]})

    assert len(Prediction.from_json(changed())) == 1
    runs = data["instances"][0]["segmentation"]["counts"]
    broken = [
        *(text[:end] for end in range(0, len(text), 37)), "[]", "null", "3", '"a"', "{}",
        json.dumps({**data, "height": 19}), json.dumps({**data, "width": None}), json.dumps({**data, "seconds": -1}),
        json.dumps({**data, "instances": None}), changed(score="high"), changed(score=1.5), changed(path=[]),
        changed(parent=0), changed(box=[1, 2]), changed(track=-1), changed(segmentation={"size": [20, 30]}),
        changed(segmentation={"size": [20, 30], "counts": runs[:-1]}),
        changed(segmentation={"size": [20, 30], "counts": runs + "~~~~"}),
    ]  # fmt: skip
    for line in broken:
        with pytest.raises(ValueError, match=r"."):
            Prediction.from_json(line)


def test_coco_of_a_frame_has_its_place_and_tracks(prediction):
    followed = replace(prediction[0], track=5)
    rows = Prediction("clip.mp4#3", (20, 30), (followed, prediction[4]), frame=3, seconds=0.1).to_coco()
    assert (rows["images"][0]["frame_index"], rows["images"][0]["seconds"]) == (3, 0.1)
    assert [row.get("track_id") for row in rows["annotations"]] == [5, None]


def test_drawing_changes_only_what_is_near_an_instance(prediction):
    image = Image.new("RGB", (30, 20), (90, 120, 60))
    drawn = np.asarray(prediction.draw(image).resize(image.size, Image.Resampling.BOX)).astype(int)
    changed = np.abs(drawn - (90, 120, 60)).max(axis=2) > 40
    assert changed[:8, :8].any()
    assert not np.abs(np.asarray(Prediction("a", (20, 30)).draw(image)).astype(int) - (90, 120, 60)).any()


def test_supervision_gets_the_same_instances(prediction):
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    vocabulary = parse_vocabulary("cat; dog:head(ear),tail")
    found = prediction.to_supervision(vocabulary)
    assert isinstance(found, supervision.Detections)
    assert np.array_equal(found.mask, prediction.masks)
    assert np.array_equal(found.xyxy, prediction.boxes)
    assert np.allclose(found.confidence, prediction.scores)
    assert found.class_id.tolist() == [1, 2, 3, 4, 0]
    assert found.data["class_name"].tolist() == ["dog", "dog head", "dog ear", "dog tail", "cat"]
    assert found.tracker_id is None
    # Each instance says which one it is, so that parents are found after a selection.
    ear = found[found.data["class_name"] == "dog ear"]
    assert prediction[int(ear.data["parent"][0])].title == "dog head"
    followed = Prediction("a", (20, 30), (replace(prediction[0], track=5), prediction[4])).to_supervision()
    assert (followed.tracker_id.tolist(), followed.class_id.tolist()) == ([5, -1], [0, 1])
    assert len(Prediction("a", (20, 30)).to_supervision()) == 0


def test_supervision_missing_is_told(prediction, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match=r"pip install 'langhops\[supervision\]'") as caught:
        prediction.to_supervision()
    assert caught.value.code == ENVIRONMENT


def test_tree_is_sorted_by_score(prediction):
    assert prediction.tree() == [
        {"name": "cat", "score": 0.95, "instance": 4, "parts": []},
        {
            "name": "dog",
            "score": 0.9,
            "instance": 0,
            "parts": [
                {"name": "tail", "score": 0.7, "instance": 3, "parts": []},
                {
                    "name": "head",
                    "score": 0.5,
                    "instance": 1,
                    "parts": [{"name": "ear", "score": 0.4, "instance": 2, "parts": []}],
                },
            ],
        },
    ]


def test_coco_opens_in_pycocotools(prediction):
    coco = COCO()
    coco.dataset = prediction.to_coco()
    coco.createIndex()
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=1))
    assert len(annotations) == 5
    for row, item in zip(annotations, prediction, strict=True):
        assert np.array_equal(coco.annToMask(row).astype(bool), item.mask)
        assert row["parent_id"] == (None if item.parent is None else item.parent + 1)
        assert coco.cats[row["category_id"]]["name"] == item.title
    assert coco.imgs[1] == {"id": 1, "file_name": "a b/ü.jpg", "height": 20, "width": 30}
    ear = next(row for row in coco.dataset["categories"] if row["name"] == "dog ear")
    head = coco.cats[ear["parent_id"]]
    assert (head["part_name"], coco.cats[head["parent_id"]]["name"]) == ("head", "dog")


def test_categories_follow_the_vocabulary():
    vocabulary = parse_vocabulary("dog:head(ear),tail; cat:head")
    paths = [*vocabulary.part_paths]
    assert paths == [("dog", "head"), ("dog", "head", "ear"), ("dog", "tail"), ("cat", "head")]
    numbers = category_ids([("dog",), ("cat",), *paths])
    assert [(row["id"], row["name"], row["parent_id"]) for row in coco_categories(numbers)] == [
        (1, "dog", None),
        (2, "cat", None),
        (3, "dog head", 1),
        (4, "dog ear", 3),
        (5, "dog tail", 1),
        (6, "cat head", 2),
    ]


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.1, 1.1])
def test_scores_out_of_range(score):
    with pytest.raises(ValueError, match="score"):
        Detection.from_mask(("dog",), score, block(0, 0, 2, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": ()}, "name"),
        ({"path": ("dog", "")}, "name"),
        ({"box": (5.0, 0.0, 1.0, 1.0)}, "box"),
        ({"box": (0.0, 0.0, math.nan, 1.0)}, "box"),
        ({"parent": 0}, "parent"),
        ({"track": -1}, "track"),
    ],
)
def test_inconsistent_instances(change, message):
    with pytest.raises(ValueError, match=message):
        replace(Detection.from_mask(("dog",), 0.5, block(0, 0, 2, 2)), **change)


def test_empty_and_misshapen_masks():
    with pytest.raises(ValueError, match="empty"):
        Detection.from_mask(("dog",), 0.5, np.zeros((4, 4), dtype=bool))
    with pytest.raises(ValueError, match="height, width"):
        Detection.from_mask(("dog",), 0.5, np.ones((4, 4, 1), dtype=bool))


def part(parent, name="head"):
    return Detection.from_mask(("dog", name), 0.5, block(0, 0, 2, 2), parent=parent)


@pytest.mark.parametrize(
    ("size", "instances", "message"),
    [
        ((0, 4), (), "at least 1 x 1"),
        ((30, 20), (Detection.from_mask(("dog",), 0.5, block(0, 0, 2, 2)),), "mask of"),
        ((20, 30), (part(None),), "without a parent"),
        ((20, 30), (part(3),), "has parent 3"),
        ((20, 30), (part(-1),), "has parent -1"),
        ((20, 30), (part(0),), "own ancestor"),
        ((20, 30), (part(1), part(0)), "own ancestor"),
    ],
)
def test_inconsistent_predictions(size, instances, message):
    with pytest.raises(ValueError, match=message):
        Prediction("p.jpg", size, instances)


@pytest.mark.parametrize("place", [{"frame": -1}, {"seconds": -0.5}, {"seconds": math.nan}])
def test_frames_before_the_beginning(place):
    with pytest.raises(ValueError, match=r"clip\.mp4#1"):
        Prediction("clip.mp4#1", (4, 4), **place)
