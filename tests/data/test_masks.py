import math
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from langhops_cli.data import masks
from langhops_cli.data.masks import BadMaskError, to_rle

LARGER = coco_mask.encode(np.ones((99, 99), np.uint8, order="F"))["counts"].decode()
BROKEN = ["", "o", "0o", "ooooooo0", "o" * 1000, "@", "0@@@", "/", "~", "\x00", "0\n", "Èÿo", "轮", "\ud800", "0" * 100]
"""Compressed run lengths that are cut off, too long, negative, of other characters, or that do not fill 30 x 40."""
SQUARE = [2, 2, 12, 2, 12, 9, 2, 9]


def _disc() -> np.ndarray:
    y, x = np.mgrid[0:30, 0:40]
    return ((x - 18) ** 2 + (y - 14) ** 2 < 90).astype(np.uint8)


def _runs(mask: np.ndarray) -> list[int]:
    """Uncompressed run lengths, worked out column by column."""
    counts, value = [0], 0
    for pixel in mask.flatten(order="F"):
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


@pytest.mark.parametrize(
    "segmentation",
    [
        [SQUARE],
        [SQUARE, [20.5, 3.2, 31.7, 8.1, 24.4, 19.9]],
        [[-5, -5, 50, -5, 50, 20, -5, 20]],
        {"size": [30, 40], "counts": _runs(_disc())},
        {"size": [30, 40], "counts": coco_mask.encode(np.asfortranarray(_disc()))["counts"].decode()},
    ],
)
def test_masks_are_those_of_pycocotools(segmentation: Any) -> None:
    coco = COCO()
    coco.imgs = {1: {"height": 30, "width": 40}}
    expected = coco.annToMask({"image_id": 1, "segmentation": segmentation})
    rle, _ = to_rle(segmentation, 30, 40)
    np.testing.assert_array_equal(masks.decode(rle, height=30, width=40), expected)
    assert masks.area(rle) == expected.sum()
    assert isinstance(rle["counts"], str)


def test_short_polygons_beside_whole_ones_are_counted() -> None:
    rle, short = to_rle([SQUARE, [1, 2], [1, 2, 3, 4]], 30, 40)
    assert short == 2
    assert rle == to_rle([SQUARE], 30, 40)[0]


