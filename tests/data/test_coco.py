import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from langhops_cli.data.formats.coco import read_coco
from langhops_cli.data.manifests import load_manifest
from langhops_cli.data.prepare import prepare
from langhops_cli.errors import DATA, UserError
from tests.data.coco_sources import SQUARE, blank, write_instances, write_json
from tests.data.reading import read_all


def test_authentic_sample_has_the_masks_that_pycocotools_reads(
    shared_data: Path, capsys: pytest.CaptureFixture
) -> None:
    source = shared_data / "coco_sample"
    truth = COCO(source / "annotations/instances_val2017.json")
    records = read_coco(source)
    (split,) = records.splits
    assert (split.name, split.total, split.exhaustive) == ("val", len(truth.imgs), True)
    reading = read_all(records)
    assert len(reading.instances) == len(truth.anns) == 382
    assert sum(item.crowd for item in reading.instances) == sum(row["iscrowd"] for row in truth.anns.values()) == 5
    expected = Counter(truth.cats[row["category_id"]]["name"] for row in truth.anns.values())
    assert Counter(item.object for item in reading.instances) == expected
    for item in reading.instances:
        theirs = truth.annToRLE(truth.anns[item.id])
        assert coco_mask.iou([item.rle], [theirs], [False])[0, 0] == 1
    assert not reading.drops.counts
    assert all(item.part is None and item.parent is None for item in reading.instances)


def test_names_are_those_of_the_manifest_in_their_order(shared_data: Path) -> None:
    records = read_coco(shared_data / "coco_sample")
    assert not any(records.tree.values())
    assert list(records.tree) == list(load_manifest("coco").vocabulary)
    assert len(records.tree) == 80


def test_authentic_sample_is_prepared_whole(shared_data: Path, tmp_path: Path) -> None:
    report, _ = prepare(lambda _: read_coco(shared_data / "coco_sample"), tmp_path / "set", inputs={}, workers=1)
    counts = report["splits"]["val"]
    assert (counts["images"], counts["objects"], counts["parts"], counts["crowd_regions"]) == (50, 382, 0, 5)
    assert counts["dropped"] == []


@pytest.mark.parametrize(
    ("annotations", "pictures", "url"),
    [
        ("annotations/instances_train2017.json", "train2017", True),
        ("annotations/instances_train2017.json", "train2017", False),
        ("instances_train2017.json", "images/train2017", True),
        ("annotations/instances_train2017.json", "images/train", False),
        ("annotations/instances_train2014.json", "train2014", False),
    ],
)
def test_usual_layouts_are_found(tmp_path: Path, annotations: str, pictures: str, url: bool) -> None:
    row = {"file_name": "7.jpg"}
    if url:
        row["coco_url"] = "http://images.cocodataset.org/train2017/7.jpg"
    write_instances(tmp_path / annotations, {1: "hot dog"}, [row], [{"category_id": 1, "segmentation": SQUARE}])
    blank(tmp_path / pictures / "7.jpg")
    (split,) = read_coco(tmp_path).splits
    (picture,) = split.pictures()
    assert (split.image_root / picture.file_name).resolve() == (tmp_path / pictures / "7.jpg").resolve()


def test_pictures_elsewhere_are_named_by_images(tmp_path: Path) -> None:
    source, elsewhere = tmp_path / "source", tmp_path / "elsewhere"
    row = {"file_name": "7.jpg", "coco_url": "http://images.cocodataset.org/val2017/7.jpg"}
    write_instances(source / "instances_val2017.json", {1: "dog"}, [row], [{"category_id": 1, "segmentation": SQUARE}])
    with pytest.raises(UserError, match=r"instances_val2017.json \(such as val2017/7.jpg\).*--images") as caught:
        read_coco(source)
    assert caught.value.code == DATA
    blank(elsewhere / "val2017" / "7.jpg")
    assert read_coco(source, images=elsewhere).splits[0].image_root == elsewhere
    assert read_coco(source, images=elsewhere / "val2017").splits[0].image_root == elsewhere / "val2017"
    with pytest.raises(UserError, match="source"):
        read_coco(source, images=source)


