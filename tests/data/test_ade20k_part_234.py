"""ADE20K-Part-234 in its released layout: counted against what the test wrote, and on authentic masks."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from langhops_cli.data.formats.ade20k_part_234 import IGNORE, UNSEEN, read_ade20k_part_234
from langhops_cli.data.manifests import load_manifest
from langhops_cli.data.prepare import prepare
from langhops_cli.errors import UserError
from tests.data.reading import read_all

VOCABULARY = load_manifest("ade20k-part-234").vocabulary
OBJECTS = sorted(VOCABULARY)
PARTS = [f"{owner}'s {part}" for owner, parts in VOCABULARY.items() for part in parts]
Pixels = tuple[slice, slice]


def rle_of(pixels: Pixels, shape: tuple[int, int] = (30, 40)) -> dict[str, Any]:
    mask = np.zeros(shape, np.uint8)
    mask[pixels] = 1
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write one split of the release: for each picture its objects and the parts in its map."""

    def run(
        split: str,
        pictures: list[tuple[list[tuple[str, Pixels]], dict[str, Pixels]]],
        *,
        extra: list[dict[str, Any]] | None = None,
        file_names: list[str] | None = None,
    ) -> Path:
        source, folder = tmp_path / "ADE20KPart234", {"train": "training", "val": "validation"}[split]
        for place in ("images", "annotations_detectron2_part"):
            (source / place / folder).mkdir(parents=True, exist_ok=True)
        images, annotations = [], list(extra or [])
        for number, (objects, parts) in enumerate(pictures, start=1):
            name = file_names[number - 1] if file_names else f"ADE_{split}_{number:08}.jpg"
            if not file_names:
                pixels = np.random.default_rng(number + len(split)).integers(0, 255, (30, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(source / "images" / folder / name)
                labels = np.full((30, 40), IGNORE, np.uint16)
                for part, region in parts.items():
                    labels[region] = PARTS.index(part)
                Image.fromarray(labels).save(
                    (source / "annotations_detectron2_part" / folder / name).with_suffix(".png")
                )
            images.append({"id": number, "file_name": name, "width": 40, "height": 30})
            for owner, region in objects:
                row = {"id": len(annotations) + 1, "image_id": number, "category_id": OBJECTS.index(owner)}
                annotations.append({**row, "segmentation": rle_of(region), "iscrowd": 0, "part_category_id": []})
        categories = [{"id": number, "name": name} for number, name in enumerate(OBJECTS)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (source / f"ade20k_instance_{split}.json").write_text(json.dumps(content))
        return source

    return run


LEFT, RIGHT = np.s_[0:30, 0:18], np.s_[0:30, 20:40]
TWO_CHAIRS = ([("chair", LEFT), ("chair", RIGHT)], {"chair's leg": np.s_[20:28, 4:36], "chair's back": np.s_[2:8, 2:8]})


def test_parts_are_split_among_the_objects_they_lie_in(write: Callable[..., Path]) -> None:
    source = write("train", [TWO_CHAIRS])
    reading = read_all(read_ade20k_part_234(source))
    chairs = [item for item in reading.instances if item.part is None]
    legs = [item for item in reading.instances if item.part == "leg" and not item.crowd]
    assert [item.object for item in chairs] == ["chair", "chair"]
    assert {leg.parent: coco_mask.area(leg.rle) for leg in legs} == {chairs[0].id: 8 * 14, chairs[1].id: 8 * 16}
    between = [item for item in reading.instances if item.crowd]
    assert [(item.part, item.parent, int(coco_mask.area(item.rle))) for item in between] == [("leg", None, 8 * 2)]
    (back,) = (item for item in reading.instances if item.part == "back")
    assert back.parent == chairs[0].id
    assert len({item.id for item in reading.instances}) == len(reading.instances)
    assert reading.drops.counts == {}


def test_a_pixel_in_two_objects_goes_to_the_one_that_holds_more(write: Callable[..., Path]) -> None:
    objects = [("chair", np.s_[0:30, 0:22]), ("chair", np.s_[0:30, 20:40])]
    source = write("train", [(objects, {"chair's leg": np.s_[0:10, 4:24]})])
    reading = read_all(read_ade20k_part_234(source))
    legs = {item.parent: int(coco_mask.area(item.rle)) for item in reading.instances if item.part == "leg"}
    assert legs == {1: 180, 2: 20}


def test_val_has_the_unseen_objects_of_training_pictures_and_train_has_not(write: Callable[..., Path]) -> None:
    bench = ([("bench", LEFT), ("chair", RIGHT)], {"bench's leg": np.s_[1:5, 1:5], "chair's leg": np.s_[1:5, 25:30]})
    only = ([("van", LEFT)], {"van's wheel": np.s_[1:5, 1:5]})
    write("train", [TWO_CHAIRS, bench, only])
    source = write("val", [([("bench", LEFT), ("lamp", RIGHT)], {"lamp's cord": np.s_[1:3, 22:24]})])
    records = read_ade20k_part_234(source)
    train, val = read_all(records, 0), read_all(records, 1)
    assert [split.total for split in records.splits] == [len(train.pictures), len(val.pictures)] == [2, 3]
    assert Counter(item.object for item in train.instances if item.part is None) == {"chair": 3}
    assert not any(item.object in UNSEEN for item in train.instances)
    assert Counter(item.object for item in val.instances if item.part is None) == {"bench": 2, "lamp": 1, "van": 1}
    assert sorted(val.by_picture) == [
        "training/ADE_train_00000002.jpg", "training/ADE_train_00000003.jpg", "validation/ADE_val_00000001.jpg",
    ]  # fmt: skip
    assert {item.id for item in val.pictures} == {1, 2, 3}
    assert any("no fault" in remark for remark in records.remarks)
    assert not any(split.exhaustive for split in records.splits)
    supervised = read_ade20k_part_234(source, zero_shot=False)
    assert [split.total for split in supervised.splits] == [3, 1]
    assert {"bench", "van"} <= {item.object for item in read_all(supervised).instances}
    assert not any("no fault" in remark for remark in supervised.remarks)


def test_val_may_name_a_picture_of_training(write: Callable[..., Path]) -> None:
    write("train", [TWO_CHAIRS])
    source = write("val", [([("desk", LEFT)], {})], file_names=["ADE_train_00000001.jpg"])
    val = read_all(read_ade20k_part_234(source), 1)
    assert list(val.by_picture) == ["training/ADE_train_00000001.jpg"]


def test_an_unseen_object_that_both_files_list_is_in_val_once(write: Callable[..., Path]) -> None:
    write("train", [([("desk", LEFT), ("chair", RIGHT)], {"desk's leg": np.s_[1:5, 1:5]})])
    source = write("val", [([("desk", LEFT)], {})], file_names=["ADE_train_00000001.jpg"])
    records = read_ade20k_part_234(source)
    assert [split.total for split in records.splits] == [1, 1]
    assert [(item.object, item.part) for item in read_all(records, 1).instances] == [("desk", None), ("desk", "leg")]
    assert {item.object for item in read_all(records, 0).instances} == {"chair"}


def test_faults_are_counted(write: Callable[..., Path]) -> None:
    extra = [
        {"id": 1, "image_id": 1, "category_id": 99, "segmentation": rle_of(LEFT)},
        {"id": 2, "image_id": 1, "category_id": 8, "segmentation": [[1, 1, 5, 5]]},
        {"id": 3, "image_id": 1, "category_id": 8, "segmentation": rle_of(LEFT, (20, 20))},
        {"id": 4, "image_id": 1, "category_id": [8], "segmentation": rle_of(LEFT)},
    ]
    source = write("train", [TWO_CHAIRS], extra=extra)
    path = source / "annotations_detectron2_part/training/ADE_train_00000001.png"
    labels = np.array(Image.open(path))
    labels[29, 39] = 300
    Image.fromarray(labels).save(path)
    reading = read_all(read_ade20k_part_234(source))
    assert reading.drops.counts == {
        "unknown category": 2,
        "polygon of fewer than three points": 1,
        "mask of another size than the picture": 1,
        "label that stands for no name": 1,
    }
    assert sum(item.part is None for item in reading.instances) == 2


def test_a_map_that_is_missing_or_of_another_depth_leaves_out_the_picture(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    source = write("train", [TWO_CHAIRS, TWO_CHAIRS, TWO_CHAIRS])
    maps = source / "annotations_detectron2_part/training"
    (maps / "ADE_train_00000001.png").unlink()
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(maps / "ADE_train_00000002.png")
    (source / "images/training/._ADE_train_00000001.jpg").write_bytes(b"\0")
    report, _ = prepare(lambda _: read_ade20k_part_234(source), tmp_path / "set", inputs={}, workers=1)
    assert report["splits"]["train"]["images"] == 1
    dropped = {row["reason"]: row["count"] for row in report["splits"]["train"]["dropped"]}
    assert dropped == {"annotations that cannot be read": 2, "instance in a picture that was left out": 4}
    assert report["splits"]["train"]["parents"]["stated"] == 3
    assert any("7,347 were published" in remark for remark in report["remarks"])


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (["readme.txt"], "none of the layouts of ade20k-part-234"),
        (["ade20k_instance_val.json", "ADE20K_2021_17_01/images/ADE/training/a.jpg"], "never mixed"),
        (["ade20k_instance_val.json"], "no folder images"),
    ],
)
def test_a_folder_of_another_layout_is_refused(tmp_path: Path, files: list[str], told: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=told):
        read_ade20k_part_234(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        read_ade20k_part_234(tmp_path / "nowhere")


def test_all_names_need_full_ade20k(write: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="full ADE20K"):
        read_ade20k_part_234(write("train", [TWO_CHAIRS]), all_names=True)


def test_a_file_name_that_climbs_out_is_refused(write: Callable[..., Path]) -> None:
    source = write("train", [TWO_CHAIRS], file_names=["../../secret.jpg"])
    with pytest.raises(UserError, match="leads out"):
        read_ade20k_part_234(source)


def test_the_manifest_has_the_names_of_the_dataset(shared_data: Path) -> None:
    """The list of the shared set was written by somebody else; its part ids rise in the order of the parts."""
    for split in ("train", "val"):
        rows = json.loads((shared_data / f"ade20k_part_234_subset/{split}.json").read_text())["categories"]
        assert [row["name"] for row in rows if row["parent_id"] is None] == OBJECTS
        assert [row["name"] for row in rows if row["parent_id"] is not None] == PARTS
    assert (len(OBJECTS), len(PARTS), len(UNSEEN)) == (44, 234, 11)
    assert set(OBJECTS) >= UNSEEN


def test_authentic_masks_come_back(shared_data: Path, tmp_path: Path) -> None:
    """Masks of the dataset, put into the layout of the release by the test, are read as they were."""
    folder = shared_data / "ade20k_part_234_subset"
    content = json.loads((folder / "val.json").read_text())
    names = {row["id"]: row for row in content["categories"]}
    source = tmp_path / "release"
    for place in ("images/validation", "annotations_detectron2_part/validation"):
        (source / place).mkdir(parents=True)
    images = content["images"][:12]
    rows, wanted = [], {}
    for image in images:
        annotations = [row for row in content["annotations"] if row["image_id"] == image["id"]]
        labels = np.full((image["height"], image["width"]), IGNORE, np.uint16)
        of_part = {}
        for row in annotations:
            category = names[row["category_id"]]
            if category["parent_id"] is None:
                rows.append({**row, "category_id": OBJECTS.index(category["name"])})
                continue
            label = PARTS.index(category["name"])
            labels[coco_mask.decode(row["segmentation"]) > 0] = label
            of_part[label] = row["parent_id"]
        owners = {row["id"]: coco_mask.decode(row["segmentation"]) > 0 for row in rows}
        for label, owner in of_part.items():
            wanted[image["id"], label] = ((labels == label) & owners[owner]).sum()
        name = Path(image["file_name"]).with_suffix(".png").name
        Image.fromarray(labels).save(source / "annotations_detectron2_part/validation" / name)
        image["file_name"] = Path(image["file_name"]).name
        (source / "images/validation" / image["file_name"]).symlink_to(folder / "images/val" / image["file_name"])
    categories = [{"id": number, "name": name} for number, name in enumerate(OBJECTS)]
    text = json.dumps({"images": images, "annotations": rows, "categories": categories})
    (source / "ade20k_instance_val.json").write_text(text)
    reading = read_all(read_ade20k_part_234(source))
    assert sum(item.part is None for item in reading.instances) == len(rows) > 12
    found = {}
    for image, picture in zip(images, reading.pictures, strict=True):
        for item in reading.by_picture[picture.file_name]:
            if item.part is not None and not item.crowd:
                label = PARTS.index(f"{item.object}'s {item.part}")
                found[image["id"], label] = found.get((image["id"], label), 0) + int(coco_mask.area(item.rle))
    assert found == {key: count for key, count in wanted.items() if count}
    assert len(found) > 30
