"""Outlines of masks along the edges of their pixels: polygons with holes, or one closed line for formats with no more.

An outline is found as its corners, which are linked along the rows and columns of the grid between the pixels; what is
set lies to the left of the way, where x grows to the right and y downwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from langhops_cli.prediction.results import Mask

Ints = NDArray[np.int64]
Points = NDArray[np.float64]
Ring = Ints
"""Corners of a closed outline, (n, 2), x and y on the grid between the pixels; the first one is not repeated."""

INSET = 0.25
"""How far from its pixel's edge a point of `closed_line` lies, in pixels."""

_ALONG = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
"""The four directions of a way, x and y: right, down, left, up."""
_INNER = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)])
"""Where from a corner the pixel lies that a way in each direction goes along when it leaves the corner."""
_TURNS = {
    8: [(3, 0)], 4: [(0, 1)], 1: [(1, 2)], 2: [(2, 3)], 7: [(2, 1)], 11: [(3, 2)], 14: [(0, 3)], 13: [(1, 0)],
    9: [(1, 2), (3, 0)], 6: [(2, 3), (0, 1)], 16 + 9: [(1, 0), (3, 2)], 16 + 6: [(0, 3), (2, 1)],
}  # fmt: skip
"""Directions in which ways arrive at a corner and leave it, by the pixels around that are set: upper left 1, upper
right 2, lower left 4, lower right 8, and 16 where two that touch at the corner alone belong to one piece."""


