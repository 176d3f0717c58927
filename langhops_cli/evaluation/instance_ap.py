"""Instance AP of objects, of parts and of both, from one run of COCO's evaluation."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from langhops_cli.errors import DATA, UserError
from langhops_cli.evaluation.validation import checked_results, checked_truth, read_json

MAX_DETECTIONS = (1, 10, 100)
"""Best-scored results of one name that count in one picture, as COCO counts them."""

_AREAS = {"all": 0, "small": 1, "medium": 2, "large": 3}
_IOU50, _IOU75 = 0, 5


@dataclass(frozen=True)
class Scores:
    """COCO's figures over a group of names; shares in 0..1, None where no instance could be scored.

    Args:
        names: names with ground truth, over which the figures are averaged.
        instances: annotated instances of these names, crowds left out.
        ap: mean over the IoU thresholds 0.50, 0.55 .. 0.95 and over names; ap50, ap75: at one threshold.
        small, medium, large: `ap` of instances below 32 x 32 pixels, below 96 x 96 and above.
        recall1, recall10, recall100: mean recall over thresholds and names with so many results a picture and name.
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
    recall100: float | None
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
        results: results that were given; without_truth: those of names that the truth nowhere annotates, which no
            figure contains; set_aside: those of a non-exhaustive truth whose name is not annotated in their picture,
            of which nobody knows whether they are wrong.
    """

    mask: Levels | None
    box: Levels
    per_name: tuple[NameScores, ...]
    pictures: int
    exhaustive: bool
    results: int
    without_truth: int
    set_aside: int

    @property
    def main(self) -> Levels:
        """The figures by mask, or by box where there are no masks."""
        return self.mask or self.box

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as they go into a JSON file."""
        return asdict(self)


def score(
    truth: Mapping[str, Any] | str | Path,
    results: Sequence[Mapping[str, Any]] | str | Path,
    *,
    image_ids: Sequence[Any] | None = None,
) -> InstanceAP:
    """Score COCO results against a prepared ground truth.

    Where the truth is not exhaustive (`info.exhaustive` is false), a result whose name is not annotated in its picture
    is set aside, since what is unlabelled there is unknown and not background; results of names that are annotated in
    the picture count as always.

    Args:
        truth: COCO instances with `parent_id` in categories (null or left out for objects), or its file.
        results: entries with `image_id`, `category_id`, `score`, `segmentation` (RLE) and `bbox`, or their file.
        image_ids: score these pictures only; all of the truth when left out.

    Returns:
        Figures of objects, parts and all names, by mask and by box, and of each name.

    Raises:
        UserError: the truth or an entry of the results cannot be scored; nothing was scored then.

    Source: COCO instance evaluation as pycocotools computes it.

    Example:
        >>> score("data/cars/val.json", "runs/cars/predictions.json").main.part.ap  # doctest: +SKIP
        0.41
    """
    truth_name, results_name = _source(truth, "ground truth"), _source(results, "results")
    known = checked_truth(read_json(Path(truth)) if isinstance(truth, str | Path) else truth, source=truth_name)
    given = read_json(Path(results)) if isinstance(results, str | Path) else list(results)
    has_masks = all(annotation["segmentation"] is not None for annotation in known["annotations"])
    checked = checked_results(given, known, source=results_name, masks=has_masks)
    if image_ids is not None:
        known, checked = _restrict(known, checked, image_ids, truth_name)
    return _score(known, checked, has_masks)


def _source(value: object, otherwise: str) -> str:
    return str(value) if isinstance(value, str | Path) else otherwise


