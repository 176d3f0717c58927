"""Match the results of pictures to what is annotated there, by COCO's own loop, a few pictures at a time."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pycocotools import mask as coco_mask

from langhops_cli.errors import ENVIRONMENT, UserError
from langhops_cli.evaluation.instances.matches import AREA_LIMITS, THRESHOLDS, Array, Kind, Matches, sorted_ids
from langhops_cli.evaluation.instances.stream import Entry, ScoredPicture, ScoredPictures

Backend = Literal["pycocotools", "hotcoco"]
BACKENDS: tuple[Backend, ...] = ("pycocotools", "hotcoco")
LIMITS = (100, 300)
"""Numbers of results a picture that may be scored, as COCO and as LVIS count them."""

_CHUNK = 2000
"""Annotations and results that are matched at once: the faster backend spreads them over all cores."""
_BITS = 1 << np.arange(len(THRESHOLDS), dtype=np.uint16)


@dataclass(frozen=True)
class _Picture:
    """What is compared in one picture.

    Args:
        place: of the picture among those that are scored.
        size: its height and width in pixels.
        truth, results: the entries that count; their `category_id` is the number of the name, from 1.
        lenient: names, from 1, of which a result that matches nothing is not wrong.
    """

    place: int
    size: tuple[int, int]
    truth: list[Entry]
    results: list[Entry]
    lenient: frozenset[int]


@dataclass(frozen=True)
class _Pair:
    """One name in one picture, as COCO's loop left it: the scores, and flags of each area, threshold and result."""

    place: int
    name: int
    score: Array
    matched: Array
    ignored: Array


@dataclass
class _Columns:
    """What has been matched of one kind so far, an array for each time that pictures were matched."""

    pictures: list[Array] = field(default_factory=list)
    names: list[Array] = field(default_factory=list)
    scores: list[Array] = field(default_factory=list)
    right: list[Array] = field(default_factory=list)
    ignored: list[Array] = field(default_factory=list)

    def add(self, pairs: Sequence[_Pair], lenient: Mapping[int, frozenset[int]]) -> None:
        """Take in names of pictures; for each picture, what matches nothing is ignored of the `lenient` names."""
        if not pairs:
            return
        counts = [len(pair.score) for pair in pairs]
        loose = np.repeat([pair.name in lenient[pair.place] for pair in pairs], counts)
        matched = np.concatenate([pair.matched for pair in pairs], axis=2)
        ignored = np.concatenate([pair.ignored for pair in pairs], axis=2) | (~matched & loose)
        self.pictures.append(np.repeat(np.array([pair.place for pair in pairs], np.int32), counts))
        self.names.append(np.repeat(np.array([pair.name - 1 for pair in pairs], np.int32), counts))
        self.scores.append(np.concatenate([pair.score for pair in pairs]))
        self.right.append(_packed(matched & ~ignored))
        self.ignored.append(_packed(ignored))


