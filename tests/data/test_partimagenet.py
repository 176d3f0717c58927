"""Both PartImageNets in their exact layouts, and the authentic names of the detection set's training pictures."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from langhops_cli.data.formats.coco_files import CocoFile
from langhops_cli.data.formats.partimagenet import Classes, read_partimagenet
from langhops_cli.data.formats.partimagenet_seg import BACKGROUND, CLASSES
from langhops_cli.data.manifests import load_manifest
from langhops_cli.data.prepare import prepare
from langhops_cli.errors import UserError
from tests.data.reading import read_all

# As the dataset's files have them.
CATEGORIES = """
Quadruped Head, Quadruped Body, Quadruped Foot, Quadruped Tail, Biped Head, Biped Body, Biped Hand, Biped Foot,
Biped Tail, Fish Head, Fish Body, Fish Fin, Fish Tail, Bird Head, Bird Body, Bird Wing, Bird Foot, Bird Tail,
Snake Head, Snake Body, Reptile Head, Reptile Body, Reptile Foot, Reptile Tail, Car Body, Car Tier, Car Side Mirror,
Bicycle Body, Bicycle Head, Bicycle Seat, Bicycle Tier, Boat Body, Boat Sail, Aeroplane Head, Aeroplane Body,
Aeroplane Engine, Aeroplane Wing, Aeroplane Tail, Bottle Mouth, Bottle Body
"""
NAMES = [" ".join(name.split()) for name in CATEGORIES.split(",")]
Square = tuple[int, int, int, int]


def polygon(left: int, top: int, right: int, bottom: int) -> list[int]:
    return [left, top, right, top, right, bottom, left, bottom]


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="JPEG")


@pytest.fixture
def write_ood(tmp_path: Path) -> Callable[..., Path]:
    """Write one split of the detection set: pictures with (category, polygons) each."""

    def run(
        split: str, pictures: dict[str, list[tuple[str, list[list[int]]]]], *, folder: str = "ood", flat: bool = False
    ) -> Path:
        source = tmp_path / folder
        images, annotations = [], []
        for number, (name, parts) in enumerate(pictures.items(), start=1):
            picture(source / split / ("" if flat else name[:9]) / name, number + 10 * len(split))
            images.append({"id": number, "file_name": name, "width": 40, "height": 30})
            for category, polygons in parts:
                row = {"id": len(annotations), "image_id": number, "category_id": NAMES.index(category), "iscrowd": 0}
                annotations.append({**row, "segmentation": polygons})
        rows = [{"id": n, "name": name, "supercategory": name.split()[0]} for n, name in enumerate(NAMES)]
        content = {"images": images, "annotations": annotations, "categories": rows}
        (source / f"{split}.json").write_text(json.dumps(content))
        return source

    return run


DOG = [
    ("Quadruped Head", [polygon(2, 2, 10, 10)]),
    ("Quadruped Foot", [polygon(4, 20, 8, 28), polygon(12, 20, 16, 28)]),
]
CAR = [("Car Tier", [polygon(3, 20, 9, 26)]), ("Car Body", [polygon(2, 5, 30, 22)])]


def test_an_object_is_the_union_of_its_parts(write_ood: Callable[..., Path]) -> None:
    source = write_ood("train", {"n02085620_7.JPEG": DOG, "n02701002_3.JPEG": CAR})
    records = read_partimagenet(source)
    reading = read_all(records)
    assert records.kind == "partimagenet-ood"
    assert list(reading.by_picture) == ["n02085620/n02085620_7.JPEG", "n02701002/n02701002_3.JPEG"]
    assert [(item.object, item.part) for item in reading.instances] == [
        ("quadruped", None), ("quadruped", "head"), ("quadruped", "foot"),
        ("car", None), ("car", "tire"), ("car", "body"),
    ]  # fmt: skip
    for items in reading.by_picture.values():
        whole, *parts = items
        assert whole.id < 0
        assert {item.parent for item in parts} == {whole.id}
        joined = coco_mask.merge([item.rle for item in parts])
        assert (coco_mask.decode(whole.rle) == coco_mask.decode(joined)).all()
    assert records.splits[0].exhaustive
    assert records.source_names["car", "tire"] == "Car Tier"


def test_parts_of_two_kinds_make_two_objects(write_ood: Callable[..., Path]) -> None:
    reading = read_all(read_partimagenet(write_ood("train", {"n02085620_7.JPEG": DOG + CAR})))
    assert [item.object for item in reading.instances if item.part is None] == ["quadruped", "car"]
    assert len({item.id for item in reading.instances}) == 6


def test_polygons_of_two_and_four_numbers_are_counted(write_ood: Callable[..., Path]) -> None:
    broken = [
        ("Car Body", [polygon(2, 5, 30, 22), [1, 1], [1, 1, 2, 2]]),
        ("Car Tier", [[3, 3, 4, 4]]),
        ("Car Side Mirror", []),
    ]
    reading = read_all(read_partimagenet(write_ood("train", {"n02701002_3.JPEG": broken})))
    assert [item.part for item in reading.instances] == [None, "body"]
    assert reading.drops.counts == {
        "polygon of fewer than three points beside whole ones": 2,
        "polygon of fewer than three points": 1,
        "no mask": 1,
    }
    assert reading.drops.first["polygon of fewer than three points"] == ["1"]


def test_a_part_with_a_box_alone_is_left_out(write_ood: Callable[..., Path]) -> None:
    source = write_ood("train", {"n02701002_3.JPEG": CAR})
    content = json.loads((source / "train.json").read_text())
    content["annotations"][0] |= {"segmentation": None, "bbox": [1, 1, 5, 5]}
    (source / "train.json").write_text(json.dumps(content))
    reading = read_all(read_partimagenet(source))
    assert [item.part for item in reading.instances] == [None, "body"]
    assert reading.drops.counts == {"no mask": 1}


def test_splits_sizes_and_shared_classes_are_told(write_ood: Callable[..., Path]) -> None:
    write_ood("train", {"n02085620_7.JPEG": DOG, "n02701002_3.JPEG": CAR})
    write_ood("val", {"n02085620_8.JPEG": DOG})
    records = read_partimagenet(write_ood("test", {"n03100240_1.JPEG": CAR}))
    assert [split.name for split in records.splits] == ["train", "val", "test"]
    assert "train: 2 classes" in records.remarks
    assert "train and val share 1 classes (n02085620); as released they share none" in records.remarks
    assert not any("train and test" in remark for remark in records.remarks)
    assert "train has 2 pictures; 16,540 were published" in records.remarks


def test_pictures_may_lie_without_the_folders_of_their_classes(tmp_path: Path, write_ood: Callable[..., Path]) -> None:
    source = write_ood("train", {"n02085620/n02085620_7.JPEG": DOG}, flat=True)
    assert list(read_all(read_partimagenet(source)).by_picture) == ["n02085620/n02085620_7.JPEG"]


def test_a_split_that_is_still_packed_is_named(write_ood: Callable[..., Path]) -> None:
    source = write_ood("train", {"n02085620_7.JPEG": DOG})
    (source / "train/n02085620/n02085620_7.JPEG").unlink()
    with pytest.raises(UserError, match="no pictures of train"):
        read_partimagenet(source)
    (source / "train.zip").write_bytes(b"")
    with pytest.raises(UserError, match=r"train\.zip is still packed"):
        read_partimagenet(source)


def test_a_file_of_other_categories_is_refused(write_ood: Callable[..., Path]) -> None:
    source = write_ood("train", {"n02085620_7.JPEG": DOG})
    content = json.loads((source / "train.json").read_text())
    content["categories"] = [{"id": 1, "name": "dog"}, {"id": 2, "name": "Carpet Body"}]
    (source / "train.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="none of PartImageNet's parts"):
        read_partimagenet(source)


def test_authentic_picture_names_lie_in_the_folders_of_their_classes(shared_data: Path, tmp_path: Path) -> None:
    lines = (shared_data / "authentic_annotations/partimagenet_train_names.txt").read_text().splitlines()
    folders, names = zip(*(line.split()[-2:] for line in lines), strict=True)
    images = [{"id": n, "file_name": name, "width": 4, "height": 3} for n, name in enumerate(names)]
    content = {"images": images, "annotations": [], "categories": [{"id": 0, "name": "Car Body"}]}
    (tmp_path / "train.json").write_text(json.dumps(content))
    classes = Classes()
    file = CocoFile(tmp_path / "train.json", name_of=classes)
    assert len(file) == load_manifest("partimagenet").splits["train"].images == 16540
    assert file.names(len(file)) == [f"{folder}/{name}" for folder, name in zip(folders, names, strict=True)]
    assert classes.found == set(folders)
    assert len(classes.found) == 109


def test_hostile_names_are_refused(write_ood: Callable[..., Path]) -> None:
    source = write_ood("train", {"n02085620_7.JPEG": DOG})
    content = json.loads((source / "train.json").read_text())
    for name, told in (("../n02085620_7.JPEG", "leads out"), (7, "must be a path"), ("/n02085620_7.JPEG", "leads out")):
        content["images"][0]["file_name"] = name
        (source / "train.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=told):
            read_partimagenet(source)


@pytest.fixture
def write_seg(tmp_path: Path) -> Callable[..., Path]:
    """Write one split of the label maps: pictures with the regions of parts, and those of whole objects if given."""

    def run(
        split: str,
        pictures: list[tuple[dict[str, Square], dict[int, Square] | None]],
        *,
        folder: str = "seg",
    ) -> Path:
        source = tmp_path / folder
        maps, whole = source / "annotations" / split, source / "annotations" / f"{split}_whole"
        maps.mkdir(parents=True)
        for number, (parts, objects) in enumerate(pictures, start=1):
            name = f"n0208562{number}_{number}"
            picture(source / "images" / split / f"{name}.JPEG", number + 10 * len(split))
            labels = np.full((30, 40), BACKGROUND, np.uint8)
            for part, (left, top, right, bottom) in parts.items():
                labels[top:bottom, left:right] = NAMES.index(part)
            Image.fromarray(labels).save(maps / f"{name}.png")
            (maps / f"{name}.json").write_text('{"height": 30, "width": 40}')
            if objects is not None:
                whole.mkdir(exist_ok=True)
                labels = np.full((30, 40), CLASSES, np.uint8)
                for number_of_class, (left, top, right, bottom) in objects.items():
                    labels[top:bottom, left:right] = number_of_class
                Image.fromarray(labels).save(whole / f"{name}.png")
        return source

    return run


PARTS: dict[str, Square] = {"Quadruped Head": (2, 2, 10, 10), "Quadruped Foot": (4, 20, 8, 28)}


def test_whole_objects_come_from_their_maps(write_seg: Callable[..., Path]) -> None:
    records = read_partimagenet(write_seg("train", [(PARTS, {17: (1, 1, 20, 29)})]))
    reading = read_all(records)
    assert records.kind == "partimagenet-seg"
    assert [(item.object, item.part, item.parent, int(coco_mask.area(item.rle))) for item in reading.instances] == [
        ("quadruped", None, None, 19 * 28), ("quadruped", "head", 18, 64), ("quadruped", "foot", 18, 32),
    ]  # fmt: skip
    assert reading.drops.counts == {}
    assert records.splits[0].exhaustive


def test_without_maps_of_objects_they_are_the_union_of_their_parts(write_seg: Callable[..., Path]) -> None:
    records = read_partimagenet(write_seg("val", [(PARTS, None)]))
    whole, *parts = read_all(records).instances
    assert (whole.object, int(coco_mask.area(whole.rle))) == ("quadruped", 96)
    assert [item.parent for item in parts] == [whole.id] * 2
    assert any("union of its parts" in remark for remark in records.remarks)


def test_two_classes_of_a_kind_are_two_objects(write_seg: Callable[..., Path]) -> None:
    parts = {"Car Body": (0, 4, 40, 8), "Car Tier": (2, 10, 6, 14), "Bird Wing": (0, 25, 5, 30)}
    wholes = {3: (0, 0, 20, 20), 150: (22, 0, 40, 20), 9: (10, 22, 20, 29)}
    reading = read_all(read_partimagenet(write_seg("train", [(parts, wholes)])))
    cars = [item for item in reading.instances if item.object == "car"]
    assert Counter((item.part, item.parent, item.crowd) for item in cars) == {
        (None, None, False): 2, ("body", 4, False): 1, ("body", 151, False): 1, ("body", None, True): 1,
        ("tire", 4, False): 1,
    }  # fmt: skip
    assert reading.drops.counts == {"whole object without any part, whose kind nobody knows": 1}
    assert reading.drops.first["whole object without any part, whose kind nobody knows"] == ["class 9"]
    wing = next(item for item in reading.instances if item.part == "wing")
    assert next(item for item in reading.instances if item.id == wing.parent).part is None
    assert len({item.id for item in reading.instances}) == len(reading.instances)


def test_numbers_outside_the_list_are_counted(write_seg: Callable[..., Path]) -> None:
    source = write_seg("train", [(PARTS, {17: (1, 1, 20, 29), 200: (30, 1, 32, 3)})])
    path = next((source / "annotations/train").glob("*.png"))
    labels = np.array(Image.open(path))
    labels[29, 39] = 255
    Image.fromarray(labels).save(path)
    reading = read_all(read_partimagenet(source))
    assert reading.drops.counts == {"label that stands for no name": 2}
    assert len(reading.instances) == 3


def test_every_number_of_a_map_stands_for_the_name_in_the_list(write_seg: Callable[..., Path]) -> None:
    """A strip of all 40 labels, against the dataset's own list."""
    strip: dict[str, Square] = {name: (number, 0, number + 1, 30) for number, name in enumerate(NAMES)}
    reading = read_all(read_partimagenet(write_seg("train", [(strip, None)])))
    found = {int(coco_mask.toBbox(i.rle)[0]): f"{i.object} {i.part}" for i in reading.instances if i.part is not None}
    assert [found[number] for number in range(40)] == [name.lower().replace("tier", "tire") for name in NAMES]


