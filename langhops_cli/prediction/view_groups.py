"""Which instances of several views of a picture are one: duplicates, pieces, crowds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from langhops_cli.data.masks import share_inside
from langhops_cli.prediction.masks import suppress
from langhops_cli.prediction.results import Detection

INSIDE = 0.8
"""An instance with this share of its mask inside a larger one of its name, in another view, is a piece of that one; so
is an object that a window cuts off inside one of another name that the whole picture shows as surely."""
CROWD = 0.6
"""Share of a mask in the whole picture that several complete instances of its name fill, if it is them taken as one."""


@dataclass(frozen=True)
class Limits:
    """When two instances are one, by the IoU of their masks.

    Args:
        same: of one name.
        other: of two names; the better one wins.
        twice: of one name, one in the whole picture and one that a window shows uncut: seen coarsely, a small thing's
            outline is far off.
        stitch: what windows show in pieces counts as much as what one shows uncut, and a piece alone counts unless
            something speaks against it. Else the whole picture's mask goes before pieces, and pieces alone are dropped.
    """

    same: float
    other: float
    twice: float
    stitch: bool


@dataclass(frozen=True)
class Group:
    """Instances of several windows that are one, or a single instance.

    Args:
        found: its mask and best score, without a parent.
        members: where its instances are in the pool; lead: the one whose place in the tree counts.
        stitched: it is the union of pieces that windows cut off.
        complete: no window's edge cuts it off; denied: one does, and a window that shows more of it did not find it.
        whole: it was found in the picture seen at once.
        views: where it was found.
    """

    found: Detection
    members: NDArray[np.intp]
    lead: int
    stitched: bool
    complete: bool
    denied: bool
    whole: bool
    views: frozenset[int]


def settle(groups: list[Group], limits: Limits) -> tuple[list[Group], NDArray[np.intp]]:
    """Drop duplicates, pieces and crowds among groups.

    Returns:
        The groups that are left, and for each group the index of the one it became part of among them; -1 for none.
    """
    if not groups:
        return [], np.zeros(0, dtype=np.intp)
    pairs = Pairs.of(groups)
    into = np.arange(len(groups))
    into[pairs.crowds(limits)] = -1
    pairs.take_duplicates(into, limits)
    pairs.take_pieces(into, limits)
    pairs.suppress(into, limits)
    for _ in groups:  # a piece of a piece goes where that went; what was dropped takes along what went to it
        further = np.where(into < 0, -1, into[into])
        if (further == into).all():
            break
        into = further
    left = np.flatnonzero(into == np.arange(len(groups)))
    place = np.full(len(groups) + 1, -1, dtype=np.intp)
    place[left] = np.arange(len(left))
    kept = [replace(groups[i], found=replace(groups[i].found, score=float(pairs.score[i]))) for i in left]
    return kept, place[into]


@dataclass(frozen=True)
class Pairs:
    """Every group beside every other, (G, G), and what settling changes: the scores, (G,).

    Args:
        groups: all of one level.
        iou: mask IoU; inside: share of the row's mask inside the column's.
        same: of one name; related: one is a part of the other, so that it may fill it.
        apart: not found in one and the same view, which has told them apart already.
        area: pixels; stitched, complete, denied, whole: as for `Group`; (G,).
        score: best so far, (G,); changed.
    """

    groups: list[Group]
    iou: NDArray[np.float64]
    inside: NDArray[np.float64]
    same: NDArray[np.bool_]
    related: NDArray[np.bool_]
    apart: NDArray[np.bool_]
    area: NDArray[np.int64]
    stitched: NDArray[np.bool_]
    complete: NDArray[np.bool_]
    denied: NDArray[np.bool_]
    whole: NDArray[np.bool_]
    score: NDArray[np.float64]

    @classmethod
    def of(cls, groups: list[Group]) -> Pairs:
        """Compare groups."""
        found = [group.found for group in groups]
        rles = [item.rle for item in found]
        names = name_codes(found)
        views = [group.views for group in groups]
        apart = [[one != other or len(one) > 1 for other in views] for one in views]
        return cls(
            groups,
            ious(found),
            share_inside(rles, rles),
            names[:, None] == names[None, :],
            _related(found, names),
            np.array(apart),
            np.array([item.area for item in found]),
            np.array([group.stitched for group in groups]),
            np.array([group.complete for group in groups]),
            np.array([group.denied for group in groups]),
            np.array([group.whole for group in groups]),
            np.array([item.score for item in found]),
        )

    def crowds(self, limits: Limits) -> list[int]:
        """Groups of the whole picture that are several complete ones of the windows taken as one."""
        filling = self.same & (self.complete & ~self.whole)[:, None] & self.whole[None, :]
        filling &= (self.inside >= INSIDE) & (self.iou < limits.same)
        found = []
        for index in np.flatnonzero(filling.sum(axis=0) > 1):
            inner = coco_mask.merge([self.groups[i].found.rle for i in np.flatnonzero(filling[:, index])])
            shared = coco_mask.merge([inner, self.groups[index].found.rle], intersect=True)
            if coco_mask.area(shared) >= CROWD * self.area[index]:
                found.append(int(index))
        return found

    def take_duplicates(self, into: NDArray[np.intp], limits: Limits) -> None:
        """Where picture and windows show one thing, the windows show it finer, unless their edges cut it off."""
        alive = into == np.arange(len(into))
        twice = self.same & (alive & ~self.whole)[:, None] & (alive & self.whole)[None, :]
        fine = (self.complete & (limits.stitch | ~self.stitched))[:, None]
        finer = np.where(twice & fine & (self.iou >= limits.twice), self.iou, 0)
        coarse = np.flatnonzero(finer.any(axis=0))
        best = finer.argmax(axis=0)[coarse]
        into[coarse] = best
        np.maximum.at(self.score, best, self.score[coarse])
        lesser = np.where(twice & ~fine & (self.iou >= limits.same), self.iou, 0)
        pieces = np.flatnonzero(lesser.any(axis=1))
        into[pieces] = lesser.argmax(axis=1)[pieces]

    def take_pieces(self, into: NDArray[np.intp], limits: Limits) -> None:
        """Pieces go to the larger instance of their name that holds most of them; some of those left go away."""
        alive = into == np.arange(len(into))
        both = alive[:, None] & alive[None, :] & self.apart
        holds = both & self.same & (self.area[:, None] < self.area[None, :]) & (self.inside >= INSIDE)
        share = np.where(holds, self.inside, 0)
        pieces = np.flatnonzero(share.any(axis=1))
        into[pieces] = share.argmax(axis=1)[pieces]
        lost = ~self.complete
        if limits.stitch:
            hides = both & ~self.same & self.whole[None, :] & (self.inside >= INSIDE)
            hides &= self.score[:, None] <= self.score[None, :]
            lost &= hides.any(axis=1) | self.denied
        into[lost & (into == np.arange(len(into)))] = -1

    def suppress(self, into: NDArray[np.intp], limits: Limits) -> None:
        """From the best to the worst, drop what overlaps a kept one of another view by more than the limits."""
        alive = np.flatnonzero(into == np.arange(len(into)))
        alive = alive[np.argsort(-self.score[alive], kind="stable")]
        block = np.ix_(alive, alive)
        limit = np.where(self.same[block], limits.same, np.where(self.related[block], np.inf, limits.other))
        limit[~self.apart[block]] = np.inf
        kept = alive[suppress(torch.from_numpy(self.iou[block]), torch.from_numpy(limit))]
        for index in np.setdiff1d(alive, kept):
            overlap = np.where(self.same[index, kept], self.iou[index, kept], 0)
            into[index] = kept[overlap.argmax()] if overlap.any() else -1


def ious(found: Sequence[Detection]) -> NDArray[np.float64]:
    """Mask IoU of every instance with every other, (N, N)."""
    rles = [item.rle for item in found]
    return np.asarray(coco_mask.iou(rles, rles, [0] * len(rles)), dtype=np.float64).reshape(len(rles), len(rles))


def name_codes(found: Sequence[Detection]) -> NDArray[np.intp]:
    """A number for the names of each instance from the object down, (N,); equal for equal ones."""
    numbers = {path: number for number, path in enumerate(dict.fromkeys(item.path for item in found))}
    return np.array([numbers[item.path] for item in found], dtype=np.intp)


def _related(found: Sequence[Detection], names: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Pairs of which one is a part of the other by name, at any depth, (N, N)."""
    paths = list(dict.fromkeys(item.path for item in found))
    above = np.array([[one != other and one == other[: len(one)] for other in paths] for one in paths])
    return (above | above.T)[np.ix_(names, names)]
