from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy import ndimage

from langhops_cli.prediction.outlines import INSET, closed_line, outlines
from tests.prediction.found import blobs


@cache
def masks():
    """Noise of all densities, which touches itself at corners, and smooth shapes with holes, down to one pixel."""
    random = np.random.default_rng(0)
    made = [np.ones((1, 1), dtype=bool), np.eye(7, dtype=bool) | np.eye(7, dtype=bool)[::-1]]
    for kind in range(80):
        size = tuple(random.integers(1, 25, 2))
        mask = random.random(size) < random.random() if kind % 2 else blobs(kind, size, random.uniform(0.1, 0.9))
        mask[tuple(random.integers(0, size))] = True
        made.append(mask)
    return made


def filled(polygons, size):
    """Pixels whose centres lie within an odd number of rings: crossings of their upright edges to the left."""
    crossings = np.zeros(size, dtype=int)
    for corners in (ring for rings in polygons for ring in rings):
        for (x, y), (other_x, other_y) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if x == other_x:
                crossings[min(y, other_y) : max(y, other_y), x:] += 1
            else:
                assert y == other_y, "an edge that follows no edge of pixels"
    return crossings % 2 == 1


def area(corners):
    x, y = corners.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def drawn_by_rule(line, size):
    """`cv2.fillPoly` in plain words: the pixels that the line's steps go through, and what it encloses."""
    points = line.astype(np.float32).astype(np.int32)
    mask = np.zeros(size, dtype=bool)
    crossings = np.zeros(size, dtype=int)
    for (x, y), (to_x, to_y) in zip(points, np.roll(points, -1, axis=0), strict=True):
        steps = max(abs(to_x - x), abs(to_y - y), 1)
        assert 0 in (to_x - x, to_y - y) or abs(to_x - x) == abs(to_y - y), "a step that no rule is needed for"
        along = np.arange(steps + 1)
        mask[y + along * (to_y - y) // steps, x + along * (to_x - x) // steps] = True
        for row in range(min(y, to_y), max(y, to_y)):  # between the centres of this row and the next one
            at = x + (row + 0.5 - y) * (to_x - x) / (to_y - y)
            crossings[row] += np.arange(size[1]) > at
    # What is enclosed has an odd count just above and just below its row.
    above = np.vstack([np.zeros((1, size[1]), dtype=int), crossings[:-1]])
    return mask | ((crossings % 2 == 1) & (above % 2 == 1))


def test_polygons_fill_to_the_mask():
    for mask in masks():
        assert np.array_equal(filled(outlines(mask), mask.shape), mask)


def test_a_polygon_is_a_piece_with_its_holes():
    for mask in masks():
        polygons = outlines(mask)
        labels, number = ndimage.label(mask)
        assert len(polygons) == number
        for rings in polygons:
            assert area(rings[0]) > 0
            assert all(area(hole) < 0 for hole in rings[1:])
            piece = filled([rings], mask.shape)
            assert len(np.unique(labels[piece])) == 1
            assert sum(map(area, rings)) == piece.sum()


def test_no_ring_meets_itself():
    for mask in masks():
        for corners in (ring for rings in outlines(mask) for ring in rings):
            assert len(np.unique(corners, axis=0)) == len(corners)


def test_corners_alone_are_kept():
    mask = np.zeros((9, 12), dtype=bool)
    mask[2:7, 3:10] = True
    mask[4, 5] = False
    ((outer, hole),) = outlines(mask)
    assert sorted(map(tuple, outer.tolist())) == [(3, 2), (3, 7), (10, 2), (10, 7)]
    assert sorted(map(tuple, hole.tolist())) == [(5, 4), (5, 5), (6, 4), (6, 5)]


def test_polygons_are_valid_for_gis_tools():
    geometry = pytest.importorskip("shapely.geometry", reason="shapely is not installed")
    for mask in masks():
        polygons = [geometry.Polygon(rings[0], rings[1:]) for rings in outlines(mask)]
        shape = geometry.MultiPolygon(polygons)
        assert shape.is_valid
        assert shape.area == mask.sum()
        assert all(polygon.exterior.is_ccw for polygon in polygons)
        assert not any(hole.is_ccw for polygon in polygons for hole in polygon.interiors)


def test_a_closed_line_gives_a_single_piece_back():
    """Also through the grid of float32 that label files are read into."""
    checked = 0
    for mask in masks():
        if ndimage.label(mask)[1] == 1:  # pieces that touch at corners have bridges in all directions
            checked += 1
            assert np.array_equal(drawn_by_rule(closed_line(mask), mask.shape), mask)
    assert checked > 10


def test_a_closed_line_drawn_by_opencv():
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    single = 0
    for mask in masks():
        points = closed_line(mask).astype(np.float32).astype(np.int32)
        drawn = cv2.fillPoly(np.zeros(mask.shape, dtype=np.uint8), [points], 1).astype(bool)
        assert (drawn >= mask).all()
        if ndimage.label(mask, np.ones((3, 3)))[1] == 1:
            single += 1
            assert np.array_equal(drawn, mask)
    assert single > 20


def test_pieces_hang_together_by_the_shortest_lines():
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    mask = np.zeros((20, 40), dtype=bool)
    mask[2:8, 2:8] = mask[2:8, 12:18] = mask[12:18, 2:8] = mask[5, 30] = True
    points = closed_line(mask).astype(np.int32)
    drawn = cv2.fillPoly(np.zeros(mask.shape, dtype=np.uint8), [points], 1).astype(bool)
    added = drawn & ~mask
    # 4 pixels between the upper two, 4 to the lower one, 12 to the single pixel on the right.
    assert added.sum() == 4 + 4 + 12


def test_a_closed_line_is_right_for_coco_rules_too():
    for mask in masks():
        height, width = mask.shape
        runs = coco_mask.frPyObjects([closed_line(mask).ravel().tolist()], height, width)
        assert np.array_equal(coco_mask.decode(runs)[..., 0].astype(bool), mask)


def test_points_lie_inside_their_pixels():
    for mask in masks():
        points = closed_line(mask)
        columns, rows = points.astype(int).T
        assert mask[rows, columns].all()
        assert (np.abs(points % 1 - 0.5) <= 0.5 - INSET).all()


def test_empty_masks():
    empty = np.zeros((4, 5), dtype=bool)
    assert outlines(empty) == []
    with pytest.raises(ValueError, match="empty"):
        closed_line(empty)
