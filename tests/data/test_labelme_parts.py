import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from langhops_cli.data.formats.coco_parts import read_coco_parts
from langhops_cli.data.formats.labelme_parts import read_labelme_parts
from langhops_cli.data.prepare import prepare
from langhops_cli.errors import USAGE, UserError
from langhops_cli.vocabulary import parse_vocabulary
from tests.data.labelme_source import TRIANGLE, Write, png, shape, square, writer
from tests.data.reading import read_all


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return writer(tmp_path)


def _drawn(kind: str, points: list[list[float]]) -> np.ndarray:
    """The pixels of which at least half is covered, drawn ten times as large."""
    canvas = Image.new("L", (800, 600))
    draw = ImageDraw.Draw(canvas)
    large = [(x * 10, y * 10) for x, y in points]
    if kind == "circle":
        (x, y), rim = large
        radius = math.dist((x, y), rim)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    elif kind == "rectangle":
        xs, ys = zip(*large, strict=True)
        draw.rectangle((min(xs), min(ys), max(xs), max(ys)), fill=255)
    else:
        draw.polygon(large, fill=255)
    return np.asarray(canvas.reduce(10)) >= 128


@pytest.mark.parametrize(
    ("kind", "points"),
    [
        ("polygon", TRIANGLE),
        ("rectangle", [[10, 10], [60, 50]]),
        ("rectangle", [[60, 10], [10, 50]]),
        ("rectangle", square(10, 10, 40)),
        ("circle", [[40, 30], [60, 40]]),
        ("oriented_rectangle", [[20, 10], [60, 20], [55, 45], [15, 35]]),
    ],
)
def test_shapes_are_what_drawing_them_gives(write: Write, kind: str, points: list[list[float]]) -> None:
    (item,) = read_all(read_labelme_parts(write("a.json", [shape("car", points, kind)]))).instances
    ours, theirs = coco_mask.decode(item.rle).astype(bool), _drawn(kind, points)
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.96


@pytest.mark.parametrize(("left", "top"), [(10, 20), (-3, 50), (70, -4)])
def test_stored_masks_are_placed_and_cut_at_the_edge(write: Write, left: int, top: int) -> None:
    patch = np.random.default_rng(0).random((14, 18)) < 0.5
    points = [[left, top], [left + 17, top + 13]]
    source = write("a.json", [shape("car", points, "mask", mask=png(patch))])
    (item,) = read_all(read_labelme_parts(source)).instances
    canvas = np.zeros((100, 120), bool)
    canvas[20 + top : 34 + top, 20 + left : 38 + left] = patch
    assert (coco_mask.decode(item.rle) == canvas[20:80, 20:100]).all()


def test_labelmes_own_example_of_instances(write: Write) -> None:
    """The structure of `2011_000003.json` of LabelMe's examples: a person in two pieces, another one, a region to
    ignore; shapes of version 3 have neither `description` nor `mask`."""
    shapes = [
        {"label": "person", "points": square(2, 2), "group_id": None, "shape_type": "polygon", "flags": {}},
        {"label": "person", "points": square(20, 2), "group_id": 0, "shape_type": "polygon", "flags": {}},
        {"label": "person", "points": square(40, 2), "group_id": 0, "shape_type": "polygon", "flags": {}},
        {"label": "bottle", "points": square(20, 20), "shape_type": None},
        {"label": "bottle", "points": square(40, 20)},
        {"label": "__ignore__", "points": square(60, 40), "group_id": None, "shape_type": "polygon", "flags": {}},
    ]
    reading = read_all(read_labelme_parts(write("a.json", shapes, lineColor=[0, 255, 0, 128])))
    assert [(item.id, item.object, coco_mask.area(item.rle)) for item in reading.instances] == [
        (1, "person", 100), (2, "person", 200), (4, "bottle", 100), (5, "bottle", 100),
    ]  # fmt: skip
    assert reading.drops.first == {"shape labelled as no class": ["a.json, shape 6 (__ignore__)"]}


