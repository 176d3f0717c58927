import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from langhops_cli.data.collate import Collate
from langhops_cli.data.formats.coco_parts import read_coco_parts
from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.prepare import prepare
from langhops_cli.errors import DATA, UserError
from langhops_cli.vocabulary import Vocabulary

Prepare = Callable[..., tuple[dict[str, Any], Path]]
Write = Callable[..., Path]
BOX = [[2, 2, 12, 2, 12, 12, 2, 12]]


def _files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()
    }


def test_the_annotation_file_opens_in_coco_and_keeps_masks_names_and_parents(dogs: Path, prepare_coco: Prepare) -> None:
    before = _files(dogs)
    report, folder = prepare_coco(dogs)
    assert _files(dogs) == before
    source, made = COCO(dogs / "train.json"), COCO(folder / "train.json")
    assert [(row["id"], row["name"], row["parent_id"]) for row in made.dataset["categories"]] == [
        (1, "dog", None),
        (2, "dog head", 1),
    ]
    assert made.cats[2]["part_name"] == "head"
    assert made.cats[2]["source_name"] == "dog's head"
    for number in range(1, 6):
        np.testing.assert_array_equal(made.annToMask(made.anns[number]), source.annToMask(source.anns[number]))
        assert made.anns[number]["area"] == source.annToMask(source.anns[number]).sum()
    assert [made.anns[number]["parent_id"] for number in range(1, 6)] == [None, None, 1, 2, None]
    root = Path(made.dataset["info"]["image_root"])
    assert all((root / image["file_name"]).is_file() for image in made.imgs.values())
    counts = report["splits"]["train"]
    assert (counts["images"], counts["objects"], counts["parts"]) == (2, 2, 3)
    assert counts["parents"] == {"stated": 1, "by_mask": 1, "by_union": 0, "unknown": 1, "stated_but_wrong": 0}
    assert json.loads((folder / "report.json").read_text()) == report


def test_ids_start_at_one_where_the_source_starts_at_zero(write_coco: Write, prepare_coco: Prepare) -> None:
    source = write_coco([{"id": 0, "category_id": 0, "segmentation": BOX}], [{"id": 0, "name": "car"}])
    content = json.loads((prepare_coco(source)[1] / "train.json").read_text())
    assert [row["id"] for row in content["annotations"]] == [1]
    assert [row["id"] for row in content["categories"]] == [1]


def test_unused_names_are_left_out_and_reported(write_coco: Write, prepare_coco: Prepare) -> None:
    source = write_coco(
        [{"category_id": 2, "segmentation": BOX}, {"category_id": 3, "segmentation": BOX}],
        [
            {"id": 1, "name": "_background_"},
            {"id": 2, "name": "car"},
            {"id": 3, "name": "wheel"},
            {"id": 4, "name": "hood"},
        ],
    )
    report, folder = prepare_coco(source, object_name="car")
    assert (folder / "hierarchy.yaml").read_text() == "car:\n  wheel:\n"
    assert report["names_without_instances"] == ["car background", "car hood"]


def test_ids_are_given_in_the_trees_order_and_left_free_where_a_name_is_unused(
    write_coco: Write, prepare_coco: Prepare
) -> None:
    names = ["horse", "cat", "horse:tail", "dog", "dog:head", "horse:head"]
    rows = [{"category_id": number, "segmentation": BOX} for number in (6, 5, 4, 1)]
    source = write_coco(rows, [{"id": number, "name": name} for number, name in enumerate(names, 1)])
    report, folder = prepare_coco(source)
    categories = json.loads((folder / "train.json").read_text())["categories"]
    assert [(row["id"], row["name"], row["parent_id"]) for row in categories] == [
        (1, "horse", None), (3, "dog", None), (5, "horse head", 1), (6, "dog head", 3),
    ]  # fmt: skip
    assert report["names_without_instances"] == ["horse tail", "cat"]
    sample = PreparedDataset(folder, "train")[0]
    assert [sample.vocabulary.object_names[item.label] for item in sample.objects] == ["dog", "horse"]
    assert [sample.vocabulary.part_classes[item.label].text for item in sample.parts] == ["horse head", "dog head"]


