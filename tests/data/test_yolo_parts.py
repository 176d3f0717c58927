import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from langhops_cli.data.formats.coco_parts import read_coco_parts
from langhops_cli.data.formats.yolo_labels import label_of
from langhops_cli.data.formats.yolo_parts import read_yolo_parts
from langhops_cli.data.prepare import prepare
from langhops_cli.errors import DATA, UserError
from langhops_cli.vocabulary import parse_vocabulary
from tests.data.reading import read_all

Write = Callable[..., Path]
TRIANGLE = "0 0.1 0.1 0.9 0.2 0.5 0.9"
CLASSES = "names: [car, car wheel]\n"
USUAL = "path: .\ntrain: images/train\nval: images/val\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a dataset: files by path, pictures of 80 x 60 pixels where a text is missing."""

    def write_files(files: dict[str, str | None], yaml: str | None = USUAL + CLASSES, folder: str = "set") -> Path:
        source = tmp_path / folder
        source.mkdir(exist_ok=True)
        if yaml is not None:
            (source / "data.yaml").write_text(yaml)
        for name, text in files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                Image.new("RGB", (80, 60), (len(name), 1, 2)).save(source / name)
            else:
                (source / name).write_text(text)
        return source

    return write_files


def _usual(labels: str, **more: str | None) -> dict[str, str | None]:
    return {
        "images/train/a.png": None,
        "labels/train/a.txt": labels,
        "images/val/b.png": None,
        "labels/val/b.txt": TRIANGLE,
        **more,
    }


