"""How well each picture was done, so that the best and the worst can be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from langhops_cli.evaluation.confusion import overlaps
from langhops_cli.evaluation.consistency import MATCH_IOU, MIN_SCORE

if TYPE_CHECKING:
    from langhops_cli.evaluation.instances.stream import ScoredPicture

SHOWN = 6
"""Pictures of each kind, best and worst, that a page shows."""
TOLD = 3
"""Of each kind, that a table in the terminal names."""
MEASURE = (
    "Quality of a picture: sum of the IoUs of the matched results, divided by the matched ones and half of the "
    "unmatched results and instances."
)

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class PictureScore:
    """One picture.

    Args:
        image_id, file_name: of it.
        quality: 0..1; instances: annotated ones, crowds left out; results: of the least score; matched: pairs.
    """

    image_id: int | str
    file_name: str
    quality: float
    instances: int
    results: int
    matched: int


@dataclass(frozen=True)
class PictureFigures:
    """The quality of pictures in which there is something to find or something was found.

    Args:
        min_score: results below it were left out.
        pictures: how many were measured; mean: of their quality, None where there are none.
        best, worst: the best and the worst, none in both, the most telling first.
        shown: truth and results of these, by image id; not part of `to_dict` nor of equality.
    """

    min_score: float
    pictures: int
    mean: float | None
    best: tuple[PictureScore, ...]
    worst: tuple[PictureScore, ...]
    shown: Mapping[Any, ScoredPicture] = field(compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `report.json` holds them."""
        return {
            "measure": MEASURE,
            "min_score": self.min_score,
            "match_iou": MATCH_IOU,
            "pictures": self.pictures,
            "mean": self.mean,
            "best": [asdict(item) for item in self.best],
            "worst": [asdict(item) for item in self.worst],
        }

    def rows(self) -> list[tuple[str, ...]]:
        """Return the lines of a table, heads first."""
        lines: list[tuple[str, ...]] = [("picture", "quality", "annotated", "results", "matched")]
        for title, items in (("best", self.best[:TOLD]), ("worst", self.worst[:TOLD])):
            for item in items:
                counts = (f"{number:,}" for number in (item.instances, item.results, item.matched))
                lines.append((f"{title}: {item.file_name}", f"{100 * item.quality:.1f}", *counts))
        return lines

    def notes(self) -> list[str]:
        """Return what has to be known to read the figures."""
        return [f"{MEASURE} Results below a score of {self.min_score:g} are left out."]


_Kept = tuple[PictureScore, "ScoredPicture"]


class PictureQuality:
    """Measures each picture; sees each once.

    Results and instances of one name are matched as in COCO, at IoU 0.5 from the best score down. A result on a crowd,
    or one that nobody knows to be wrong, is not counted against a picture.

    Args:
        min_score: results below it are left out, 0..1.

    Source: panoptic quality, Kirillov et al., arXiv 1801.00868, of one picture and of all names together.
    """

    def __init__(self, *, min_score: float = MIN_SCORE) -> None:
        self._min_score = min_score
        self._pictures, self._total = 0, 0.0
        self._best: list[_Kept] = []
        self._worst: list[_Kept] = []

    def see(self, picture: ScoredPicture) -> None:
        """Measure a picture."""
        known = picture.knowledge
        results = [
            entry
            for entry in picture.results
            if entry["score"] >= self._min_score and known.counts(entry["category_id"])
        ]
        results.sort(key=lambda entry: -entry["score"])
        total, matched, unmatched = 0.0, 0, 0
        for category in dict.fromkeys(entry["category_id"] for entry in results):
            own = [entry for entry in results if entry["category_id"] == category]
            truth = [entry for entry in picture.truth if entry["category_id"] == category]
            values, left = _match(own, truth)
            total += sum(values)
            matched += len(values)
            unmatched += left if known.can_be_wrong(category) else 0
        instances = sum(not entry["iscrowd"] for entry in picture.truth)
        if instances or unmatched:
            whole = matched + (unmatched + instances - matched) / 2
            score = PictureScore(
                image_id=picture.image["id"],
                file_name=str(picture.image["file_name"]),
                quality=total / whole,
                instances=instances,
                results=len(results),
                matched=matched,
            )
            self._keep(score, picture)

    def _keep(self, score: PictureScore, picture: ScoredPicture) -> None:
        """Count a picture and hold on to it while it is one of the best or of the worst."""
        self._pictures += 1
        self._total += score.quality
        kept = (score, picture)
        # Of equally good ones those that show more; sorting is stable, so the first of equal ones stay. Among
        # the worst so many are kept as are left when all of the best are taken from them.
        self._best = sorted([*self._best, kept], key=lambda item: (-item[0].quality, -item[0].instances))[:SHOWN]
        self._worst = sorted([*self._worst, kept], key=lambda item: (item[0].quality, -item[0].instances))[: 2 * SHOWN]

    def result(self) -> PictureFigures:
        """Return the figures of the pictures that were seen."""
        best = self._best[: -(-self._pictures // 2)]
        taken = {score.image_id for score, _ in best}
        worst = [kept for kept in self._worst if kept[0].image_id not in taken][:SHOWN]
        return PictureFigures(
            min_score=self._min_score,
            pictures=self._pictures,
            mean=self._total / self._pictures if self._pictures else None,
            best=tuple(score for score, _ in best),
            worst=tuple(score for score, _ in worst),
            shown={score.image_id: picture for score, picture in (*best, *worst)},
        )


def _match(results: Sequence[Entry], truth: Sequence[Entry]) -> tuple[list[float], int]:
    """IoUs of the matched results of one name, best score first, and how many are left that lie on no crowd."""
    instances = [entry for entry in truth if not entry["iscrowd"]]
    overlap = overlaps(results, instances)
    on_crowd = overlaps(results, [entry for entry in truth if entry["iscrowd"]]).max(1, initial=0) >= MATCH_IOU
    values, left = [], 0
    for number in range(len(results)):
        best = int(overlap[number].argmax()) if instances else -1
        if instances and overlap[number, best] >= MATCH_IOU:
            values.append(float(overlap[number, best]))
            overlap[:, best] = 0
        else:
            left += not on_crowd[number]
    return values, left