def test_a_part_gets_as_many_queries_as_nearly_all_objects_need(write_coco: Write, prepare_coco: Prepare) -> None:
    """One house of 21 with forty windows leaves the count at 1; eleven with forty doors raise it to the most, 32."""
    categories = [
        {"id": 1, "name": "house", "parent_id": None},
        {"id": 2, "name": "window", "parent_id": 1},
        {"id": 3, "name": "door", "parent_id": 1},
    ]
    rows: list[dict[str, Any]] = []
    for image in range(1, 22):
        house = len(rows) + 1
        rows.append({"image_id": image, "category_id": 1, "segmentation": BOX})
        windows, doors = (40, 40) if image == 21 else (1, 40 if image > 10 else 2)
        for category, number in ((2, windows), (3, doors)):
            row = {"image_id": image, "category_id": category, "segmentation": BOX, "parent_id": house}
            rows += [row] * number
    _, folder = prepare_coco(write_coco(rows, categories, pictures=21))
    tree = (folder / "hierarchy.yaml").read_text()
    assert tree == "house:\n  window:\n  door:\n    count: 32\n"


def test_more_processes_write_the_same_set(write_coco: Write, tmp_path: Path) -> None:
    rows = [{"image_id": n, "category_id": 1, "segmentation": BOX if n % 7 else []} for n in range(1, 71)]
    source = write_coco(rows, [{"id": 1, "name": "car"}], pictures=70)
    one, two = (
        prepare(lambda _: read_coco_parts(source), tmp_path / f"set{number}", inputs={}, workers=number)[0]
        for number in (1, 2)
    )
    for name in ("train.json", "hierarchy.yaml"):
        contents = [(tmp_path / folder / name).read_text().replace(folder, "") for folder in ("set1", "set2")]
        assert contents[0] == contents[1]
    assert one["splits"] == two["splits"]
    assert one["splits"]["train"]["dropped"] == [
        {"reason": "no mask", "count": 10, "first_ids": [str(number) for number in range(7, 71, 7)]}
    ]


def test_bad_pictures_are_left_out_with_their_reason(dogs: Path, write_coco: Write, prepare_coco: Prepare) -> None:
    rows = [{"image_id": n, "category_id": 1, "segmentation": BOX} for n in range(1, 6)]
    source = write_coco(rows, [{"id": 1, "name": "car"}], pictures=5, folder="bad")
    pictures = source / "images/train"
    (pictures / "2.png").unlink()
    (pictures / "3.png").write_bytes((pictures / "3.png").read_bytes()[:300])
    Image.new("RGB", (41, 30)).save(pictures / "4.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(pictures / "5.png", exif=exif)
    report, folder = prepare_coco(source)
    dropped = {row["reason"]: row["first_ids"] for row in report["splits"]["train"]["dropped"]}
    assert dropped == {
        "instance in a picture that was left out": [f"train/{n}.png" for n in range(2, 6)],
        "missing picture": ["train/2.png"],
        "unreadable picture": ["train/3.png"],
        "picture of another size than annotated": ["train/4.png"],
        "picture annotated without its EXIF rotation": ["train/5.png"],
    }
    assert PreparedDataset(folder, "train").image_ids == [1]


def test_a_picture_annotated_upright_is_kept(write_coco: Write, prepare_coco: Prepare) -> None:
    source = write_coco([{"category_id": 1, "segmentation": BOX}], [{"id": 1, "name": "car"}])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 40)).save(source / "images/train/1.png", exif=exif)
    assert prepare_coco(source)[0]["splits"]["train"]["dropped"] == []


def test_reports_name_the_first_ten_ids(write_coco: Write, prepare_coco: Prepare) -> None:
    rows = [{"category_id": 1, "segmentation": BOX if n == 0 else []} for n in range(15)]
    report, _ = prepare_coco(write_coco(rows, [{"id": 1, "name": "car"}]))
    (row,) = report["splits"]["train"]["dropped"]
    assert row == {"reason": "no mask", "count": 14, "first_ids": [str(n) for n in range(2, 12)]}


