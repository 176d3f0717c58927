import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from langhops_cli.data import masks
from langhops_cli.data.index import open_rows
from langhops_cli.data.records import Role
from langhops_cli.data.rows import CategoryNumbers, Fingerprint, to_row
from langhops_cli.data.verify import CheckedInstance, CheckedPicture
from langhops_cli.data.writer import SplitWriter, category_names, file_hash

ROLES: list[Role] = [("dog", None), ("cat", None), ("dog", "head")]
CATEGORIES: list[dict[str, Any]] = [
    {"id": 1, "name": "dog", "source_name": "Dog", "parent_id": None},
    {"id": 3, "name": "dog head", "part_name": "head", "source_name": "head", "supercategory": "dog", "parent_id": 1},
]


def _mask(left: int, top: int, right: int, bottom: int) -> CheckedInstance:
    mask = np.zeros((30, 40), np.uint8)
    mask[top:bottom, left:right] = 1
    rle = masks.encode(mask)
    return CheckedInstance(ROLES[0], rle["counts"], masks.box_xyxy(rle), masks.area(rle), -1, False)


def _picture(number: int, *items: CheckedInstance, checked: tuple[Role, ...] | None = None) -> CheckedPicture:
    return CheckedPicture(number, f"größe/{number}.png", 40, 30, items, checked)


DOG = _mask(2, 2, 20, 20)
HEAD = CheckedInstance(ROLES[2], DOG.counts, DOG.box, DOG.area, 1, False)
BOX = CheckedInstance(ROLES[0], "", (0.5, 1, 10, 9.25), 78, -1, True)


def _write(folder: Path, *pictures: CheckedPicture, **options: Any) -> str:
    folder.mkdir(exist_ok=True)
    settings = {"image_root": Path("/pictures"), "exhaustive": True, **options}
    with SplitWriter(folder, "train", numbers=CategoryNumbers(ROLES), **settings) as writer:
        for picture in pictures:
            writer.add(picture)
        return writer.finish(CATEGORIES, title="dogs, train", version=2)


def test_the_json_opens_in_coco_and_says_what_was_written(tmp_path: Path) -> None:
    _write(tmp_path, _picture(7, BOX, DOG, HEAD), _picture(2), _picture(9, DOG, checked=(ROLES[0], ROLES[2])))
    coco = COCO(tmp_path / "train.json")
    assert coco.dataset["info"] == {
        "description": "dogs, train", "format": 2, "exhaustive": True, "image_root": "/pictures",
    }  # fmt: skip
    assert coco.dataset["categories"] == CATEGORIES
    assert coco.dataset["images"] == [
        {"id": 7, "file_name": "größe/7.png", "width": 40, "height": 30},
        {"id": 2, "file_name": "größe/2.png", "width": 40, "height": 30},
        {"id": 9, "file_name": "größe/9.png", "width": 40, "height": 30, "checked_category_ids": [1, 3]},
    ]
    box, dog, head, last = coco.dataset["annotations"]
    assert [row["id"] for row in coco.dataset["annotations"]] == [1, 2, 3, 4]
    assert box == {
        "id": 1, "image_id": 7, "category_id": 1, "parent_id": None, "area": 78, "bbox": [0.5, 1, 9.5, 8.25],
        "iscrowd": 1,
    }  # fmt: skip
    assert (head["category_id"], head["parent_id"], dog["parent_id"]) == (3, 2, None)
    assert (last["image_id"], last["bbox"], last["area"]) == (9, [2, 2, 18, 18], 324)
    assert coco.annToMask(dog).sum() == 324


