import base64
import json
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from langhops_cli.data.formats import labelme_parts
from langhops_cli.data.formats.labelme_parts import read_labelme_parts
from langhops_cli.errors import DATA, UserError
from tests.data.labelme_source import TRIANGLE, Write, png, shape, square, writer
from tests.data.reading import read_all


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return writer(tmp_path)


@pytest.mark.parametrize(
    "path", ["../images/x.png", "..\\images\\x.png", "./../images/../images/x.png", "deep/../../images/x.png"]
)
def test_a_picture_in_another_folder_of_the_source_is_found(write: Write, path: str) -> None:
    source = write("labels/x.json", [shape("car")], picture="images/x.png", image_path=path)
    assert list(read_all(read_labelme_parts(source)).by_picture) == ["images/x.png"]


@pytest.mark.parametrize(
    "path", ["../../secret.png", "/etc/secret.png", "C:\\pictures\\secret.png", "a/../../../secret.png", "../.."]
)
def test_a_picture_outside_the_source_is_refused(write: Write, tmp_path: Path, path: str) -> None:
    Image.new("RGB", (80, 60)).save(tmp_path / "secret.png")
    write("x.json", [shape("car")])
    source = write("labels/y.json", [shape("car")], picture=None, image_path=path)
    reading = read_all(read_labelme_parts(source))
    assert list(reading.by_picture) == ["x.png"]
    reason = "imagePath that leads out of the folder; name the pictures' folder with --images"
    assert reading.drops.first == {reason: ["labels/y.json"]}


def test_pictures_may_lie_where_the_user_says(write: Write, tmp_path: Path) -> None:
    write("sub/a.json", [shape("car")], picture=None)
    source = write("b.json", [shape("car")], picture=None, image_path="C:\\work\\b.png")
    for place in ("pictures/sub/a.png", "pictures/b.png"):
        (tmp_path / place).parent.mkdir(exist_ok=True, parents=True)
        Image.new("RGB", (80, 60)).save(tmp_path / place)
    reading = read_all(read_labelme_parts(source, images=tmp_path / "pictures", val_share=0))
    assert list(reading.by_picture) == ["b.png", "sub/a.png"]
    assert not reading.drops.counts


