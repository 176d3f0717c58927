import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from langhops_cli.data.formats.semantic_maps import Depth, read_label_map, read_masks, split_labels
from langhops_cli.data.records import Drops
from langhops_cli.errors import DATA, UserError
from tests.data.pascal_files import write_labels

LABELS = np.random.default_rng(0).integers(0, 5, (7, 11)).astype(np.uint8)
SIZE = (11, 7)


@pytest.mark.parametrize("kind", ["noise", "blocks", "one", "row"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_masks_are_those_of_each_label_compared_alone(kind: str, dtype: type) -> None:
    labels = {
        "noise": LABELS,
        "blocks": np.kron(LABELS, np.ones((5, 3), np.uint8)),
        "one": np.full((4, 6), 3),
        "row": LABELS[:1],
    }[kind].astype(dtype)
    found = split_labels(labels, ignore=2)
    assert [label for label, _ in found] == sorted(set(labels.ravel().tolist()) - {2})
    for label, rle in found:
        expected = coco_mask.encode(np.asfortranarray((labels == label).astype(np.uint8)))
        assert rle == {"size": list(labels.shape), "counts": expected["counts"].decode()}


def test_a_map_without_pixels_has_no_masks() -> None:
    assert split_labels(np.zeros((0, 5), np.uint8)) == []


@pytest.mark.parametrize(
    ("depth", "labels", "palette"),
    [
        ("8 bit", LABELS, False),
        ("16 bit", LABELS.astype(np.uint16) * 13000, False),
        ("palette", LABELS, True),
    ],
)
def test_numbers_come_back_as_they_were_written(
    tmp_path: Path, depth: Depth, labels: np.ndarray, palette: bool
) -> None:
    write_labels(tmp_path / "a.png", labels, palette=palette)
    read = read_label_map(tmp_path / "a.png", SIZE, depth)
    np.testing.assert_array_equal(read, labels)
    assert read.dtype == (np.uint16 if depth == "16 bit" else np.uint8)


def test_a_palette_of_plain_greys_is_as_good_as_grey(tmp_path: Path) -> None:
    image = Image.fromarray(LABELS).convert("P")
    image.putpalette([value for number in range(256) for value in (number, number, number)])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.png", SIZE, "8 bit"), LABELS)


def test_a_map_of_nothing_but_0_and_255_may_be_stored_in_single_bits(tmp_path: Path) -> None:
    labels = np.where(LABELS > 2, 255, 0).astype(np.uint8)
    Image.fromarray(labels).convert("1").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.png", SIZE, "8 bit"), labels)


def _colours(path: Path) -> None:
    Image.fromarray(np.stack([LABELS] * 3, axis=-1)).save(path)


def _jpeg(path: Path) -> None:
    Image.fromarray(LABELS).save(path, format="JPEG")


def _half(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 9, (7, 11)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-40])


def _bomb(path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(10_000))), (b"IEND", b"")]
    written = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(written))


@pytest.mark.parametrize(
    ("write", "depth", "told"),
    [
        (lambda path: None, "8 bit", "is missing"),
        (lambda path: path.write_bytes(b""), "8 bit", "no map of labels"),
        (lambda path: path.write_bytes(b"no picture"), "8 bit", "no map of labels"),
        (lambda path: path.mkdir(), "8 bit", "broken"),
        (_half, "8 bit", "broken"),
        (_bomb, "8 bit", "no map of labels that can be read"),
        (lambda path: write_labels(path, LABELS.T.copy()), "8 bit", "7 x 11 pixels, its picture 11 x 7"),
        (lambda path: write_labels(path, LABELS, palette=True), "8 bit", "has a palette"),
        (lambda path: write_labels(path, LABELS), "palette", "grey of 8 bit; its labels should be a palette"),
        (lambda path: write_labels(path, LABELS), "16 bit", "grey of 8 bit; its labels should be grey of 16 bit"),
        (lambda path: write_labels(path, LABELS.astype(np.uint16)), "8 bit", "grey of 16 bit"),
        (_colours, "8 bit", "holds colours (RGB)"),
        (_colours, "palette", "holds colours (RGB)"),
        (_jpeg, "8 bit", "a JPEG, which does not keep numbers"),
    ],
)
def test_what_would_give_wrong_numbers_is_refused_by_name(tmp_path: Path, write, depth: Depth, told: str) -> None:
    path = tmp_path / "a.png"
    write(path)
    with pytest.raises(UserError) as caught:
        read_label_map(path, SIZE, depth)
    assert str(path) in str(caught.value)
    assert told in str(caught.value)
    assert caught.value.code == DATA
    assert "\n" not in str(caught.value)


def test_labels_that_stand_for_no_name_are_counted_one_by_one(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 7], [255, 1, 9]], np.uint8)
    write_labels(tmp_path / "a.png", labels)
    drops = Drops()
    found = read_masks(tmp_path / "a.png", (3, 2), "8 bit", known=range(2), ignore=255, drops=drops)
    assert [(label, int(coco_mask.area(rle))) for label, rle in found] == [(0, 1), (1, 2)]
    assert drops.to_list() == [
        {"reason": "label that stands for no name", "count": 2, "first_ids": ["a.png: 7", "a.png: 9"]}
    ]