def test_the_manifest_has_the_categories_of_the_dataset() -> None:
    vocabulary = load_manifest("partimagenet").vocabulary
    listed = [f"{owner} {part}" for owner, parts in vocabulary.items() for part in parts]
    assert listed == [name.lower().replace("tier", "tire") for name in NAMES]
    assert (len(vocabulary), len(listed)) == (11, 40)


def test_label_maps_are_prepared_with_their_faults_counted(write_seg: Callable[..., Path], tmp_path: Path) -> None:
    source = write_seg("train", [(PARTS, {17: (1, 1, 20, 29)})] * 3)
    (source / "annotations/train/n02085622_2.png").unlink()
    (source / "images/train/._n02085621_1.JPEG").write_bytes(b"\0\5")
    (source / "images/train/notes.txt").write_text("no picture")
    report, _ = prepare(lambda _: read_partimagenet(source), tmp_path / "set", inputs={}, workers=1)
    split: dict[str, Any] = report["splits"]["train"]
    assert (split["images"], split["objects"], split["parts"]) == (2, 2, 4)
    assert split["parents"] == {"stated": 4, "by_mask": 0, "by_union": 0, "unknown": 0, "stated_but_wrong": 0}
    assert {row["reason"]: row["count"] for row in split["dropped"]} == {
        "annotations that cannot be read": 1, "macOS ._ file, no picture": 1,
    }  # fmt: skip


