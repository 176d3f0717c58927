"""Parts that were looked for in parts, and results with some of the levels or some of the objects only."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from langhops_cli.prediction.postprocess import picture_output, predict_instances

SIZE = (64, 64)


def found(scene, hosts=None, *, output=None, **options):
    """The prediction of a scene whose part queries were looked for in the part queries `hosts`, -1 for objects."""
    v = scene.vocabulary
    output = output or scene.output()
    if hosts is not None:
        output = replace(output, part_queries=replace(output.part_queries, host=torch.tensor([hosts])))
    names = len(v.object_names), len(v.part_classes)
    picture = picture_output(output, 0, names=names, size=SIZE, original=SIZE)
    return predict_instances(picture, v, picture_name="p.jpg", **options)


def summary(prediction):
    return [(item.path, round(item.score, 4), item.parent) for item in prediction]


def test_a_part_of_a_part_belongs_where_it_was_looked_for(scene):
    """The second head holds all of the ear, but it is the first head's. Each level weighs with the one above it."""
    made = scene(
        "dog:head*2(ear)",
        [("dog", 0.9, (0, 0, 16, 16))],
        [
            (0, "dog head", 0.8, (0, 0, 4, 4)),
            (0, "dog head", 0.7, (6, 6, 14, 14)),
            (0, "dog ear", 0.6, (7, 7, 9, 9)),
        ],
    )
    prediction = found(made, [-1, -1, 0], min_score=0.1)
    dog = 0.9 * 0.9
    head = 0.8 * 0.9 * math.sqrt(dog)
    assert summary(prediction) == [
        (("dog",), round(dog, 4), None),
        (("dog", "head"), round(head, 4), 0),
        (("dog", "head"), round(0.7 * 0.9 * math.sqrt(dog), 4), 0),
        (("dog", "head", "ear"), round(0.6 * 0.9 * math.sqrt(head), 4), 1),
    ]
    assert found(made, [-1, -1, 1], min_score=0.1)[3].parent == 2
    assert found(made, min_score=0.1)[3].parent == 2  # looked for in the object, it goes to the head that holds it


def test_three_levels_of_parts(scene):
    made = scene(
        "dog:head(ear(tip))",
        [("dog", 0.9, (0, 0, 16, 16))],
        [
            (0, "dog head", 0.9, (0, 0, 8, 8)),
            (0, "dog ear", 0.9, (0, 0, 4, 4)),
            (0, "dog tip", 0.9, (0, 0, 2, 2)),
        ],
    )
    prediction = found(made, [-1, 0, 1], min_score=0.1)
    assert [item.parent for item in prediction] == [None, 0, 1, 2]
    assert prediction[3].path == ("dog", "head", "ear", "tip")
    scores = [item.score for item in prediction]
    assert scores[3] == pytest.approx(0.81 * math.sqrt(0.81 * math.sqrt(0.81 * math.sqrt(0.81))), abs=1e-4)
    flat = found(made, [-1, 0, 1], min_score=0.1, hierarchical=False)
    assert [item.score for item in flat] == pytest.approx([0.81] * 4)


@pytest.mark.parametrize("likelihood", [0.1, 0.8])
def test_what_is_in_a_part_goes_with_it(scene, likelihood):
    """Below the limit or a duplicate of a better one: the dog is there, but not that head."""
    made = scene(
        "dog:head*2(ear),tail",
        [("dog", 0.9, (0, 0, 16, 16))],
        [
            (0, "dog head", 0.9, (0, 0, 8, 8)),
            (0, "dog head", likelihood, (0, 0, 8, 8)),
            (0, "dog tail", 0.9, (12, 12, 16, 16)),
            (0, "dog ear", 0.9, (4, 4, 6, 6)),
        ],
    )
    prediction = found(made, [-1, -1, -1, 1], min_score=0.3)
    assert sorted(item.name for item in prediction) == ["dog", "head", "tail"]
    assert len(found(made, [-1, -1, -1, 0], min_score=0.3)) == 4


def test_one_part_found_from_two_parts_is_one(scene):
    """Both legs point at the same foot; it stays with the leg that is surer of it."""
    made = scene(
        "dog:leg*2(foot)",
        [("dog", 0.9, (0, 0, 16, 16))],
        [
            (0, "dog leg", 0.9, (0, 0, 4, 16)),
            (0, "dog leg", 0.9, (8, 0, 12, 16)),
            (0, "dog foot", 0.7, (8, 12, 12, 16)),
            (0, "dog foot", 0.9, (8, 12, 12, 16)),
        ],
    )
    prediction = found(made, [-1, -1, 0, 1], min_score=0.1)
    (foot,) = [item for item in prediction if item.name == "foot"]
    assert prediction[foot.parent].box[0] == 32


