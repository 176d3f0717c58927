import json
from pathlib import Path
from typing import Any

import pytest

from langhops_cli.data.formats.paco import paco_roles, read_paco
from langhops_cli.data.manifests import load_manifest
from langhops_cli.data.prepare import prepare
from langhops_cli.data.records import Role
from langhops_cli.errors import UserError
from tests.data.coco_sources import blank, write_json
from tests.data.reading import read_all

NAMES = ["dog", "dog:ear", "car_(automobile)", "car_(automobile):bumper", "car", "ghost:hand"]


def _square(left: int, top: int, side: int) -> list[list[int]]:
    return [[left, top, left + side, top, left + side, top + side, left, top + side]]


def _by_text(name: str) -> Role:
    """What a name says when it is read by itself, apart from the parser."""
    owner, colon, part = name.partition(":")
    return owner.replace("_", " "), part.replace("_", " ") if colon else None


@pytest.fixture
def rows(shared_data: Path) -> list[dict[str, Any]]:
    """PACO's authentic categories."""
    content: list[dict[str, Any]] = json.loads(
        (shared_data / "authentic_annotations/paco_category_info.json").read_text()
    )
    return content


@pytest.fixture
def write_paco(tmp_path: Path) -> Any:
    """Write a PACO file with one picture of 40 x 30 pixels in train2017."""

    def write(annotations: list[dict[str, Any]], *, split: str = "train", folder: str = "", **lists: Any) -> Path:
        content = {
            "images": [{"id": 9, "file_name": "train2017/9.jpg", "width": 40, "height": 30, **lists}],
            "annotations": [{"image_id": 9, "attribute_ids": [3], **row} for row in annotations],
            "categories": [
                {"id": number, "name": name, "supercategory": "PART" if ":" in name else "OBJECT"}
                for number, name in enumerate(NAMES, 1)
            ],
            "attributes": [{"id": 3, "name": "black"}],
            "part_categories": [{"id": 1, "name": "ear", "supercategory": "PART"}],
        }
        write_json(tmp_path / folder / f"paco_lvis_v1_{split}.json", content)
        blank(tmp_path / "train2017" / "9.jpg")
        return tmp_path

    return write


def test_every_authentic_name_has_the_parent_that_its_text_says(rows: list[dict[str, Any]]) -> None:
    roles = paco_roles(rows)
    assert len(roles) == len(rows) == 531
    wrong = [row["name"] for row in rows if roles[row["id"]] != [_by_text(row["name"])]]
    assert wrong == []
    objects = {owner for ((owner, part),) in roles.values() if part is None}
    parts = [(owner, part) for ((owner, part),) in roles.values() if part is not None]
    assert (len(objects), len(parts), len(set(parts))) == (75, 456, 456)
    assert {owner for owner, _ in parts} <= objects


def test_manifest_has_the_authentic_names(rows: list[dict[str, Any]]) -> None:
    manifest = load_manifest("paco")
    expected: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: (row["supercategory"], row["id"])):
        owner, part = _by_text(row["name"])
        expected.setdefault(owner, []).extend([part] if part else [])
    assert manifest.vocabulary == expected
    assert list(manifest.vocabulary) == list(expected)
    assert (manifest.objects, manifest.parts) == (75, 456)


def test_parts_name_their_object(write_paco: Any, tmp_path: Path) -> None:
    source = write_paco(
        [
            {"id": 1, "category_id": 1, "segmentation": _square(2, 2, 20), "obj_ann_id": 1},
            {"id": 2, "category_id": 1, "segmentation": _square(4, 4, 8)},
            {"id": 3, "category_id": 2, "segmentation": _square(4, 4, 5), "obj_ann_id": 1},
            {"id": 4, "category_id": 2, "segmentation": _square(4, 4, 4), "obj_ann_id": 2},
            {"id": 5, "category_id": 4, "segmentation": _square(30, 2, 5), "obj_ann_id": 5},
            {"id": 6, "category_id": 2, "segmentation": _square(5, 5, 4), "obj_ann_id": [1]},
        ]
    )
    reading = read_all(read_paco(source))
    assert [(item.object, item.part, item.parent) for item in reading.instances] == [
        ("dog", None, None),
        ("dog", None, None),
        ("dog", "ear", 1),
        ("dog", "ear", 2),
        ("car (automobile)", "bumper", 5),
        ("dog", "ear", None),
    ]
    report, _ = prepare(lambda _: read_paco(source), tmp_path / "set", inputs={}, union=True, workers=1)
    counts = report["splits"]["train"]
    assert (counts["objects"], counts["parts"]) == (3, 4)
    assert counts["parents"] == {"stated": 2, "by_mask": 1, "by_union": 1, "unknown": 0, "stated_but_wrong": 1}


def test_a_part_whose_object_is_no_category_is_dropped_and_told(write_paco: Any) -> None:
    square = _square(2, 2, 9)
    rows = [{"id": 1, "category_id": 6, "segmentation": square}, {"id": 2, "category_id": 7, "segmentation": square}]
    records = read_paco(write_paco(rows))
    reading = read_all(records)
    assert reading.instances == []
    assert reading.drops.counts == {"part whose object is no category": 1, "unknown category": 1}
    assert records.remarks == ["train: left out, part whose object is no category: ghost:hand"]
    assert records.tree == {"dog": {"ear": None}, "car (automobile)": {"bumper": None}, "car": {}}
    assert records.source_names["car (automobile)", "bumper"] == "car_(automobile):bumper"


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ({}, None),
        (
            {"neg_category_ids": [3, 4], "not_exhaustive_category_ids": []},
            {("dog", None), ("dog", "ear"), ("car (automobile)", None), ("car (automobile)", "bumper")},
        ),
        ({"neg_category_ids": [], "not_exhaustive_category_ids": [2]}, {("dog", None)}),
    ],
)
def test_lists_hold_for_objects_and_parts(write_paco: Any, lists: dict[str, Any], expected: Any) -> None:
    rows = [{"id": number, "category_id": number, "segmentation": _square(2, 2, 9)} for number in (1, 2)]
    (split,) = read_paco(write_paco(rows, **lists)).splits
    (picture,) = split.pictures()
    checked = split.read(split.image_root / picture.file_name, picture, (40, 30)).checked
    assert not split.exhaustive
    assert (None if checked is None else set(checked)) == expected


@pytest.mark.parametrize("folder", ["", "annotations", "paco_lvis_v1", "annotations/paco_lvis_v1"])
def test_all_three_splits_are_found(write_paco: Any, folder: str) -> None:
    for split in ("test", "val", "train"):
        source = write_paco([], split=split, folder=folder)
    assert [split.name for split in read_paco(source).splits] == ["train", "val", "test"]


def test_wrong_turns_are_told_in_a_line_that_names_the_file(write_paco: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"paco_lvis_v1_train.json.*prepare paco --describe"):
        read_paco(tmp_path)
    source = write_paco([])
    (source / "train2017").rename(source / "elsewhere")
    with pytest.raises(UserError, match=r"train2017/9.jpg.*--images"):
        read_paco(source)
    (source / "elsewhere").rename(source / "train2017")
    (source / "pictures").mkdir()
    (source / "train2017").rename(source / "pictures" / "train2017")
    assert read_paco(source, images=source / "pictures").splits[0].image_root == source / "pictures"
    text = (source / "paco_lvis_v1_train.json").read_text()
    (source / "paco_lvis_v1_train.json").write_text(text[:-20])
    with pytest.raises(UserError, match=r"paco_lvis_v1_train.json is no JSON"):
        read_paco(source, images=source / "pictures")
