import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from langhops_cli.data import prepare as module
from langhops_cli.data.formats.coco_parts import read_coco_parts
from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.prepare import prepare, prepared_folder, source_digest, written_beside
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


def test_running_again_changes_nothing_until_something_changed(dogs: Path, tmp_path: Path) -> None:
    def run(**options: Any) -> bool:
        records = read_coco_parts(dogs, **options)
        return prepare(lambda _: records, tmp_path / "set", inputs={"source": source_digest(records)})[1]

    assert run() is True
    before = _files(tmp_path / "set")
    assert run() is False
    assert _files(tmp_path / "set") == before
    assert run(exhaustive=False) is True
    (dogs / "images/train/2.png").write_bytes(b"")
    assert run(exhaustive=False) is True
    assert json.loads((tmp_path / "set/report.json").read_text())["splits"]["train"]["images"] == 1


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
        "instance in a picture that was left out": ["2", "3", "4", "5"],
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


def test_nothing_usable_is_an_error_and_leaves_nothing(
    write_coco: Write, prepare_coco: Prepare, tmp_path: Path
) -> None:
    source = write_coco([{"category_id": 1, "segmentation": []}], [{"id": 1, "name": "car"}])
    with pytest.raises(UserError, match=r"no instance is left.*no mask: 1"):
        prepare_coco(source)
    source = write_coco([{"category_id": 1, "segmentation": BOX}], [{"id": 1, "name": "car"}], folder="second")
    (source / "images/train/1.png").write_bytes(b"x")
    with pytest.raises(UserError, match="none of the 1 pictures of train"):
        prepare_coco(source)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError("disk full")])
def test_an_interruption_leaves_the_old_set_and_nothing_half_done(
    dogs: Path, prepare_coco: Prepare, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    _, folder = prepare_coco(dogs)
    before = _files(folder)

    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(module, "build_vocabulary", fail)
    with pytest.raises(KeyboardInterrupt if fault is KeyboardInterrupt else OSError):
        prepare_coco(dogs, exhaustive=False)
    assert _files(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["set"]


def test_what_a_killed_run_left_is_cleared_and_a_moved_set_put_back(tmp_path: Path) -> None:
    dead = 2**22 + 12345  # beyond the largest process number
    (tmp_path / f".set.partial-{dead}").mkdir()
    (tmp_path / f".set.old-{dead}").mkdir()
    (tmp_path / f".set.old-{dead}" / "report.json").write_text("old")
    living = tmp_path / f".set.partial-{os.getppid()}"
    living.mkdir()
    with written_beside(tmp_path / "set") as partial:
        assert (tmp_path / "set" / "report.json").read_text() == "old"
        (partial / "report.json").write_text("new")
    assert (tmp_path / "set" / "report.json").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == [living.name, "set"]


def test_a_folder_of_other_things_is_not_replaced(dogs: Path, prepare_coco: Prepare, tmp_path: Path) -> None:
    (tmp_path / "data/set").mkdir(parents=True)
    (tmp_path / "data/set/diary.txt").write_text("dear diary")
    with pytest.raises(UserError, match="is no prepared set"):
        prepare_coco(dogs)
    assert (tmp_path / "data/set/diary.txt").read_text() == "dear diary"


def test_where_prepared_sets_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LANGHOPS_DATA", raising=False)
    assert prepared_folder(None, "cars") == Path("data/cars")
    monkeypatch.setenv("LANGHOPS_DATA", "/somewhere")
    assert prepared_folder(None, "cars") == Path("/somewhere/cars")
    assert prepared_folder(Path("x"), "cars") == Path("x/cars")
    for name in ("", "..", "a/b", ".hidden", "/etc"):
        with pytest.raises(UserError, match="cannot name a prepared set"):
            prepared_folder(None, name)


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