def test_one_polygon_without_its_outer_list_is_read() -> None:
    assert to_rle(SQUARE, 30, 40) == to_rle([SQUARE], 30, 40)


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        (None, "no mask"),
        ([], "no mask"),
        ({"size": [30, 40]}, "no mask"),
        ([[1, 2, 3, 4]], "polygon of fewer than three points"),
        ([[1, 2, 3, 4, 5, 6, 7]], "polygon with an odd number of coordinates"),
        ([[1, 2, 3, 4, 5, math.nan]], "polygon with coordinates that are no numbers"),
        ([[1, 2, 3, 4, 5, "6"]], "polygon with coordinates that are no numbers"),
        ([[50, 2, 60, 2, 60, 9]], "polygon outside the picture"),
        ([[-9, 2, -1, 2, -1, 9]], "polygon outside the picture"),
        ([[1, 2, 3, 4, 5, 10**400]], "polygon with coordinates that are no numbers"),
        ([[1, 2, 3, 4, 5, math.inf]], "polygon with coordinates that are no numbers"),
        ([[1, 2, 3, 4, 5, True]], "polygon with coordinates that are no numbers"),
        ([[1, 2, 3, 4, 5, None]], "polygon with coordinates that are no numbers"),
        ([[[1, 2], [3, 4], [5, 6]]], "polygon of fewer than three points"),
        ([[1, 2, 3, 4, 5, [6]]], "polygon with coordinates that are no numbers"),
        ([None, "polygon", {}], "polygon of fewer than three points"),
        ("polygon", "no mask"),
        ([[0, 0, 1e9, 0, 1e9, 1e9]], "polygon far beyond the picture's edge"),
        ([[0, 0, -1e308, 0, 5, 5]], "polygon far beyond the picture's edge"),
        ([[5, 5, 5, 5, 5, 5]], "empty mask"),
        ({"size": [30, 40], "counts": [1200]}, "empty mask"),
        ({"size": [40, 30], "counts": [0, 1200]}, "mask of another size than the picture"),
        ({"size": [30, 40], "counts": [0, 1199]}, "run lengths that do not fill the picture"),
        ({"size": [30, 40], "counts": [0, -5, 1205]}, "run lengths that do not fill the picture"),
        ({"size": [30, 40], "counts": [0, 10**400]}, "run lengths that do not fill the picture"),
        ({"size": [30, 40], "counts": [0, 1200.0]}, "run lengths that do not fill the picture"),
        ({"size": [30, 40], "counts": [0, "1200"]}, "run lengths that do not fill the picture"),
        ({"size": [30, 40], "counts": []}, "run lengths that do not fill the picture"),
        ({"size": [-30, -40], "counts": [0, 1200]}, "mask of another size than the picture"),
        ({"size": [30], "counts": [0, 1200]}, "mask of another size than the picture"),
        ({"size": 30, "counts": [0, 1200]}, "mask of another size than the picture"),
        ({"size": "30", "counts": [0, 1200]}, "mask of another size than the picture"),
        ({"counts": [0, 1200]}, "mask of another size than the picture"),
        ({"size": [30, 40], "counts": {"0": 1200}}, "no mask"),
        ({"size": [30, 40], "counts": 1200}, "no mask"),
        ({"size": [30, 40], "counts": LARGER}, "run lengths that do not fill the picture"),
        *(({"size": [30, 40], "counts": text}, "run lengths that do not fill the picture") for text in BROKEN),
    ],
)
def test_every_fault_has_its_reason(segmentation: Any, reason: str) -> None:
    with pytest.raises(BadMaskError, match=f"^{reason}$"):
        to_rle(segmentation, 30, 40)


def test_any_text_for_run_lengths_is_refused_or_read_as_pycocotools_reads_it() -> None:
    """pycocotools itself writes past its memory on some of these."""
    generator = np.random.default_rng(0)
    read = 0
    for _ in range(4000):
        text = "".join(generator.choice(list("0011122334455667PQRXo@~/"), generator.integers(1, 6)))
        try:
            rle, _ = to_rle({"size": [2, 3], "counts": text}, 2, 3)
        except BadMaskError:
            continue
        read += 1
        expected = coco_mask.decode({"size": [2, 3], "counts": text.encode()})
        np.testing.assert_array_equal(masks.decode(rle, height=2, width=3), expected)
    assert read > 40


def test_a_mask_has_one_spelling() -> None:
    """Runs of length 0, and numbers written with more characters than they need, are no other mask."""
    spellings: list[Any] = [[2, 3, 1], [2, 1, 0, 2, 1], [0, 0, 2, 3, 1, 0], [1, 0, 1, 3, 0, 0, 1], "231", "R031"]
    found = [to_rle({"size": [2, 3], "counts": counts}, 2, 3)[0] for counts in spellings]
    assert found == [{"size": [2, 3], "counts": "231"}] * len(spellings)
    ones = [to_rle({"size": [2, 3], "counts": counts}, 2, 3)[0]["counts"] for counts in ([0, 6], [0, 2, 0, 4, 0])]
    assert ones == ["06"] * 2


def test_random_masks_keep_every_pixel() -> None:
    generator = np.random.default_rng(1)
    for _ in range(300):
        height, width = (int(side) for side in generator.integers(1, 50, 2))
        mask = (generator.random((height, width)) < generator.choice([0.03, 0.5, 0.99])).astype(np.uint8)
        mask[0, 0] |= not mask.any()
        rle = masks.encode(mask)
        assert to_rle(rle, height, width) == (rle, 0)
        assert to_rle({"size": [height, width], "counts": _runs(mask)}, height, width) == (rle, 0)


