from __future__ import annotations

import math

import numpy as np
import pytest
from pycocotools.coco import COCO

from langhops_cli.prediction.results import Detection, Prediction, category_ids, coco_categories, part_paths
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
    paths = part_paths(vocabulary)
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
    ],
)
def test_inconsistent_instances(change, message):
    from dataclasses import replace

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
