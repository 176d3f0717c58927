import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from langhops_cli.data.formats import sa_1b
from langhops_cli.data.formats.sa_1b import read_sa_1b
from langhops_cli.errors import DATA, UserError
from tests.data.reading import read_all

Boxes = dict[int, tuple[int, int, int, int]]


def _runs(mask: np.ndarray) -> dict[str, Any]:
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}


def _row(number: int, mask: np.ndarray) -> dict[str, Any]:
    """An annotation with all that SA-1B writes."""
    rle = _runs(mask)
    return {
        "id": number,
        "segmentation": rle,
        "bbox": coco_mask.toBbox(rle).tolist(),
        "area": int(mask.sum()),
        "predicted_iou": 0.95,
        "stability_score": 0.97,
        "crop_box": [0, 0, mask.shape[1], mask.shape[0]],
        "point_coords": [[1.0, 1.0]],
    }


def _filled(left: int, top: int, right: int, bottom: int, height: int = 40, width: int = 60) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


def _write(folder: Path, number: int, rows: list[Any], *, width: int = 60, height: int = 40) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (number % 255, 9, 9)).save(folder / f"sa_{number}.jpg")
    info = {"image_id": number, "width": width, "height": height, "file_name": f"sa_{number}.jpg"}
    path = folder / f"sa_{number}.json"
    path.write_text(json.dumps({"image": info, "annotations": rows}))
    return path


def _boxes(boxes: Boxes) -> list[dict[str, Any]]:
    return [_row(number, _filled(*box)) for number, box in boxes.items()]


def test_masks_inside_others_are_parts_of_the_one_at_the_top(tmp_path: Path) -> None:
    boxes = {
        11: (0, 0, 40, 40),  # an object
        12: (2, 2, 20, 20),  # in it
        13: (4, 4, 8, 8),  # in a part of it: one level only, so a part of the object
        14: (34, 10, 44, 14),  # six tenths in it: an object
        15: (45, 0, 60, 30),  # another object
        16: (46, 1, 50, 5),  # in that
        17: (34, 10, 44, 14),  # the same again: neither is a part of the other
    }
    _write(tmp_path / "sa_000000", 223750, _boxes(boxes))
    source = read_sa_1b(tmp_path)
    found = read_all(source).instances
    assert {item.id: item.parent for item in found} == {
        11: None, 12: 11, 13: 11, 14: None, 15: None, 16: 15, 17: None,
    }  # fmt: skip
    assert {(item.object, item.part, item.parent is None) for item in found} == {
        ("object", None, True),
        ("object", "part", False),
    }
    assert source.tree == {"object": {"part": None}}
    assert not source.splits[0].exhaustive


def test_masks_come_through_bit_by_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    drawn = {number: rng.random((40, 60)) < rng.random() for number in range(1, 30)}
    drawn[30] = np.ones((40, 60), bool)
    _write(tmp_path, 1, [_row(number, mask) for number, mask in drawn.items()])
    found = read_all(read_sa_1b(tmp_path)).instances
    assert len(found) == len(drawn)
    for item in found:
        assert (coco_mask.decode(item.rle) == drawn[item.id]).all()


