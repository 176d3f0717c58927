import math
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from langhops_cli.data import masks
from langhops_cli.data.masks import BadMaskError, to_rle

LARGER = coco_mask.encode(np.ones((99, 99), np.uint8, order="F"))["counts"].decode()
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
        ([[0, 0, 1e9, 0, 1e9, 1e9]], "polygon far beyond the picture's edge"),
        ([[5, 5, 5, 5, 5, 5]], "empty mask"),
        ({"size": [30, 40], "counts": [1200]}, "empty mask"),
        ({"size": [40, 30], "counts": [0, 1200]}, "mask of another size than the picture"),
        ({"size": [30, 40], "counts": [0, 1199]}, "run lengths that do not fill the picture"),
        ({"size": [30, 40], "counts": [0, -5, 1205]}, "run lengths that do not fill the picture"),
        ({"size": [30, 40], "counts": LARGER}, "run lengths that do not fill the picture"),
    ],
)
def test_every_fault_has_its_reason(segmentation: Any, reason: str) -> None:
    with pytest.raises(BadMaskError, match=f"^{reason}$"):
        to_rle(segmentation, 30, 40)


def test_a_smaller_decode_picks_the_pixels_under_the_centres() -> None:
    rle, _ = to_rle({"size": [30, 40], "counts": _runs(_disc())}, 30, 40)
    np.testing.assert_array_equal(masks.decode(rle, height=15, width=20), _disc()[1::2, 1::2])


def test_union_and_containment() -> None:
    left, _ = to_rle([[0, 0, 10, 0, 10, 10, 0, 10]], 30, 40)
    right, _ = to_rle([[5, 0, 15, 0, 15, 10, 5, 10]], 30, 40)
    assert masks.area(masks.union([left, right])) == 150
    np.testing.assert_allclose(masks.share_inside([left], [left, right]), [[1.0, 0.5]])
    assert masks.box_xyxy(right) == (5, 0, 15, 10)
