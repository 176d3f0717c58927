import json
import pickle
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO

from langhops_cli.data import masks
from langhops_cli.data.formats.lvis import read_lvis
from langhops_cli.data.manifests import load_manifest
from langhops_cli.data.prepare import prepare
from langhops_cli.data.records import PictureRecords, Source
from langhops_cli.errors import DATA, UserError
from tests.data.coco_sources import SQUARE, blank, write_instances
from tests.data.reading import read_all


@pytest.fixture(scope="module")
def slice_of_lvis(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authentic slice of LVIS v0.5 with blank pictures of the right sizes, where COCO 2017 has them."""
    source = tmp_path_factory.mktemp("lvis")
    shutil.copy(shared_data / "authentic_annotations/lvis_val_100.json", source / "lvis_v0.5_val.json")
    for row in json.loads((source / "lvis_v0.5_val.json").read_text())["images"]:
        blank(source / "val2017" / f"{row['id']:012}.jpg", row["width"], row["height"])
    return source


def _read_pictures(records: Source, split: int = 0) -> dict[int, PictureRecords]:
    chosen = records.splits[split]
    return {
        picture.id: chosen.read(chosen.image_root / picture.file_name, picture, picture.size)
        for picture in chosen.pictures()
        if picture.size is not None
    }


def test_authentic_slice_has_every_mask_under_its_name(slice_of_lvis: Path) -> None:
    truth = COCO(slice_of_lvis / "lvis_v0.5_val.json")
    records = read_lvis(slice_of_lvis)
    (split,) = records.splits
    assert (split.name, split.total, split.exhaustive) == ("val", 100, False)
    assert all((split.image_root / picture.file_name).is_file() for picture in split.pictures())
    # It goes to other processes.
    assert pickle.loads(pickle.dumps(records.splits[0].read))
    reading = read_all(records)
    assert len(reading.instances) == len(truth.anns) == 977
    names = {number: row["name"].replace("_", " ").lower() for number, row in truth.cats.items()}
    assert list(records.tree) == [names[row["id"]] for row in truth.dataset["categories"]]
    assert Counter(item.object for item in reading.instances) == Counter(
        names[row["category_id"]] for row in truth.anns.values()
    )
    for item in reading.instances:
        assert item.rle is not None
        assert masks.area(item.rle) == int(truth.annToMask(truth.anns[item.id]).sum())
    assert not reading.drops.counts
    assert records.remarks == ["LVIS v0.5"]


def test_authentic_slice_says_what_each_picture_was_searched_for(slice_of_lvis: Path) -> None:
    content = json.loads((slice_of_lvis / "lvis_v0.5_val.json").read_text())
    names = {row["id"]: row["name"].replace("_", " ").lower() for row in content["categories"]}
    pictures = _read_pictures(read_lvis(slice_of_lvis))
    seen = Counter()
    for row in content["images"]:
        annotated = {entry["category_id"] for entry in content["annotations"] if entry["image_id"] == row["id"]}
        searched = set(row["neg_category_ids"]) | annotated.difference(row["not_exhaustive_category_ids"])
        checked = pictures[row["id"]].checked
        assert checked is not None
        assert len(checked) == len(set(checked))
        assert set(checked) == {(names[number], None) for number in searched}
        seen["absent"] += len(set(row["neg_category_ids"]))
        seen["unsure"] += len(annotated.intersection(row["not_exhaustive_category_ids"]))
    assert seen["absent"] > 500
    assert seen["unsure"] > 0


def test_authentic_slice_is_prepared_with_its_lists(slice_of_lvis: Path, tmp_path: Path) -> None:
    report, _ = prepare(lambda _: read_lvis(slice_of_lvis), tmp_path / "set", inputs={}, workers=1)
    counts = report["splits"]["val"]
    assert (counts["images"], counts["objects"], counts["exhaustive"]) == (100, 977, False)
    truth = json.loads((slice_of_lvis / "lvis_v0.5_val.json").read_text())
    assert report["object_names"] == len({row["category_id"] for row in truth["annotations"]})
    written = json.loads((tmp_path / "set" / "val.json").read_text())
    assert all("checked_category_ids" in row for row in written["images"])


def test_only_names_with_all_instances_count_as_searched_for(tmp_path: Path) -> None:
    names = {1: "dog", 2: "cat", 3: "bow_(weapon)", 4: "bow_(decorative_ribbons)", 5: "cow", 6: "egg", 7: "Egg"}
    lists = {"neg_category_ids": [3, 6, 99, "4"], "not_exhaustive_category_ids": [2]}
    url = {"coco_url": "http://images.cocodataset.org/train2017/1.jpg"}
    good = [{"category_id": number, "segmentation": SQUARE} for number in (1, 2, 5)]
    bad = {"category_id": 5, "segmentation": [[0, 0, 1, 1]]}
    write_instances(tmp_path / "lvis_v1_val.json", names, [{**url, **lists}], [*good, bad])
    blank(tmp_path / "train2017" / "1.jpg")
    records = read_lvis(tmp_path)
    (found,) = _read_pictures(records).values()
    # The cow has an instance that had to be left out; "egg" is two categories, one of which nothing is known of.
    assert found.checked == (("dog", None), ("bow (weapon)", None))
    assert [item.object for item in found.instances] == ["dog", "cat", "cow"]
    assert list(found.drops.counts) == ["polygon of fewer than three points"]
    assert records.merged == ["egg"]


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ({}, None),
        ({"neg_category_ids": "none", "not_exhaustive_category_ids": None}, None),
        ({"neg_category_ids": [2]}, (("cat", None),)),
        ({"not_exhaustive_category_ids": []}, (("dog", None),)),
        ({"neg_category_ids": [], "not_exhaustive_category_ids": [1]}, ()),
    ],
)
def test_what_is_not_said_is_not_known(tmp_path: Path, lists: dict[str, Any], expected: object) -> None:
    row = {"file_name": "1.jpg", **lists}
    dog = {"category_id": 1, "segmentation": SQUARE}
    write_instances(tmp_path / "lvis_v1_val.json", {1: "dog", 2: "cat"}, [row], [dog])
    blank(tmp_path / "1.jpg")
    (found,) = _read_pictures(read_lvis(tmp_path)).values()
    assert found.checked == expected


@pytest.mark.parametrize(
    ("row", "picture"),
    [
        ({"coco_url": "http://images.cocodataset.org/train2017/000000000009.jpg"}, "train2017/000000000009.jpg"),
        ({"coco_url": "http://images.cocodataset.org/train2017/9.jpg"}, "images/train2017/9.jpg"),
        ({"coco_url": "http://images.cocodataset.org/train2017/9.jpg"}, "../coco/train2017/9.jpg"),
        ({"coco_url": "http://images.cocodataset.org/train2017/9.jpg"}, "images/9.jpg"),
        ({"file_name": "COCO_val2014_000000000009.jpg"}, "coco/val2014/COCO_val2014_000000000009.jpg"),
        ({"file_name": "train2017/9.jpg"}, "coco/images/train2017/9.jpg"),
    ],
)
def test_pictures_are_found_under_each_of_their_names(tmp_path: Path, row: dict[str, Any], picture: str) -> None:
    source = tmp_path / "lvis"
    lost = {key: value.replace("9.jpg", "8.jpg") for key, value in row.items()}
    write_instances(source / "annotations/lvis_v1_train.json", {1: "dog"}, [lost, row], [])
    blank(source / picture)
    (split,) = read_lvis(source).splits
    _, second = split.pictures()
    assert (split.image_root / second.file_name).resolve() == (source / picture).resolve()


def test_version_1_goes_before_version_05_for_all_splits(tmp_path: Path) -> None:
    for name, category in (("lvis_v0.5_train", "old"), ("lvis_v0.5_val", "old"), ("lvis_v1_val", "new")):
        write_instances(tmp_path / f"{name}.json", {1: category}, [{"file_name": "1.jpg"}], [])
    blank(tmp_path / "1.jpg")
    records = read_lvis(tmp_path)
    assert [split.name for split in records.splits] == ["val"]
    assert list(records.tree) == ["new"]
    assert records.remarks == ["LVIS v1"]


def test_wrong_turns_are_told_in_a_line_that_names_the_file(slice_of_lvis: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lvis_v1_train.json, lvis_v1_val.json.*prepare lvis --describe"):
        read_lvis(tmp_path)
    shutil.copy(slice_of_lvis / "lvis_v0.5_val.json", tmp_path)
    with pytest.raises(UserError, match=r"val2017/000000\d+.jpg.*--images") as caught:
        read_lvis(tmp_path)
    assert caught.value.code == DATA
    assert read_lvis(tmp_path, images=slice_of_lvis).splits[0].image_root == slice_of_lvis
    text = (tmp_path / "lvis_v0.5_val.json").read_text()
    (tmp_path / "lvis_v0.5_val.json").write_text(text[: len(text) // 2])
    with pytest.raises(UserError, match=r"lvis_v0.5_val.json is no JSON"):
        read_lvis(tmp_path, images=slice_of_lvis)


def test_manifest_names_the_files_that_are_read() -> None:
    manifest = load_manifest("lvis")
    assert {file.path.removesuffix(".zip") for file in manifest.files} >= {"lvis_v1_train.json", "lvis_v1_val.json"}
    assert (manifest.objects, manifest.parts) == (1203, 0)