def test_parts_without_objects_ask_for_union(write_coco: Write, prepare_coco: Prepare) -> None:
    source = write_coco([{"category_id": 1, "segmentation": BOX}], [{"id": 1, "name": "door"}])
    with pytest.raises(UserError, match=r"'car' has parts .'door'. but no mask of its own.*--union") as caught:
        prepare_coco(source, object_name="car")
    assert caught.value.code == DATA
    report, folder = prepare_coco(source, object_name="car", union=True)
    assert report["splits"]["train"]["objects_made_of_parts"] == 1
    content = json.loads((folder / "train.json").read_text())
    assert [row["segmentation"] for row in content["annotations"]] == [content["annotations"][0]["segmentation"]] * 2


def test_boxes_are_kept_where_there_are_no_masks(write_coco: Write, prepare_coco: Prepare) -> None:
    rows: list[dict[str, Any]] = [
        {"category_id": 1, "bbox": [2, 2, 20.5, 20], "area": 1},
        {"category_id": 2, "bbox": [4, 4, 6, 6.25], "segmentation": None},
        {"category_id": 2, "bbox": [30, 25, 100, 100]},
        {"category_id": 1, "bbox": [50, 2, 20, 20]},
        {"category_id": 1, "bbox": [2, 2, -20, 20]},
        {"category_id": 1, "bbox": [2, 2, 20]},
        {"category_id": 1, "bbox": "all of it"},
        {"category_id": 1, "bbox": [float("nan"), 2, 20, 20]},
        {"category_id": 1, "segmentation": [], "bbox": [2, 2, 20, 20]},
    ]
    categories = [{"id": 1, "name": "dog", "parent_id": None}, {"id": 2, "name": "head", "parent_id": 1}]
    report, folder = prepare_coco(write_coco(rows, categories))
    counts = report["splits"]["train"]
    assert counts["boxes_without_masks"] == 3
    assert counts["parents"]["by_mask"] == 1
    assert {row["reason"]: row["first_ids"] for row in counts["dropped"]} == {
        "box without a pixel inside the picture": ["4", "5"],
        "box with coordinates that are no numbers": ["6", "7", "8"],
        "no mask": ["9"],
    }
    made = COCO(folder / "train.json")
    assert [row["bbox"] for row in made.dataset["annotations"]] == [[2, 2, 20.5, 20], [4, 4, 6, 6.25], [30, 25, 10, 5]]
    assert all("segmentation" not in row for row in made.dataset["annotations"])
    dataset = PreparedDataset(folder, "train")
    sample, small = dataset[0], dataset.load(0, longest=20)
    assert [item.box for item in (*sample.objects, *sample.parts)] == [
        (2, 2, 22.5, 22), (4, 4, 10, 10.25), (30, 25, 40, 30),
    ]  # fmt: skip
    assert small.objects[0].box == (1, 1, 11.25, 11)
    assert [item.mask for item in (*sample.objects, *sample.parts)] == [None] * 3
    assert [item.parent for item in sample.parts] == [0, -1]
    (targets,) = Collate()([sample]).targets
    assert (targets.objects.masks, targets.parts.masks) == (None, None), "the mask losses are off"
    assert targets.objects.boxes.tolist()[0] == pytest.approx([12.25 / 40, 12 / 30, 20.5 / 40, 20 / 30])


def test_pictures_of_two_splits_are_told(write_coco: Write, prepare_coco: Prepare) -> None:
    """Pictures 1 to 3 of both splits are made of the same pixels; of the second split one is broken, one another."""
    rows = [{"image_id": n, "category_id": 1, "segmentation": BOX} for n in range(1, 4)]
    source = write_coco(rows, [{"id": 1, "name": "car"}], pictures=3)
    other = write_coco(rows, [{"id": 1, "name": "car"}], pictures=3, split="val", folder="other")
    shutil.copy(other / "val.json", source)
    shutil.copytree(other / "images/val", source / "images/val")
    (source / "images/train/1.png").write_bytes(b"")
    (source / "images/val/1.png").write_bytes(b"")
    shutil.move(source / "images/val/2.png", source / "images/val/x.png")
    Image.new("RGB", (40, 30)).save(source / "images/val/2.png")
    report, _ = prepare_coco(source)
    assert report["pictures_in_two_splits"] == [{"splits": ["train", "val"], "count": 1, "first": ["train/3.png"]}]
    Image.new("RGB", (40, 30), "red").save(source / "images/val/3.png")
    assert prepare_coco(source)[0]["pictures_in_two_splits"] == []