def test_polygons_are_what_drawing_them_gives(write: Write) -> None:
    rng = np.random.default_rng(0)
    drawn, lines = [], []
    for _ in range(8):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
        shape = (0.5 + rng.uniform(0.25, 0.45, (12, 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=1)).clip(0, 1)
        lines.append("0 " + " ".join(f"{value:.6f}" for value in shape.ravel()))
        canvas = Image.new("1", (800, 600))
        ImageDraw.Draw(canvas).polygon([(x * 800, y * 600) for x, y in shape.tolist()], fill=1)
        drawn.append(np.asarray(canvas))
    source = write(
        {"images/train/a.txt": "", "labels/train/a.txt": "\n".join(lines)},
        USUAL.replace("val: images/val\n", "") + CLASSES,
    )
    Image.new("RGB", (800, 600)).save(source / "images/train/a.png")
    found = read_all(read_yolo_parts(source)).instances
    assert [item.id for item in found] == list(range(1, 9))
    for item, mask in zip(found, drawn, strict=True):
        ours = coco_mask.decode(item.rle).astype(bool)
        assert (ours & mask).sum() / (ours | mask).sum() > 0.98


def test_four_numbers_are_a_box(write: Write) -> None:
    (item,) = read_all(read_yolo_parts(write(_usual("1 0.5 0.5 0.25 0.5\n")))).instances
    assert (item.object, item.part, item.rle, item.box) == ("car", "wheel", None, (30, 15, 50, 45))


@pytest.mark.parametrize(
    ("picture", "labels"),
    [
        ("/data/images/train/a.jpg", "/data/labels/train/a.txt"),
        ("/data/train/images/a.b.png", "/data/train/labels/a.b.txt"),
        ("/images/set/images/val/x/a.JPG", "/images/set/labels/val/x/a.txt"),
        ("/data/myimages/a.jpg", "/data/myimages/a.txt"),
    ],
)
def test_label_files_are_found_as_ultralytics_finds_them(picture: str, labels: str) -> None:
    assert label_of(picture) == labels


ROBOFLOW = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\nnames: ['car', 'car wheel']\n"


@pytest.mark.parametrize(
    ("yaml", "train", "val"),
    [
        (USUAL + CLASSES, "images/train", "images/val"),
        ("train: images/train\nval: images/val\n" + CLASSES, "images/train", "images/val"),
        (ROBOFLOW, "train/images", "valid/images"),
        ("train: images\nvalidation: more/images\n" + CLASSES, "images", "more/images"),
        ("path: inner\ntrain: [images/a, images/b]\nval: images/v\n" + CLASSES, "inner/images/b", "inner/images/v"),
        ("path: /nowhere/at/all\ntrain: images/train\nval: images/val\n" + CLASSES, "images/train", "images/val"),
        (USUAL + "names:\n  1: car wheel\n  0: car\n", "images/train", "images/val"),
    ],
)
def test_usual_layouts_are_found(write: Write, yaml: str, train: str, val: str) -> None:
    files: dict[str, str | None] = {"inner/images/a/x.png": None} if "inner" in yaml else {}
    for folder, name in [(train, "a"), (val, "b")]:
        files |= {f"{folder}/{name}.png": None, label_of(f"/{folder}/{name}.png")[1:]: TRIANGLE}
    source = read_yolo_parts(write(files, yaml))
    assert [split.name for split in source.splits] == ["train", "val"]
    assert [item.part for split in (0, 1) for item in read_all(source, split).instances] == [None, None]
    assert source.tree == {"car": {"wheel": None}}
    assert any("/nowhere/at/all" in remark for remark in source.remarks) == ("nowhere" in yaml)
    assert any("test" in remark for remark in source.remarks) == ("test:" in yaml)
    assert {split.image_root for split in source.splits} == {source.splits[0].image_root}


def test_folders_outside_and_absolute_ones_are_followed(write: Write, tmp_path: Path) -> None:
    away = write({"images/train/a.png": None, "labels/train/a.txt": TRIANGLE}, None, folder="away")
    yaml = f"path: {away}\ntrain: images/train\n" + CLASSES
    assert read_all(read_yolo_parts(write({}, yaml))).by_picture.keys() == {"images/train/a.png"}
    yaml = f"train: {away}/images/train\n" + CLASSES
    source = read_yolo_parts(write({}, yaml, folder="other"))
    assert source.splits[0].image_root == away / "images/train"
    assert len(read_all(source).by_picture["a.png"]) == 1
    yaml = "path: gone\ntrain: images/train\n" + CLASSES
    assert len(read_all(read_yolo_parts(write({}, yaml, folder="third"), images=away)).instances) == 1


def test_lists_of_pictures_are_read(write: Write, tmp_path: Path) -> None:
    files = {f"images/{name}.png": None for name in "abcd"} | {f"labels/{name}.txt": TRIANGLE for name in "abc"}
    source = write(files, "train: lists/train.txt\nval: lists/val.txt\n" + CLASSES)
    outside = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(outside)
    (source / "lists").mkdir()
    entries = [
        "images/b.png", "", f"{source}/images/a.png", "images/b.png", "images/gone.png", "images/d.png",
        "notes.txt", str(outside), "../../secret.png", "images/../../secret.png", "images/._a.png", "a\0.png",
    ]  # fmt: skip
    (source / "lists/train.txt").write_text("\n".join(entries))
    (source / "lists/val.txt").write_text("./../images/c.png\r\n")
    records = read_yolo_parts(source)
    train, val = records.splits
    assert [item.file_name for item in train.pictures()] == [
        "images/b.png", "images/a.png", "images/gone.png", "images/d.png",
    ]  # fmt: skip
    assert [item.file_name for item in val.pictures()] == ["images/c.png"]
    assert train.total == 4
    assert train.drops.counts == {
        "picture that is listed twice": 1,
        "listed file that is no picture": 2,
        "listed picture outside the dataset's folder": 3,
        "hidden file": 1,
    }
    assert records.remarks == [
        "train: 2 of 4 pictures have no label file and count as pictures without anything, as in Ultralytics "
        "(images/gone.png)"
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2 0.1 0.1 0.9 0.2 0.5 0.9", "class number out of range"),
        ("-1 0.1 0.1 0.9 0.2 0.5 0.9", "class number out of range"),
        ("0.5 0.1 0.1 0.9 0.2 0.5 0.9", "class number out of range"),
        ("0 0.1 0.1 0.9 0.2 0.5 0.9 0.3", "odd number of coordinates"),
        ("0 0.5 0.5 0.2 0.2 0.87", "odd number of coordinates"),
        ("0 0.1 nan 0.9 0.2 0.5 0.9", "line with words that are no numbers"),
        ("0 0.1 1e999 0.9 0.2 0.5 0.9", "line with words that are no numbers"),
        ("car 0.1 0.1 0.9 0.2 0.5 0.9", "line with words that are no numbers"),
        ("9" * 9000 + " 0.1 0.1 0.9 0.2 0.5 0.9", "line with words that are no numbers"),
        ("0 8 6 72 12 40 54", "coordinates outside 0..1; they are shares of the picture's sides"),
        ("0 0.1 -0.02 0.9 0.2 0.5 0.9", "coordinates outside 0..1; they are shares of the picture's sides"),
        ("0 0.1 0.1", "line of fewer than four coordinates"),
        ("0", "line of fewer than four coordinates"),
        ("0 0.5 0.5 0 0.2", "box without a pixel inside the picture"),
        ("0 0.1 0.1 0.1 0.1 0.1 0.1", "empty mask"),
        ("0 0.4 0.4 0.6 0.4 0.5 0.7", "duplicate line"),
        ("0 0.5 0.7 0.4 0.4 0.6 0.4", "duplicate line"),
    ],
)
def test_bad_lines_are_left_out_with_reason_and_place(write: Write, line: str, reason: str) -> None:
    source = write(_usual(f"0 0.4 0.4 0.6 0.4 0.5 0.7\n\n{line}\n1 0.4 0.4 0.6 0.4 0.5 0.7\n"))
    reading = read_all(read_yolo_parts(source))
    assert [item.id for item in reading.instances] == [1, 4]
    assert reading.drops.first == {reason: ["labels/train/a.txt:3"]}


