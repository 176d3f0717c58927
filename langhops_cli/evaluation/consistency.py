"""How well results hang together: whose parts are whose, and what lies inside what.

Average precision judges every mask alone; these figures judge the tree. They are taken over the results with a score
of at least `min_score`. Results are matched to what is annotated as COCO does it at IoU 0.5: in each picture and name
the results choose, from the best score down, each the free instance that it overlaps most; crowds are left out.

- Parent match: of the matched parts whose annotated object is known, the share whose parent is the result that was
  matched to that object. A parent below `min_score`, or one of two results of the same object that was not the one
  matched, is none.
- Orphans: of all part results, the share without a parent of at least `min_score`.
- Containment: the share of a part's mask that lies inside its parent's; mean over the part results with a parent.
  The annotated parts of the same pictures give what can be had.
- OSI, USI: of the matched pairs, the share of the result that lies outside the instance, and the share of the
  instance that the result leaves out; means over pairs.

A result that says nothing of a parent, in the file of another system, gets the object result of the right name that
holds most of it.

Source: EVALUATION.md, "Hierarchy consistency".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from langhops_cli.evaluation.tables import NOTHING, percent

if TYPE_CHECKING:
    from langhops_cli.evaluation.instances.stream import ScoredPicture

MIN_SCORE = 0.25
"""Score from which on a result counts, unless another is given."""
MATCH_IOU = 0.5
"""Overlap from which on a result is matched to an instance."""

Entry = Mapping[str, Any]
Array = NDArray[Any]


@dataclass(frozen=True)
class MatchedLevel:
    """Results of objects, or of parts, against what is annotated; shares are None where there is nothing.

    Args:
        annotated: instances, crowds left out; results: those of the least score; matched: pairs of the two.
        osi: share of a matched result outside its instance; usi: share of the instance that it leaves out; 0..1.
    """

    annotated: int
    results: int
    matched: int
    osi: float | None
    usi: float | None


@dataclass(frozen=True)
class ConsistencyFigures:
    """How well results hang together; shares in 0..1, None where there is nothing to take them of.

    Args:
        min_score: results below it were left out.
        objects, parts: results against what is annotated.
        parent_known: matched parts whose annotated object is known.
        parent_right: how many of them have the matched result of that object as parent; parent_other: the matched
            result of another object; parent_unmatched: a result that is matched to nothing; parent_missing: no parent.
        parent_match: `parent_right` among `parent_known`.
        orphans: share of the part results without a parent.
        containment: mean share of a part result inside its parent; annotated_containment: of the annotated parts.
        inferred: part results that say nothing of a parent, so that one was looked for.
        boxes: whether boxes were compared, for want of masks.
    """

    min_score: float
    objects: MatchedLevel
    parts: MatchedLevel
    parent_known: int
    parent_right: int
    parent_other: int
    parent_unmatched: int
    parent_missing: int
    parent_match: float | None
    orphans: float | None
    containment: float | None
    annotated_containment: float | None
    inferred: int
    boxes: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as they go into a JSON file."""
        return {**asdict(self), "match_iou": MATCH_IOU}

    def rows(self) -> list[tuple[str, ...]]:
        """Return the lines of a table, heads first."""
        both, shapes = (self.objects, self.parts), "box" if self.boxes else "mask"
        wrong = f"{self.parent_other:,} / {self.parent_unmatched:,} / {self.parent_missing:,}"
        return [
            ("shares in percent", "objects", "parts"),
            ("annotated", *(f"{level.annotated:,}" for level in both)),
            (f"results of score {self.min_score:g} or more", *(f"{level.results:,}" for level in both)),
            (f"matched at {shapes} IoU {MATCH_IOU:g}", *(f"{level.matched:,}" for level in both)),
            ("OSI: of a matched result, outside", *(percent(level.osi) for level in both)),
            ("USI: of its instance, left out", *(percent(level.usi) for level in both)),
            (f"parent match (of {self.parent_known:,})", NOTHING, percent(self.parent_match)),
            ("other parent / unmatched / none", NOTHING, wrong),
            ("orphans", NOTHING, percent(self.orphans)),
            ("containment in the parent", NOTHING, percent(self.containment)),
            ("the same of annotated parts", NOTHING, percent(self.annotated_containment)),
        ]

    def notes(self) -> list[str]:
        """Return what has to be known to read the figures, one sentence each."""
        lines = []
        if self.inferred:
            lines.append(
                f"{self.inferred:,} part results name no parent (parent_id): each was given the object result of the "
                "right name that holds most of it, which flatters parent match and containment."
            )
        if self.boxes:
            lines.append("Hierarchy consistency is measured on boxes, as there are no masks.")
        return lines


