import json
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from langhops_cli.data import masks
from langhops_cli.data.formats.pascal_part_116 import read_pascal_part_116
from langhops_cli.data.manifests import load_manifest
from langhops_cli.data.records import InstanceRecord
from langhops_cli.data.verify import Checker
from langhops_cli.errors import DATA, UserError
from tests.data.pascal_files import MatRow, mask, write_labels, write_mat, write_picture
from tests.data.reading import read_all

NAMES = load_manifest("pascal-part-116").vocabulary
OBJECTS = list(NAMES)
PARTS = [f"{owner}'s {part}" for owner, parts in NAMES.items() for part in parts]
LEFT, RIGHT = mask(2, 2, 18, 28) > 0, mask(20, 2, 38, 28) > 0
HEADS = (mask(3, 3, 9, 9) | mask(24, 3, 30, 9)) > 0
TAIL = mask(30, 20, 36, 26) > 0


def _two_dogs() -> tuple[np.ndarray, np.ndarray]:
    """A map of objects and one of parts: two dogs with a head each, one tail, and a sofa without parts."""
    objects, parts = np.full((30, 40), 255, np.uint8), np.full((30, 40), 255, np.uint8)
    objects[LEFT | RIGHT] = OBJECTS.index("dog")
    objects[28:, :] = OBJECTS.index("sofa")
    parts[HEADS] = PARTS.index("dog's head")
    parts[TAIL] = PARTS.index("dog's tail")
    return objects, parts


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two pictures of train and one of val, all with two dogs."""
    root = tmp_path / "source"
    for split, name in (("train", "2008_000001"), ("train", "2008_000002"), ("val", "2009_000001")):
        write_picture(root / "images" / split / f"{name}.jpg")
        objects, parts = _two_dogs()
        write_labels(root / "annotations_detectron2_obj" / split / f"{name}.png", objects)
        write_labels(root / "annotations_detectron2_part" / split / f"{name}.png", parts)
    return root


def _add_mats(source: Path, rows: Sequence[MatRow], name: str = "2008_000001") -> None:
    write_mat(source / "Annotations_Part" / f"{name}.mat", rows)


def _decoded(item: InstanceRecord) -> np.ndarray:
    assert item.rle is not None
    return masks.decode(item.rle, height=30, width=40) > 0


def _first(source: Path) -> list[InstanceRecord]:
    return read_all(read_pascal_part_116(source)).by_picture["2008_000001.jpg"]


def _told(items: Sequence[InstanceRecord]) -> list[tuple[int, str, str | None, int | None, bool]]:
    return [(item.id, item.object, item.part, item.parent, item.crowd) for item in items]


def test_names_stand_in_the_published_order() -> None:
    places = {
        "aeroplane's body": 0, "bicycle's wheel": 6, "bird's wing": 11, "bottle's body": 20, "bus's wheel": 22,
        "car's wheel": 32, "cat's tail": 42, "cow's tail": 51, "dog's tail": 60, "horse's tail": 70,
        "motorbike's wheel": 79, "person's head": 83, "person's hand": 96, "potted plant's pot": 97,
        "sheep's tail": 99, "train's headlight": 108, "tv monitor's screen": 115,
    }  # fmt: skip
    assert {name: PARTS.index(name) for name in places} == places
    assert (len(PARTS), len(OBJECTS)) == (116, 20)
    assert [OBJECTS.index(name) for name in ("aeroplane", "dining table", "dog", "tv monitor")] == [0, 10, 11, 19]


def test_without_pascal_part_all_of_one_name_are_one_and_a_remark_says_so(source: Path) -> None:
    records = read_pascal_part_116(source)
    assert [(split.name, split.total, split.exhaustive) for split in records.splits] == [
        ("train", 2, True), ("val", 1, True),
    ]  # fmt: skip
    assert "are one instance" in records.remarks[-1]
    assert records.remarks[:2] == [
        "train has 2 pictures; 8,431 were published",
        "val has 1 pictures; 850 were published",
    ]
    assert records.source_names["tv monitor", "screen"] == "tvmonitor's screen"
    items = _first(source)
    assert _told(items) == [
        (1, "dog", None, None, False), (2, "sofa", None, None, False),
        (3, "dog", "tail", 1, False), (4, "dog", "head", 1, False),
    ]  # fmt: skip
    for item, expected in zip(items, (LEFT | RIGHT, mask(0, 28, 40, 30) > 0, TAIL, HEADS), strict=True):
        np.testing.assert_array_equal(_decoded(item), expected)


def test_with_pascal_part_objects_and_their_parts_are_told_apart(source: Path) -> None:
    _add_mats(source, [("dog", LEFT, []), ("dog", RIGHT, []), ("cat", mask(0, 0, 40, 30), [])])
    items = _first(source)
    assert _told(items) == [
        (1, "dog", None, None, False), (2, "dog", None, None, False), (3, "sofa", None, None, False),
        (4, "dog", "tail", 2, False), (5, "dog", "head", 1, False), (6, "dog", "head", 2, False),
    ]  # fmt: skip
    expected = [LEFT, RIGHT, mask(0, 28, 40, 30) > 0, TAIL, HEADS & LEFT, HEADS & RIGHT]
    for item, drawn in zip(items, expected, strict=True):
        np.testing.assert_array_equal(_decoded(item), drawn)
    remark = read_pascal_part_116(source).remarks[-1]
    assert remark.startswith("objects are told apart by Annotations_Part; 2 of 3 pictures have no file there")


def test_pixels_that_pascal_part_does_not_know_are_a_crowd_and_none_is_lost(source: Path) -> None:
    _add_mats(source, [("dog", LEFT, [])])
    items = _first(source)
    crowds = [item for item in items if item.crowd]
    assert [(item.part, item.parent) for item in crowds] == [(None, None), ("tail", None), ("head", None)]
    dogs = [item for item in items if item.object == "dog" and item.part is None]
    np.testing.assert_array_equal(sum(_decoded(item).astype(int) for item in dogs), (LEFT | RIGHT).astype(int))
    heads = [item for item in items if item.part == "head"]
    np.testing.assert_array_equal(sum(_decoded(item).astype(int) for item in heads), HEADS.astype(int))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(b"no file"), "file of Pascal-Part that cannot be read"),
        (
            lambda path: write_mat(path, [("dog", mask(0, 0, 9, 9, (8, 9)), [])]),
            "file of Pascal-Part that does not fit: mask of another size than the picture",
        ),
    ],
)
def test_a_file_of_pascal_part_that_is_of_no_use_is_counted_and_the_maps_stay(source: Path, spoil, reason: str) -> None:
    _add_mats(source, [])
    spoil(source / "Annotations_Part" / "2008_000001.mat")
    reading = read_all(read_pascal_part_116(source))
    assert reading.drops.counts == {reason: 1}
    assert len(reading.by_picture["2008_000001.jpg"]) == 4


def test_a_part_without_its_object_has_no_parent(source: Path) -> None:
    empty = np.full((30, 40), 255, np.uint8)
    write_labels(source / "annotations_detectron2_obj/train/2008_000001.png", empty)
    assert _told(_first(source)) == [(1, "dog", "tail", None, False), (2, "dog", "head", None, False)]


def test_numbers_beyond_the_names_are_counted(source: Path) -> None:
    objects, parts = _two_dogs()
    objects[0, 0], parts[0, 0], parts[0, 1] = 20, 116, 254
    write_labels(source / "annotations_detectron2_obj/train/2008_000001.png", objects)
    write_labels(source / "annotations_detectron2_part/train/2008_000001.png", parts)
    reading = read_all(read_pascal_part_116(source))
    assert reading.drops.to_list() == [
        {
            "reason": "label that stands for no name",
            "count": 3,
            "first_ids": ["2008_000001.png: 20", "2008_000001.png: 116", "2008_000001.png: 254"],
        }
    ]
    assert len(reading.by_picture["2008_000001.jpg"]) == 4


@pytest.mark.parametrize("folder", ["annotations_detectron2_obj", "annotations_detectron2_part"])
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: write_labels(path, np.zeros((40, 30), np.uint8)), "30 x 40 pixels, its picture 40 x 30"),
        (lambda path: write_labels(path, np.zeros((30, 40), np.uint16)), "grey of 16 bit"),
        (lambda path: write_labels(path, np.zeros((30, 40), np.uint8), palette=True), "has a palette"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "map of labels"),
    ],
)
def test_a_picture_whose_map_is_spoilt_is_left_out(source: Path, folder: str, spoil, told: str) -> None:
    spoil(source / folder / "train/2008_000001.png")
    split = read_pascal_part_116(source).splits[0]
    checker = pickle.loads(pickle.dumps(Checker(split.image_root, split.read, union=False, writes=False)))
    first, second = map(checker, split.pictures())
    assert (first.fault, second.fault) == ("annotations that cannot be read", None)
    assert told in first.drops.first["annotations that cannot be read"][0]
    assert len(second.instances) == 4


def test_pictures_without_maps_and_hidden_files_are_counted(source: Path) -> None:
    write_picture(source / "images/train/2010_000009.jpg")
    (source / "annotations_detectron2_part/train/._2008_000001.png").write_bytes(b"macOS")
    split = read_pascal_part_116(source).splits[0]
    assert split.total == 2
    assert split.drops.first == {"picture without annotations": ["2010_000009"], "hidden file": ["._2008_000001.png"]}


def test_the_sixteen_shots_are_a_split_of_their_own(source: Path) -> None:
    rows = [
        {"file_name": "datasets/PascalPart116/images/train/2008_000002.jpg", "category_id": 3},
        {"file_name": "datasets/PascalPart116/images/train/2008_000002.jpg"},
        {"file_name": "../../images/train/2011_000001.jpg"},
    ]
    (source / "train_16shot.json").write_text(json.dumps(rows))
    records = read_pascal_part_116(source)
    assert [(split.name, split.total) for split in records.splits] == [("train", 2), ("val", 1), ("train_16shot", 1)]
    reading = read_all(records, 2)
    assert list(reading.by_picture) == ["2008_000002.jpg"]
    assert len(reading.instances) == 4
    assert reading.drops.first == {"picture of the 16 shots that is not in train": ["2011_000001"]}
    assert any("train on one of them" in line for line in records.remarks)


@pytest.mark.parametrize("text", ["[", '{"a": 1}', '[{"file": "a.jpg"}]', '[{"file_name": 3}]', "[" * 100_000, "\xff"])
def test_a_malformed_list_of_shots_is_named(source: Path, text: str) -> None:
    (source / "train_16shot.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"train_16shot.json is no JSON list") as caught:
        read_pascal_part_116(source)
    assert caught.value.code == DATA


def test_the_folder_may_be_the_one_it_was_unpacked_into(source: Path, tmp_path: Path) -> None:
    shutil.move(source, tmp_path / "data" / "PascalPart116")
    assert [split.total for split in read_pascal_part_116(tmp_path / "data").splits] == [2, 1]
    shutil.rmtree(tmp_path / "data/PascalPart116/annotations_detectron2_obj")
    with pytest.raises(UserError, match="has no folder annotations_detectron2_obj"):
        read_pascal_part_116(tmp_path / "data")
    with pytest.raises(
        UserError, match="has no folder images, annotations_detectron2_obj, annotations_detectron2_part"
    ):
        read_pascal_part_116(tmp_path / "missing")