def test_parts_belong_to_the_object_of_their_group(write: Write) -> None:
    shapes = [
        shape("car:wheel", square(0, 0), group_id=7),
        shape("car", square(0, 0, 30), group_id=7),
        shape("car's wheel", square(2, 2), group_id=8),
        shape("car", square(40, 0, 30), group_id=8),
        shape("car wheel", square(3, 3)),
        shape("bus", square(0, 0, 40), group_id=9),
        shape("car wheel", square(4, 4), group_id=9),
        shape("car", square(5, 5), group_id=[1]),
    ]
    source = read_labelme_parts(write("a.json", shapes))
    assert source.tree == {"bus": {}, "car": {"wheel": None}}
    found = read_all(source).instances
    assert [(item.object, item.part, item.parent) for item in found] == [
        ("car", "wheel", 2), ("car", None, None), ("car", "wheel", 4), ("car", None, None), ("car", "wheel", None),
        ("bus", None, None), ("car", "wheel", None), ("car", None, None),
    ]  # fmt: skip


def test_a_part_belongs_to_the_object_that_predict_wrote_it_is_of(write: Write) -> None:
    """Against its place and its group; through the part that it is a part of; one that is not there is no answer."""
    shapes = [
        shape("car", square(0, 0, 30), group_id=7, instance=1),
        shape("car", square(40, 0, 30), group_id=8, instance=2),
        shape("car wheel", square(2, 2), group_id=7, instance=3, parent=2),
        shape("car spoke", square(4, 4, 5), instance=4, parent=3),
        shape("car wheel", square(3, 3), group_id=8, instance=5, parent=99),
        shape("car wheel", square(6, 6), instance=6, parent="2"),
        shape("bus", square(0, 40), group_id=9, instance=7),
        shape("car wheel", square(1, 9), instance=8, parent=7),
        shape("car spoke", square(5, 9), instance=9, parent=10),
        shape("car spoke", square(9, 9), instance=10, parent=9),
    ]
    tree = parse_vocabulary("car:wheel,spoke; bus")
    found = read_all(read_labelme_parts(write("a.json", shapes), tree=tree)).instances
    assert [item.parent for item in found if item.part is not None] == [2, 2, 2, None, None, None, None]


def test_a_part_of_several_objects_is_that_of_its_group(write: Write) -> None:
    shapes = [shape("wheel", group_id=1), shape("bus", group_id=1), shape("wheel", square(9, 9))]
    source = read_labelme_parts(write("a.json", shapes), tree=parse_vocabulary("car:wheel; bus:wheel"))
    found = read_all(source).instances
    assert [(item.object, item.others, item.parent) for item in found] == [
        ("car", ("bus",), 2), ("bus", (), None), ("car", ("bus",), None),
    ]  # fmt: skip
    with pytest.raises(UserError, match="no category for car door"):
        read_labelme_parts(write("a.json", shapes), tree=parse_vocabulary("car:door"))


def test_all_labels_are_known_before_any_is_taken_apart(write: Write) -> None:
    write("a.json", [shape("car wheel")])
    source = read_labelme_parts(write("z/b.json", [shape("car")]), val_share=0)
    assert [(item.object, item.part) for item in read_all(source).instances] == [("car", "wheel"), ("car", None)]
    named = read_labelme_parts(write("z/b.json", [shape("car")]), object_name="tram", val_share=0)
    assert [(item.object, item.part) for item in read_all(named).instances] == [("tram", "car wheel"), ("tram", "car")]


def test_rectangles_are_masks_or_boxes_as_told(write: Write) -> None:
    shapes = [
        shape("car", [[50, 40], [10, 5]], "rectangle"),
        shape("bus", [[0, 0], [10, 10]], "rectangle", group_id=1),
        shape("bus", [[60, 50], [90, 70]], "rectangle", group_id=1),
        shape("tram", square(0, 0), group_id=1),
        shape("tram", [[0, 0], [10, 10]], "rectangle", group_id=1),
    ]
    source = write("a.json", shapes)
    masks = read_labelme_parts(source)
    assert [coco_mask.area(item.rle) for item in read_all(masks).instances][:2] == [40 * 35, 100 + 20 * 10]
    assert masks.remarks == ["4 rectangles were taken for masks; with --boxes they are boxes around things"]
    reading = read_all(read_labelme_parts(source, boxes=True))
    assert [(item.box, item.rle is None) for item in reading.instances] == [
        ((10, 5, 50, 40), True), ((0, 0, 80, 60), True), (None, False),
    ]  # fmt: skip
    assert reading.drops.first == {"box beside a mask of the same instance": ["a.json, shape 4"]}


def test_folders_called_train_val_and_test_are_splits(write: Write) -> None:
    write("train/a.json", [shape("car")])
    write("labels/valid/b.json", [shape("car")], picture="images/valid/b.png", image_path="../../images/valid/b.png")
    write("c.json", [shape("car")], picture="test/c.png", image_path="test/c.png")
    source = read_labelme_parts(write("d.json", [shape("car")]))
    assert {split.name: [item.file_name for item in split.pictures()] for split in source.splits} == {
        "train": ["d.png", "train/a.png"],
        "val": ["images/valid/b.png"],
        "test": ["test/c.png"],
    }


