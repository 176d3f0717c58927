"""Which names are taken for which: results against annotated instances by overlap, whatever their names.

In each picture the results with a score of at least `min_score` choose, from the best down, among the instances of
their level that they overlap by an IoU of at least 0.5: a free one of their own name before a free one of another,
and of several the one that they overlap most. Objects are matched to objects and parts to parts.

- A matched result has the right name or a wrong one.
- An instance that no result has chosen is missed.
- A result whose only instances are taken is a repetition, such as one query under its second-best name: it says
  nothing new of what is there, so it is counted but stands in no row of the table.
- A result that overlaps no instance found something where nothing is; unless most of it lies on a crowd, or the
  picture was not searched for its name: then it is set aside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from langhops_cli.evaluation.consistency import MATCH_IOU, MIN_SCORE

if TYPE_CHECKING:
    from langhops_cli.evaluation.instances.matches import Level
    from langhops_cli.evaluation.instances.stream import ScoredPicture

TOLD = 5
"""Confusions that a sentence names."""

Entry = Mapping[str, Any]
Array = NDArray[Any]


@dataclass
class LevelConfusion:
    """The names of one level against each other.

    Args:
        annotated: instances of each name, crowds left out.
        pairs: matched results by (name of the instance, name of the result).
        nothing_there: results of each name that overlap no instance.
        repeated: results whose instances are all taken; set_aside: those on crowds, or of names that were not looked
            for in their picture.
    """

    annotated: Counter[str] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    nothing_there: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    set_aside: int = 0

    @property
    def right(self) -> int:
        """Instances that were found under their own name."""
        return sum(count for (true, said), count in self.pairs.items() if true == said)

    @property
    def wrong(self) -> int:
        """Instances that were found under another name."""
        return self.pairs.total() - self.right

    @property
    def missed(self) -> int:
        """Instances that were not found."""
        return self.annotated.total() - self.pairs.total()

    def confusions(self) -> list[tuple[str, str, int]]:
        """Name of the instance, name of the result and how often, the most frequent first; right names left out."""
        wrong = [(true, said, count) for (true, said), count in self.pairs.items() if true != said]
        return sorted(wrong, key=lambda row: (-row[2], row[0], row[1]))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `report.json` holds them; the table row by row, names without a count left out."""
        names = sorted(self.annotated)
        return {
            "annotated": self.annotated.total(),
            "right": self.right,
            "wrong_name": self.wrong,
            "missed": self.missed,
            "nothing_there": self.nothing_there.total(),
            "repeated": self.repeated,
            "set_aside": self.set_aside,
            "rows": {name: self._row(name) for name in names},
            "nothing_there_as": dict(sorted(self.nothing_there.items())),
        }

    def _row(self, name: str) -> dict[str, Any]:
        found = {said: count for (true, said), count in sorted(self.pairs.items()) if true == name}
        annotated = self.annotated[name]
        return {"annotated": annotated, "found_as": found, "missed": annotated - sum(found.values())}