class Consistency:
    """Counts how well the results of pictures hang together; sees each picture once.

    Args:
        categories: of the truth, as COCO has them: `id`, and `parent_id` for a part.
        min_score: results below it are left out.
    """

    def __init__(self, categories: Sequence[Entry], *, min_score: float = MIN_SCORE) -> None:
        above = {entry["id"]: entry.get("parent_id") for entry in categories}
        self._object_of = {category: _root(category, above) for category in above}
        self._min_score = min_score
        self._objects, self._parts = _Level(), _Level()
        self._parents: Counter[str] = Counter()
        self._inside, self._annotated_inside = _Mean(), _Mean()
        self._inferred = 0
        self._boxes = False

    def see(self, picture: ScoredPicture) -> None:
        """Count a picture; its entries were checked before."""
        truth = [entry for entry in picture.truth if not entry.get("iscrowd")]
        results = [entry for entry in picture.results if entry["score"] >= self._min_score]
        results.sort(key=lambda entry: -entry["score"])  # stable: equal scores stay in the order of the file
        key = "segmentation" if all(entry.get("segmentation") for entry in (*truth, *results)) else "bbox"
        self._boxes |= key == "bbox"
        shapes, true_shapes = ([entry[key] for entry in entries] for entries in (results, truth))
        matched = _match(results, truth, shapes, true_shapes)
        for entry in truth:
            self._level(entry).annotated += 1
        for entry, shape, at in zip(results, shapes, matched, strict=True):
            self._level(entry).add(shape, None if at is None else true_shapes[at])
        parents = self._parents_of(results, picture.results, shapes)
        true_parents = self._annotated_parents_of(truth, picture.truth)
        for entry, parent, at in zip(results, parents, matched, strict=True):
            if not self._is_object(entry):
                self._parents["orphan"] += parent is None
                if at is not None and (true_parent := true_parents[at]) is not None:
                    self._parents[_judge(parent, matched, true_parent)] += 1
        _add_inside(self._inside, shapes, parents)
        _add_inside(self._annotated_inside, true_shapes, true_parents)

    def result(self) -> ConsistencyFigures:
        """Return the figures of the pictures that were seen."""
        found = self._parents
        known = sum(found[kind] for kind in ("right", "other", "unmatched", "missing"))
        return ConsistencyFigures(
            min_score=self._min_score,
            objects=self._objects.figures(),
            parts=self._parts.figures(),
            parent_known=known,
            parent_right=found["right"],
            parent_other=found["other"],
            parent_unmatched=found["unmatched"],
            parent_missing=found["missing"],
            parent_match=_share(found["right"], known),
            orphans=_share(found["orphan"], self._parts.results),
            containment=self._inside.value,
            annotated_containment=self._annotated_inside.value,
            inferred=self._inferred,
            boxes=self._boxes,
        )

    def _is_object(self, entry: Entry) -> bool:
        return bool(self._object_of[entry["category_id"]] == entry["category_id"])

    def _level(self, entry: Entry) -> _Level:
        return self._objects if self._is_object(entry) else self._parts

    def _parents_of(self, results: Sequence[Entry], given: Sequence[Entry], shapes: Sequence[Any]) -> list[int | None]:
        """Place of each part's object among the results, None for none and for objects.

        A chain may go through any result of the picture that was `given`, and ends at one of the `results`.
        """
        known = _by_id(given)
        place = {id(entry): number for number, entry in enumerate(results)}
        parents = [place.get(id(self._climb(entry, known))) for entry in results]
        silent = [
            number for number, entry in enumerate(results) if "parent_id" not in entry and not self._is_object(entry)
        ]
        self._inferred += len(silent)
        objects = [number for number, entry in enumerate(results) if self._is_object(entry)]
        if silent and objects:
            inside = _inside([shapes[number] for number in silent], [shapes[number] for number in objects])
            wanted = [self._object_of[results[number]["category_id"]] for number in silent]
            named = [results[number]["category_id"] for number in objects]
            inside *= np.array([[want == name for name in named] for want in wanted])
            for number, row in zip(silent, inside, strict=True):
                parents[number] = objects[int(row.argmax())] if row.max() > 0 else None
        return parents

    def _annotated_parents_of(self, truth: Sequence[Entry], given: Sequence[Entry]) -> list[int | None]:
        """Place of each annotated part's object in `truth`, None for none and for objects."""
        known = _by_id(given)
        place = {id(entry): number for number, entry in enumerate(truth)}
        return [place.get(id(self._climb(entry, known))) for entry in truth]

    def _climb(self, part: Entry, known: Mapping[Any, Entry]) -> Entry | None:
        """The object that a part hangs from, through the parts between; None for none and for an object itself."""
        if self._is_object(part):
            return None
        seen: set[int] = set()
        step: Entry | None = part
        while step is not None and not self._is_object(step) and id(step) not in seen:
            seen.add(id(step))
            step = known.get(step.get("parent_id"))
        return None if step is None or id(step) in seen else step


