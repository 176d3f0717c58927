"""Which results are right at which overlap: all that average precision needs, kept small enough to be saved.

Masks are compared once. Figures, curves, bootstrap intervals and comparisons of two systems are then computed from
the matches alone, in which a result takes a few bytes.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from langhops_cli.checkpoint.files import write_whole
from langhops_cli.errors import DATA, UserError

FORMAT = 1
MATCHES = "matches.npz"
THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Overlaps from which on a result is right."""
RECALLS = np.linspace(0.0, 1.0, 101)
"""Recall levels at which COCO reads the precision."""
AREAS = ("all", "small", "medium", "large")
AREA_LIMITS = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
"""Smallest and largest area of each range in square pixels, both inside, as COCO has them."""

Kind = Literal["mask", "box"]
Level = Literal["object", "part"]
Array = NDArray[Any]


@dataclass(frozen=True)
class ScoredName:
    """A name with ground truth: its category id, its level and how many instances of it count (crowds do not)."""

    id: int | str
    name: str
    level: Level
    instances: int


@dataclass(frozen=True, eq=False)
class Matches:
    """The results of some pictures, matched to what is annotated there.

    Args:
        kind: whether masks or boxes were compared.
        max_detections: so many results count, best first; `per_picture` says whether of all names of a picture
            together (LVIS) or of each name of a picture (COCO).
        image_ids: the P pictures that were scored, in the order of their ids.
        names: the K names with ground truth, objects first.
        picture, name: of each of the D results, its place in `image_ids` and in `names`, (D,) int32. Results are
            sorted by name, then picture, then from the best score down.
        score: (D,) float64.
        right: bit t is set where the result is right at THRESHOLDS[t], for each of AREAS, (D, 4) uint16.
        ignored: the same where the result is neither right nor wrong: it lies on a crowd or on an instance of another
            size, has another size itself, or nobody looked for what it shows.
        truth_picture, truth_name: of each of the G instances, (G,) int32.
        truth_counts: whether the instance counts in each of AREAS, (G, 4) bool.
    """

    kind: Kind
    max_detections: int
    per_picture: bool
    image_ids: tuple[int | str, ...]
    names: tuple[ScoredName, ...]
    picture: Array
    name: Array
    score: Array
    right: Array
    ignored: Array
    truth_picture: Array
    truth_name: Array
    truth_counts: Array

    @property
    def limits(self) -> tuple[int, int, int]:
        """So many results a picture and name the recalls of `tables` are measured with."""
        return (1, 10, self.max_detections)

    def places(self, level: Level | None = None) -> list[int]:
        """Places in `names` of one level, of all names when left out."""
        return [place for place, name in enumerate(self.names) if level in (None, name.level)]

    @cached_property
    def _order(self) -> Array:
        """By name, then from the best score down; equal scores stay in the order of their pictures."""
        return np.lexsort((-self.score, self.name))

    @cached_property
    def _rank(self) -> Array:
        """Place of each result among those of its name in its picture, 0 for the best."""
        count = len(self.score)
        if not count:
            return np.zeros(0, np.int64)
        new = np.ones(count, bool)
        new[1:] = (np.diff(self.name) != 0) | (np.diff(self.picture) != 0)
        starts = np.flatnonzero(new)
        return np.arange(count) - np.repeat(starts, np.diff(starts, append=count))


class Tables(NamedTuple):
    """COCO's tables; -1 where a name has no instance of this size.

    Args:
        precision: at each of THRESHOLDS and RECALLS, by name and area, (10, 101, K, A).
        recall: at each of THRESHOLDS, by name and area, with 1, 10 and `max_detections` results a picture and name,
            (10, K, A, 3).
    """

    precision: Array
    recall: Array


def tables(matches: Matches, weights: Array | None = None, *, areas: Sequence[str] = AREAS) -> Tables:
    """Compute precision and recall as pycocotools does.

    Args:
        matches: of masks or of boxes.
        weights: how often each picture counts, (P,) integers, for bootstrap samples; once each when left out. As if
            the picture were there several times, as long as no two results of a name have one score.
        areas: those of AREAS that are wanted, in the order of the tables' axis A.

    Returns:
        The tables.

    Raises:
        ValueError: the weights are not one whole number from 0 up a picture, or an area is unknown.

    Source: COCOeval.accumulate of pycocotools.
    """
    if weights is None:
        weights = np.ones(len(matches.image_ids), np.int64)
    weights = np.asarray(weights)
    if weights.shape != (len(matches.image_ids),) or weights.dtype.kind not in "iu" or (weights < 0).any():
        raise ValueError(f"weights must be {len(matches.image_ids)} whole numbers from 0 up, one a picture")
    if unknown := [area for area in areas if area not in AREAS]:
        raise ValueError(f"no area {unknown[0]!r}; there are {', '.join(AREAS)}")
    names, columns = len(matches.names), [AREAS.index(area) for area in areas]
    precision = np.full((len(THRESHOLDS), len(RECALLS), names, len(columns)), -1.0)
    recall = np.full((len(THRESHOLDS), names, len(columns), len(matches.limits)), -1.0)
    for place, column in enumerate(columns):
        counted = matches.truth_counts[:, column] * weights[matches.truth_picture]
        instances = np.bincount(matches.truth_name, counted, names)
        there = instances > 0
        if there.any():
            levels, found = _one_area(matches, column, weights, np.maximum(instances, 1))
            precision[:, :, there, place] = levels[:, :, there]
            recall[:, there, place] = found[:, there]
    return Tables(precision, recall)