def test_coordinates_just_outside_are_moved_to_the_edge(write: Write) -> None:
    source = write(_usual("0 -0.009 0 1.009 0 1.009 1.01 -0.009 1\n"))
    (item,) = read_all(read_yolo_parts(source)).instances
    assert coco_mask.area(item.rle) == 80 * 60


def test_pictures_and_labels_that_lack_each_other(write: Write) -> None:
    files = _usual(
        "",
        **{
            "images/train/c.jpg": None,
            "images/train/deep/d.png": None,
            "labels/train/deep/d.txt": TRIANGLE,
            "labels/train/e.txt": TRIANGLE,
            "labels/train/gone/f.txt": TRIANGLE,
            "labels/train/classes.txt": "car",
            "images/train/._a.png": "x",
            "images/train/.git/g.png": "x",
        },
    )
    source = write(files)
    records = read_yolo_parts(source)
    reading = read_all(records)
    assert {name: len(items) for name, items in reading.by_picture.items()} == {
        "images/train/a.png": 0,
        "images/train/c.jpg": 0,
        "images/train/deep/d.png": 1,
    }
    assert records.splits[0].total == 3
    assert reading.drops.first == {
        "annotation file without a picture": [
            str(source / "labels/train/e.txt"),
            str(source / "labels/train/gone/f.txt"),
        ],
        "macOS ._ file, no picture": ["._a.png"],
        "hidden file": [".git/g.png"],
    }
    assert records.remarks == [
        "train: 1 of 3 pictures have no label file and count as pictures without anything, as in Ultralytics "
        "(images/train/c.jpg)"
    ]


def test_the_user_says_what_is_a_part(write: Write) -> None:
    yaml = USUAL + "names: [wheel, window, car]\n"
    lines = "\n".join(f"{number} 0.1 0.1 0.9 0.2 0.5 0.9" for number in range(3))
    source = write(_usual(lines), yaml)
    plain = read_all(read_yolo_parts(source)).instances
    assert [(item.object, item.part) for item in plain] == [("wheel", None), ("window", None), ("car", None)]
    whole = read_all(read_yolo_parts(source, object_name="car")).instances
    assert [(item.object, item.part) for item in whole] == [("car", "wheel"), ("car", "window"), ("car", None)]
    tree = parse_vocabulary("car:wheel; bus:wheel")
    told = read_all(read_yolo_parts(source, tree=tree)).instances
    assert [(item.object, item.part, item.others) for item in told] == [
        ("car", "wheel", ("bus",)), ("window", None, ()), ("car", None, ()),
    ]  # fmt: skip
    with pytest.raises(UserError, match="no category for car door"):
        read_yolo_parts(source, tree=parse_vocabulary("car:door"))
    with pytest.raises(UserError, match="not both"):
        read_yolo_parts(source, tree=tree, object_name="car")
    assert [read_yolo_parts(source, exhaustive=told).splits[0].exhaustive for told in (None, True, False)] == [
        True, True, False,
    ]  # fmt: skip


