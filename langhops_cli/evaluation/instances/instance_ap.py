"""Instance AP of objects, of parts and of both, from one pass over the pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from langhops_cli.evaluation.instances.matches import AREAS, Kind, Matches, Tables, mean_precision, mean_recall, tables
from langhops_cli.evaluation.instances.matching import LIMITS, Backend, InstanceMatcher, check_backend
from langhops_cli.evaluation.instances.stream import PictureCounter, Results, ScoredPictures, Truth, scored_pictures

MAX_DETECTIONS = LIMITS[0]
"""Best-scored results of one name that count in one picture, as COCO counts them."""


@dataclass(frozen=True)
class Scores:
    """COCO's figures over a group of names; shares in 0..1, None where no instance could be scored.

    Args:
        names: names with ground truth, over which the figures are averaged.
        instances: annotated instances of these names, crowds left out.
        ap: mean over the IoU thresholds 0.50, 0.55 .. 0.95 and over names; ap50, ap75: at one threshold.
        small, medium, large: `ap` of instances below 32 x 32 pixels, below 96 x 96 and above.
        recall1, recall10: mean recall over thresholds and names with so many results a picture and name; recall_max:
            with as many as are scored, 100 or 300.
        recall50: share of the annotated instances that were found at IoU 0.5.
    """

    names: int
    instances: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    small: float | None
    medium: float | None
    large: float | None
    recall1: float | None
    recall10: float | None
    recall_max: float | None
    recall50: float | None


@dataclass(frozen=True)
class Levels:
    """The figures of object names, of part names, and of all names."""

    obj: Scores
    part: Scores
    all: Scores


@dataclass(frozen=True)
class NameScores:
    """One name's figures: AP of masks and boxes, annotated instances and results that were scored."""

    name: str
    level: str
    instances: int
    results: int
    mask_ap: float | None
    mask_ap50: float | None
    box_ap: float | None
    box_ap50: float | None


