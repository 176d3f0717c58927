import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from langhops_cli.data.formats.visual_genome import free_name, read_visual_genome
from langhops_cli.data.manifests import load_manifest
from langhops_cli.data.prepare import prepare
from langhops_cli.errors import UserError
from tests.data.coco_sources import blank, write_instances, write_json
from tests.data.reading import read_all

URL = "https://cs.stanford.edu/people/rak248/{}/{}.jpg"


def _image(number: int, folder: str = "VG_100K") -> dict[str, Any]:
    return {"image_id": number, "url": URL.format(folder, number), "width": 40, "height": 30, "coco_id": None}


def _object(number: object, *names: object, box: tuple[float, float, float, float] = (2, 3, 10, 20)) -> dict[str, Any]:
    left, top, width, height = box
    return {
        "object_id": number, "names": list(names), "x": left, "y": top, "w": width, "h": height,
        "synsets": ["tree.n.01"], "merged_object_ids": [],
    }  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three pictures in the two folders, one of them not in the list of objects."""
    folder = tmp_path / "vg"
    write_json(folder / "image_data.json", [_image(1, "VG_100K_2"), _image(2), _image(5)])
    entries = [
        {
            "image_id": 2,
            "image_url": URL.format("VG_100K", 2),
            "objects": [_object(7, "Trees."), _object(8, "man", "guy")],
        },
        {"image_id": 1, "objects": [_object(9, "the_clock ", box=(-5, 25, 20, 20))]},
    ]
    write_json(folder / "objects.json", entries)
    blank(folder / "VG_100K_2" / "1.jpg")
    blank(folder / "VG_100K" / "2.jpg")
    return folder


def test_objects_are_boxes_under_their_first_names(source: Path, tmp_path: Path) -> None:
    records = read_visual_genome(source)
    (split,) = records.splits
    assert (split.name, split.total, split.exhaustive, split.image_root) == ("train", 2, False, source)
    # It goes to other processes.
    assert pickle.loads(pickle.dumps(records.splits[0].read))
    reading = read_all(records)
    assert [picture.annotations for picture in reading.pictures] == [2, 1]
    assert {
        name: [(item.id, item.object, item.box) for item in items] for name, items in reading.by_picture.items()
    } == {
        "VG_100K/2.jpg": [(7, "trees", (2, 3, 12, 23)), (8, "man", (2, 3, 12, 23))],
        "VG_100K_2/1.jpg": [(9, "the clock", (0, 25, 15, 30))],
    }
    assert all(item.rle is None and item.part is None for item in reading.instances)
    report, _ = prepare(lambda _: read_visual_genome(source), tmp_path / "set", inputs={}, workers=1)
    counts = report["splits"]["train"]
    assert (counts["images"], counts["objects"], counts["boxes_without_masks"], counts["dropped"]) == (2, 3, 3, [])
    assert report["instances_by_name"] == {"trees": 1, "man": 1, "the clock": 1}


def test_pictures_can_be_gone_through_again(source: Path) -> None:
    (split,) = read_visual_genome(source).splits
    assert list(split.pictures()) == list(split.pictures())


@pytest.mark.parametrize("folder", ["", "images", "images/VG_100K_2"])
def test_usual_layouts_are_found(source: Path, tmp_path: Path, folder: str) -> None:
    other = tmp_path / "other"
    for name in ("objects.json", "image_data.json"):
        write_json(other / "annotations" / name, json.loads((source / name).read_text()))
    blank(other / folder / "1.jpg")
    names = {picture.id: picture.file_name for picture in read_visual_genome(other).splits[0].pictures()}
    assert names[1] == ("VG_100K_2/1.jpg" if "VG" in folder else "1.jpg")


def test_what_cannot_be_used_is_dropped_with_its_reason(source: Path, tmp_path: Path) -> None:
    objects = [
        _object(1, "dog"), _object(1, "cat"), _object(2), _object(3, "  . "), _object(4, "*"), _object(5, 17),
        _object("6", "dog"), 7, _object(8, "cow", box=(1, 1, 0, 5)), _object(9, "cow", box=(1, 1, float("nan"), 5)),
        _object(10, "a\x07b"), {**_object(11), "names": None, "name": "Bench"}, {"object_id": 12, "names": ["x"]},
    ]  # fmt: skip
    entries = [{"image_id": 2, "objects": objects}, {"image_id": 2, "objects": []}, {"image_id": 77, "objects": [1]}]
    write_json(source / "objects.json", entries)
    records = read_visual_genome(source)
    reading = read_all(records)
    assert [(item.id, item.object) for item in reading.instances] == [(1, "dog"), (11, "bench")]
    assert reading.drops.counts == {
        "object id that stands twice": 1,
        "object without a name": 5,
        "object without an id": 2,
        "box without a pixel inside the picture": 1,
        "box with coordinates that are no numbers": 2,
        "picture that stands twice": 1,
        "picture that is not in image_data.json": 1,
    }
    assert reading.drops.first["picture that is not in image_data.json"] == ["77"]
    report, _ = prepare(lambda _: read_visual_genome(source), tmp_path / "set", inputs={}, workers=1)
    assert {row["reason"]: row["count"] for row in report["splits"]["train"]["dropped"]} == reading.drops.counts


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("A Tree.", "a tree"),
        ('"stop" sign', 'stop" sign'),
        ("jack-o'-lantern", "jack-o'-lantern"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("cafe\u0301", "caf\u00e9"),
        ("number_7", "number 7"),
        ("---", ""),
        ("*", ""),
        (None, ""),
        (["tree"], ""),
        ("a\x00b", ""),
    ],
)
def test_typed_names_are_cleaned(typed: object, name: str) -> None:
    assert free_name(typed) == name


def test_relationships_make_no_parts(source: Path) -> None:
    relation = {"predicate": "has", "relationship_id": 1, "subject": _object(8, "man"), "object": _object(7, "Trees.")}
    write_json(source / "relationships.json", [{"image_id": 2, "relationships": [relation]}])
    assert all(item.part is None for item in read_all(read_visual_genome(source)).instances)


def test_the_list_in_cocos_form_is_read_where_there_is_no_other(tmp_path: Path) -> None:
    rows = [
        {"category_id": 1, "bbox": [2, 3, 10, 20], "object_name": "Front Wheel", "iscrowd": 0},
        {"category_id": 2, "bbox": [2, 3, 10, 20]},
        {"category_id": 9, "bbox": [2, 3, 10, 20]},
        {"category_id": {}, "bbox": [2, 3, 10, 20], "object_name": ""},
    ]
    write_instances(
        tmp_path / "annotations/train_from_objects.json", {1: "object", 2: "Tree."}, [{"file_name": "7.jpg"}], rows
    )
    blank(tmp_path / "images" / "7.jpg")
    records = read_visual_genome(tmp_path)
    reading = read_all(records)
    assert [(item.object, item.box) for item in reading.instances] == [
        ("front wheel", (2, 3, 12, 23)),
        ("tree", (2, 3, 12, 23)),
    ]
    assert reading.drops.counts == {"object without a name": 2}
    assert (records.splits[0].name, records.splits[0].exhaustive) == ("train", False)


def test_wrong_turns_are_told_in_a_line_that_names_the_file(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"objects.json.*prepare visual-genome --describe"):
        read_visual_genome(tmp_path)
    (source / "VG_100K").rename(tmp_path / "VG_100K")
    (source / "VG_100K_2").rename(tmp_path / "VG_100K_2")
    with pytest.raises(UserError, match=r"image_data.json.*VG_100K_2/1.jpg.*--images"):
        read_visual_genome(source)
    assert read_visual_genome(source, images=tmp_path).splits[0].image_root == tmp_path
    text = (source / "objects.json").read_text()
    for broken, message in (
        (text[:-40], r"objects\.json is no JSON"),
        ('[{"image_id": 1}]', r"objects\.json: entry 0"),
    ):
        (source / "objects.json").write_text(broken)
        with pytest.raises(UserError, match=message):
            read_visual_genome(source, images=tmp_path)
    (source / "objects.json").write_text("{}")
    with pytest.raises(UserError, match=r"objects.json holds no list"):
        read_visual_genome(source, images=tmp_path)
    write_json(source / "image_data.json", [_image(1), {"image_id": 2}])
    with pytest.raises(UserError, match=r"image_data.json: entry 1"):
        read_visual_genome(source, images=tmp_path)
    (source / "image_data.json").unlink()
    with pytest.raises(UserError, match=r"lacks image_data.json"):
        read_visual_genome(source, images=tmp_path)


def test_an_address_that_climbs_out_is_refused(source: Path) -> None:
    write_json(source / "image_data.json", [{**_image(1), "url": "http://host/../1.jpg"}])
    with pytest.raises(UserError, match="leads out"):
        read_visual_genome(source)


def test_manifest_names_the_files_that_are_read() -> None:
    paths = {file.path for file in load_manifest("visual-genome").files}
    assert {"objects.json.zip", "image_data.json.zip", "images.zip", "images2.zip"} == paths