BOMB = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{last}'] * 10)}]}}\n"
    for last, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("yaml", "says"),
    [
        (None, "holds no data.yaml"),
        ("names: [", "is no YAML"),
        ("- " * 5000, "is no YAML"),
        ("[]", "no mapping with train, val and names"),
        (USUAL, "no names of the classes"),
        (USUAL + "names: [car, no]\n", "class 1 has no name but False"),
        (USUAL + "names: [car, [x]]\n", "class 1 has no name"),
        (USUAL + 'names: [car, "\\ud800"]\n', "class 1 has no name but|is no YAML"),
        (USUAL + "names: {0: car, 2: wheel}\n", "names has the number 2"),
        (USUAL + "names: {0: car, '0': wheel}\n", "names has the number '0'"),
        (USUAL + "names: [car]\nnc: 2\n", "nc is 2, but there are 1 names"),
        (USUAL + CLASSES + "kpt_shape: [17, 3]\n", "keypoints"),
        (CLASSES, "neither train nor val"),
        (CLASSES + "train: {a: b}\n", "train must be a folder"),
        (CLASSES + "train: images/gone\n", "train is 'images/gone', but .*images/gone does not exist"),
        (CLASSES + "train: images/train\nval: ../images/gone\n", "val is '../images/gone'"),
        (CLASSES + "train: labels\n", "holds no picture"),
        (CLASSES + "train: data.yaml\n", "holds no picture"),
        (CLASSES + "train: images/train/a.png\n", "neither a folder nor a list|very long lines"),
        (CLASSES + BOMB + USUAL, "is no YAML"),
    ],
)
def test_malformed_yaml_files_are_named(write: Write, yaml: str | None, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        read_yolo_parts(write(_usual(TRIANGLE), yaml))
    assert caught.value.code == DATA


def test_the_yaml_file_may_have_another_name_but_must_be_the_only_one(write: Write) -> None:
    source = write(_usual(TRIANGLE, **{"cars.yaml": USUAL + CLASSES}), None)
    assert len(read_yolo_parts(source).splits) == 2
    (source / "bikes.yml").write_text(USUAL + "names: [bike]\n")
    with pytest.raises(UserError, match=r"but bikes.yml, cars.yaml; name one with --data"):
        read_yolo_parts(source)
    assert list(read_yolo_parts(source, data=source / "bikes.yml").tree) == ["bike"]


def test_a_set_without_any_label_file_says_where_they_should_be(write: Write) -> None:
    source = write({"images/train/a.png": None, "images/val/b.png": None})
    with pytest.raises(UserError, match=r"set/labels/train/a.txt"):
        read_yolo_parts(source)


def test_unreadable_label_files_cost_their_picture_alone(write: Write) -> None:
    source = write(_usual(TRIANGLE))
    (source / "labels/train/a.txt").write_bytes(b"0 0.1 \xff\xfe")
    (split, _) = read_yolo_parts(source).splits
    (picture,) = split.pictures()
    with pytest.raises(UserError, match=r"a.txt is no text in UTF-8"):
        split.read(split.image_root / picture.file_name, picture, (80, 60))


def test_a_whole_set_is_prepared(write: Write, tmp_path: Path) -> None:
    labels = "0 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9\n1 0.2 0.6 0.4 0.6 0.4 0.8\n1 0.6 0.6 0.8 0.6 0.8 0.8\n2 0 0 1 1 0 1\n"
    source = write(_usual(labels))
    report, _ = prepare(lambda _: read_yolo_parts(source), tmp_path / "out", inputs={}, workers=1)
    train = report["splits"]["train"]
    assert (train["images"], train["objects"], train["parts"]) == (1, 1, 2)
    assert train["parents"]["by_mask"] == 2
    assert [row["reason"] for row in train["dropped"]] == ["class number out of range"]


def test_reading_goes_to_other_processes(write: Write) -> None:
    (split, _) = read_yolo_parts(write(_usual(TRIANGLE))).splits
    (picture,) = split.pictures()
    there = pickle.loads(pickle.dumps(split.read))
    assert len(there(split.image_root / picture.file_name, picture, (80, 60)).instances) == 1


def test_real_polygons_are_the_same_as_in_coco(shared_data: Path, write: Write) -> None:
    cars = shared_data / "car_parts"
    coco = json.loads((cars / "val.json").read_text())
    numbers = {row["id"]: place for place, row in enumerate(coco["categories"])}
    names = json.dumps([row["name"] for row in coco["categories"]])
    several = {row["image_id"] for row in coco["annotations"] if len(row["segmentation"]) > 1}
    images = [image for image in coco["images"] if image["id"] not in several][:8]
    source = write({}, f"train: images\nnames: {names}\n")
    (source / "images/val").mkdir(parents=True)
    (source / "labels/val").mkdir(parents=True)
    for image in images:
        (source / "images" / image["file_name"]).symlink_to(cars / "images/val" / Path(image["file_name"]).name)
        sides = np.array([image["width"], image["height"]])
        lines = []
        for row in coco["annotations"]:
            if row["image_id"] == image["id"]:
                (polygon,) = row["segmentation"]
                shares = (np.array(polygon).reshape(-1, 2) / sides).ravel()
                lines.append(f"{numbers[row['category_id']]} " + " ".join(f"{value:.7f}" for value in shares))
        (source / "labels" / image["file_name"]).with_suffix(".txt").write_text("\n".join(lines))
    theirs = read_all(read_coco_parts(cars, val=cars / "val.json", object_name="car")).by_picture
    ours = read_all(read_yolo_parts(source, object_name="car")).by_picture
    assert sum(map(len, ours.values())) > 50
    for image in images:
        pairs = list(zip(ours[f"images/{image['file_name']}"], theirs[image["file_name"]], strict=True))
        assert all(our.part == their.part for our, their in pairs)
        assert min(coco_mask.iou([our.rle], [their.rle], [0]).item() for our, their in pairs) > 0.97
