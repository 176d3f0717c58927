"""Bands along outlines and boundary IoU, against a plain look at every pixel's neighbourhood."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from langhops_cli.evaluation.semantic.boundary import BoundaryCounts, band_width, boundary, boundary_iou, inner_band

from .scenes import encode


def blobs(seed, size=(40, 55)):
    random = np.random.default_rng(seed)
    mask = np.zeros(size, bool)
    for _ in range(int(random.integers(1, 4))):
        y, x = random.integers(0, size)
        height, width = random.integers(1, 30, 2)
        mask[y : y + height, x : x + width] = True
    return mask


def band_of(mask, width):
    """The pixels of a mask that have a pixel outside it, or outside the picture, within so many rows and columns."""
    near = np.zeros_like(mask)
    rows, columns = mask.shape
    for y in range(rows):
        for x in range(columns):
            outside = y < width or x < width or y + width >= rows or x + width >= columns
            window = mask[max(0, y - width) : y + width + 1, max(0, x - width) : x + width + 1]
            near[y, x] = mask[y, x] and (outside or not window.all())
    return near


def share(first, second):
    return (first & second).sum() / max((first | second).sum(), 1)


def test_width_follows_the_diagonal():
    assert band_width((300, 400)) == 10
    assert band_width((5, 5)) == 1


@pytest.mark.parametrize("seed", range(12))
def test_band_of_a_mask(seed):
    mask = blobs(seed)
    expected = band_of(mask, band_width(mask.shape))
    assert np.array_equal(coco_mask.decode(boundary(encode(mask))).astype(bool), expected)
    assert np.array_equal(inner_band(mask, width=band_width(mask.shape)) & mask, expected)


def test_an_empty_mask_has_no_band():
    assert coco_mask.area(boundary(encode(np.zeros((30, 30), bool)))) == 0


@pytest.mark.parametrize("seed", range(6))
def test_overlap_is_the_smaller_of_mask_and_boundary(seed):
    found, true = ([blobs(10 * seed + number) for number in range(start, start + 3)] for start in (0, 2))
    crowd = [0, 1, 0]
    overlap = boundary_iou([encode(m) for m in found], [encode(m) for m in true], crowd)
    width = band_width(found[0].shape)
    for d, one in enumerate(found):
        for g, other in enumerate(true):
            bands = band_of(one, width), band_of(other, width)
            if crowd[g]:
                expected = min((a & b).sum() / a.sum() for a, b in ((one, other), bands))
            else:
                expected = min(share(one, other), share(*bands))
            assert overlap[d, g] == pytest.approx(expected)


def test_nothing_found_or_nothing_true():
    mask = encode(blobs(0))
    assert boundary_iou([], [mask], [0]).shape == (0, 1)
    assert boundary_iou([mask], [], []).shape == (1, 0)


@pytest.mark.parametrize("seed", range(5))
def test_boundary_of_each_name(seed):
    random = np.random.default_rng(seed)
    names, counts = 3, BoundaryCounts(3)
    sums = np.zeros((names, 2))
    for _ in range(2):
        predicted, true = (
            np.repeat(np.repeat(random.integers(0, names + 1, (4, 5)), 9, 0), 11, 1).astype(np.uint16) for _ in range(2)
        )
        counts.add(predicted, true)
        width = band_width(true.shape)
        for name in range(names):
            ours, theirs = band_of(predicted == name, width), band_of(true == name, width)
            sums[name] += (ours & theirs).sum(), (ours | theirs).sum()
    assert counts.iou() == pytest.approx(sums[:, 0] / sums[:, 1])


def test_a_name_that_is_nowhere_true_has_no_boundary_iou():
    counts = BoundaryCounts(2)
    counts.add(np.zeros((9, 9), np.uint16), np.ones((9, 9), np.uint16))
    assert np.isnan(counts.iou()[0])
    assert counts.iou()[1] == 0