def _restrict(
    truth: dict[str, Any], results: list[dict[str, Any]], image_ids: Sequence[Any], source: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    wanted = set(image_ids)
    unknown = wanted - {image["id"] for image in truth["images"]}
    if unknown:
        raise UserError(f"{source} has no picture with the id {min(unknown, key=str)!r}.", code=DATA)
    part = {
        key: [entry for entry in truth[key] if entry[field] in wanted]
        for key, field in (("images", "id"), ("annotations", "image_id"))
    }
    return {**truth, **part}, [result for result in results if result["image_id"] in wanted]


def _score(truth: dict[str, Any], results: list[dict[str, Any]], has_masks: bool) -> InstanceAP:
    exhaustive = bool(truth["info"].get("exhaustive", True))
    annotated = {(entry["image_id"], entry["category_id"]) for entry in truth["annotations"]}
    # A name whose only annotations are crowds has no instance to find, so it is no name with ground truth.
    instances = Counter(entry["category_id"] for entry in truth["annotations"] if not entry["iscrowd"])
    named = [result for result in results if result["category_id"] in instances]
    scored = named
    if not exhaustive:
        scored = [result for result in named if (result["image_id"], result["category_id"]) in annotated]
    mask = _CocoRun(truth, scored, instances, kind="segm") if has_masks else None
    box = _CocoRun(truth, scored, instances, kind="bbox")
    results_of = Counter(result["category_id"] for result in scored)
    categories = sorted(
        (category for category in truth["categories"] if category["id"] in instances),
        key=lambda category: (category.get("parent_id") is not None, category["id"]),
    )
    per_name = tuple(
        NameScores(
            name=category["name"],
            level="object" if category.get("parent_id") is None else "part",
            instances=instances[category["id"]],
            results=results_of[category["id"]],
            mask_ap=mask.precision([category["id"]]) if mask else None,
            mask_ap50=mask.precision([category["id"]], threshold=_IOU50) if mask else None,
            box_ap=box.precision([category["id"]]),
            box_ap50=box.precision([category["id"]], threshold=_IOU50),
        )
        for category in categories
    )
    return InstanceAP(
        mask=_levels(mask, categories) if mask else None,
        box=_levels(box, categories),
        per_name=per_name,
        pictures=len(truth["images"]),
        exhaustive=exhaustive,
        results=len(results),
        without_truth=len(results) - len(named),
        set_aside=len(named) - len(scored),
    )


class _CocoRun:
    """One run of pycocotools over the names that have ground truth, by mask ("segm") or by box ("bbox")."""

    def __init__(
        self, truth: dict[str, Any], results: list[dict[str, Any]], instances: Mapping[Any, int], *, kind: str
    ) -> None:
        self.instances = instances
        self.row = {category: row for row, category in enumerate(np.unique(list(instances)).tolist())}
        self.tables: dict[str, Any] = {}
        if not instances:
            return
        with redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            run = COCOeval(_coco(truth, truth["annotations"]), _coco(truth, _detections(results, kind)), kind)
            run.params.catIds = list(self.row)
            run.params.maxDets = list(MAX_DETECTIONS)
            run.evaluate()
            run.accumulate()
        self.tables = run.eval

    def precision(self, names: Sequence[Any], *, threshold: int | None = None, area: str = "all") -> float | None:
        """Mean of COCO's precision table over names, recall levels and thresholds (or one of them)."""
        return self._mean("precision", names, threshold, (slice(None),), _AREAS[area], -1)

    def recall(self, names: Sequence[Any], *, limit: int) -> float | None:
        """Mean recall over names and thresholds with the `limit`-th bound on the number of results."""
        return self._mean("recall", names, None, (), _AREAS["all"], limit)

    def found(self, names: Sequence[Any]) -> float | None:
        """Share of the instances of all these names together that were found at IoU 0.5."""
        total = sum(self.instances[name] for name in names)
        if not total:
            return None
        table = self.tables["recall"][_IOU50, :, _AREAS["all"], -1]
        return float(sum(table[self.row[name]] * self.instances[name] for name in names) / total)

    def _mean(
        self, key: str, names: Sequence[Any], threshold: int | None, between: tuple[slice, ...], area: int, limit: int
    ) -> float | None:
        if not names:
            return None
        rows = sorted(self.row[name] for name in names)
        table = self.tables[key] if threshold is None else self.tables[key][threshold : threshold + 1]
        values = table[(slice(None), *between, rows, area, limit)]
        values = values[values > -1]  # COCO's mark for a name without an instance of this size
        return float(values.mean()) if values.size else None


def _coco(truth: dict[str, Any], annotations: list[dict[str, Any]]) -> COCO:
    coco = COCO()
    # COCO's loop writes into the annotations, and mask and box runs must not see each other's marks.
    coco.dataset = {**truth, "annotations": [dict(annotation) for annotation in annotations]}
    coco.createIndex()
    return coco


def _detections(results: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Results as pycocotools' own loader makes them: the area is the mask's for masks and the box's for boxes."""
    # One mask at a time: pycocotools' area of a list fails from 256 masks on under NumPy 2.
    areas = (
        float(coco_mask.area(result["segmentation"])) if kind == "segm" else result["bbox"][2] * result["bbox"][3]
        for result in results
    )
    return [
        {**result, "id": number, "area": area, "iscrowd": 0}
        for number, (result, area) in enumerate(zip(results, areas, strict=True), start=1)
    ]


def _levels(run: _CocoRun, categories: Sequence[Mapping[str, Any]]) -> Levels:
    objects = [category["id"] for category in categories if category.get("parent_id") is None]
    parts = [category["id"] for category in categories if category.get("parent_id") is not None]
    return Levels(obj=_scores(run, objects), part=_scores(run, parts), all=_scores(run, objects + parts))


def _scores(run: _CocoRun, names: Sequence[Any]) -> Scores:
    return Scores(
        names=len(names),
        instances=sum(run.instances[name] for name in names),
        ap=run.precision(names),
        ap50=run.precision(names, threshold=_IOU50),
        ap75=run.precision(names, threshold=_IOU75),
        small=run.precision(names, area="small"),
        medium=run.precision(names, area="medium"),
        large=run.precision(names, area="large"),
        recall1=run.recall(names, limit=0),
        recall10=run.recall(names, limit=1),
        recall100=run.recall(names, limit=2),
        recall50=run.found(names),
    )