@dataclass(frozen=True)
class ConfusionFigures:
    """Which names are taken for which, of objects and of parts; results below `min_score` were left out."""

    min_score: float
    objects: LevelConfusion
    parts: LevelConfusion

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `report.json` holds them."""
        return {
            "min_score": self.min_score,
            "match_iou": MATCH_IOU,
            "objects": self.objects.to_dict(),
            "parts": self.parts.to_dict(),
        }

    def rows(self) -> list[tuple[str, ...]]:
        """Return the lines of a table, heads first."""
        lines: list[tuple[str, ...]] = [("", "annotated", "right name", "wrong name", "missed", "nothing there")]
        for title, level in (("objects", self.objects), ("parts", self.parts)):
            counts = (level.annotated.total(), level.right, level.wrong, level.missed, level.nothing_there.total())
            lines.append((title, *(f"{count:,}" for count in counts)))
        return lines

    def notes(self) -> list[str]:
        """Return what has to be known to read the figures, one sentence each."""
        lines = [
            f"Names are compared by overlap alone (IoU {MATCH_IOU:g}), over results with a score of "
            f"{self.min_score:g} or more."
        ]
        worst = sorted([*self.objects.confusions(), *self.parts.confusions()], key=lambda row: -row[2])[:TOLD]
        if worst:
            told = ", ".join(f"{true} as {said} ({count:,})" for true, said, count in worst)
            lines.append(f"Most often under a wrong name: {told}.")
        return lines


class NameConfusion:
    """Counts which names are taken for which; sees each picture once.

    Args:
        categories: of the truth, as COCO has them: `id`, `name`, and `parent_id` for a part.
        min_score: results below it are left out, 0..1.
    """

    def __init__(self, categories: Sequence[Entry], *, min_score: float = MIN_SCORE) -> None:
        self._names = {entry["id"]: str(entry["name"]) for entry in categories}
        self._number = {category: number for number, category in enumerate(self._names)}
        self._level = levels_of(categories)
        self._min_score = min_score
        self._found: dict[Level, LevelConfusion] = {"object": LevelConfusion(), "part": LevelConfusion()}

    def see(self, picture: ScoredPicture) -> None:
        """Count a picture."""
        results = [entry for entry in picture.results if entry["score"] >= self._min_score]
        results.sort(key=lambda entry: -entry["score"])  # stable: equal scores stay in the order of the file
        for level, found in self._found.items():
            truth = [entry for entry in picture.truth if self._level[entry["category_id"]] == level]
            own = [entry for entry in results if self._level[entry["category_id"]] == level]
            self._count(found, truth, own, picture)

    def result(self) -> ConfusionFigures:
        """Return the figures of the pictures that were seen."""
        return ConfusionFigures(self._min_score, self._found["object"], self._found["part"])

    def _count(
        self, found: LevelConfusion, truth: Sequence[Entry], results: Sequence[Entry], picture: ScoredPicture
    ) -> None:
        instances = [entry for entry in truth if not entry["iscrowd"]]
        crowds = [entry for entry in truth if entry["iscrowd"]]
        found.annotated.update(self._names[entry["category_id"]] for entry in instances)
        overlap = overlaps(results, instances)
        on_crowd = overlaps(results, crowds).max(1, initial=0) >= MATCH_IOU
        said, true = (np.array([self._number[entry["category_id"]] for entry in entries], int) for entries in
                      (results, instances))  # fmt: skip
        # An overlap is at most 1, so that one's own name comes before any other.
        wanted = np.where(overlap >= MATCH_IOU, overlap + 2.0 * (said[:, None] == true), 0.0)
        free = np.ones(len(instances), bool)
        for number, entry in enumerate(results):
            name = self._names[entry["category_id"]]
            choice = wanted[number] * free
            if choice.any():
                best = int(choice.argmax())
                free[best] = False
                found.pairs[self._names[instances[best]["category_id"]], name] += 1
            elif wanted[number].any():
                found.repeated += 1
            elif on_crowd[number] or not picture.knowledge.can_be_wrong(entry["category_id"]):
                found.set_aside += 1
            else:
                found.nothing_there[name] += 1


def levels_of(categories: Sequence[Entry]) -> dict[Any, Level]:
    """The level of each category by its id."""
    return {entry["id"]: "object" if entry.get("parent_id") is None else "part" for entry in categories}


def overlaps(results: Sequence[Entry], truth: Sequence[Entry]) -> Array:
    """Compare results with instances as COCO does, by mask, or by box where one of them has no mask.

    Returns:
        IoU, and for crowds the share of the result that lies inside, (N, M); 0 for empty ones.
    """
    if not results or not truth:
        return np.zeros((len(results), len(truth)))
    masks = all(entry.get("segmentation") for entry in (*results, *truth))
    key = "segmentation" if masks else "bbox"
    shapes: list[Any] = [[entry[key] for entry in entries] for entries in (results, truth)]
    if not masks:
        shapes = [np.array(boxes, float) for boxes in shapes]
    return np.nan_to_num(np.asarray(coco_mask.iou(*shapes, [int(entry["iscrowd"]) for entry in truth])))