def test_detection_set_is_prepared_without_asking_for_unions(write_ood: Callable[..., Path], tmp_path: Path) -> None:
    source = write_ood("train", {"n02085620_7.JPEG": DOG, "n02701002_3.JPEG": CAR})
    report, _ = prepare(lambda _: read_partimagenet(source), tmp_path / "set", inputs={}, workers=1)
    assert report["splits"]["train"]["dropped"] == []
    assert (report["object_names"], report["part_names"]) == (2, 4)


def test_both_layouts_in_one_folder_are_refused(write_ood: Callable[..., Path], write_seg: Callable[..., Path]) -> None:
    write_ood("train", {"n02085620_7.JPEG": DOG}, folder="one")
    source = write_seg("train", [(PARTS, None)], folder="one")
    with pytest.raises(UserError, match=r"partimagenet-ood .*one\) and partimagenet-seg .*one\)"):
        read_partimagenet(source)


def test_each_is_found_in_a_folder_of_its_name_and_both_are_refused(
    write_ood: Callable[..., Path], write_seg: Callable[..., Path], tmp_path: Path
) -> None:
    write_seg("train", [(PARTS, None)], folder="data/PartImageNet_Seg/PartImageNet")
    assert read_partimagenet(tmp_path / "data").kind == "partimagenet-seg"
    write_ood("train", {"n02085620_7.JPEG": DOG}, folder="data/PartImageNet_OOD")
    with pytest.raises(UserError, match="never mixed"):
        read_partimagenet(tmp_path / "data")
    assert read_partimagenet(tmp_path / "data/PartImageNet_OOD").kind == "partimagenet-ood"


def test_annotation_files_beside_label_maps_do_not_make_two_sets(write_seg: Callable[..., Path]) -> None:
    source = write_seg("train", [(PARTS, None)])
    (source / "train.json").write_text("{}")
    (source / "annotations/train/train.json").write_text("{}")
    assert read_partimagenet(source).kind == "partimagenet-seg"


def test_neither_layout_and_half_of_one_are_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none of the layouts of partimagenet; 'langhops prepare partimagenet --desc"):
        read_partimagenet(tmp_path)
    (tmp_path / "annotations/val").mkdir(parents=True)
    with pytest.raises(UserError, match="no folder images/val"):
        read_partimagenet(tmp_path)
