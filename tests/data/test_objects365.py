import pickle
from pathlib import Path
from typing import Any

import pytest

from langhops_cli.data.formats import coco_family
from langhops_cli.data.formats.objects365 import MENDED, mend, read_objects365
from langhops_cli.data.manifests import load_manifest
from langhops_cli.data.prepare import prepare
from langhops_cli.errors import UserError
from tests.data.coco_sources import SQUARE, blank, write_instances
from tests.data.reading import read_all

NAMES = {1: "Person", 13: "Cabinet/shelf", 26: "Potted Plant", 38: "Moniter/TV", 309: "Formula 1 "}
NAME = "images/v1/patch8/objects365_v1_00420917.jpg"
BARE = NAME.rsplit("/", 1)[1]


def _box(category: int, left: float, top: float, width: float, height: float, **flags: int) -> dict[str, Any]:
    zeros = {"iscrowd": 0, "isfake": 0, "isreflected": 0}
    return {"category_id": category, "bbox": [left, top, width, height], "area": width * height, **zeros, **flags}


def test_boxes_are_read_with_their_flags(tmp_path: Path) -> None:
    rows = [
        _box(1, 2, 3, 10, 20),
        _box(13, 0, 0, 80, 30),
        _box(38, 5, 5, 10, 10, iscrowd=1),
        _box(26, 5, 5, 10, 10, isfake=1),
        _box(1, 5, 5, 10, 10, isreflected=1),
        _box(1, 50, 3, 10, 20),
        _box(1, 5, 5, float("nan"), 10),
        {"category_id": 1, "bbox": None, "segmentation": SQUARE},
        {"category_id": 99, "bbox": [1, 1, 5, 5]},
        {**_box(309, 20, 10, 5, 5), "segmentation": []},
    ]
    write_instances(tmp_path / "zhiyuan_objv2_train.json", NAMES, [{"file_name": NAME}], rows)
    blank(tmp_path / "train" / "patch8" / BARE)
    records = read_objects365(tmp_path)
    # It goes to other processes.
    assert pickle.loads(pickle.dumps(records.splits[0].read))
    reading = read_all(records)
    assert records.splits[0].exhaustive
    assert [(item.id, item.object, item.box, item.crowd) for item in reading.instances] == [
        (1, "person", (2, 3, 12, 23), False),
        (2, "cabinet/shelf", (0, 0, 40, 30), False),
        (3, "monitor/tv", (5, 5, 15, 15), True),
        (4, "potted plant", (5, 5, 15, 15), False),
        (5, "person", (5, 5, 15, 15), False),
        (10, "formula 1", (20, 10, 25, 15), False),
    ]
    assert all(item.rle is None and item.part is None for item in reading.instances)
    assert reading.drops.counts == {
        "box without a pixel inside the picture": 1,
        "box with coordinates that are no numbers": 1,
        "no mask and no box": 1,
        "unknown category": 1,
    }
    report, _ = prepare(lambda _: read_objects365(tmp_path), tmp_path / "set", inputs={}, workers=1)
    assert report["splits"]["train"]["boxes_without_masks"] == report["splits"]["train"]["objects"] == 6


@pytest.mark.parametrize(
    ("annotations", "split", "picture"),
    [
        ("zhiyuan_objv2_train.json", "train", f"train/patch8/{BARE}"),
        ("annotations/zhiyuan_objv2_val.json", "val", f"val/images/v1/patch8/{BARE}"),
        ("annotations/zhiyuan_objv2_val.json", "val", f"val/v1/patch8/{BARE}"),
        ("val/zhiyuan_objv2_val.json", "val", f"val/patch8/{BARE}"),
        ("annotations/zhiyuan_objv2_val.json", "val", f"images/val/{BARE}"),
        ("data/train/zhiyuan_objv2_train.json", "train", f"data/train/images/v1/patch8/{BARE}"),
        ("zhiyuan_objv2_train.json", "train", NAME),
    ],
)
def test_usual_layouts_are_found(tmp_path: Path, annotations: str, split: str, picture: str) -> None:
    rows = [{"file_name": "images/v2/patch16/objects365_v2_00908726.jpg"}, {"file_name": NAME}]
    write_instances(tmp_path / annotations, NAMES, rows, [])
    blank(tmp_path / picture)
    (found,) = read_objects365(tmp_path).splits
    _, second = found.pictures()
    assert found.name == split
    assert found.image_root / second.file_name == tmp_path / picture


def test_pictures_are_looked_for_only_until_one_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"file_name": f"images/v1/patch{number % 50}/{number}.jpg"} for number in range(2000)]
    write_instances(tmp_path / "zhiyuan_objv2_train.json", NAMES, rows, [])
    blank(tmp_path / "train" / "patch3" / "3.jpg")
    asked = []

    def isfile(path: str | Path) -> bool:
        asked.append(path)
        return Path(path).is_file()

    monkeypatch.setattr(coco_family.os.path, "isfile", isfile)
    (split,) = read_objects365(tmp_path).splits
    assert 0 < len(asked) < 200
    names = [picture.file_name for picture in split.pictures()]
    assert names[3:] == [f"patch{number % 50}/{number}.jpg" for number in range(3, 2000)]


def test_names_are_the_365_of_the_manifest() -> None:
    manifest = load_manifest("objects365")
    names = list(manifest.vocabulary)
    assert len(names) == len(set(names)) == manifest.objects == 365
    assert names[0] == mend("Person")
    assert names[12] == mend("Cabinet/shelf") == "cabinet/shelf"
    assert names[37] == mend("Moniter/TV") == "monitor/tv"
    assert names[364] == mend("Table Tennis ") == "table tennis"
    assert set(MENDED.values()) <= set(names)
    assert not set(MENDED) & set(names)
    assert all(not parts for parts in manifest.vocabulary.values())


def test_wrong_turns_are_told_in_a_line_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"zhiyuan_objv2_train.json.*prepare objects365 --describe"):
        read_objects365(tmp_path)
    path = tmp_path / "zhiyuan_objv2_val.json"
    write_instances(path, NAMES, [{"file_name": NAME}], [])
    with pytest.raises(UserError, match=r"zhiyuan_objv2_val.json.*patch8.*--images"):
        read_objects365(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    blank(elsewhere / "val" / "patch8" / BARE)
    assert read_objects365(tmp_path, images=elsewhere).splits[0].image_root == elsewhere / "val"
    assert read_objects365(tmp_path, images=elsewhere / "val").splits[0].image_root == elsewhere / "val"
    path.write_text(path.read_text()[:-30])
    with pytest.raises(UserError, match=r"zhiyuan_objv2_val.json is no JSON"):
        read_objects365(tmp_path)
    for name in ("../../etc/passwd", None, 3):
        write_instances(path, NAMES, [{"file_name": name}], [])
        with pytest.raises(UserError, match=r"zhiyuan_objv2_val.json.*file_name"):
            read_objects365(tmp_path)