def test_without_such_folders_a_share_is_chosen_by_name(write: Write, tmp_path: Path) -> None:
    names = [f"{number:03}.json" for number in range(200)]
    for name in names:
        write(name, [shape("car")], folder="one")
    whole = read_labelme_parts(tmp_path / "one")
    train, val = whole.splits
    assert (train.total, val.total) == (len(list(train.pictures())), len(list(val.pictures())))
    assert train.total + val.total == 200
    assert 8 <= val.total <= 35
    assert "--val-share" in whole.remarks[0]
    chosen = {item.file_name for item in val.pictures()}
    for name in names[:100]:
        write(name, [shape("car")], folder="two")
    half = {item.file_name for item in read_labelme_parts(tmp_path / "two").splits[1].pictures()}
    assert half == {name for name in chosen if name < "100"}
    more = read_labelme_parts(tmp_path / "one", val_share=0.5).splits[1]
    assert chosen < {item.file_name for item in more.pictures()}
    assert [split.name for split in read_labelme_parts(tmp_path / "one", val_share=0).splits] == ["train"]


def test_two_pictures_are_enough_for_two_splits(write: Write) -> None:
    source = write("a.json", [shape("car")])
    assert [split.total for split in read_labelme_parts(source, val_share=1e-9).splits] == [1]
    write("b.json", [shape("car")])
    assert [split.total for split in read_labelme_parts(source, val_share=1e-9).splits] == [1, 1]
    for share in (-0.1, 1.0, math.nan):
        with pytest.raises(UserError, match="at least 0 and below 1") as caught:
            read_labelme_parts(source, val_share=share)
        assert caught.value.code == USAGE


def test_a_whole_set_is_prepared(write: Write, tmp_path: Path) -> None:
    shapes = [
        shape("car", square(0, 0, 40), group_id=1),
        shape("car wheel", square(70, 40), group_id=1),
        shape("car wheel", square(2, 2)),
    ]
    write("train/a.json", shapes)
    write("train/b.json", shapes, imageWidth=81)
    source = write("val/c.json", shapes)
    report, _ = prepare(lambda _: read_labelme_parts(source), tmp_path / "out", inputs={}, workers=1)
    train = report["splits"]["train"]
    assert (train["images"], train["objects"], train["parts"]) == (1, 1, 2)
    assert (train["parents"]["stated"], train["parents"]["by_mask"]) == (1, 1)
    assert {row["reason"]: row["count"] for row in train["dropped"]} == {
        "picture of another size than annotated": 1,
        "instance in a picture that was left out": 3,
    }


def test_reading_goes_to_other_processes(write: Write) -> None:
    (split,) = read_labelme_parts(write("a.json", [shape("car")])).splits
    (picture,) = split.pictures()
    assert len(list(split.pictures())) == 1
    there = pickle.loads(pickle.dumps(split.read))
    assert len(there(split.image_root / picture.file_name, picture, (80, 60)).instances) == 1


def test_real_polygons_are_the_same_as_in_coco(shared_data: Path, write: Write) -> None:
    cars = shared_data / "car_parts"
    coco = json.loads((cars / "val.json").read_text())
    names = {row["id"]: row["name"] for row in coco["categories"]}
    images = coco["images"][:8]
    for image in images:
        shapes = [
            shape(names[row["category_id"]], np.array(polygon).reshape(-1, 2).tolist(), group_id=row["id"])
            for row in coco["annotations"]
            if row["image_id"] == image["id"]
            for polygon in row["segmentation"]
        ]
        sides = {"imageWidth": image["width"], "imageHeight": image["height"]}
        name = Path(image["file_name"])
        source = write(f"{name.stem}.json", shapes, picture=None, image_path=name.name, **sides)
        (source / name.name).symlink_to(cars / "images/val" / name.name)
    theirs = read_all(read_coco_parts(cars, val=cars / "val.json", object_name="car")).by_picture
    ours = read_all(read_labelme_parts(source, object_name="car", val_share=0)).by_picture
    assert sum(map(len, ours.values())) > 50
    for image in images:
        our, their = ours[Path(image["file_name"]).name], theirs[image["file_name"]]
        assert [(item.part, item.rle) for item in our] == [(item.part, item.rle) for item in their]
