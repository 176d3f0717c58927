import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from langhops_cli.data import masks
from langhops_cli.data.formats.voc import read_voc
from langhops_cli.data.manifests import load_manifest
from langhops_cli.data.prepare import prepare
from langhops_cli.data.records import Source
from langhops_cli.data.verify import CheckedPicture, Checker
from langhops_cli.errors import DATA, UserError
from tests.data.pascal_files import mask, write_labels, write_picture
from tests.data.reading import read_all

OBJECTS = list(load_manifest("voc").vocabulary)
XML = """<?xml version="1.0"?>
<annotation><filename>{name}.jpg</filename><size><width>40</width><height>30</height><depth>3</depth></size>
<segmented>0</segmented>{objects}</annotation>
"""
OBJECT = """<object><name>{name}</name><pose>Left</pose><truncated>0</truncated><difficult>{difficult}</difficult>
<bndbox><xmax>{right}</xmax><xmin>{left}</xmin><ymax>{bottom}</ymax><ymin>{top}</ymin></bndbox>
<part><name>head</name><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></part></object>
"""


def _object(name: str, box: Sequence[object], difficult: int = 0) -> str:
    left, top, right, bottom = box
    return OBJECT.format(name=name, left=left, top=top, right=right, bottom=bottom, difficult=difficult)


def _write_list(root: Path, path: str, *names: str) -> None:
    (root / "ImageSets" / path).parent.mkdir(parents=True, exist_ok=True)
    (root / "ImageSets" / path).write_text("".join(f"{name}\n" for name in names))


def _write_boxes(root: Path, name: str, objects: str) -> None:
    write_picture(root / "JPEGImages" / f"{name}.jpg")
    (root / "Annotations").mkdir(exist_ok=True)
    (root / "Annotations" / f"{name}.xml").write_text(XML.format(name=name, objects=objects))


def _write_masks(root: Path, name: str, objects: np.ndarray, classes: np.ndarray) -> None:
    write_picture(root / "JPEGImages" / f"{name}.jpg")
    write_labels(root / "SegmentationObject" / f"{name}.png", objects, palette=True)
    write_labels(root / "SegmentationClass" / f"{name}.png", classes, palette=True)