def test_bad_files_are_left_out_by_name(write: Write) -> None:
    source = write("a.json", [shape("car")])
    (source / "b.json").write_text('{"shapes": [{"label": "car", "poi')
    (source / "c.json").write_text("[1, 2]")
    (source / "d.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    (source / "e.json").write_bytes(b'{"shapes": [], "imagePath": "\xff"}')
    (source / "f.json").write_text('{"a": ' + "[" * 100_000)
    write("g.json", [shape("car")], picture=None, imageData="iVBORw0KGgo=")
    write("h.json", [shape("car")], picture=None, image_path="a.png")
    write("i.json", [shape("car")], picture=None, image_path=["a.png"])
    write("j.json", [shape("car")], picture=None, image_path="\ud800.png")
    write("._k.json", [shape("car")], picture=None)
    os.mkfifo(source / "l.json")
    (source / "m.json").symlink_to("/dev/zero")
    reading = read_all(read_labelme_parts(source))
    assert list(reading.by_picture) == ["a.png"]
    drops = reading.drops
    assert drops.counts == {
        "annotations that cannot be read": 6,
        "JSON file that is not of LabelMe": 1,
        "picture that is only inside its LabelMe file (imageData); write it out as a file": 1,
        "second LabelMe file of a picture": 1,
        "LabelMe file without a path of its picture": 1,
        "macOS ._ file, no picture": 1,
    }
    unread = drops.first["annotations that cannot be read"]
    assert [next(name for name in "bcefjm" if f"{name}.json" in told) for told in unread] == list("bcefjm")


def test_a_folder_without_pictures_says_why(write: Write, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        read_labelme_parts(tmp_path / "none")
    with pytest.raises(UserError, match=r"no .json file"):
        read_labelme_parts(tmp_path)
    source = write("a.json", [shape("car")], picture=None, imageData="iVBORw0KGgo=")
    with pytest.raises(UserError, match=r"only inside its LabelMe file .*: a.json") as caught:
        read_labelme_parts(source)
    assert caught.value.code == DATA


def test_pictures_without_a_file_are_no_part_of_the_set_and_told(write: Write) -> None:
    source = write("a.json", [shape("car")])
    Image.new("RGB", (80, 60)).save(source / "lone.png")
    assert read_labelme_parts(source).remarks == [
        "1 pictures have no LabelMe file and are not part of the set (lone.png)"
    ]


def test_too_many_labels_are_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelme_parts, "MOST_LABELS", 10)
    with pytest.raises(UserError, match="more than 10 different labels"):
        read_labelme_parts(write("a.json", [shape(f"thing {number}") for number in range(11)]))


def _bomb() -> str:
    """A PNG file of few bytes that unfolds to 400 million pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * (2501 * 20_000))
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return base64.b64encode(file).decode()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (shape("car", [[1, 2]], "point"), "point or line, which has no area"),
        (shape("car", TRIANGLE, "linestrip"), "point or line, which has no area"),
        (shape("car", TRIANGLE, "star"), "shape of an unknown type"),
        (shape("car", TRIANGLE, ["polygon"]), "shape of an unknown type"),  # type: ignore[arg-type]
        (shape("car", TRIANGLE[:2]), "polygon of fewer than three points"),
        (shape("car", []), "shape without points"),
        (shape("car", "all"), "shape without points"),
        (shape("car", [[1, 2, 3]] * 3), "points that are no pairs of coordinates"),
        (shape("car", [[1, "2"]] * 3), "points with coordinates that are no numbers"),
        (shape("car", [[1, math.nan]] * 3), "points with coordinates that are no numbers"),
        (shape("car", [[1, 10**400]] * 3), "points with coordinates that are no numbers"),
        (shape("car", square(0, 0, 1e300)), "polygon far beyond the picture's edge"),
        (shape("car", [[0, 0], [1e300, 1e300]], "circle"), None),
        (shape("car", [[5, 5]] * 3, "circle"), "circle without a centre and a point on its rim"),
        (shape("car", [[5, 5]] * 2, "rectangle"), "empty mask"),
        (shape("car", [[5, 5]] * 3, "rectangle"), "rectangle without two corners"),
        (shape("car", square(100, 100)), "polygon outside the picture"),
        (shape("car", TRIANGLE, "mask"), "mask shape without its pixels"),
        (shape("car", TRIANGLE, "mask", mask="!!"), "stored mask that is no PNG picture"),
        (shape("car", TRIANGLE, "mask", mask=png(np.ones((4, 4), bool))[:60]), "stored mask that is no PNG picture"),
        (shape("car", TRIANGLE, "mask", mask=_bomb()), "stored mask that is no PNG picture"),
        (shape("car", TRIANGLE, "mask", mask=png(np.ones((62, 4), bool))), "stored mask larger than the picture"),
        (shape("car", [[200, 5]], "mask", mask=png(np.ones((4, 4), bool))), "stored mask outside the picture"),
        (shape("car", [[-1e300, 5]], "mask", mask=png(np.ones((4, 4), bool))), "stored mask outside the picture"),
        (shape("car", [[5, 5]], "mask", mask=png(np.zeros((4, 4), bool))), "empty mask"),
        (shape(None), "shape without a label"),
        (shape(" _ "), "shape without a label"),
        ("car", "shape without a label"),
    ],
)
def test_bad_shapes_are_left_out_with_reason_and_place(write: Write, bad: Any, reason: str | None) -> None:
    source = write("sub/a.json", [shape("car"), bad, shape("bus")])
    reading = read_all(read_labelme_parts(source))
    assert [item.id for item in reading.instances] == [1, 3]
    assert list(reading.drops.first.values()) == [["sub/a.json, shape 2"]]
    if reason is not None:
        assert list(reading.drops.first) == [reason]
