"""One answer out of several views of a picture: pieces joined across seams, duplicates taken once, parts follow.

A view is the whole picture, seen coarsely, or a window of it, seen finely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from langhops_cli.prediction.candidates import ANY_NAME_LIMIT, ANY_PART_LIMIT, PART_LIMIT, SAME_NAME_LIMIT
from langhops_cli.prediction.results import Detection, Prediction
from langhops_cli.prediction.view_groups import Group, Limits, ious, name_codes, settle

Window = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the picture; right and bottom lie behind the last pixel."""

JOIN = 0.5
"""Two windows mean one instance if, where both see, their masks of one name overlap by this IoU."""
EDGE = 0.01
"""Share of a window's side that a mask may keep away from the window's edge and still count as cut off by it."""

OBJECT_LIMITS = Limits(same=SAME_NAME_LIMIT, other=ANY_NAME_LIMIT, twice=0.3, stitch=True)
PART_LIMITS = Limits(same=PART_LIMIT, other=ANY_PART_LIMIT, twice=PART_LIMIT, stitch=False)
"""Windows that show a piece of an object know its parts less well than the whole picture does, unless they show a part
uncut: on 12 photographs of cars that fill the picture, stitched parts cost 3.5 points of part AP and pieces 0.7."""


@dataclass(frozen=True)
class View:
    """What was found in a part of a picture.

    Args:
        window: where in the picture that part lies; the whole picture is a window too.
        prediction: with masks of the window's size.
    """

    window: Window
    prediction: Prediction


def merge_views(whole: Prediction, views: Sequence[View], *, max_objects: int | None = None) -> Prediction:
    """Join what was found in a picture with what was found in windows of it.

    - Instances of one name in two windows are one where their masks agree on what both windows see: the complete one
      is taken, and where every window cuts it off, the union, which of parts counts only where the picture has none.
    - A piece of an instance of the same name in another view is dropped; what hangs from it goes to that instance.
    - An object that a window cuts off is dropped where another window shows all of it, and more, and does not find it;
      a part always.
    - Of an instance found both in the picture and in windows the windows' mask is taken, unless they show a piece only.
    - A mask in the whole picture that is several complete instances taken as one is dropped with its parts.
    - Parts follow their objects and are treated so among all parts of their object. A score is the best of those that
      were taken together.

    Args:
        whole: what was found in the picture seen at once.
        views: windows of it.
        max_objects: how many objects at most, the best ones; the parts of the others go with them.

    Returns:
        The prediction named and sized as `whole`, objects first, each level best first.
    """
    pool = _Pool.of(whole, views)
    roots = pool.roots()
    objects, fate = pool.merge(np.flatnonzero(roots == np.arange(len(roots))), OBJECT_LIMITS)
    order = sorted(range(len(objects)), key=lambda index: -objects[index].found.score)[:max_objects]
    found = [objects[index].found for index in order]
    parts: list[Detection] = []
    for position, index in enumerate(order):
        members = np.flatnonzero((fate[roots] == index) & (roots != np.arange(len(roots))))
        parts += _parts(pool, members, parent=position, first=len(found) + len(parts))
    return replace(whole, instances=_best_first(found, parts))


def _parts(pool: _Pool, members: NDArray[np.intp], *, parent: int, first: int) -> list[Detection]:
    """The parts of one object, numbered from `first`; each hangs from the part it was found in, else from `parent`."""
    groups, fate = pool.merge(members, PART_LIMITS)
    found = []
    for group in groups:
        above = pool.parent[group.lead]
        while above >= 0 and fate[above] < 0:
            above = pool.parent[above]
        found.append(replace(group.found, parent=parent if above < 0 else first + int(fate[above])))
    return found


def _best_first(objects: list[Detection], parts: list[Detection]) -> tuple[Detection, ...]:
    """Objects as they come, then parts by falling score, with their parents renumbered."""
    begin = len(objects)
    order = sorted(range(len(parts)), key=lambda index: -parts[index].score)
    place = {begin + index: begin + position for position, index in enumerate(order)}
    moved = [replace(parts[index], parent=place.get(parts[index].parent or 0, parts[index].parent)) for index in order]
    return (*objects, *moved)