@pytest.mark.parametrize(("asked_of_object", "asked_of_head"), [(0.9, 0.6), (0.6, 0.9)])
def test_a_part_found_twice_is_one_and_keeps_its_place(scene, asked_of_object, asked_of_head):
    """The ear lies outside the head, so that only the second look says whose it is; the tips of both looks are one."""
    made = scene(
        "dog:head(ear(tip))",
        [("dog", 0.9, (0, 0, 16, 16))],
        [
            (0, "dog head", 0.9, (0, 0, 8, 8)),
            (0, "dog ear", asked_of_object, (8, 8, 12, 12)),
            (0, "dog ear", asked_of_head, (8, 8, 12, 11)),
            (0, "dog tip", 0.9, (14, 14, 16, 16)),
        ],
    )
    prediction = found(made, [-1, -1, 0, 2], min_score=0.1)
    assert [(item.name, item.parent) for item in prediction] == [("dog", None), ("head", 0), ("ear", 1), ("tip", 2)]
    head = 0.81 * math.sqrt(0.81)
    scores = (asked_of_object * 0.9 * math.sqrt(0.81), asked_of_head * 0.9 * math.sqrt(head))
    assert prediction[2].score == pytest.approx(max(scores), abs=1e-4)
    assert prediction[2].box == (32, 32, 48, 48 if scores[0] > scores[1] else 44)


def test_a_part_found_in_the_object_alone_goes_where_it_lies(scene):
    made = scene(
        "dog:head(ear,nose)",
        [("dog", 0.9, (0, 0, 16, 16))],
        [
            (0, "dog head", 0.9, (0, 0, 8, 8)),
            (0, "dog ear", 0.8, (2, 2, 4, 4)),
            (0, "dog nose", 0.7, (12, 12, 14, 14)),
            (0, "dog ear", 0.01, (2, 2, 4, 4)),
        ],
    )
    prediction = found(made, [-1, -1, -1, 0], min_score=0.1)
    assert [(item.name, item.parent) for item in prediction] == [("dog", None), ("head", 0), ("ear", 1), ("nose", 0)]


def test_another_name_in_the_same_place_ends_what_was_looked_for_in_it(scene):
    """The leg that the tail turned out to be is no leg, and has no foot."""
    made = scene(
        "dog:leg(foot),tail(tip)",
        [("dog", 0.9, (0, 0, 16, 16))],
        [
            (0, "dog leg", 0.6, (0, 0, 4, 8)),
            (0, "dog tail", 0.9, (0, 0, 4, 8)),
            (0, "dog foot", 0.9, (0, 6, 4, 8)),
            (0, "dog tip", 0.7, (0, 0, 2, 2)),
        ],
    )
    prediction = found(made, [-1, -1, 0, 1], min_score=0.1)
    assert [(item.name, item.parent) for item in prediction] == [("dog", None), ("tail", 0), ("tip", 1)]


def test_hosts_are_found_behind_padding(scene):
    """Queries that are none stand between: what a part was looked for in is numbered among all of them."""
    made = scene(
        "dog:head(ear)",
        [("dog", 0.9, (0, 0, 16, 16))],
        [
            (0, "dog head", 0.9, (8, 8, 16, 16)),
            (0, "dog head", 0.8, (0, 0, 8, 8)),
            (0, "dog head", 0.9, (8, 8, 16, 16)),
            (0, "dog ear", 0.9, (0, 0, 4, 4)),
        ],
    )
    output = made.output()
    valid = torch.tensor([[False, True, False, True]])
    output = replace(output, part_queries=replace(output.part_queries, valid=valid))
    prediction = found(made, [-1, -1, -1, 1], output=output, min_score=0.1)
    assert [(item.name, item.parent) for item in prediction] == [("dog", None), ("head", 0), ("ear", 1)]


@pytest.fixture
def farm(scene):
    """Two dogs and a car; the better dog and the car have parts that are found."""
    return scene(
        "dog:head(ear);car:wheel",
        [("dog", 0.9, (0, 0, 4, 4)), ("dog", 0.8, (6, 0, 10, 4)), ("car", 0.7, (0, 8, 8, 16))],
        [
            (0, "dog head", 0.9, (0, 0, 2, 2)),
            (2, "car wheel", 0.8, (0, 12, 2, 14)),
            (0, "dog ear", 0.9, (0, 0, 1, 1)),
        ],
    )


def tree(prediction):
    def node(item):
        return item["name"], [node(part) for part in item["parts"]]

    return [node(item) for item in prediction.tree()]


DOG, CAR = ("dog", [("head", [("ear", [])])]), ("car", [("wheel", [])])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [DOG, ("dog", []), CAR]),
        ({"level": "object"}, [("dog", []), ("dog", []), ("car", [])]),
        ({"level": "part"}, [DOG, CAR]),
        ({"max_objects": 1}, [DOG]),
        ({"max_objects": 2}, [DOG, ("dog", [])]),
        ({"max_objects": 2, "level": "part"}, [DOG]),
        ({"max_objects": 99}, [DOG, ("dog", []), CAR]),
        ({"level": "part", "min_score": 0.99}, []),
    ],
)
def test_some_levels_or_some_objects(farm, options, expected):
    prediction = found(farm, [-1, -1, 0], **{"min_score": 0.1, **options})
    assert tree(prediction) == expected
    everything = {item.path: item.rle for item in found(farm, [-1, -1, 0], min_score=0.1)}
    for item in prediction:
        if item.level == "part":
            assert item.rle == everything[item.path]


def test_no_objects_are_too_few(farm):
    with pytest.raises(ValueError, match="max_objects"):
        found(farm, max_objects=0)
