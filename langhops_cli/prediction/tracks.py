"""The same thing in one frame of a video and the next: objects followed by their masks, parts within their objects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment

from langhops_cli.prediction.results import Detection, Mask, NamePath, Prediction

Offset = tuple[float, float]
"""Pixels to the right and down."""

REACH = 0.1
"""A part may move so far within its object, in diagonals of the object's box, where its masks no longer overlap."""

_FRESH = 0.25
"""Share of the newest motion in the speed of a thing."""


class Tracker:
    """Gives the instances of a video's frames numbers that stay with the thing.

    A new instance continues the track of one of the same names whose mask, carried along, it overlaps; who continues
    whom is settled for all together, so that their overlaps add up to the most. An object is carried along at the
    speed it had, a part together with its object, and it can only continue a part of the object's own track. What
    is not continued keeps its track for a while, so that a thing that is missed or hidden for some frames is found
    again. Only predictions are needed, no pictures.

    Args:
        min_iou: least overlap (intersection over union) of two masks of one thing, in 0..1 without 0.
        patience: frames that a thing may be missing for.

    Raises:
        ValueError: a value is out of its range.
    """

    def __init__(self, *, min_iou: float = 0.3, patience: int = 15) -> None:
        if not 0 < min_iou <= 1:
            raise ValueError(f"min_iou must be in 0..1 and not 0, got {min_iou}")
        if patience < 0:
            raise ValueError(f"patience must be at least 0, got {patience}")
        self.min_iou, self.patience = min_iou, patience
        self._tracks: dict[int, _Track] = {}
        self._next = 0

    def update(self, prediction: Prediction) -> Prediction:
        """Return the prediction of the next frame with `track` set on every instance.

        Tracks are numbered from 0 in the order they begin, objects and parts together; a number never comes again.
        """
        shapes = [Silhouette.of(found) for found in prediction]
        numbers = self._continued(prediction, shapes)
        self._remember(prediction, shapes, numbers)
        tracked = (replace(found, track=number) for found, number in zip(prediction, numbers, strict=True))
        return replace(prediction, instances=tuple(tracked))

    def resume(self, predictions: Iterable[Prediction]) -> None:
        """Go on after these, as if the tracker had made them itself.

        Args:
            predictions: what `update` returned so far for this video, all of it, in order; read one at a time.

        Raises:
            ValueError: an instance has no track.
        """
        for prediction in predictions:
            numbers = [found.track for found in prediction]
            if None in numbers:
                raise ValueError(f"{prediction.picture}: its instances have no tracks")
            shapes = [Silhouette.of(found) for found in prediction]
            self._remember(prediction, shapes, [number for number in numbers if number is not None])

    def _continued(self, prediction: Prediction, shapes: Sequence[Silhouette]) -> list[int]:
        """Number of the track of each instance, new ones included."""
        numbers = [-1] * len(prediction)
        above: list[int | None] = [None]
        while above:
            indices = [index for parent in above for index in prediction.children(parent)]
            groups: dict[tuple[int | None, NamePath], list[int]] = defaultdict(list)
            for index in indices:
                found = prediction[index]
                groups[None if found.parent is None else numbers[found.parent], found.path].append(index)
            for (track, path), members in groups.items():
                holder = prediction[members[0]].parent
                anchor = None if holder is None else shapes[holder]
                matches = self._matched(track, path, [shapes[index] for index in members], anchor)
                for place, number in matches.items():
                    numbers[members[place]] = number
            for index in sorted(indices):
                if numbers[index] < 0:
                    numbers[index] = self._next
                    self._next += 1
            above = list(indices)
        return numbers

    def _matched(
        self, parent: int | None, path: NamePath, shapes: Sequence[Silhouette], anchor: Silhouette | None
    ) -> dict[int, int]:
        """Which of the masks continue which tracks of this name: place of the mask to number of the track.

        Best evidence first: overlap after carrying along, overlap in place, which helps where the motion was
        misjudged, and for parts nearness; for each of them things seen in the last frame before those missing.
        """
        known = {
            number: track for number, track in self._tracks.items() if (track.parent, track.path) == (parent, path)
        }
        numbers = list(known)
        old = [track.shape for track in known.values()]
        moves = np.array([track.moved(anchor) for track in known.values()]).reshape(-1, 2)
        measures = [overlaps(old, shapes, moves.round()), overlaps(old, shapes, np.zeros_like(moves))]
        measures = [np.where(values < self.min_iou, 0.0, values) for values in measures]
        if anchor is not None:
            measures.append(1 - distances(old, shapes, moves) / (REACH * anchor.diagonal))
        late = np.array([track.missed > 0 for track in known.values()], dtype=bool)
        open_rows, open_columns = np.ones(len(old), dtype=bool), np.ones(len(shapes), dtype=bool)
        matches: dict[int, int] = {}
        for values in measures:
            for missing in (False, True):
                rows, columns = np.flatnonzero(open_rows & (late == missing)), np.flatnonzero(open_columns)
                for row, column in assign(values[np.ix_(rows, columns)]):
                    matches[int(columns[column])] = numbers[rows[row]]
                    open_rows[rows[row]] = open_columns[columns[column]] = False
        return matches

    def _remember(self, prediction: Prediction, shapes: Sequence[Silhouette], numbers: Sequence[int]) -> None:
        """Bring the tracks up to date with a frame."""
        for index, (found, shape, number) in enumerate(zip(prediction, shapes, numbers, strict=True)):
            parent = prediction[index].parent
            anchor = None if parent is None else shapes[parent]
            above = None if parent is None else numbers[parent]
            before = self._tracks.get(number)
            velocity = None if before is None else before.velocity_to(shape)
            self._tracks[number] = _Track(found.path, above, shape, anchor, velocity)
            self._next = max(self._next, number + 1)
        for number in self._tracks.keys() - set(numbers):
            track = self._tracks[number]
            self._tracks[number] = replace(track, missed=track.missed + 1)
            if track.missed >= self.patience:
                del self._tracks[number]


