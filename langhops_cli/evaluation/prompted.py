"""How well a name is segmented where it is known to be there, which also a truth that is not exhaustive can tell.

For each picture and each name that is annotated in it, the likeliest result of that name is the answer: its overlap
with the instance that it fits best counts, 0 where there is no result. Results of other names and further results of
the name are neither right nor wrong.

Source: the mean IoU and the precision at 0.5 of referring expressions, Yu et al., arXiv 1608.00272, with a name in
place of the expression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from langhops_cli.evaluation.confusion import levels_of, overlaps
from langhops_cli.evaluation.consistency import MATCH_IOU

if TYPE_CHECKING:
    from langhops_cli.evaluation.instances.matches import Level
    from langhops_cli.evaluation.instances.stream import ScoredPicture

Entry = Mapping[str, Any]


@dataclass
class LevelPrompts:
    """The answers of one level: IoU of each (picture, annotated name), 0..1, and how many had no result at all."""

    values: list[float] = field(default_factory=list)
    unanswered: int = 0

    @property
    def mean(self) -> float | None:
        """Mean IoU; None where nothing is annotated."""
        return float(np.mean(self.values)) if self.values else None

    @property
    def right(self) -> float | None:
        """Share of the answers with an IoU of at least 0.5; None where nothing is annotated."""
        return float(np.mean(np.array(self.values) >= MATCH_IOU)) if self.values else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `report.json` holds them."""
        return {"names": len(self.values), "iou": self.mean, "right": self.right, "unanswered": self.unanswered}


@dataclass(frozen=True)
class PromptedFigures:
    """Class-prompted IoU of objects and of parts."""

    objects: LevelPrompts
    parts: LevelPrompts

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `report.json` holds them."""
        return {"match_iou": MATCH_IOU, "objects": self.objects.to_dict(), "parts": self.parts.to_dict()}

    def rows(self) -> list[tuple[str, ...]]:
        """Return the lines of a table, heads first."""
        lines: list[tuple[str, ...]] = [("", "names", "mean IoU", "IoU 0.5", "unanswered")]
        for title, level in (("objects", self.objects), ("parts", self.parts)):
            shares = ("-" if value is None else f"{100 * value:.1f}" for value in (level.mean, level.right))
            lines.append((title, f"{len(level.values):,}", *shares, f"{level.unanswered:,}"))
        return lines

    def notes(self) -> list[str]:
        """Return what has to be known to read the figures, one sentence each."""
        return [
            "Class-prompted: of each name that is annotated in a picture, its likeliest result there and the instance "
            "that this fits best."
        ]


class PromptedIoU:
    """Measures the likeliest result of each annotated name; sees each picture once.

    Args:
        categories: of the truth, as COCO has them: `id`, and `parent_id` for a part.
    """

    def __init__(self, categories: Sequence[Entry]) -> None:
        self._level = levels_of(categories)
        self._found: dict[Level, LevelPrompts] = {"object": LevelPrompts(), "part": LevelPrompts()}

    def see(self, picture: ScoredPicture) -> None:
        """Measure a picture."""
        likeliest: dict[Any, Entry] = {}
        for entry in picture.results:
            best = likeliest.setdefault(entry["category_id"], entry)
            if entry["score"] > best["score"]:
                likeliest[entry["category_id"]] = entry
        instances: dict[Any, list[Entry]] = {}
        for entry in picture.truth:
            if not entry["iscrowd"]:
                instances.setdefault(entry["category_id"], []).append(entry)
        for category, truth in instances.items():
            found, answer = self._found[self._level[category]], likeliest.get(category)
            found.unanswered += answer is None
            found.values.append(0.0 if answer is None else float(overlaps([answer], truth).max()))

    def result(self) -> PromptedFigures:
        """Return the figures of the pictures that were seen."""
        return PromptedFigures(self._found["object"], self._found["part"])
