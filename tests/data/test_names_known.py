"""Pictures that were searched for some names only, as in LVIS, from the reader to the batch."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from langhops_cli.data.collate import Collate, to_targets
from langhops_cli.data.formats.coco_parts import read_coco_parts
from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.names import ask_for_known, choose_names
from langhops_cli.data.prepare import prepare
from langhops_cli.data.records import Picture, PictureRecords, Read, Role, Source
from langhops_cli.data.sample import Sample
from langhops_cli.vocabulary import Vocabulary, parse_vocabulary

Write = Callable[..., Path]
BOX = [[2, 2, 12, 2, 12, 12, 2, 12]]
NAMES = ["car", "bus", "dog", "cat", "tree", "sky"]
TREE = "car:door(handle(screw)),wheel; bus:door; dog; cat; tree"


def _names(sample: Sample) -> tuple[list[str], list[str]]:
    return [*sample.vocabulary.object_names], [part.text for part in sample.vocabulary.part_classes]


def _unsure(sample: Sample) -> set[str]:
    objects, parts = _names(sample)
    return {objects[n] for n in sample.unsure_objects} | {parts[n] for n in sample.unsure_parts}


def _labels(vocabulary: Vocabulary, *texts: str) -> list[int]:
    parts = [part.text for part in vocabulary.part_classes]
    return [parts.index(text) for text in texts]


def _sample(car_sample: Sample, *, part: str = "car wheel", **others: Any) -> Sample:
    """A car and a part of it."""
    vocabulary = parse_vocabulary(TREE)
    car = replace(car_sample.objects[1], label=0)
    (label,) = _labels(vocabulary, part)
    item = replace(car_sample.parts[1], label=label, parent=0)
    return replace(car_sample, vocabulary=vocabulary, objects=[car], parts=[item], **others)


def test_only_names_that_something_is_known_of_are_asked_for(car_sample: Sample) -> None:
    asked = ask_for_known(_sample(car_sample), checked_objects=[0, 3], checked_parts=[])
    assert _names(asked) == (["car", "cat"], ["car wheel"])
    assert _unsure(asked) == {"car wheel"}, "annotated, but not searched for"
    assert [item.label for item in asked.objects] == [0]
    assert [(item.label, item.parent) for item in asked.parts] == [(0, 0)]


def test_a_checked_part_brings_what_it_is_a_part_of_without_certainty(car_sample: Sample) -> None:
    sample = replace(_sample(car_sample), objects=[], parts=[])
    checked = _labels(sample.vocabulary, "car screw", "bus door")
    asked = ask_for_known(sample, checked_objects=[1], checked_parts=checked)
    assert _names(asked) == (["car", "bus"], ["car door", "car handle", "car screw", "bus door"])
    assert _unsure(asked) == {"car", "car door", "car handle"}


def test_doubts_stay_doubts(car_sample: Sample) -> None:
    """A crowd of cats: more cats may be there than were annotated, although cats were searched for."""
    sample = _sample(car_sample, unsure_objects=frozenset({3}), unsure_parts=frozenset({0}))
    asked = ask_for_known(sample, checked_objects=[0, 3], checked_parts=[0])
    assert _names(asked) == (["car", "cat"], ["car door", "car wheel"])
    assert _unsure(asked) == {"cat", "car door", "car wheel"}


def test_a_picture_searched_for_all_names_is_asked_about_all(car_sample: Sample) -> None:
    sample = _sample(car_sample)
    asked = ask_for_known(sample, checked_objects=range(5), checked_parts=range(5))
    assert asked == sample


def test_a_picture_that_nothing_is_known_of_is_asked_for_one_name_in_doubt(car_sample: Sample) -> None:
    """Nothing annotated, and nothing it was searched for: LVIS has such pictures."""
    sample = replace(_sample(car_sample), objects=[], parts=[])
    asked = ask_for_known(sample, checked_objects=[], checked_parts=[])
    assert _names(asked) == (["car"], [])
    assert _unsure(asked) == {"car"}
    assert to_targets(asked).objects.negatives.tolist() == [False]


def test_of_known_names_some_can_be_chosen(car_sample: Sample) -> None:
    """The choice keeps what is in the picture and what is in doubt, and fills up with names known to be absent."""
    asked = ask_for_known(_sample(car_sample), checked_objects=[1, 2, 3], checked_parts=[])
    assert _unsure(asked) == {"car", "car wheel"}
    seen = set()
    for seed in range(20):
        chosen = choose_names(asked, max_names=2, generator=np.random.default_rng(seed))
        assert _names(chosen)[1] == ["car wheel"]
        assert _unsure(chosen) == {"car", "car wheel"}
        first, second = _names(chosen)[0]
        assert first == "car"
        assert to_targets(chosen).objects.negatives.tolist() == [False, True]
        seen.add(second)
    assert seen == {"bus", "dog", "cat"}


def _searched(path: Path, picture: Picture, size: tuple[int, int], *, read: Read, checked: Any) -> PictureRecords:
    records = read(path, picture, size)
    records.checked = checked.get(picture.id)
    return records


@pytest.fixture
def federated(write_coco: Write, tmp_path: Path) -> Path:
    """Three pictures: searched for dogs and cats; searched for cars and their wheels; nothing said."""
    categories = [{"id": n, "name": name, "parent_id": None} for n, name in enumerate(NAMES, 1)]
    categories.append({"id": 7, "name": "wheel", "parent_id": 1})
    rows: list[dict[str, Any]] = [
        {"image_id": 1, "category_id": 3, "segmentation": BOX},
        {"image_id": 1, "category_id": 2, "segmentation": BOX},
        {"image_id": 2, "category_id": 1, "segmentation": BOX},
        {"image_id": 2, "category_id": 4, "segmentation": BOX, "iscrowd": 1},
        {"image_id": 3, "category_id": 5, "segmentation": BOX},
        {"image_id": 3, "category_id": 7, "segmentation": BOX},
    ]
    checked: dict[int, tuple[Role, ...]] = {
        1: (("dog", None), ("cat", None), ("sky", None)),
        2: (("car", None), ("car", "wheel")),
    }
    folder = write_coco(rows, categories, pictures=3)

    def read(_: Path) -> Source:
        source = read_coco_parts(folder, exhaustive=False)
        (split,) = source.splits
        source.splits = [replace(split, read=partial(_searched, read=split.read, checked=checked))]
        return source

    prepare(read, tmp_path / "data/federated", inputs={}, workers=1)
    return tmp_path / "data/federated"


def test_a_prepared_picture_is_asked_about_annotated_and_checked_names_only(federated: Path) -> None:
    dataset = PreparedDataset(federated, "train")
    first, second, third = (dataset[number] for number in range(3))
    # "sky" was searched for, but is a name that no picture of the set shows.
    assert _names(first) == (["bus", "dog", "cat"], [])
    assert _unsure(first) == {"bus"}
    assert [first.vocabulary.object_names[item.label] for item in first.objects] == ["dog", "bus"]
    assert _names(second) == (["car", "cat"], ["car wheel"])
    assert _unsure(second) == {"cat"}
    assert _names(third) == (["car", "bus", "dog", "cat", "tree"], ["car wheel"])
    assert _unsure(third) == {"tree", "car wheel"}


def test_its_batch_calls_only_checked_names_negative(federated: Path) -> None:
    dataset = PreparedDataset(federated, "train")
    batch = Collate()([dataset[0], dataset[1]])
    assert [target.objects.negatives.tolist() for target in batch.targets] == [[False, True, True], [True, False]]
    assert batch.targets[1].parts.negatives.tolist() == [True]


def test_what_was_searched_for_survives_preparing_the_prepared_set(federated: Path, tmp_path: Path) -> None:
    again = tmp_path / "data/again"
    prepare(lambda _: read_coco_parts(federated), again, inputs={}, workers=1)
    one, two = (json.loads((folder / "train.json").read_text()) for folder in (federated, again))
    names = [{row["id"]: row["name"] for row in content["categories"]} for content in (one, two)]
    for before, after in zip(one["images"], two["images"], strict=True):
        kept = [names[0][number] for number in before.get("checked_category_ids", ()) if number in names[0]]
        assert [names[1][number] for number in after.get("checked_category_ids", ())] == kept
        assert ("checked_category_ids" in before) == ("checked_category_ids" in after)
    assert [_unsure(PreparedDataset(again, "train")[n]) for n in range(3)] == [
        {"bus"},
        {"cat"},
        {"tree", "car wheel"},
    ]