@dataclass(frozen=True, eq=False)
class Silhouette:
    """A mask cut to its box, so that many can be kept and compared quickly.

    Args:
        pixels: the mask inside its box, (h, w), bool.
        left, top: where the box lies in the picture.
        area: pixels of the mask.
        centre: its centre of gravity, x and y in the picture.
    """

    pixels: Mask
    left: int
    top: int
    area: int
    centre: Offset

    @classmethod
    def of(cls, found: Detection) -> Silhouette:
        """Cut an instance's mask out."""
        left, top, width, height = (int(edge) for edge in coco_mask.toBbox(found.rle))
        pixels = found.mask[top : top + height, left : left + width].copy()
        area = int(np.count_nonzero(pixels))
        across = _mean_place(np.count_nonzero(pixels, axis=0))
        down = _mean_place(np.count_nonzero(pixels, axis=1))
        return cls(pixels, left, top, area, (left + across, top + down))

    @property
    def diagonal(self) -> float:
        """Length of its box from corner to corner, at least a pixel."""
        return max(1.0, float(np.hypot(*self.pixels.shape)))

    def shared(self, other: Silhouette, right: int, down: int) -> int:
        """Pixels common with another mask after this one was moved."""
        right, down = other.left - self.left - right, other.top - self.top - down
        mine = self.pixels[max(0, down) :, max(0, right) :]
        theirs = other.pixels[max(0, -down) :, max(0, -right) :]
        height, width = np.minimum(mine.shape, theirs.shape)
        return int(np.count_nonzero(mine[:height, :width] & theirs[:height, :width]))


@dataclass(frozen=True)
class _Track:
    """What is known of a thing: where it was seen last, and how it moves.

    Args:
        path: its names from the object down.
        parent: number of the track it is a part of.
        shape: its mask when it was seen last.
        anchor: the mask of what it is a part of in that frame.
        velocity: pixels a frame to the right and down; None where it was seen once only.
        missed: frames that passed since.
    """

    path: NamePath
    parent: int | None
    shape: Silhouette
    anchor: Silhouette | None
    velocity: Offset | None
    missed: int = 0

    def moved(self, anchor: Silhouette | None) -> Offset:
        """How far it should have moved: with what it is a part of, now seen at `anchor`, else at its own speed."""
        if anchor is not None and self.anchor is not None:
            return anchor.centre[0] - self.anchor.centre[0], anchor.centre[1] - self.anchor.centre[1]
        across, down = self.velocity or (0.0, 0.0)
        return across * (self.missed + 1), down * (self.missed + 1)

    def velocity_to(self, shape: Silhouette) -> Offset:
        """Speed after it was seen again, smoothed, since masks tremble."""
        frames = self.missed + 1
        across, down = ((new - old) / frames for new, old in zip(shape.centre, self.shape.centre, strict=True))
        if self.velocity is None:
            return across, down
        return (
            self.velocity[0] + _FRESH * (across - self.velocity[0]),
            self.velocity[1] + _FRESH * (down - self.velocity[1]),
        )


def overlaps(old: Sequence[Silhouette], new: Sequence[Silhouette], moves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of masks after the old ones were moved, beyond the picture's edge too.

    Args:
        old, new: the masks.
        moves: whole pixels to the right and down for each old one, (old, 2).

    Returns:
        (old, new), in 0..1.
    """
    before, after = _boxes(old) + np.tile(moves, 2), _boxes(new)
    low = np.maximum(before[:, None, :2], after[None, :, :2])
    high = np.minimum(before[:, None, 2:], after[None, :, 2:])
    values = np.zeros((len(old), len(new)))
    for row, column in np.argwhere((low < high).all(axis=-1)).tolist():  # most pairs lie apart
        first, second = old[row], new[column]
        shared = first.shared(second, int(moves[row, 0]), int(moves[row, 1]))
        values[row, column] = shared / (first.area + second.area - shared)
    return values


def distances(old: Sequence[Silhouette], new: Sequence[Silhouette], moves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels between the centres of masks after the old ones were moved; as `overlaps`, (old, new)."""
    before = np.array([shape.centre for shape in old]).reshape(-1, 2) + moves
    after = np.array([shape.centre for shape in new]).reshape(-1, 2)
    return np.hypot(*np.moveaxis(before[:, None] - after[None], -1, 0))


def _boxes(shapes: Sequence[Silhouette]) -> NDArray[np.float64]:
    """Left, top, right, bottom of each, (shapes, 4)."""
    edges = [(s.left, s.top, s.left + s.pixels.shape[1], s.top + s.pixels.shape[0]) for s in shapes]
    return np.array(edges, dtype=np.float64).reshape(-1, 4)


def assign(values: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pair rows with columns, each used once at most, so that the values of the pairs add up to the most.

    Args:
        values: (rows, columns); pairs of a value of 0 or less are never made.

    Returns:
        The pairs, by row.
    """
    gains = np.maximum(values, 0.0)
    rows, columns = linear_sum_assignment(gains, maximize=True)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if gains[row, column] > 0]


def _mean_place(counts: NDArray[np.intp]) -> float:
    """Mean place of pixels counted along an axis, at their centres; 0 where there are none."""
    total = int(counts.sum())
    return float((np.arange(len(counts)) + 0.5) @ counts) / total if total else 0.0