def test_polygons_that_would_take_all_memory_are_refused_before_they_are_drawn() -> None:
    """A hundred thousand edges across a large picture: the rasteriser would take eighty gigabytes."""
    zigzag = [float(value) for place in range(100_000) for value in (9999 * (place % 2), place % 9999)]
    with pytest.raises(BadMaskError, match="outline of more than 1,048,576 pixels"):
        to_rle([zigzag], 10_000, 10_000)
    with pytest.raises(BadMaskError, match="outline of more than"):
        to_rle([[0, 0, 9999, 0, 9999, 9999]] * 100, 10_000, 10_000)


def test_many_polygons_and_many_points_are_drawn() -> None:
    """Twenty thousand squares, and one outline of as many points: within the limit, and the same as one by one."""
    squares = [[x, y, x + 2, y, x + 2, y + 2, x, y + 2] for x in range(0, 400, 4) for y in range(0, 800, 4)]
    rle, _ = to_rle(squares, 800, 400)
    expected = np.zeros((800, 400), np.uint8)
    for place in range(2):
        expected[place::4, 0::4] = expected[place::4, 1::4] = 1
    np.testing.assert_array_equal(masks.decode(rle, height=800, width=400), expected)
    angles = np.linspace(0, 2 * np.pi, 20_000)
    ring = np.stack([500 + 400 * np.cos(angles), 500 + 400 * np.sin(angles)], axis=1).ravel().tolist()
    assert masks.area(to_rle([ring], 1000, 1000)[0]) == pytest.approx(np.pi * 400**2, rel=0.01)


@pytest.mark.parametrize(
    ("bbox", "box"),
    [
        ([2, 3, 4, 5], (2, 3, 6, 8)),
        ((2.5, 3, 4, 5), (2.5, 3, 6.5, 8)),
        ([-5, -5, 100, 100], (0, 0, 40, 30)),
        ([1e308, 0, 1e308, 5], None),
        ([0, 0, 1e308, 1e308], (0, 0, 40, 30)),
        ([39.5, 0, 5, 5], None),
        ([2, 3, 0, 5], None),
        ([2, 3, -4, 5], None),
    ],
)
def test_boxes_are_cut_to_the_picture(bbox: Any, box: masks.Box | None) -> None:
    if box is not None:
        assert masks.to_box(bbox, 30, 40) == box
        return
    with pytest.raises(BadMaskError, match=r"^box without a pixel inside the picture$"):
        masks.to_box(bbox, 30, 40)


@pytest.mark.parametrize(
    "bbox",
    [
        [1, 2, 3],
        [1, 2, 3, "4"],
        [1, 2, 3, math.nan],
        [math.inf, 2, 3, 4],
        [10**400, 0, 1, 1],
        [1, 2, True, 4],
        "abcd",
        {},
        5,
    ],
)
def test_boxes_of_other_things_than_numbers_are_refused(bbox: Any) -> None:
    with pytest.raises(BadMaskError, match=r"^box with coordinates that are no numbers$"):
        masks.to_box(bbox, 30, 40)


def test_a_smaller_decode_picks_the_pixels_under_the_centres() -> None:
    rle, _ = to_rle({"size": [30, 40], "counts": _runs(_disc())}, 30, 40)
    np.testing.assert_array_equal(masks.decode(rle, height=15, width=20), _disc()[1::2, 1::2])


def test_union_and_containment() -> None:
    left, _ = to_rle([[0, 0, 10, 0, 10, 10, 0, 10]], 30, 40)
    right, _ = to_rle([[5, 0, 15, 0, 15, 10, 5, 10]], 30, 40)
    assert masks.area(masks.union([left, right])) == 150
    np.testing.assert_allclose(masks.share_inside([left], [left, right]), [[1.0, 0.5]])
    assert masks.box_xyxy(right) == (5, 0, 15, 10)