@dataclass
class _Mean:
    """Mean of shares."""

    total: float = 0.0
    count: int = 0

    def add(self, share: float) -> None:
        self.total += share
        self.count += 1

    @property
    def value(self) -> float | None:
        return _share(self.total, self.count)


@dataclass
class _Level:
    """Counts of a level, and shares of its matched pairs."""

    annotated: int = 0
    results: int = 0
    outside: _Mean = field(default_factory=_Mean)
    left_out: _Mean = field(default_factory=_Mean)

    def add(self, shape: Any, true_shape: Any) -> None:
        """Count a result and, where it is matched, how it and its instance differ."""
        self.results += 1
        if true_shape is not None:
            self.outside.add(1 - float(_inside([shape], [true_shape])[0, 0]))
            self.left_out.add(1 - float(_inside([true_shape], [shape])[0, 0]))

    def figures(self) -> MatchedLevel:
        """The counts and the means."""
        return MatchedLevel(self.annotated, self.results, self.outside.count, self.outside.value, self.left_out.value)


def _judge(parent: int | None, matched: Sequence[int | None], true_parent: int) -> str:
    """What a part's parent is: the right one, another object's, one that is matched to nothing, or missing."""
    if parent is None:
        return "missing"
    if matched[parent] is None:
        return "unmatched"
    return "right" if matched[parent] == true_parent else "other"


def _match(
    results: Sequence[Entry], truth: Sequence[Entry], shapes: Sequence[Any], true_shapes: Sequence[Any]
) -> list[int | None]:
    """Place of the instance that each result, best first, is matched to; None for none."""
    matched: list[int | None] = [None] * len(results)
    own, there = _by_name(results), _by_name(truth)
    for name in own.keys() & there.keys():
        overlap = _overlap([shapes[place] for place in own[name]], [true_shapes[place] for place in there[name]])
        for row, place in enumerate(own[name]):
            # Of equal ones COCO takes the last.
            best = overlap.shape[1] - 1 - int(overlap[row, ::-1].argmax())
            if overlap[row, best] >= MATCH_IOU:
                matched[place] = there[name][best]
                overlap[:, best] = -1
    return matched


def _by_id(entries: Sequence[Entry]) -> dict[Any, Entry]:
    """The entries that have an id."""
    return {entry["id"]: entry for entry in entries if entry.get("id") is not None}


def _by_name(entries: Sequence[Entry]) -> dict[Any, list[int]]:
    """Places of the entries of each category."""
    places: dict[Any, list[int]] = {}
    for place, entry in enumerate(entries):
        places.setdefault(entry["category_id"], []).append(place)
    return places


def _overlap(first: Sequence[Any], second: Sequence[Any]) -> Array:
    """IoU of masks or of boxes, (N, M)."""
    return _compare(first, second, [0] * len(second))


def _inside(first: Sequence[Any], second: Sequence[Any]) -> Array:
    """Share of each of the first that lies inside each of the second, (N, M); 0 for empty ones."""
    return _compare(first, second, [1] * len(second))


def _compare(first: Sequence[Any], second: Sequence[Any], shares: Sequence[int]) -> Array:
    # COCO compares with crowds by what lies inside them, which is just what containment is.
    if isinstance(second[0], Mapping):
        return np.nan_to_num(coco_mask.iou(list(first), list(second), shares))
    return np.nan_to_num(coco_mask.iou(np.array(first, float), np.array(second, float), shares))


def _add_inside(mean: _Mean, shapes: Sequence[Any], parents: Sequence[int | None]) -> None:
    """Add how much of each shape lies inside its parent, where it has one."""
    for shape, parent in zip(shapes, parents, strict=True):
        if parent is not None:
            mean.add(float(_inside([shape], [shapes[parent]])[0, 0]))


def _root(category: Any, above: Mapping[Any, Any]) -> Any:
    """The object that a category is of, through the parts between; itself for an object."""
    seen = set()
    while above.get(category) is not None and category not in seen:
        seen.add(category)
        category = above[category]
    return category


def _share(total: float, count: float) -> float | None:
    return total / count if count else None