def test_the_index_has_one_row_a_picture(tmp_path: Path) -> None:
    pictures = [
        _picture(7, BOX, DOG, HEAD),
        _picture(2),
        _picture(9, DOG, checked=(ROLES[1],)),
        _picture(10, checked=()),
    ]
    mark = _write(tmp_path, *pictures)
    rows = open_rows(tmp_path, "train")
    assert [rows[place] for place in range(4)] == [to_row(picture, CategoryNumbers(ROLES)) for picture in pictures]
    assert rows[0] == {
        "image_id": 7,
        "file_name": "größe/7.png",
        "width": 40,
        "height": 30,
        "category": [1, 1, 3],
        "counts": ["", DOG.counts, DOG.counts],
        "box": [[0.5, 1, 10, 9.25], [], []],
        "parent": [-1, -1, 1],
        "crowd": [True, False, False],
        "checked": None,
    }
    assert [row["checked"] for row in rows] == [None, None, [2], []], "searched for nothing is not the same as unknown"
    meta = json.loads((tmp_path / "index/train/meta.json").read_text())
    assert meta == {
        "exhaustive": True,
        "image_root": "/pictures",
        "categories": [[1, "dog", None], [3, "dog", "head"]],
        "fingerprint": mark,
        "sha256": file_hash(tmp_path / "train.json"),
    }


def test_nothing_but_the_set_is_left(tmp_path: Path) -> None:
    _write(tmp_path, _picture(7, DOG))
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["index/train/meta.json", "index/train/rows.arrow", "train.json"]


def test_more_pictures_than_are_held_are_written(tmp_path: Path) -> None:
    _write(tmp_path, *(_picture(number, DOG) for number in range(1, 700)))
    assert [image["id"] for image in json.loads((tmp_path / "train.json").read_text())["images"]] == [*range(1, 700)]
    assert len(open_rows(tmp_path, "train")) == 699


def test_a_split_without_pictures_is_written(tmp_path: Path) -> None:
    _write(tmp_path)
    content = json.loads((tmp_path / "train.json").read_text())
    assert (content["images"], content["annotations"]) == ([], [])
    assert len(open_rows(tmp_path, "train")) == 0


def test_the_fingerprint_is_over_all_that_training_reads_but_the_place(tmp_path: Path) -> None:
    mark = _write(tmp_path / "one", _picture(7, DOG, BOX))
    assert _write(tmp_path / "two", _picture(7, DOG, BOX), image_root=Path("/moved")) == mark
    others = [
        _write(tmp_path / "three", _picture(7, DOG, BOX), exhaustive=False),
        _write(tmp_path / "four", _picture(7, BOX, DOG)),
        _write(tmp_path / "five", _picture(8, DOG, BOX)),
        _write(tmp_path / "six", _picture(7, DOG, BOX, checked=())),
        _write(tmp_path / "seven", _picture(7, DOG, BOX), _picture(8)),
    ]
    assert len({mark, *others}) == 6


def test_the_fingerprint_knows_where_entries_end() -> None:
    marks = []
    for entries in (["ab", "c"], ["a", "bc"], ["abc"], [[1], [2]], [[1, 2]]):
        fingerprint = Fingerprint()
        for entry in entries:
            fingerprint.add(entry)
        marks.append(str(fingerprint))
    assert len(set(marks)) == 5


def test_an_error_while_writing_closes_the_files(tmp_path: Path) -> None:
    writer = SplitWriter(tmp_path, "train", image_root=Path("/x"), exhaustive=True, numbers=CategoryNumbers(ROLES))
    writer.add(_picture(1, DOG))
    with pytest.raises(KeyboardInterrupt), writer:
        raise KeyboardInterrupt
    assert writer._images_file.closed
    assert writer._annotations_file.closed


def test_category_ids_are_given_in_order_and_kept() -> None:
    numbers = CategoryNumbers([("dog", None), ("dog", "head")])
    assert (numbers["dog", "head"], numbers["cat", None], numbers["dog", None], numbers["cat", None]) == (2, 3, 1, 3)


def test_categories_say_what_they_stand_for() -> None:
    assert category_names(CATEGORIES) == [(1, "dog", None), (3, "dog", "head")]