def _one_area(matches: Matches, area: int, weights: Array, instances: Array) -> tuple[Array, Array]:
    """Precision (10, 101, K) and recall (10, K, 3) of one area range; `instances` of each name, (K,), at least 1."""
    names, order = len(matches.names), matches._order
    name = matches.name[order].astype(np.int64)
    weight = weights[matches.picture[order]].astype(np.int64)
    rank = matches._rank[order]
    bits = [matches.right[order, area], matches.ignored[order, area]]
    ends = np.cumsum(np.bincount(name, minlength=names))
    starts = ends - np.diff(ends, prepend=0)
    wanted = _wanted(instances)
    # More than any number of right results, so that names never meet in the sorted keys below.
    step = int(max(instances.max(), weight.sum())) + 2
    first = np.arange(names)[:, None] * step
    spans = [slice(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    precision = np.zeros((len(THRESHOLDS), len(RECALLS), names))
    recall = np.empty((len(THRESHOLDS), names, len(matches.limits)))
    for number in range(len(THRESHOLDS)):  # one at a time: of half a million results each column takes megabytes
        right, ignored = ((column >> number) & 1 for column in bits)
        hits = right * weight
        for column, limit in enumerate(matches.limits):
            recall[number, :, column] = np.bincount(name, hits * (rank < limit), names) / instances
        count = _running(hits, starts, name)
        misses = _running((1 - right) * (1 - ignored) * weight, starts, name)
        envelope = count / (misses + count + np.spacing(1))
        for span in spans:
            backwards = envelope[span][::-1]
            np.maximum.accumulate(backwards, out=backwards)
        place = np.searchsorted(count + name * step, first + wanted)
        reached = place < ends[:, None]
        values = np.zeros(place.shape)
        values[reached] = envelope[place[reached]]
        precision[number] = values.T
    return precision, recall


def _running(values: Array, starts: Array, name: Array) -> Array:
    """Sums from the first result of each name up to each result."""
    sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(values)])
    return sums[1:] - sums[starts][name]


def _wanted(instances: Array) -> Array:
    """Fewest right results that reach each recall level, (K, 101), by COCO's comparison of floating-point numbers."""
    whole = instances[:, None]
    count = np.maximum(np.floor(RECALLS * whole) - 1, 0)
    for _ in range(3):  # floor may be one off in either direction
        count += count / whole < RECALLS
    return count.astype(np.int64)


def mean_precision(
    precision: Array, names: Sequence[int], *, threshold: float | None = None, area: int = 0
) -> float | None:
    """Average precision over recall levels and names.

    Args:
        precision: of `Tables`.
        names: places of the names.
        threshold: one of THRESHOLDS; the mean over all when left out.
        area: place on the tables' axis of areas.

    Returns:
        0..1; None where no name has an instance of this size.
    """
    table = precision if threshold is None else precision[[_threshold_place(threshold)]]
    values = table[:, :, list(names), area]
    values = values[values > -1]
    return float(values.mean()) if values.size else None


def mean_recall(recall: Array, names: Sequence[int], *, limit: int = 2, area: int = 0) -> float | None:
    """Average recall over thresholds and names.

    Args:
        recall: of `Tables`.
        names: places of the names.
        limit: place in `Matches.limits`.
        area: place on the tables' axis of areas.

    Returns:
        0..1; None where no name has an instance of this size.
    """
    values = recall[:, list(names), area, limit]
    values = values[values > -1]
    return float(values.mean()) if values.size else None


def _threshold_place(threshold: float) -> int:
    """Place of a value among THRESHOLDS.

    Raises:
        ValueError: it is none of them.
    """
    near = np.flatnonzero(np.isclose(THRESHOLDS, threshold, rtol=0, atol=1e-9))
    if not near.size:
        raise ValueError(f"no threshold {threshold}; there are 0.5, 0.55 .. 0.95")
    return int(near[0])


def sorted_ids(ids: Sequence[int | str]) -> list[int | str]:
    """Ids in the order in which COCO goes through pictures: numbers by size, before text."""
    return sorted(ids, key=lambda value: (isinstance(value, str), value))


def save_matches(path: Path, matches: Mapping[Kind, Matches]) -> None:
    """Write matches of masks, of boxes or of both into one file, whole or not at all."""
    arrays: dict[str, Array] = {}
    about: dict[str, Any] = {"format": FORMAT, "kinds": {}}
    for kind, item in matches.items():
        arrays |= {f"{kind}_{key}": getattr(item, key) for key in _ARRAYS}
        about["kinds"][kind] = {
            "max_detections": item.max_detections,
            "per_picture": item.per_picture,
            "image_ids": item.image_ids,
            "names": [asdict(name) for name in item.names],
        }
    text = json.dumps(about, ensure_ascii=False).encode()

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, about=np.frombuffer(text, np.uint8), **arrays)

    write_whole(path, write)


def load_matches(path: Path) -> dict[Kind, Matches]:
    """Read what `save_matches` wrote.

    Raises:
        UserError: the file is missing, damaged or of another version.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(file["about"].tobytes())
            if about["format"] != FORMAT:
                raise UserError(f"{path} is of format {about['format']}, not {FORMAT}: evaluate again.", code=DATA)
            return {
                kind: Matches(
                    kind=kind,
                    max_detections=entry["max_detections"],
                    per_picture=entry["per_picture"],
                    image_ids=tuple(entry["image_ids"]),
                    names=tuple(ScoredName(**name) for name in entry["names"]),
                    **{key: file[f"{kind}_{key}"] for key in _ARRAYS},
                )
                for kind, entry in about["kinds"].items()
            }
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; evaluate first.", code=DATA) from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({error}); evaluate again.", code=DATA) from None


_ARRAYS = tuple(field.name for field in fields(Matches) if field.type == "Array")