def test_parents_are_those_that_counting_pixels_gives(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    drawn = {}
    for number in range(60):
        (left, right), (top, bottom) = (
            sorted(rng.choice(61, 2, replace=False)),
            sorted(rng.choice(41, 2, replace=False)),
        )
        drawn[number] = _filled(left, top, right, bottom)
    _write(tmp_path, 1, [_row(number, mask) for number, mask in drawn.items()])
    expected: dict[int, int | None] = {}
    for number, mask in drawn.items():
        top_one = None
        while True:
            around = [
                other
                for other, outer in drawn.items()
                if (mask & outer).sum() >= 0.9 * mask.sum() and mask.sum() < 0.9 * outer.sum()
            ]
            if not around:
                break
            top_one = min(around, key=lambda other: drawn[other].sum())
            mask = drawn[top_one]
        expected[number] = top_one
    found = {item.id: item.parent for item in read_all(read_sa_1b(tmp_path)).instances}
    assert sum(parent is not None for parent in expected.values()) > 20
    areas = {number: mask.sum() for number, mask in drawn.items()}
    # Masks of one area may stand for each other.
    assert {n: p if p is None else areas[p] for n, p in found.items()} == {
        n: p if p is None else areas[p] for n, p in expected.items()
    }


def test_pictures_come_in_order_from_all_folders_and_can_be_read_elsewhere(tmp_path: Path) -> None:
    for number, folder in [(3, "sa_000001"), (2, "sa_000000"), (10, "sa_000000"), (7, ".")]:
        _write(tmp_path / folder, number, _boxes({number: (0, 0, 9, 9)}))
    (split,) = read_sa_1b(tmp_path).splits
    pictures = list(split.pictures())
    assert [item.file_name for item in pictures] == [
        "sa_7.jpg", "sa_000000/sa_10.jpg", "sa_000000/sa_2.jpg", "sa_000001/sa_3.jpg",
    ]  # fmt: skip
    assert split.total == len({item.id for item in pictures}) == 4
    assert list(split.pictures()) == pictures
    there, picture = pickle.loads(pickle.dumps((split.read, pictures[0])))
    assert [item.id for item in there(split.image_root / picture.file_name, picture, (60, 40)).instances] == [7]


def test_pictures_may_lie_in_folders_of_their_own(tmp_path: Path) -> None:
    json_file = _write(tmp_path / "pictures/sa_000000", 5, _boxes({1: (0, 0, 9, 9)}))
    (tmp_path / "masks/sa_000000").mkdir(parents=True)
    json_file.rename(tmp_path / "masks/sa_000000/sa_5.json")
    source = read_sa_1b(tmp_path / "masks", images=tmp_path / "pictures")
    assert list(read_all(source).by_picture) == ["sa_000000/sa_5.jpg"]


def test_what_belongs_to_nothing_is_counted(tmp_path: Path) -> None:
    _write(tmp_path / "sa_000000", 1, _boxes({1: (0, 0, 9, 9)}))
    _write(tmp_path / "sa_000000", 2, []).unlink()
    _write(tmp_path / "sa_000000", 3, [])
    (tmp_path / "sa_000000/sa_3.jpg").unlink()
    _write(tmp_path / "sa_000001", 4, [])
    (tmp_path / "sa_000001/sa_4.jpg").unlink()
    for name in ("._sa_1.jpg", ".hidden.jpg", ".cache/sa_9.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (split,) = read_sa_1b(tmp_path).splits
    assert split.total == len(list(split.pictures())) == 1
    assert split.drops.counts == {
        "macOS ._ file, no picture": 1,
        "hidden file": 2,
        "annotation file without a picture": 2,
        "picture without an annotation file": 1,
    }
    assert split.drops.first["picture without an annotation file"] == ["sa_000000/sa_2.jpg"]


def test_bad_masks_are_left_out_with_reason_and_id(tmp_path: Path) -> None:
    good = _row(1, _filled(0, 0, 9, 9))
    rows = [
        good,
        {**good, "id": 1},
        {**good, "id": "2"},
        {**good, "id": 10**30},
        {**good, "id": 3, "segmentation": {"size": [40, 61], "counts": "0"}},
        {**good, "id": 4, "segmentation": {"size": [40, 60], "counts": good["segmentation"]["counts"][:-1]}},
        # Too short for the picture: pycocotools would compare it with others for ever.
        {**good, "id": 5, "segmentation": {"size": [40, 60], "counts": "02"}},
        {**good, "id": 6, "segmentation": None},
        {**good, "id": 7, "segmentation": _runs(np.zeros((40, 60)))},
        {**good, "id": 8, "segmentation": {"size": [40, 60], "counts": "\u2603"}},
        [],
    ]
    _write(tmp_path, 1, rows)
    reading = read_all(read_sa_1b(tmp_path))
    assert [item.id for item in reading.instances] == [1]
    assert sum(reading.drops.counts.values()) == len(rows) - 1
    assert reading.drops.first["run lengths that do not fill the picture"] == ["4", "5", "8"]
    assert reading.drops.first["annotation id that stands twice"] == ["1"]
    assert reading.drops.counts["annotation id that is no whole number"] == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"image": {}, "annotations": [{"id": 1, "segm', "is no JSON"),
        ("[]", "holds no mapping"),
        ('{"image": {"width": 60, "height": 40}}', "no list of annotations"),
        ('{"image": {"width": 61, "height": 40}, "annotations": []}', "made for a picture of 61 x 40"),
        ("[" * 100_000, "holds no mapping"),
        ('{"annotations": ' + "[" * 100_000, "nested too deep"),
        ("\xff", "no mapping|no text"),
        (json.dumps({"annotations": [{"id": n} for n in range(30)]}), "more than 20 masks"),
    ],
)
def test_a_bad_file_costs_its_picture_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    monkeypatch.setattr(sa_1b, "MOST_MASKS", 20)
    path = _write(tmp_path, 1, [])
    path.write_text(text)
    (split,) = read_sa_1b(tmp_path).splits
    (picture,) = split.pictures()
    with pytest.raises(UserError, match=says) as caught:
        split.read(tmp_path / picture.file_name, picture, (60, 40))
    assert "sa_1.json" in str(caught.value) or "60 x 40" in str(caught.value)


def test_a_picture_without_masks_is_one_without_anything(tmp_path: Path) -> None:
    _write(tmp_path, 1, [])
    assert read_all(read_sa_1b(tmp_path)).by_picture == {"sa_1.jpg": []}


def test_links_in_a_circle_end_and_pipes_are_not_opened(tmp_path: Path) -> None:
    _write(tmp_path / "a", 1, [])
    (tmp_path / "a/back").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(tmp_path / "a/sa_2.jpg")
    (tmp_path / "a/sa_3.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "a/sa_3.json").write_text("{}")
    (split,) = read_sa_1b(tmp_path).splits
    # The link that leads nowhere stays, to be told as a missing picture.
    assert [item.file_name for item in split.pictures()] == ["a/sa_1.jpg", "a/sa_3.jpg"]


def test_empty_and_packed_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        read_sa_1b(tmp_path / "none")
    with pytest.raises(UserError, match="check --source"):
        read_sa_1b(tmp_path)
    (tmp_path / "sa_000000.tar").write_bytes(b"")
    with pytest.raises(UserError, match=r"unpack sa_000000.tar") as caught:
        read_sa_1b(tmp_path)
    assert caught.value.code == DATA