@dataclass(frozen=True)
class _Corners:
    """All corners of a mask's outlines, in the order of the grid's rows; fields (n,) but for `labels`.

    Args:
        x, y: place on the grid of the window, where pixel (row, column) is the square from (column, row) to
            (column + 1, row + 1).
        arriving, leaving: directions of the way.
        following: the next corner on the way.
        labels: (h + 2, w + 2), the piece that each pixel of the window and its rim belongs to, from 1, and 0 where
            the mask is not set.
        corner: x and y of the window that holds the mask, in the picture.
    """

    x: Ints
    y: Ints
    arriving: Ints
    leaving: Ints
    following: Ints
    labels: NDArray[np.signedinteger[Any]]
    corner: tuple[int, int]

    @classmethod
    def of(cls, mask: Mask) -> _Corners:
        """Find the corners of a mask; pixels that only touch at a corner are pieces of their own."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        top, left = (int(some[0]) if len(some) else 0 for some in (rows, columns))
        labels: NDArray[np.signedinteger[Any]]
        labels, _ = ndimage.label(np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1] if len(rows) else mask, 1))
        around = np.zeros((labels.shape[0] - 1, labels.shape[1] - 1), dtype=np.uint8)
        quarters = labels[:-1, :-1], labels[:-1, 1:], labels[1:, :-1], labels[1:, 1:]
        for bit, quarter in enumerate(quarters):
            around |= (quarter > 0).view(np.uint8) << np.uint8(bit)
        y, x = np.nonzero(np.isin(np.arange(16), list(_TURNS))[around])
        kinds = around[y, x].astype(np.int64)
        # Two pixels of one piece that touch at a corner enclose something there: the way must not pass between them,
        # or the outline would touch itself.
        upper_left, upper_right, lower_left, lower_right = (quarter[y, x] for quarter in quarters)
        kinds += 16 * (((kinds == 9) & (upper_left == lower_right)) | ((kinds == 6) & (upper_right == lower_left)))
        ways = np.full((32, 2, 2), -1)
        for kind, turns in _TURNS.items():
            ways[kind, : len(turns)] = turns
        place, turn = np.nonzero(ways[kinds, :, 0] >= 0)
        arriving, leaving = ways[kinds[place], turn].T
        x, y = x[place], y[place]
        return cls(x, y, arriving, leaving, _link(x, y, arriving, leaving), labels, (left, top))

    @property
    def pieces(self) -> Ints:
        """The piece that each corner belongs to, (n,)."""
        right, down = ((_INNER[self.leaving] + 1) // 2).T
        return self.labels[self.y + down, self.x + right].astype(np.int64)

    def beside(self, rows: Ints, columns: Ints, direction: Ints) -> tuple[Ints, Points]:
        """Find the straight ways that go along pixels, (m,), in these directions.

        Returns:
            The corners where these ways begin, and how far along them the middles of the pixels' edges are.
        """
        begins, far = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows))
        for number, (right, down) in enumerate(_ALONG):
            asked = np.flatnonzero(direction == number)
            some = np.flatnonzero(self.leaving == number)
            # Where the edge lies across its way, and from which of the ends of the edge the way comes.
            across, first = (columns, rows) if right == 0 else (rows, columns)
            across = across[asked] + (number in (1, 2))
            first = first[asked] + (number in (2, 3))
            lines, places = (self.x, self.y) if right == 0 else (self.y, self.x)
            step = int(max(self.labels.shape))
            keys = lines[some] * step + places[some]
            order = np.argsort(keys)
            wanted, forward = across * step + first, right + down > 0
            # A way to the right or down begins before the edge, one to the left or up behind it.
            at = np.searchsorted(keys[order], wanted, "right") - 1 if forward else np.searchsorted(keys[order], wanted)
            begins[asked] = some[order[at]]
            far[asked] = np.abs(first + 0.5 * (right + down) - places[begins[asked]])
        return begins, far


def _link(x: Ints, y: Ints, arriving: Ints, leaving: Ints) -> Ints:
    """The next corner of each one: on a row or column the ways of one direction follow each other without meeting."""
    following = np.empty(len(x), dtype=np.int64)
    for number, (right, _) in enumerate(_ALONG):
        begins, ends = np.flatnonzero(leaving == number), np.flatnonzero(arriving == number)
        if right == 0:
            begins, ends = (some[np.lexsort((y[some], x[some]))] for some in (begins, ends))
        following[begins] = ends
    return following


def outlines(mask: Mask) -> list[list[Ring]]:
    """Return a mask, (h, w), as polygons along the edges of its pixels.

    A polygon is a piece of pixels that share edges: its outer ring, then its holes. Outer rings have a positive area
    by the shoelace formula, holes a negative one. No ring meets itself; rings touch in single points at most.

    Args:
        mask: (h, w), bool; an empty one has no polygon.

    Returns:
        For each polygon its rings, corners in whole numbers 0..w and 0..h.
    """
    corners = _Corners.of(mask)
    if not len(corners.x):
        return []
    order, starts = _walk(corners.following)
    points = np.stack([corners.x, corners.y], axis=1) + corners.corner
    after = points[corners.following[order]]
    doubled = np.add.reduceat(points[order, 0] * after[:, 1] - points[order, 1] * after[:, 0], starts)
    pieces = corners.pieces[order[starts]]
    rings = np.split(points[order], starts[1:])
    polygons: list[list[Ring]] = [[] for _ in range(pieces.max())]
    for index in np.argsort(doubled < 0, kind="stable").tolist():
        polygons[pieces[index] - 1].append(rings[index])
    return polygons


def closed_line(mask: Mask) -> Points:
    """Return one closed line, (n, 2), around everything in a mask, (h, w), for formats that hold no more.

    Its points lie `INSET` inside the pixels of the mask's edge, so that the cut-off of their coordinates names those
    pixels: drawn and filled as by OpenCV's `fillPoly` with whole coordinates, a mask in one piece comes back as it
    was. Holes hang on to the outer line by a line through the mask, to and fro; pieces hang together by the shortest
    lines between them, which are the pixels that come back too many.

    Raises:
        ValueError: the mask is empty.
    """
    corners = _Corners.of(mask)
    number = len(corners.x)
    if not number:
        raise ValueError("an empty mask has no outline")
    places = np.stack([corners.x, corners.y], axis=1).astype(np.float64)
    # Two points a corner: in the pixel that the way comes along and in the one that it goes along.
    points = np.stack([places + INSET * _INNER[(corners.arriving + 1) % 4], places + INSET * _INNER[corners.leaving]])
    points = points.transpose(1, 0, 2).reshape(-1, 2)
    following = np.stack([2 * np.arange(number) + 1, 2 * corners.following], axis=1).ravel()
    points, following = _bridge(corners, points, following)
    order, _ = _walk(following)
    line = points[order] + corners.corner
    return line[(line != np.roll(line, 1, axis=0)).any(axis=1)]


def _bridge(corners: _Corners, points: Points, following: Ints) -> tuple[Points, Ints]:
    """Make one way of all rings, by bridges from the middle of one pixel to that of another.

    At each end the way turns off to the middle and back again, and the two ends of a bridge then change their
    successors: one way becomes the continuation of the other.
    """
    rows, columns, directions = np.concatenate([_to_holes(corners), _to_pieces(corners)], axis=1)
    ends = len(rows)
    begins, far = corners.beside(rows, columns, directions)
    middles = np.stack([columns, rows], axis=1) + 0.5
    edges = middles + (0.5 - INSET) * _outward(directions)
    added = np.stack([edges, middles, middles, edges], axis=1).reshape(-1, 2)
    following = np.concatenate([following, len(points) + np.arange(4 * ends) + 1])
    # Several ends on one straight way come one after the other.
    slots = np.lexsort((far, begins))
    first, begin = len(points) + 4 * slots, begins[slots]
    new = np.append(True, begin[1:] != begin[:-1])[:ends]
    following[first + 3] = np.where(np.roll(new, -1), following[2 * begin + 1], np.roll(first, -1))
    following[2 * begin[new] + 1] = first[new]
    # The two ends of a bridge stand side by side.
    here = len(points) + np.arange(0, 4 * ends, 8) + 1
    following[here], following[here + 4] = following[here + 4], following[here]
    return np.concatenate([points, added]), following


def _outward(directions: Ints) -> Ints:
    """From a pixel to the edge that a way in a direction goes along, (m, 2): up for a way to the right, and so on."""
    right, down = _ALONG[directions].T
    return np.stack([down, -right], axis=1)


def _to_holes(corners: _Corners) -> Ints:
    """Bridges from the leftmost edge of each hole through the mask to the next outline on the left.

    That one reaches further left, so that no bridges make a circle.

    Returns:
        (3, 2 * holes): row, column and direction of the way along each end of a bridge, its ends side by side.
    """
    order, starts = _walk(corners.following)
    ring = np.empty(len(order), dtype=np.int64)
    ring[order] = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(order)))
    sides = np.flatnonzero(np.isin(corners.leaving, (1, 3)))
    sides = sides[np.lexsort((corners.x[sides], ring[sides]))]
    leftmost = sides[np.unique(ring[sides], return_index=True)[1]]
    # Leftmost edges of outer rings go up, those of holes go down.
    holes = leftmost[corners.leaving[leftmost] == 1]
    rows, columns = corners.y[holes], corners.x[holes] - 1
    width = corners.labels.shape[1]
    unset = np.flatnonzero(corners.labels.ravel() == 0)
    before = unset[np.searchsorted(unset, (rows + 1) * width + columns + 1) - 1]
    return np.stack(
        [
            np.repeat(rows, 2),
            np.stack([columns, before % width], axis=1).ravel(),
            np.tile([1, 3], len(rows)),
        ]
    )


def _to_pieces(corners: _Corners) -> Ints:
    """Bridges between the pieces of a mask, the shortest that hold them together; form as of `_to_holes`."""
    labels = corners.labels
    if labels.max() < 2:
        return np.zeros((3, 0), dtype=np.int64)
    nearest = np.asarray(ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True))
    owner = labels[tuple(nearest)]
    ends = []
    for first, second in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1, :], np.s_[1:, :])):
        border = owner[first] != owner[second]
        ends.append(np.concatenate([nearest[:, *side][:, border] for side in (first, second)]))
    rows, columns, other_rows, other_columns = np.concatenate(ends, axis=1).astype(np.int64)
    here, there = labels[rows, columns].astype(np.int64), labels[other_rows, other_columns].astype(np.int64)
    steps = np.maximum(np.abs(rows - other_rows), np.abs(columns - other_columns))
    low, high = np.minimum(here, there), np.maximum(here, there)
    order = np.lexsort((steps, high, low))
    best = order[np.append(True, (np.diff(low[order]) != 0) | (np.diff(high[order]) != 0))]
    low, high = low[best], high[best]
    size = int(labels.max()) + 1
    tree = minimum_spanning_tree(coo_array((steps[best], (low, high)), shape=(size, size)).tocsr()).tocoo()
    chosen = best[np.searchsorted(low * size + high, tree.row.astype(np.int64) * size + tree.col)]
    rows = np.stack([rows[chosen], other_rows[chosen]], axis=1).ravel()
    columns = np.stack([columns[chosen], other_columns[chosen]], axis=1).ravel()
    # A pixel that is nearest to one outside has an edge to the outside, which a way goes along.
    right, down = _outward(np.arange(4)).T
    free = labels[rows[:, None] + down, columns[:, None] + right] == 0
    return np.stack([rows - 1, columns - 1, free.argmax(axis=1)])


def _walk(following: Ints) -> tuple[Ints, Ints]:
    """Go along closed ways by doubling the step.

    Args:
        following: the successor of each point; every point has one predecessor.

    Returns:
        The points in the order of the ways, and where in it each way starts.
    """
    number = len(following)
    first, jump = np.arange(number), following
    for _ in range(number.bit_length()):
        first, jump = np.minimum(first, first[jump]), jump[jump]
    final = following == first
    to_go, jump = np.where(final, 0, 1), np.where(final, np.arange(number), following)
    for _ in range(number.bit_length()):
        to_go, jump = to_go + to_go[jump], jump[jump]
    order = np.lexsort((-to_go, first))
    return order, np.flatnonzero(np.diff(first[order], prepend=-1))