@dataclass(frozen=True)
class InstanceAP:
    """What a set of results is worth on a ground truth.

    Args:
        mask, box: figures by mask and by box overlap; `mask` is None where the truth has boxes only.
        per_name: names with ground truth, objects first.
        pictures: pictures that were scored.
        exhaustive: whether every instance of every name is annotated.
        federated: whether pictures say for themselves which names they were searched for, as in LVIS.
        max_detections: so many results count, of each name in a picture; where `per_picture`, of all names in a
            picture together.
        results: results that were given; without_truth: those of names that the truth nowhere annotates, which no
            figure contains; set_aside: those whose name was not looked for in their picture, of which nobody knows
            whether they are wrong.
        matches: what each result matched, by mask and by box; not part of `to_dict` nor of equality.
    """

    mask: Levels | None
    box: Levels
    per_name: tuple[NameScores, ...]
    pictures: int
    exhaustive: bool
    federated: bool
    max_detections: int
    per_picture: bool
    results: int
    without_truth: int
    set_aside: int
    matches: Mapping[Kind, Matches] = field(compare=False, repr=False)

    @property
    def main(self) -> Levels:
        """The figures by mask, or by box where there are no masks."""
        return self.mask or self.box

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as they go into a JSON file."""
        levels = {
            key: None if value is None else _plain(value) for key, value in (("mask", self.mask), ("box", self.box))
        }
        rest = {item.name: getattr(self, item.name) for item in fields(self)}
        del rest["matches"]
        return rest | levels | {"per_name": [dict(vars(row)) for row in self.per_name]}


def _plain(levels: Levels) -> dict[str, Any]:
    return {level: dict(vars(scores)) for level, scores in vars(levels).items()}


def score(
    truth: Truth,
    results: Results,
    *,
    image_ids: Collection[Any] | None = None,
    max_detections: int = MAX_DETECTIONS,
    backend: Backend = "pycocotools",
    counters: Sequence[PictureCounter] = (),
) -> InstanceAP:
    """Score COCO results against a prepared ground truth, or one in COCO's, LVIS's or PACO's form.

    Where the truth is not exhaustive, a result that nobody can call wrong is not counted as wrong; `Knowledge` says
    which. Of the results of a name in a picture the best `max_detections` count. Only with 300 on a federated truth
    (LVIS, PACO) the best 300 of a picture count over all its names together, before any are set aside, as LVIS does.

    Args:
        truth: COCO instances with `parent_id` in categories (null or left out for objects), or its file.
        results: entries with `image_id`, `category_id`, `score`, `segmentation` (RLE) and `bbox`, or their file,
            which is never in memory as a whole.
        image_ids: score these pictures only; all of the truth when left out.
        max_detections: 100 or 300.
        backend: "pycocotools", or "hotcoco", which is faster.
        counters: see each picture too, in the same pass.

    Returns:
        Figures of objects, parts and all names, by mask and by box, and of each name.

    Raises:
        UserError: the truth or an entry of the results cannot be scored; nothing was scored then. Or hotcoco is not
            installed.
        ValueError: another number of detections or another backend.

    Source: COCO instance evaluation as pycocotools computes it.

    Example:
        >>> score("data/cars/val.json", "runs/cars/predictions.json").main.part.ap  # doctest: +SKIP
        0.41
    """
    check_backend(backend)
    return score_pictures(
        scored_pictures(truth, results, image_ids=image_ids),
        max_detections=max_detections,
        backend=backend,
        counters=counters,
    )


def score_pictures(
    pictures: ScoredPictures,
    *,
    max_detections: int = MAX_DETECTIONS,
    backend: Backend = "pycocotools",
    counters: Sequence[PictureCounter] = (),
) -> InstanceAP:
    """Score pictures that were checked already; arguments as in `score`."""
    matcher = InstanceMatcher(pictures, max_detections=max_detections, backend=backend)
    for picture in pictures:
        matcher.see(picture)
        for counter in counters:
            counter.see(picture)
    matches = matcher.finish()
    computed = {kind: tables(item) for kind, item in matches.items()}
    return InstanceAP(
        mask=levels(matches["mask"], computed["mask"]) if "mask" in matches else None,
        box=levels(matches["box"], computed["box"]),
        per_name=_per_name(matches, computed, matcher.results),
        pictures=len(pictures),
        exhaustive=pictures.exhaustive,
        federated=pictures.federated,
        max_detections=max_detections,
        per_picture=matcher.per_picture,
        results=pictures.result_count,
        without_truth=matcher.without_truth,
        set_aside=matcher.set_aside,
        matches=matches,
    )


def levels(matches: Matches, computed: Tables | None = None) -> Levels:
    """The figures of matches, which may come from a file.

    Args:
        matches: of masks or of boxes.
        computed: their tables, all areas; computed when left out.
    """
    computed = tables(matches) if computed is None else computed
    return Levels(
        obj=_scores(matches, computed, matches.places("object")),
        part=_scores(matches, computed, matches.places("part")),
        all=_scores(matches, computed, matches.places()),
    )


def _scores(matches: Matches, computed: Tables, names: Sequence[int]) -> Scores:
    precision, recall = computed
    instances = np.array([matches.names[name].instances for name in names], np.int64)
    found = recall[0, list(names), 0, -1] @ instances
    small, medium, large = (mean_precision(precision, names, area=AREAS.index(area)) for area in AREAS[1:])
    return Scores(
        names=len(names),
        instances=int(instances.sum()),
        ap=mean_precision(precision, names),
        ap50=mean_precision(precision, names, threshold=0.5),
        ap75=mean_precision(precision, names, threshold=0.75),
        small=small,
        medium=medium,
        large=large,
        recall1=mean_recall(recall, names, limit=0),
        recall10=mean_recall(recall, names, limit=1),
        recall_max=mean_recall(recall, names, limit=2),
        recall50=float(found / instances.sum()) if len(names) else None,
    )


def _per_name(
    matches: Mapping[Kind, Matches], computed: Mapping[Kind, Tables], results: Counter[Any]
) -> tuple[NameScores, ...]:
    rows = []
    for place, name in enumerate(matches["box"].names):
        shares = {
            f"{kind}_{key}": mean_precision(computed[kind].precision, [place], threshold=threshold)
            if kind in computed
            else None
            for kind in ("mask", "box")
            for key, threshold in (("ap", None), ("ap50", 0.5))
        }
        rows.append(NameScores(name.name, name.level, name.instances, results[name.id], **shares))
    return tuple(rows)