def test_one_missing_picture_does_not_hide_the_folder(tmp_path: Path) -> None:
    rows = [{"file_name": f"{number}.jpg"} for number in range(5)]
    write_instances(tmp_path / "instances_val2017.json", {1: "dog"}, rows, [])
    blank(tmp_path / "val2017" / "3.jpg")
    (split,) = read_coco(tmp_path).splits
    assert [picture.file_name for picture in split.pictures()] == [row["file_name"] for row in rows]
    assert split.image_root == tmp_path / "val2017"


def test_wrong_turns_are_told_in_a_line_that_names_the_file(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        read_coco(tmp_path / "missing")
    with pytest.raises(UserError, match=r"instances_train2017.json.*prepare coco --describe"):
        read_coco(tmp_path)
    text = (shared_data / "coco_sample/annotations/instances_val2017.json").read_text()
    for length in (len(text) // 3, len(text) - 2):
        (tmp_path / "instances_val2017.json").write_text(text[:length])
        with pytest.raises(UserError, match=r"instances_val2017.json is no JSON"):
            read_coco(tmp_path, images=shared_data / "coco_sample")
    (tmp_path / "instances_val2017.json").unlink()
    write_instances(tmp_path / "instances_val2017.json", {1: " _ "}, [{"file_name": "1.jpg"}], [])
    blank(tmp_path / "1.jpg")
    with pytest.raises(UserError, match=r"instances_val2017.json.* has the name ' _ '"):
        read_coco(tmp_path)


@pytest.mark.parametrize("name", ["../7.jpg", "/etc/passwd", "", None, 7, ["a"], "C:\\7.jpg"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: object) -> None:
    write_instances(tmp_path / "instances_val2017.json", {1: "dog"}, [{"file_name": name}], [])
    with pytest.raises(UserError, match="file_name"):
        read_coco(tmp_path)


def test_an_address_that_climbs_out_is_refused(tmp_path: Path) -> None:
    row = {"file_name": "7.jpg", "coco_url": "http://host/../7.jpg"}
    write_instances(tmp_path / "instances_val2017.json", {1: "dog"}, [row], [])
    with pytest.raises(UserError, match="leads out"):
        read_coco(tmp_path)


def test_hostile_annotations_are_dropped_each_with_its_reason(tmp_path: Path) -> None:
    rows = [
        {"category_id": 1, "segmentation": SQUARE},
        {"category_id": [1], "segmentation": SQUARE},
        {"category_id": 9, "segmentation": SQUARE},
        {"category_id": 1, "segmentation": [[1, 2, 3, 4]]},
        {"category_id": 1, "segmentation": SQUARE, "image_id": 5},
        {"category_id": 1, "segmentation": SQUARE, "parent_id": {"a": 1}},
    ]
    write_instances(tmp_path / "instances_val2017.json", {1: "dog"}, [{"file_name": "7.jpg"}], rows)
    blank(tmp_path / "val2017" / "7.jpg")
    reading = read_all(read_coco(tmp_path))
    assert [(item.id, item.parent) for item in reading.instances] == [(1, None), (6, None)]
    assert reading.drops.counts == {
        "unknown category": 2,
        "polygon of fewer than three points": 1,
        "annotation of an unknown picture": 1,
    }


def test_both_splits_share_one_tree(tmp_path: Path) -> None:
    for split, names in (("train", {1: "dog", 2: "cat"}), ("val", {1: "cat", 5: "Traffic Light"})):
        write_instances(tmp_path / f"annotations/instances_{split}2017.json", names, [{"file_name": "1.jpg"}], [])
        blank(tmp_path / f"{split}2017" / "1.jpg")
    shutil.copy(tmp_path / "annotations/instances_val2017.json", tmp_path / "annotations/._instances_train2017.json")
    records = read_coco(tmp_path)
    assert [split.name for split in records.splits] == ["train", "val"]
    assert list(records.tree) == ["dog", "cat", "traffic light"]
    assert records.source_names["traffic light", None] == "Traffic Light"


def test_a_file_that_is_no_coco_file_is_named(tmp_path: Path) -> None:
    write_json(tmp_path / "instances_val2017.json", {"images": [], "annotations": []})
    with pytest.raises(UserError, match=r"instances_val2017.json.*categories"):
        read_coco(tmp_path)
    (tmp_path / "instances_val2017.json").write_text(json.dumps([1]))
    with pytest.raises(UserError, match="no mapping"):
        read_coco(tmp_path)