@dataclass(frozen=True)
class _Pool:
    """All instances of all views in pixels of the picture.

    Args:
        found: the instances; their own `parent` does not count.
        parent: index in the pool of what each hangs from, -1 for objects, (N,).
        view: where each was found, 0 for the whole picture, (N,).
        windows: of every view, (V, 4).
        size: height and width of the picture.
    """

    found: list[Detection]
    parent: NDArray[np.intp]
    view: NDArray[np.intp]
    windows: NDArray[np.int64]
    size: tuple[int, int]

    @classmethod
    def of(cls, whole: Prediction, views: Sequence[View]) -> _Pool:
        height, width = whole.size
        found, parent, view = list(whole), [whole.parents], [np.zeros(len(whole), dtype=np.intp)]
        for number, item in enumerate(views, start=1):
            above = item.prediction.parents
            parent.append(np.where(above < 0, -1, above + len(found)))
            view.append(np.full(len(above), number, dtype=np.intp))
            found += [placed(one, item.window, whole.size) for one in item.prediction]
        windows = np.array([(0, 0, width, height), *(item.window for item in views)], dtype=np.int64)
        return cls(found, np.concatenate(parent), np.concatenate(view), windows, whole.size)

    def roots(self) -> NDArray[np.intp]:
        """Index of the object that each instance hangs from in the end, (N,); its own for an object."""
        roots = np.arange(len(self.found))
        while (up := self.parent[roots]).max(initial=-1) >= 0:
            roots = np.where(up < 0, roots, up)
        return roots

    def merge(self, chosen: NDArray[np.intp], limits: Limits) -> tuple[list[Group], NDArray[np.intp]]:
        """Take together what is one.

        Args:
            chosen: which of the pool, (n,).
            limits: overlaps that duplicates have.

        Returns:
            What is left, and for the whole pool the index of what each became part of, (N,); -1 for nothing.
        """
        fate = np.full(len(self.found), -1, dtype=np.intp)
        groups = self._joined(chosen)
        kept, target = settle(groups, limits)
        for group, final in zip(groups, target, strict=True):
            fate[group.members] = final
        return kept, fate

    def _joined(self, chosen: NDArray[np.intp]) -> list[Group]:
        """Instances of several windows that agree where both see; every other stays alone."""
        if not len(chosen):
            return []
        found = [self.found[index] for index in chosen]
        view = self.view[chosen]
        between = (view[:, None] != view[None, :]) & (view[:, None] > 0) & (view[None, :] > 0)
        overlap, names = ious(found), name_codes(found)
        pairs = np.triu((overlap > 0) & between & (names[:, None] == names[None, :]), 1)
        first, second = np.nonzero(pairs)
        zones: dict[Window, dict[str, Any]] = {}
        agree = [self._agreement(a, b, zones) >= JOIN for a, b in zip(chosen[first], chosen[second], strict=True)]
        edges = coo_array((np.ones(sum(agree)), (first[agree], second[agree])), shape=pairs.shape)
        count, label = connected_components(edges, directed=False)
        by_label = np.argsort(label, kind="stable")
        bounds = np.searchsorted(label[by_label], np.arange(1, count))
        return [self._group(chosen[members]) for members in np.split(by_label, bounds)]

    def _agreement(self, first: int, second: int, zones: dict[Window, dict[str, Any]]) -> float:
        """IoU of two masks within what the windows of both show."""
        one, two = self.windows[self.view[[first, second]]]
        left, top = np.maximum(one, two)[:2].tolist()
        right, bottom = np.minimum(one, two)[2:].tolist()
        if (left, top, right, bottom) not in zones:
            everything = np.ones((right - left, bottom - top), dtype=bool)
            zones[left, top, right, bottom] = _runs(everything, left, top, self.size)
        zone = zones[left, top, right, bottom]
        rles = [self.found[index].rle for index in (first, second)]
        inside = [coco_mask.merge([rle, zone], intersect=True) for rle in rles]
        return float(coco_mask.iou(inside[:1], inside[1:], [0])[0, 0])

    def _group(self, members: NDArray[np.intp]) -> Group:
        score = np.array([self.found[index].score for index in members])
        boxes = np.array([self.found[index].box for index in members])
        windows = self.windows[self.view[members]]
        height, width = self.size
        # Distances to the window's sides, inwards; a side on the edge of the picture cuts nothing off.
        turn = np.array([1, 1, -1, -1])
        inner = windows != np.array([0, 0, width, height])
        sides = np.tile(windows[:, 2:] - windows[:, :2], 2)
        cut = inner & ((boxes - windows) * turn <= EDGE * sides)
        # What one window cuts off another may show on; that one then tells how far the instance goes.
        reach = np.where(turn > 0, windows.min(axis=0), windows.max(axis=0))
        shown = (reach - windows) * turn < 0
        whole = ~cut.any(axis=1)
        bounds = np.where(turn > 0, boxes.min(axis=0), boxes.max(axis=0))
        lead = int(members[np.lexsort((-score, ~whole))[0]])
        found = self.found[lead]
        if len(members) > 1 and not whole.any():
            rle = coco_mask.merge([self.found[index].rle for index in members])
            left, top, right, bottom = bounds.tolist()
            found = replace(found, rle=rle, box=(left, top, right, bottom))
        open_sides = (cut & ~shown).any(axis=0)
        # Another window that holds all of it, and shows what lies behind its open sides, did not find it there.
        others = (self.windows[1:] - bounds) * turn
        denied = (others <= 0).all(axis=1) & (others[:, open_sides] < -EDGE * sides[0, open_sides]).all(axis=1)
        return Group(
            replace(found, score=float(score.max()), parent=None),
            members,
            lead,
            stitched=len(members) > 1 and not whole.any(),
            complete=bool(whole.any() or not open_sides.any()),
            denied=bool(not whole.any() and open_sides.any() and denied.any()),
            whole=bool((self.view[members] == 0).all()),
            views=frozenset(self.view[members].tolist()),
        )


def placed(found: Detection, window: Window, size: tuple[int, int]) -> Detection:
    """Bring an instance of a window to the picture's own pixels.

    Args:
        found: its mask is of the window's size.
        window: where the window lies.
        size: height and width of the picture.
    """
    left, top = window[:2]
    x, y, width, height = coco_mask.toBbox(found.rle).astype(int).tolist()
    mask = coco_mask.decode(found.rle).T[x : x + width, y : y + height].astype(bool)
    box = (found.box[0] + left, found.box[1] + top, found.box[2] + left, found.box[3] + top)
    return replace(found, rle=_runs(mask, left + x, top + y, size), box=box)


def _runs(columns: NDArray[np.bool_], left: int, top: int, size: tuple[int, int]) -> dict[str, Any]:
    """Run lengths of a picture that is empty but for `columns`, (w, h), whose top left corner lies there."""
    height, width = size
    strip = np.zeros((len(columns), height), dtype=bool)
    strip[:, top : top + columns.shape[1]] = columns
    # Only the strip is looked at, as a whole mask of a large picture would cost a thousand times more.
    turns = np.flatnonzero(np.diff(strip.ravel(), prepend=False, append=False)) + left * height
    counts = np.diff(turns, prepend=0, append=height * width)
    counts = counts if counts[-1] else counts[:-1]
    rle: dict[str, Any] = coco_mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return rle