def _maps() -> tuple[np.ndarray, np.ndarray]:
    """Two people and a potted plant, each with a border of void."""
    objects, classes = np.zeros((30, 40), np.uint8), np.zeros((30, 40), np.uint8)
    for number, (left, top, right, bottom), name in (
        (1, (2, 2, 12, 28), "person"), (2, (14, 2, 24, 28), "person"), (3, (26, 20, 38, 28), "potted plant"),
    ):  # fmt: skip
        objects[top - 1 : bottom + 1, left - 1 : right + 1] = 255
        classes[top - 1 : bottom + 1, left - 1 : right + 1] = 255
        objects[top:bottom, left:right] = number
        classes[top:bottom, left:right] = OBJECTS.index(name) + 1
    return objects, classes


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """An edition with two pictures with masks and one with boxes alone."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("2007_000032", "2007_000033"):
        _write_masks(root, name, *_maps())
    boxes = _object("person", (1, 1, 40, 30)) + _object("tvmonitor", (5, 6, 5, 6), difficult=1)
    _write_boxes(root, "2008_000002", boxes)
    _write_boxes(root, "2007_000032", _object("sofa", (1, 1, 9, 9)))
    _write_list(root, "Segmentation/train.txt", "2007_000032")
    _write_list(root, "Segmentation/val.txt", "2007_000033")
    _write_list(root, "Segmentation/trainval.txt", "2007_000032", "2007_000033")
    _write_list(root, "Segmentation/test.txt", "2012_999999")
    _write_list(root, "Main/train.txt", "2007_000032", "2008_000002")
    return tmp_path


def _checked(source: Source) -> list[CheckedPicture]:
    (split,) = source.splits
    return [Checker(split.image_root, split.read, union=False, writes=False)(picture) for picture in split.pictures()]


def test_the_twenty_objects_stand_in_the_order_of_their_numbers() -> None:
    assert [OBJECTS.index(name) + 1 for name in ("aeroplane", "dining table", "person", "tv monitor")] == [
        1,
        11,
        15,
        20,
    ]
    assert len(OBJECTS) == 20


def test_segmentation_pictures_have_a_mask_for_each_object_without_the_void(devkit: Path) -> None:
    source = read_voc(devkit)
    assert [(split.name, split.total) for split in source.splits] == [("train", 1), ("val", 1)]
    assert source.remarks == ["train has 1 pictures; 1,464 were published", "val has 1 pictures; 1,449 were published"]
    assert source.source_names["potted plant", None] == "pottedplant"
    reading = read_all(source, 1)
    assert [(item.id, item.object, item.part, item.crowd) for item in reading.instances] == [
        (1, "person", None, False), (2, "person", None, False), (3, "potted plant", None, False),
    ]  # fmt: skip
    drawn = [masks.decode(item.rle, height=30, width=40) for item in reading.instances if item.rle is not None]
    for found, expected in zip(drawn, ((2, 2, 12, 28), (14, 2, 24, 28), (26, 20, 38, 28)), strict=True):
        np.testing.assert_array_equal(found, mask(*expected))
    assert reading.drops.counts == {}


def test_with_boxes_all_of_main_is_read_with_masks_where_there_are_any(devkit: Path) -> None:
    (split,) = read_voc(devkit, boxes=True).splits
    assert (split.name, split.total, split.exhaustive) == ("train", 2, True)
    reading = read_all(read_voc(devkit, boxes=True))
    assert [item.rle is not None for item in reading.by_picture["2007_000032.jpg"]] == [True, True, True]
    person, monitor = reading.by_picture["2008_000002.jpg"]
    # Pixels are counted from 1 and the last one belongs to the box: a box of one pixel is one pixel wide.
    assert (person.object, person.box, person.crowd) == ("person", (0.0, 0.0, 40.0, 30.0), False)
    assert (monitor.object, monitor.box, monitor.crowd) == ("tv monitor", (4.0, 5.0, 5.0, 6.0), True)
    assert person.rle is None
    assert person.part is None


def test_a_prepared_set_counts_what_was_written(devkit: Path, tmp_path: Path) -> None:
    report, _ = prepare(lambda _: read_voc(devkit, boxes=True), tmp_path / "out", inputs={}, workers=1)
    counts = report["splits"]["train"]
    assert (counts["images"], counts["objects"], counts["parts"]) == (2, 5, 0)
    assert counts["dropped"] == []


def test_an_object_of_two_classes_has_the_larger_and_what_has_none_is_counted(devkit: Path) -> None:
    objects, classes = _maps()
    classes[2:4, 2:12] = OBJECTS.index("dog") + 1
    classes[objects == 2] = 0
    classes[objects == 3] = 77
    classes[0, 39] = OBJECTS.index("sofa") + 1
    _write_masks(devkit / "VOCdevkit/VOC2012", "2007_000032", objects, classes)
    reading = read_all(read_voc(devkit))
    assert [item.object for item in reading.instances] == ["person"]
    assert reading.drops.first == {
        "instance without a class": ["2007_000032.png: 2"],
        "label that stands for no name": ["2007_000032.png: 3"],
        "class without an instance": ["2007_000032.png: 12", "2007_000032.png: 18"],
    }


def test_boxes_that_cannot_be_used_are_left_out_one_by_one(devkit: Path) -> None:
    boxes: list[tuple[str, Sequence[object]]] = [
        ("dog", (1, 1, 10, 10)), ("unicorn", (1, 1, 9, 9)), ("cat", ("nan", 1, 9, 9)), ("cat", (1, 1, "1e999", 9)),
        ("cow", (9, 9, 2, 2)), ("cow", (500, 500, 600, 600)), ("car", ("", 1, 9, 9)), ("car", ("one", 1, 9, 9)),
        ("bus", (45.7, -3, 99, 12.5)), ("bus", (30.7, -3, 99, 12.5)),
    ]  # fmt: skip
    root = devkit / "VOCdevkit/VOC2012"
    _write_boxes(root, "2008_000002", "".join(_object(name, box) for name, box in boxes) + "<object/>")
    reading = read_all(read_voc(devkit, boxes=True))
    left = [(item.id, item.object, item.box) for item in reading.by_picture["2008_000002.jpg"]]
    assert [row[:2] for row in left] == [(1, "dog"), (10, "bus")]
    assert left[1][2] == pytest.approx((29.7, 0.0, 40.0, 12.5))
    assert reading.drops.counts == {
        "object of an unknown name": 2,
        "box with coordinates that are no numbers": 4,
        "box without a pixel inside the picture": 3,
    }
    assert reading.drops.first["object of an unknown name"][0] == "2008_000002.xml: object 2 (unicorn)"


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghij", "bcdefghijk", strict=True))
    + "]><annotation>&k;</annotation>"
)
EXTERNAL = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><object>&x;</object></annotation>'


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no element found"),
        (b"<annotation><object>", "no element found"),
        (b"\0\1\2", "not well-formed|invalid"),
        (BOMB.encode(), "DOCTYPE"),
        (BOMB.replace('"1.0"', '"1.0" encoding="utf-16"', 1).encode("utf-16"), "DOCTYPE"),
        (EXTERNAL.encode(), "DOCTYPE"),
        (b'<?xml version="1.0" encoding="no-such"?><annotation/>', "encoding"),
        (b"<a>" * 600_000, "more than the 1,048,576"),
        (b"<a>" * 50_000 + b"</a>", "no element found|mismatched"),
        (
            XML.format(name="a", objects="").replace("<width>40", "<width>400").encode(),
            "400 x 30 pixels; it has 40 x 30",
        ),
    ],
)
def test_a_picture_whose_xml_is_spoilt_is_left_out(devkit: Path, content: bytes, told: str) -> None:
    (devkit / "VOCdevkit/VOC2012/Annotations/2008_000002.xml").write_bytes(content)
    with pytest.raises(UserError, match=told) as caught:
        read_all(read_voc(devkit, boxes=True))
    assert "2008_000002.xml" in str(caught.value)
    assert "\n" not in str(caught.value)
    good, spoilt = _checked(read_voc(devkit, boxes=True))
    assert (good.fault, spoilt.fault) == (None, "annotations that cannot be read")


def test_deep_xml_is_read_without_harm(devkit: Path) -> None:
    deep = f"{'<a>' * 50_000}{'</a>' * 50_000}"
    _write_boxes(devkit / "VOCdevkit/VOC2012", "2008_000002", deep + _object("dog", (1, 1, 9, 9)))
    assert [item.object for item in read_all(read_voc(devkit, boxes=True)).by_picture["2008_000002.jpg"]] == ["dog"]


@pytest.mark.parametrize("folder", ["SegmentationObject", "SegmentationClass"])
def test_masks_without_their_palette_are_refused(devkit: Path, folder: str) -> None:
    write_labels(devkit / f"VOCdevkit/VOC2012/{folder}/2007_000032.png", _maps()[0])
    with pytest.raises(UserError, match="should be a palette"):
        read_all(read_voc(devkit))


def test_the_reader_travels_to_other_processes(devkit: Path) -> None:
    for boxes in (False, True):
        split = read_voc(devkit, boxes=boxes).splits[0]
        picture = next(iter(split.pictures()))
        found = pickle.loads(pickle.dumps(split.read))(split.image_root / picture.file_name, picture, (40, 30))
        assert len(found.instances) == 3


def test_an_edition_is_chosen_by_its_year(devkit: Path) -> None:
    other = devkit / "VOCdevkit" / "VOC2007"
    _write_masks(other, "000001", *_maps())
    _write_list(other, "Segmentation/trainval.txt", "000001")
    _write_list(other, "Segmentation/test.txt", "000001")
    with pytest.raises(UserError, match="holds VOC2007, VOC2012, several editions; name one with --year"):
        read_voc(devkit)
    with pytest.raises(UserError, match="not that of 2010"):
        read_voc(devkit, year=2010)
    assert [split.name for split in read_voc(devkit, year=2007).splits] == ["trainval", "test"]
    (other / "ImageSets/Segmentation/test.txt").unlink()
    for place, year in ((devkit, 2007), (devkit / "VOCdevkit", 2007), (other, None)):
        source = read_voc(place, year=year)
        assert [(split.name, split.total) for split in source.splits] == [("trainval", 1)]
        assert source.remarks == []


def test_what_is_missing_is_named(devkit: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no VOCdevkit/VOC2012") as caught:
        read_voc(tmp_path / "missing")
    assert caught.value.code == DATA
    (devkit / "VOCdevkit/VOC2012/ImageSets/Segmentation").rename(tmp_path / "away")
    with pytest.raises(UserError, match=r"Segmentation has no list of annotated pictures.*with --boxes"):
        read_voc(devkit)
    _write_list(devkit / "VOCdevkit/VOC2012", "Main/train.txt", "2007_000032", "/etc/passwd")
    with pytest.raises(UserError, match="leads out of the picture folder"):
        read_voc(devkit, boxes=True)


def test_a_list_that_is_no_text_is_named(devkit: Path) -> None:
    (devkit / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"train.txt is no list of names"):
        read_voc(devkit)
