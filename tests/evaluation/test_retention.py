"""What a training keeps of names that it never heard of, worked out by hand."""

from __future__ import annotations

import json

import pytest

from langhops_cli.errors import UserError
from langhops_cli.evaluation.instances.instance_ap import score
from langhops_cli.evaluation.retention import held_out_names, measure_retention
from langhops_cli.vocabulary import parse_vocabulary

from .scenes import annotation, result, truth

VOCABULARY = parse_vocabulary("car:wheel(tire),door; dog:head")
CAR, DOG, WHEEL, DOOR, HEAD = 1, 2, 3, 4, 5
PLACES = {CAR: (0, 0, 40, 40), DOG: (60, 0, 40, 40), WHEEL: (0, 20, 20, 20), HEAD: (60, 20, 20, 20)}


def figures(*found, places=PLACES):
    """AP of results that are right, of these names; every name but the door is annotated once."""
    content = truth([annotation(1, name, *box) for name, box in places.items()])
    return score(content, [result(1, name, 0.9, *PLACES[name]) for name in found])


def test_the_drop_on_held_out_names():
    """The dog is lost, its head kept; of the names that were trained on, the wheel is new."""
    found = measure_retention(figures(CAR, WHEEL, HEAD), figures(CAR, DOG, HEAD), VOCABULARY, ["dog"])
    assert [(level, kept.names, kept.drop) for level, kept in found.unheard.items()] == [
        ("obj", 1, pytest.approx(100)),
        ("part", 1, pytest.approx(0)),
        ("all", 2, pytest.approx(50)),
    ]
    assert [(level, kept.names, kept.drop) for level, kept in found.heard.items()] == [
        ("obj", 1, pytest.approx(0)),
        ("part", 1, pytest.approx(-100)),
        ("all", 2, pytest.approx(-50)),
    ]
    assert (found.unheard["all"].initial, found.unheard["all"].now) == (pytest.approx(1), pytest.approx(0.5))
    assert found.rows()[:4] == [
        ("AP in percent", "names", "initial", "now", "drop"),
        ("held out, obj", "1", "100.0", "0.0", "100.0"),
        ("held out, part", "1", "100.0", "100.0", "0.0"),
        ("held out, all", "2", "100.0", "50.0", "50.0"),
    ]
    assert found.notes() == ["Held out of the training: dog."]
    assert json.loads(json.dumps(found.to_dict()))["unheard"]["obj"]["drop"] == pytest.approx(100)


def test_a_single_part_is_held_out_without_its_object():
    found = measure_retention(figures(CAR), figures(CAR, WHEEL), VOCABULARY, ["car wheel"])
    assert (found.unheard["obj"].names, found.unheard["part"].names) == (0, 1)
    assert (found.unheard["obj"].drop, found.unheard["part"].drop) == (None, pytest.approx(100))
    assert found.heard["obj"].names == 2


def test_held_out_names_that_are_annotated_nowhere_are_told():
    cars = figures(CAR, places={CAR: PLACES[CAR]})
    found = measure_retention(cars, cars, VOCABULARY, ["dog"])
    assert {kept.drop for kept in found.unheard.values()} == {None}
    assert found.notes()[-1] == "None of the held-out names is annotated in these pictures."
    assert found.rows()[1] == ("held out, obj", "0", "-", "-", "-")


def record(vocabulary, absent=()):
    return {"vocabulary": vocabulary, "recipe": {"data": {"train": [{"name": "cars", "absent": [*absent]}]}}}


@pytest.mark.parametrize(
    ("trained", "expected"),
    [
        (record({"car": {"wheel": {"tire": None}, "door": None}}), ("dog",)),
        (record({"Car": {"wheel": {"count": 4}}}), ("dog", "car tire", "car door")),
        (record({"cat": None}), ("car", "dog")),
        # What was absent was heard of, but not its parts.
        (record({"car": {"wheel": {"tire": None}, "door": None}}, ["dog"]), ("dog head",)),
        ({"vocabulary": {"dog": {"head": None}}}, ("car",)),  # of a checkpoint that has no recipe
    ],
)
def test_names_that_a_training_never_heard_of(trained, expected):
    assert held_out_names(VOCABULARY, trained) == expected


def test_given_names_are_taken_as_they_are():
    assert held_out_names(VOCABULARY, {}, ["Dog", "car wheel", "dog"]) == ("dog", "car wheel")


@pytest.mark.parametrize(
    ("trained", "given", "message"),
    [
        (record({"car": {"wheel": {"tire": None}, "door": None}, "dog": {"head": None}}), [], "trained on all names"),
        ({}, [], "does not say which names it was trained on"),
        ({"vocabulary": ["car"]}, [], "does not say which names it was trained on"),
        ({}, ["dogg"], "--held-out dogg: the set has no such name; did you mean 'dog'?"),
        ({}, ["umbrella"], "the set has no such name; it has car, dog"),
    ],
)
def test_held_out_names_that_are_not_there(trained, given, message):
    with pytest.raises(UserError) as caught:
        held_out_names(VOCABULARY, trained, given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
