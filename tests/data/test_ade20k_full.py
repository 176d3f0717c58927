"""Full ADE20K: authentic pictures against the dataset's own segmentation maps, and files with every kind of fault."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from langhops_cli.data.formats.ade20k_json import read_annotation, roles_of
from langhops_cli.data.formats.ade20k_part_234 import read_ade20k_part_234
from langhops_cli.data.manifests import load_manifest
from langhops_cli.data.prepare import prepare
from langhops_cli.data.records import Drops, Source
from langhops_cli.errors import UserError
from tests.data.reading import Reading, read_all

VOCABULARY = load_manifest("ade20k-part-234").vocabulary


@pytest.fixture(scope="module")
def sample(request: pytest.FixtureRequest) -> Path:
    shared_data: Path = request.getfixturevalue("shared_data")
    return shared_data / "ade20k_raw_sample/dataset"


@pytest.fixture(scope="module")
def source(sample: Path) -> Source:
    return read_ade20k_part_234(sample, zero_shot=False)


@pytest.fixture(scope="module")
def reading(source: Source) -> Reading:
    return read_all(source)


def only(sample: Path, tmp_path: Path, stem: str) -> Path:
    """A folder that holds one picture of the sample."""
    street = "ADE20K_2021_17_01/images/ADE/training/urban/street"
    (tmp_path / street).mkdir(parents=True)
    for path in (sample / street).glob(f"{stem}*"):
        (tmp_path / street / path.name).symlink_to(path)
    return tmp_path


def rows_of(sample: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """The objects of each picture straight from the files."""
    found = {}
    for path in sorted(sample.rglob("*.json")):
        rows = json.loads(path.read_text("latin-1"))["annotation"]["object"]
        found[path.stem] = {row["id"]: row for row in rows}
    return found


def test_counts_of_the_sample_are_those_of_its_files(sample: Path, reading: Reading) -> None:
    wanted: Counter[str] = Counter()
    for rows in rows_of(sample).values():
        for row in rows.values():
            top = row
            while top["parts"]["ispartof"] != []:
                top = rows[top["parts"]["ispartof"]]
            owner, name = top["name"].split(",")[0], row["name"].split(",")[0]
            # What the benchmark puts together, by hand.
            name = {"windshield": "window", "left arm": "arm"}.get(name, name)
            if owner in VOCABULARY and (top is row or name in VOCABULARY[owner]):
                wanted[owner if top is row else f"{owner}'s {name}"] += 1
    found = Counter(item.object if item.part is None else f"{item.object}'s {item.part}" for item in reading.instances)
    assert found == wanted
    assert found["car"] > 10
    assert found["car's wheel"] >= 2
    assert found["van's window"] >= 2
    assert reading.drops.counts == {}


def test_objects_are_what_the_segmentation_map_shows(sample: Path, source: Source, reading: Reading) -> None:
    """The map numbers what is seen of every object; the masks of instances say hidden where a part lies on top."""
    checked = 0
    for name, items in reading.by_picture.items():
        path = source.splits[0].image_root / name
        segmented = np.asarray(Image.open(path.with_name(path.stem + "_seg.png"))).astype(np.int64) @ [65536, 256, 1]
        for item in items:
            if item.part is None:
                mask = coco_mask.decode(item.rle) > 0
                values, counts = np.unique(segmented[mask], return_counts=True)
                assert (mask == (segmented == values[counts.argmax()])).all(), (name, item.id)
                checked += 1
    assert checked > 30


def test_parts_belong_to_the_object_at_the_top(reading: Reading) -> None:
    for items in reading.by_picture.values():
        by_id = {item.id: item for item in items}
        for item in items:
            if item.part is not None:
                above = by_id[item.parent]
                assert above.object == item.object


def test_all_names_keep_parts_of_parts_as_a_tree(sample: Path, tmp_path: Path) -> None:
    source = read_ade20k_part_234(only(sample, tmp_path, "ADE_train_00016869"), all_names=True)
    assert source.tree["car"]["wheel"] is None
    assert source.tree["car"]["rim"] == "wheel"
    assert source.tree["car"]["window"] in (None, "door")
    assert source.source_names["car", None] == "car, auto, automobile, machine, motorcar"
    assert "building" in source.tree
    assert list(source.tree) == sorted(source.tree)
    assert source.kind == "ade20k-full"
    (items,) = read_all(source).by_picture.values()
    assert {item.id for item in items} == set(rows_of(sample)["ADE_train_00016869"])
    by_id = {item.id: item for item in items}
    assert (by_id[55].part, by_id[by_id[55].parent].part) == ("rim", "wheel")


def test_names_are_all_of_a_prepared_set(sample: Path, tmp_path: Path) -> None:
    source = only(sample, tmp_path / "one", "ADE_train_00016964")
    report, _ = prepare(lambda _: read_ade20k_part_234(source, zero_shot=False), tmp_path / "set", inputs={}, workers=1)
    split = report["splits"]["train"]
    assert report["kind"] == "ade20k-full"
    assert split["dropped"] == []
    assert split["images"] == 1
    assert split["parents"]["stated"] == split["parts"] > 0
    assert split["parents"]["stated_but_wrong"] == 0


def test_unseen_objects_of_training_pictures_belong_to_val(sample: Path, tmp_path: Path) -> None:
    source = read_ade20k_part_234(only(sample, tmp_path, "ADE_train_00016964"))
    assert [split.name for split in source.splits] == ["train", "val"]
    train, val = read_all(source, 0), read_all(source, 1)
    assert "van" not in {item.object for item in train.instances}
    assert {item.object for item in val.instances} <= {"van", "truck", "bus"}
    assert sum(item.object == "van" and item.part is None for item in val.instances) >= 2
    assert any("no fault" in remark for remark in source.remarks)


def entry(number: int, name: str, **more: Any) -> dict[str, Any]:
    above = more.pop("above", [])
    square = {"x": [2 + number, 12 + number, 12 + number, 2 + number], "y": [2, 2, 12, 12]}
    return {
        "id": number, "name": name, "name_ndx": more.pop("index", 1), "parts": {"ispartof": above}, "polygon": square,
        "instance_mask": more.pop("mask", None), **more,
    }  # fmt: skip


def write(tmp_path: Path, rows: Any, *, name: str = "ADE_train_00000001", raw: bytes | None = None) -> Path:
    folder = tmp_path / "full/ADE20K_2021_17_01/images/ADE/training/urban/street"
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(folder / f"{name}.jpg")
    content = {"annotation": {"imsize": [30, 40, 3], "object": rows}}
    (folder / f"{name}.json").write_bytes(json.dumps(content).encode() if raw is None else raw)
    return tmp_path / "full"


def test_a_missing_mask_is_drawn_from_its_outline(tmp_path: Path) -> None:
    rows = [
        entry(0, "car, auto", mask="nowhere.png"),
        entry(1, "car, auto", mask="../../../../../../../etc/passwd.png"),
        entry(2, "car, auto", mask=None),
        entry(3, "car, auto", polygon={"x": [1, 2], "y": [1]}),
        entry(4, "car, auto", polygon={"x": [1e12] * 4, "y": [1e12] * 4}),
    ]
    found = read_all(read_ade20k_part_234(write(tmp_path, rows)))
    assert [int(coco_mask.area(item.rle)) for item in found.instances] == [100, 100, 100]
    assert found.drops.counts == {
        "mask file missing or broken, outline taken, with what is hidden": 3,
        "no mask": 1,
        "polygon outside the picture": 1,
    }


def test_what_a_part_covers_belongs_to_its_object_and_what_else_hides_it_does_not(tmp_path: Path) -> None:
    car = np.zeros((30, 40), np.uint8)
    car[5:25, 5:35] = 255
    car[10:15, 5:10] = 128  # below its own wheel
    car[20:25, 30:35] = 128  # behind something else
    wheel = np.zeros((30, 40), np.uint8)
    wheel[10:15, 5:10] = 255
    source = write(tmp_path, [entry(0, "car", mask="a/car.png"), entry(1, "wheel", above=0, mask="a/wheel.png")])
    folder = next(source.rglob("*.jpg")).parent / "a"
    folder.mkdir()
    Image.fromarray(car).save(folder / "car.png")
    Image.fromarray(wheel).save(folder / "wheel.png")
    found = read_all(read_ade20k_part_234(source))
    assert {item.part: int(coco_mask.area(item.rle)) for item in found.instances} == {None: 600 - 25, "wheel": 25}
    assert found.drops.counts == {}


@pytest.mark.parametrize("above", [0, [0], [0, 7], 0.0])
def test_parents_are_numbers_or_lists(tmp_path: Path, above: Any) -> None:
    found = read_all(read_ade20k_part_234(write(tmp_path, [entry(0, "car"), entry(1, "wheel", above=above)])))
    assert [(item.part, item.parent) for item in found.instances] == [(None, None), ("wheel", 0)]


def test_chains_that_do_not_end_at_an_object_are_left_out(tmp_path: Path) -> None:
    rows = [
        entry(0, "car"), entry(1, "wheel", above=2), entry(2, "wheel", above=1), entry(3, "wheel", above=3),
        entry(4, "wheel", above=99), entry(5, "", above=0), entry(5, "wheel", above="nothing"),
        entry(6, "car"), entry(6, "car"), "no mapping", {"id": "7", "name": "car"}, {"id": 8},
        *(entry(100 + n, "wheel", above=99 + n if n else 0) for n in range(20)),
    ]  # fmt: skip
    drops = Drops()
    path = next(write(tmp_path, rows).rglob("*.json"))
    entries = read_annotation(path, drops).entries
    assert list(entries) == [0, 5, 6, *range(100, 107)]
    assert drops.counts == {
        "part that is a part of itself, or too deep": 3 + 13,
        "part of something that is not there": 1,
        "object without a name": 2,
        "annotation id that stands twice": 1,
        "object that is no mapping": 1,
        "annotation id that is no whole number": 1,
    }


def test_names_that_lie_in_each_other_make_no_endless_tree(tmp_path: Path) -> None:
    rows = [
        entry(0, "desk"), entry(1, "drawer", above=0), entry(2, "drawer", above=1),
        entry(3, "box", above=0), entry(4, "lid", above=3), entry(5, "lid", above=0), entry(6, "box", above=5),
        entry(7, "box", above=5), entry(8, "lid", above=3), entry(9, "*"),
    ]  # fmt: skip
    source = write(tmp_path, rows)
    full = read_ade20k_part_234(source, all_names=True, zero_shot=False)
    report, _ = prepare(lambda _: full, tmp_path / "set", inputs={}, workers=1)
    assert set(full.tree["desk"]) == {"drawer", "box", "lid"}
    assert report["names_without_instances"] == []
    assert report["part_names"] == 3


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{", b"null", b'{"annotation": {"object": 3}}', b"[" * 200_000, b'{"annotation": []}', b"\xff\xfe"],
)
def test_a_file_that_is_no_annotation_leaves_out_its_picture(tmp_path: Path, raw: bytes) -> None:
    write(tmp_path, [entry(0, "car")], name="ADE_train_00000002")
    source = write(tmp_path, [], raw=raw)
    report, _ = prepare(lambda _: read_ade20k_part_234(source), tmp_path / "set", inputs={}, workers=1)
    split = report["splits"]["train"]
    assert split["images"] == 1
    (row,) = (row for row in split["dropped"] if row["reason"] == "annotations that cannot be read")
    assert "ADE_train_00000001.json" in row["first_ids"][0]


def test_stray_bytes_and_control_characters_are_read(tmp_path: Path) -> None:
    text = json.dumps({"annotation": {"imsize": "?", "object": entry(0, "car, auto", note="caf\u00e9")}}, indent=None)
    raw = text.encode().replace(b"caf\\u00e9", b"caf\xe9\x07")
    source = write(tmp_path, [], raw=raw)
    found = read_all(read_ade20k_part_234(source))
    assert [item.object for item in found.instances] == ["car"]


def test_pictures_without_any_of_the_names_are_counted_and_not_taken(tmp_path: Path) -> None:
    write(tmp_path, [entry(0, "sky"), entry(1, "door", above=0)], name="ADE_train_00000002")
    (write(tmp_path, [entry(0, "car")]) / "ADE20K_2021_17_01/images/ADE/training/._ADE_train_1.jpg").write_bytes(b"\0")
    source = read_ade20k_part_234(tmp_path / "full")
    assert source.splits[0].total == 2
    assert any(remark.startswith("1 pictures show none") for remark in source.remarks)
    report, _ = prepare(lambda _: source, tmp_path / "set", inputs={}, workers=1)
    dropped = {row["reason"]: row["count"] for row in report["splits"]["train"]["dropped"]}
    assert dropped["macOS ._ file, no picture"] == 1
    assert report["splits"]["train"]["images"] == 1


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images/ADE/training").mkdir(parents=True)
    with pytest.raises(UserError, match="no picture"):
        read_ade20k_part_234(tmp_path)


def test_numbers_put_names_together_as_the_benchmark_does(tmp_path: Path) -> None:
    rows = [
        entry(0, "double door", index=783), entry(1, "door", index=774, above=0),
        entry(2, "person, individual"), entry(3, "left arm", index=1428, above=2), entry(4, "arm", index=54, above=3),
        entry(5, "closet", index=533), entry(6, "drawer", above=5), entry(7, "wheel", above=5),
        entry(8, "windshield", index=3057), entry(9, "armchair"), entry(10, "chair leg", above=9),
    ]  # fmt: skip
    entries = read_annotation(next(write(tmp_path, rows).rglob("*.json")), Drops()).entries
    assert roles_of(entries, VOCABULARY) == {
        0: ("door", None), 1: ("door", "panel"), 2: ("person", None), 3: ("person", "arm"), 4: ("person", "arm"),
        5: ("wardrobe", None), 6: ("wardrobe", "drawer"), 9: ("armchair", None),
    }  # fmt: skip
    assert roles_of(entries, None)[1] == ("double door", "door")