def check_backend(backend: str) -> None:
    """See that a backend can be used, before anything that takes long.

    Raises:
        ValueError: there is no such backend.
        UserError: it is not installed.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be pycocotools or hotcoco, got {backend!r}")
    if backend == "hotcoco":
        import_hotcoco()


class InstanceMatcher:
    """Matches each picture that it sees, by mask and by box; a `PictureCounter`.

    With 100 results, or of a truth without federated pictures, the best `max_detections` of each name in each picture
    count, as COCO has it. With 300 on a federated truth the best 300 of a picture count over all names together, before
    any are set aside, as LVIS has it.

    Args:
        pictures: those that it will see.
        max_detections: 100 or 300.
        backend: "pycocotools", the reference, or "hotcoco", which is faster.

    Raises:
        ValueError: a limit or a backend that there is not.
        UserError: hotcoco is not installed.
    """

    def __init__(
        self, pictures: ScoredPictures, *, max_detections: int = LIMITS[0], backend: Backend = "pycocotools"
    ) -> None:
        if max_detections not in LIMITS:
            raise ValueError(f"max_detections must be 100 or 300, got {max_detections}")
        check_backend(backend)
        self.max_detections = max_detections
        self.per_picture = pictures.federated and max_detections == LIMITS[1]
        self.without_truth = 0
        self.set_aside = 0
        self.results: Counter[Any] = Counter()
        self._match: Callable[..., Iterator[_Pair]] = _by_hotcoco if backend == "hotcoco" else _by_pycocotools
        self._names = pictures.names
        self._number = {name.id: number for number, name in enumerate(self._names, start=1)}
        self._image_ids = pictures.image_ids
        kinds: tuple[Kind, ...] = ("mask", "box") if pictures.has_masks else ("box",)
        self._columns = {kind: _Columns() for kind in kinds}
        self._waiting: list[_Picture] = []
        self._waiting_entries = 0
        self._truth: list[Array] = []

    def see(self, picture: ScoredPicture) -> None:
        """Match a picture."""
        known = picture.knowledge
        named = [entry for entry in picture.results if entry["category_id"] in self._number]
        scored = [entry for entry in named if known.counts(entry["category_id"])]
        self.without_truth += len(picture.results) - len(named)
        self.set_aside += len(named) - len(scored)
        if self.per_picture:
            best = sorted(picture.results, key=lambda entry: -entry["score"])[: self.max_detections]
            kept = {entry["number"] for entry in best}
            scored = [entry for entry in scored if entry["number"] in kept]
        self.results.update(entry["category_id"] for entry in scored)
        truth = [entry for entry in picture.truth if entry["category_id"] in self._number]
        if not truth and not scored:
            return
        categories = {entry["category_id"] for entry in truth}
        lenient = frozenset(self._number[category] for category in categories if not known.can_be_wrong(category))
        size = picture.image["height"], picture.image["width"]
        self._waiting.append(_Picture(picture.place, size, self._numbered(truth), self._numbered(scored), lenient))
        self._count_truth(picture.place, truth)
        self._waiting_entries += len(truth) + len(scored)
        if self._waiting_entries >= _CHUNK:
            self._flush()

    def finish(self) -> dict[Kind, Matches]:
        """Return the matches of all pictures that were seen, by mask (unless the truth has boxes only) and by box."""
        self._flush()
        return {kind: self._matches(kind, columns) for kind, columns in self._columns.items()}

    def _numbered(self, entries: Sequence[Entry]) -> list[Entry]:
        return [{**entry, "category_id": self._number[entry["category_id"]]} for entry in entries]

    def _count_truth(self, place: int, truth: Sequence[Entry]) -> None:
        """Keep name and area of the instances; crowds are no instances."""
        rows = [
            (place, self._number[entry["category_id"]] - 1, entry["area"]) for entry in truth if not entry["iscrowd"]
        ]
        self._truth.append(np.array(rows, np.float64).reshape(-1, 3))

    def _flush(self) -> None:
        lenient = {item.place: item.lenient for item in self._waiting}
        for kind, columns in self._columns.items():
            columns.add(list(self._match(self._waiting, kind, self.max_detections)), lenient)
        self._waiting.clear()
        self._waiting_entries = 0

    def _matches(self, kind: Kind, columns: _Columns) -> Matches:
        ordered = sorted_ids(self._image_ids)
        number = {image_id: place for place, image_id in enumerate(ordered)}
        moved = np.array([number[image_id] for image_id in self._image_ids], np.int32)
        truth = _joined(self._truth, np.zeros((0, 3)))
        truth = truth[np.lexsort((truth[:, 1], moved[truth[:, 0].astype(np.int32)]))]
        area = truth[:, 2:]
        low, high = np.array(AREA_LIMITS).T
        picture = moved[_joined(columns.pictures, np.zeros(0, np.int32))]
        name = _joined(columns.names, np.zeros(0, np.int32))
        score = _joined(columns.scores, np.zeros(0))
        order = np.lexsort((-score, picture, name))
        nothing = np.zeros((0, len(AREA_LIMITS)), np.uint16)
        return Matches(
            kind=kind,
            max_detections=self.max_detections,
            per_picture=self.per_picture,
            image_ids=tuple(ordered),
            names=self._names,
            picture=picture[order],
            name=name[order],
            score=score[order],
            right=_joined(columns.right, nothing)[order],
            ignored=_joined(columns.ignored, nothing)[order],
            truth_picture=moved[truth[:, 0].astype(np.int32)],
            truth_name=truth[:, 1].astype(np.int32),
            truth_counts=(area >= low) & (area <= high),
        )


def _joined(parts: Sequence[Array], nothing: Array) -> Array:
    return np.concatenate([nothing, *parts])


def _packed(flags: Array) -> Array:
    """Flags of each area, threshold and result, (A, T, D), as bits, (D, A)."""
    return np.tensordot(flags, _BITS, axes=(1, 0)).T.astype(np.uint16)


def _by_pycocotools(pictures: Sequence[_Picture], kind: Kind, limit: int) -> Iterator[_Pair]:
    """Run pycocotools on each picture, with the names that it is about."""
    from pycocotools.cocoeval import COCOeval

    for item in pictures:
        with redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            run = COCOeval(*_datasets([item], kind, _coco), "segm" if kind == "mask" else "bbox")
            run.params.catIds = sorted({entry["category_id"] for entry in item.truth + item.results})
            run.params.maxDets = [limit]
            run.evaluate()
        yield from _pairs(run.evalImgs)


def _by_hotcoco(pictures: Sequence[_Picture], kind: Kind, limit: int) -> Iterator[_Pair]:
    """Run hotcoco on all the pictures together."""
    hotcoco = import_hotcoco()
    if not pictures:
        return
    run = hotcoco.COCOeval(*_datasets(pictures, kind, hotcoco.COCO), "segm" if kind == "mask" else "bbox")
    run.params.max_dets = [limit]
    run.evaluate()
    yield from _pairs(run.eval_imgs)


def import_hotcoco() -> Any:
    """Import the faster backend.

    Raises:
        UserError: it is not installed.
    """
    try:
        import hotcoco
    except ImportError:
        raise UserError(
            "hotcoco is not installed: run pip install 'langhops[fast]', or leave --backend at pycocotools.",
            code=ENVIRONMENT,
        ) from None
    return hotcoco


def _coco(dataset: dict[str, Any]) -> Any:
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    return coco


def _datasets(pictures: Sequence[_Picture], kind: Kind, make: Callable[[dict[str, Any]], Any]) -> tuple[Any, Any]:
    """The truth and the results of pictures as two COCO datasets.

    Entries are new, since COCO's loop writes into them. Ids count from 1: it takes an id of 0 for "not matched".
    """
    truth: list[Entry] = []
    results: list[Entry] = []
    for item in pictures:
        for entry in item.truth:
            truth.append({**entry, "id": len(truth) + 1, "image_id": item.place})
        for entry in item.results:
            area = _area(entry, kind)
            results.append({**entry, "id": len(results) + 1, "image_id": item.place, "area": area, "iscrowd": 0})
    numbers = sorted({entry["category_id"] for entry in truth + results})
    head = {
        "images": [{"id": item.place, "height": item.size[0], "width": item.size[1]} for item in pictures],
        "categories": [{"id": number, "name": str(number)} for number in numbers],
    }
    return make({**head, "annotations": truth}), make({**head, "annotations": results})


def _area(entry: Entry, kind: Kind) -> float:
    """The area of a result as pycocotools' own loader has it: the mask's for masks, the box's for boxes."""
    if kind == "mask":
        return float(coco_mask.area(entry["segmentation"]))
    return float(entry["bbox"][2] * entry["bbox"][3])


def _pairs(evaluated: Sequence[Mapping[str, Any] | None]) -> Iterator[_Pair]:
    """Put the areas of each name in each picture together."""
    by_pair: dict[tuple[int, int], dict[int, Mapping[str, Any]]] = {}
    for entry in evaluated:
        if entry is not None and len(entry["dtScores"]):
            areas = by_pair.setdefault((entry["image_id"], entry["category_id"]), {})
            areas[AREA_LIMITS.index(tuple(entry["aRng"]))] = entry
    for (place, name), areas in by_pair.items():
        ordered = [areas[number] for number in range(len(AREA_LIMITS))]
        yield _Pair(
            place,
            name,
            np.asarray(ordered[0]["dtScores"], np.float64),
            np.array([entry["dtMatches"] for entry in ordered]) != 0,
            np.array([entry["dtIgnore"] for entry in ordered]).astype(bool),
        )
