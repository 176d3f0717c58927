import json
from pathlib import Path
from typing import Any

import pytest

from langhops_cli.data.formats.partglee_joint import joint_roles, read_partglee_joint
from langhops_cli.data.manifests import load_manifest
from langhops_cli.data.prepare import prepare
from langhops_cli.errors import UserError
from tests.data.coco_sources import blank, write_instances
from tests.data.reading import read_all


def _roles(*names: str) -> dict[str, tuple[str, str | None] | None]:
    roles, _ = joint_roles([{"id": number, "name": name} for number, name in enumerate(names)])
    return {name: roles[number][0] if number in roles else None for number, name in enumerate(names)}


def _square(left: int, top: int, side: int) -> list[list[int]]:
    return [[left, top, left + side, top, left + side, top + side, left, top + side]]


def test_names_with_separators_tell_objects_and_parts() -> None:
    names = ["chest of drawers's leg", "dog:head", "dog", "Chest_of_Drawers", "horse buggy", "horse", "cat's ear"]
    assert _roles(*names) == {
        "chest of drawers's leg": ("chest of drawers", "leg"),
        "dog:head": ("dog", "head"),
        "dog": ("dog", None),
        "Chest_of_Drawers": ("chest of drawers", None),
        "horse buggy": ("horse buggy", None),
        "horse": ("horse", None),
        "cat's ear": None,
    }


def test_first_words_tell_parts_only_where_nothing_else_does() -> None:
    names = ["Quadruped", "Quadruped Head", "Car", "Car Tier", "Carriage", "Car Tier Rim"]
    assert _roles(*names) == {
        "Quadruped": ("quadruped", None),
        "Quadruped Head": ("quadruped", "head"),
        "Car": ("car", None),
        "Car Tier": ("car", "tire"),
        "Carriage": ("carriage", None),
        "Car Tier Rim": ("car", "tier rim"),
    }


def test_no_parent_is_wrong_over_the_authentic_names(shared_data: Path) -> None:
    paco = json.loads((shared_data / "authentic_annotations/paco_category_info.json").read_text())
    lvis = json.loads((shared_data / "authentic_annotations/lvis_val_100.json").read_text())["categories"]
    coco = json.loads((shared_data / "coco_sample/annotations/instances_val2017.json").read_text())["categories"]
    names = list(dict.fromkeys(row["name"] for row in [*paco, *lvis, *coco]))
    found = _roles(*names)
    assert len(names) > 1700
    for name in names:
        owner, colon, part = name.partition(":")
        expected = " ".join(owner.replace("_", " ").lower().split()), part.replace("_", " ") if colon else None
        assert found[name] == expected


def test_parents_come_from_names_and_masks(tmp_path: Path) -> None:
    names = {1: "dog", 2: "dog's head", 3: "cat", 4: "cat:head", 5: "ghost's hand"}
    rows = [
        {"category_id": 1, "segmentation": _square(0, 0, 14)},
        {"category_id": 1, "segmentation": _square(20, 0, 14)},
        {"category_id": 3, "segmentation": _square(18, 0, 18)},
        {"category_id": 2, "segmentation": _square(22, 2, 4)},
        {"category_id": 2, "segmentation": _square(2, 2, 4)},
        {"category_id": 4, "segmentation": _square(22, 2, 4)},
        {"category_id": 4, "segmentation": _square(2, 20, 4)},
        {"category_id": 5, "segmentation": _square(2, 20, 4)},
    ]
    write_instances(tmp_path / "train.json", names, [{"file_name": "a/1.png"}], rows)
    blank(tmp_path / "images" / "a" / "1.png")
    records = read_partglee_joint(tmp_path)
    assert records.remarks == ["train: left out, name that parses to no object: ghost's hand"]
    assert read_all(records).drops.counts == {"name that parses to no object": 1}
    report, _ = prepare(lambda _: read_partglee_joint(tmp_path), tmp_path / "set", inputs={}, workers=1)
    counts = report["splits"]["train"]
    assert (counts["objects"], counts["parts"], counts["exhaustive"]) == (3, 4, False)
    assert counts["parents"] == {"stated": 0, "by_mask": 3, "by_union": 0, "unknown": 1, "stated_but_wrong": 0}
    written = json.loads((tmp_path / "set" / "train.json").read_text())
    boxes = {row["id"]: row["bbox"] for row in written["annotations"]}
    named = {row["id"]: row["name"] for row in written["categories"]}
    pairs = [
        (named[row["category_id"]], row["bbox"][0], row["parent_id"] and boxes[row["parent_id"]][0])
        for row in written["annotations"]
        if row["category_id"] and " " in named[row["category_id"]]
    ]
    assert pairs == [("dog head", 22, 20), ("dog head", 2, 0), ("cat head", 22, 18), ("cat head", 2, None)]


def test_parts_by_first_words_are_told(tmp_path: Path) -> None:
    names = {1: "Quadruped", 2: "Quadruped Head", 3: "Fish Fin"}
    write_instances(tmp_path / "val.json", names, [{"file_name": "1.png"}], [])
    blank(tmp_path / "1.png")
    records = read_partglee_joint(tmp_path)
    assert records.tree == {"quadruped": {"head": None}, "fish fin": {}}
    assert records.remarks == ["val: taken as parts by their first words: Quadruped Head (of quadruped)"]


@pytest.mark.parametrize(
    ("info", "option", "expected"),
    [({}, None, False), ({"exhaustive": True}, None, True), ({"exhaustive": True}, False, False), ({}, True, True)],
)
def test_what_is_annotated_is_as_told(
    tmp_path: Path, info: dict[str, Any], option: bool | None, expected: bool
) -> None:
    write_instances(tmp_path / "train.json", {1: "dog"}, [{"file_name": "1.png"}], [], info=info)
    blank(tmp_path / "1.png")
    (split,) = read_partglee_joint(tmp_path, exhaustive=option).splits
    assert split.exhaustive is expected


def test_files_and_pictures_may_be_named(tmp_path: Path) -> None:
    write_instances(tmp_path / "joint_list.json", {1: "dog"}, [{"file_name": "1.png"}], [])
    blank(tmp_path / "elsewhere" / "1.png")
    with pytest.raises(UserError, match="--train"):
        read_partglee_joint(tmp_path)
    with pytest.raises(UserError, match=r"joint_list.json \(such as 1.png\).*--images"):
        read_partglee_joint(tmp_path, val=tmp_path / "joint_list.json")
    options = {"val": tmp_path / "joint_list.json", "images": tmp_path / "elsewhere"}
    (split,) = read_partglee_joint(tmp_path, **options).splits
    assert (split.name, split.image_root) == ("val", tmp_path / "elsewhere")
    (tmp_path / "joint_list.json").write_text('{"images": [')
    with pytest.raises(UserError, match=r"joint_list.json is no JSON"):
        read_partglee_joint(tmp_path, **options)


def test_manifest_is_of_the_users_own_data() -> None:
    manifest = load_manifest("partglee-joint")
    assert (manifest.kind, manifest.files) == ("own", [])