@pytest.mark.parametrize(("first", "second"), [("Stra\u00dfe", "strasse"), ("caf\u00e9", "cafe\u0301")])
def test_names_that_cannot_stand_together_are_told(
    write_coco: Write, prepare_coco: Prepare, first: str, second: str
) -> None:
    rows = [{"category_id": number, "segmentation": BOX} for number in (1, 2)]
    source = write_coco(rows, [{"id": 1, "name": first}, {"id": 2, "name": second}])
    with pytest.raises(
        UserError, match=r"set has names that cannot stand together: object '.*' stands twice"
    ) as caught:
        prepare_coco(source)
    assert caught.value.code == DATA


def test_a_prepared_set_can_be_prepared_from(dogs: Path, prepare_coco: Prepare) -> None:
    """Edited or not, a prepared set is a source like any other; masks, names, ids and parents stay as they are."""
    report, folder = prepare_coco(dogs)
    one = json.loads((folder / "train.json").read_text())
    folder.rename(folder.with_name("first"))
    again, folder = prepare_coco(folder.with_name("first"), strict=True)
    two = json.loads((folder / "train.json").read_text())
    assert two["annotations"] == one["annotations"]
    assert two["images"] == one["images"]
    assert two["info"] == one["info"]
    keys = ("id", "name", "parent_id", "part_name")
    names = [[[row.get(key) for key in keys] for row in content["categories"]] for content in (one, two)]
    assert names[0] == names[1]
    assert again["fingerprint"] == report["fingerprint"]
    assert again["splits"]["train"]["parents"] == {**report["splits"]["train"]["parents"], "stated": 2, "by_mask": 0}


def _slice(source: Path, target: Path, pictures: int) -> dict[str, dict[str, Any]]:
    """The first pictures of a real set, with their annotations, as a set of its own."""
    contents = {}
    for split in ("train", "val"):
        content = json.loads((source / f"{split}.json").read_text())
        content["images"] = content["images"][:pictures]
        kept = {image["id"] for image in content["images"]}
        content["annotations"] = [row for row in content["annotations"] if row["image_id"] in kept]
        for image in content["images"]:
            path = target / "images" / image["file_name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / "images" / image["file_name"], path)
        (target / f"{split}.json").write_text(json.dumps(content))
        contents[split] = content
    return contents


@pytest.mark.parametrize(
    ("name", "options", "union"),
    [
        ("car_parts", {"object_name": "car"}, True),
        ("face_parts", {}, False),
        ("ade20k_part_234_subset", {}, False),
        ("facade_parts", {"tree": "facade:window,balcony fence,shop"}, False),
    ],
)
def test_counts_of_real_data_equal_independent_counts(
    shared_data: Path, tmp_path: Path, prepare_coco: Prepare, name: str, options: dict[str, Any], union: bool
) -> None:
    contents = _slice(shared_data / name, tmp_path / name, pictures=12)
    if "tree" in options:
        options = {"tree": Vocabulary.from_dict({"facade": {"window": None, "balcony fence": None, "shop": None}})}
    report, folder = prepare_coco(tmp_path / name, union=union, **options)
    for split, content in contents.items():
        made = COCO(folder / f"{split}.json")
        made_objects = sum(row["parent_id"] is None and made.cats[row["category_id"]]["parent_id"] is None
                           for row in made.anns.values())  # fmt: skip
        pictures_with_parts = len({row["image_id"] for row in content["annotations"]})
        assert len(made.anns) == len(content["annotations"]) + (pictures_with_parts if union else 0)
        assert report["splits"][split]["objects"] == made_objects
        spelt = {row["id"]: row["name"] for row in content["categories"]}
        expected = Counter(spelt[row["category_id"]] for row in content["annotations"])
        found = Counter(made.cats[row["category_id"]]["source_name"] for row in made.anns.values())
        if union:
            assert found.pop("car") == pictures_with_parts
        assert found == expected
        for row in made.anns.values():
            if row["parent_id"] is not None:
                parent = made.anns[row["parent_id"]]
                assert parent["image_id"] == row["image_id"]
                assert parent["category_id"] == made.cats[row["category_id"]]["parent_id"]
