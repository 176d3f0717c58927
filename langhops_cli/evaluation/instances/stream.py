"""Truth and results picture by picture, checked as a whole first; only one picture's masks are in memory."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from langhops_cli.data.json_stream import Items, stream_list, stream_mapping
from langhops_cli.errors import DATA, ENVIRONMENT, UserError
from langhops_cli.evaluation.instances.federated import Knowledge, is_federated, knowledge
from langhops_cli.evaluation.instances.matches import ScoredName
from langhops_cli.evaluation.instances.validation import (
    Faults,
    category_entry,
    image_entry,
    result_entry,
    truth_entry,
    whole_masks,
)

Entry = dict[str, Any]
Truth = Mapping[str, Any] | str | Path
Results = Iterable[Mapping[str, Any]] | str | Path

_TABLES = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
CREATE TABLE truth (number INTEGER PRIMARY KEY, image INTEGER, id, parent, text TEXT);
CREATE TABLE results (number INTEGER PRIMARY KEY, image INTEGER, id, parent, text TEXT);
"""
_INDEXES = "CREATE INDEX {table}_image ON {table} (image, number); CREATE INDEX {table}_id ON {table} (image, id);"
_encode = json.JSONEncoder(ensure_ascii=False).encode
_LOST = """
SELECT number, parent FROM {table} AS child WHERE parent IS NOT NULL
AND (SELECT COUNT(*) FROM {table} AS host WHERE host.image = child.image AND host.id = child.parent) != 1
ORDER BY number
"""


@dataclass(frozen=True)
class ScoredPicture:
    """One picture with what is annotated in it and what was found in it.

    Args:
        place: of the picture among those that are scored, from 0.
        image: its `id`, `file_name`, `height` and `width` in pixels.
        truth: annotations in the file's order, each with `id`, `image_id`, `category_id`, `parent_id` (an annotation's
            id or None), `segmentation` (compressed run lengths, or None), `bbox` (x, y, width, height in pixels),
            `area` and `iscrowd`.
        results: results in the file's order, each with `number` (in the file, from 0), `id` (None where it was not
            given), `parent_id` (only where it was given), `image_id`, `category_id`, `score`, `segmentation` (None
            where the truth has boxes only) and `bbox`.
        knowledge: which names were looked for in the picture.
    """

    place: int
    image: Entry
    truth: list[Entry]
    results: list[Entry]
    knowledge: Knowledge


class PictureCounter(Protocol):
    """Sees each picture once and makes figures of what it saw."""

    def see(self, picture: ScoredPicture) -> None:
        """Count a picture."""


class ScoredPictures:
    """The pictures of a truth, one after the other, as often as they are asked for; see `scored_pictures`.

    Args:
        truth, results, image_ids: as there.

    Attributes:
        categories: every category of the truth: `id`, `name`, `parent_id`.
        names: those with ground truth in the pictures that are scored, objects first, then by id. A name whose only
            annotations are crowds has no instance to find, so it is none of them.
        exhaustive: whether every instance of every name is annotated.
        federated: whether pictures say for themselves which names they were searched for.
        has_masks: whether all annotations have a mask; without masks boxes are compared only.
        image_ids: of the pictures that are scored, in the truth's order.
        result_count: results of these pictures.
    """

    def __init__(self, truth: Truth, results: Results, *, image_ids: Collection[Any] | None = None) -> None:
        truth = Path(truth) if isinstance(truth, str) else truth
        results = Path(results) if isinstance(results, str) else results
        self._source = str(truth) if isinstance(truth, Path) else "ground truth"
        head = _head(truth, self._source)
        images = _whole_list(head["images"], image_entry, f"{self._source}, images")
        self.categories = _categories(head["categories"], f"{self._source}, categories")
        for key, entries in (("images", images), ("categories", self.categories)):
            if len({entry["id"] for entry in entries}) < len(entries):
                raise UserError(f"{self._source}: ids in {key!r} are not unique. Prepare the set again.", code=DATA)
        self._sizes = {image["id"]: (image["height"], image["width"]) for image in images}
        self._images = images if image_ids is None else self._chosen(images, set(image_ids))
        self._place = {image["id"]: place for place, image in enumerate(self._images)}
        self.image_ids = tuple(self._place)
        self.federated = any(map(is_federated, self._images))
        self._says_exhaustive = bool((head.get("info") or {}).get("exhaustive", True))
        self.exhaustive = self._says_exhaustive and not self.federated
        self._database = sqlite3.connect("")  # a temporary file of its own, gone when it is closed
        try:
            self._database.executescript(_TABLES)
            self._keep_truth(truth)
            self._keep_results(results)
        except sqlite3.Error as error:
            raise UserError(
                f"{self._source} and its results cannot be kept by picture in a temporary file ({error}); make room "
                f"in {tempfile.gettempdir()}, or name another folder by TMPDIR.",
                code=ENVIRONMENT,
            ) from None

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[ScoredPicture]:
        for place, image in enumerate(self._images):
            truth = [json.loads(text) for _, text in self._rows("truth", place)]
            results = [{"number": number, **json.loads(text)} for number, text in self._rows("results", place)]
            known = knowledge(image, {entry["category_id"] for entry in truth}, exhaustive=self._says_exhaustive)
            yield ScoredPicture(place, image, truth, results, known)

    def _rows(self, table: str, place: int) -> list[tuple[int, str]]:
        find = f"SELECT number, text FROM {table} WHERE image = ? ORDER BY number"
        return self._database.execute(find, (place,)).fetchall()

    def _chosen(self, images: list[Entry], wanted: set[Any]) -> list[Entry]:
        if unknown := wanted - self._sizes.keys():
            raise UserError(f"{self._source} has no picture with the id {min(unknown, key=str)!r}.", code=DATA)
        return [image for image in images if image["id"] in wanted]

    def _keep_truth(self, truth: Mapping[str, Any] | Path) -> None:
        categories = {entry["id"] for entry in self.categories}
        faults = Faults(f"{self._source}, annotations")
        instances: Counter[Any] = Counter()
        self.has_masks = True

        def rows() -> Iterator[tuple[Any, ...]]:
            def check(annotation: Any) -> Entry:
                return truth_entry(annotation, self._sizes, categories)

            for number, entry in whole_masks(faults.good(_annotations(truth), check), faults):
                if entry["image_id"] in self._place:
                    instances[entry["category_id"]] += not entry["iscrowd"]
                    self.has_masks &= entry["segmentation"] is not None
                    yield self._row(number, entry)

        self._fill("truth", rows(), faults)
        self.names = tuple(
            ScoredName(
                category["id"],
                category["name"],
                "object" if category["parent_id"] is None else "part",
                instances[category["id"]],
            )
            for category in sorted(self.categories, key=_objects_first)
            if instances[category["id"]]
        )

    def _keep_results(self, results: Iterable[Mapping[str, Any]] | Path) -> None:
        source = str(results) if isinstance(results, Path) else "results"
        categories = {entry["id"] for entry in self.categories}
        faults = Faults(source)
        self.result_count = 0

        def rows() -> Iterator[tuple[Any, ...]]:
            def check(entry: Any) -> Entry:
                return result_entry(entry, self._sizes, categories, masks=self.has_masks)

            for number, entry in whole_masks(faults.good(_entries(results, source), check), faults):
                if entry["image_id"] in self._place:
                    self.result_count += 1
                    yield self._row(number, entry)

        self._fill("results", rows(), faults)

    def _row(self, number: int, entry: Entry) -> tuple[Any, ...]:
        text = _encode(entry)
        return number, self._place[entry["image_id"]], entry["id"], entry.get("parent_id"), text

    def _fill(self, table: str, rows: Iterable[tuple[Any, ...]], faults: Faults) -> None:
        self._database.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?)", rows)
        self._database.executescript(_INDEXES.format(table=table))
        faults.stop()  # an entry that is wrong is none that others could name
        for number, parent in self._database.execute(_LOST.format(table=table)):
            faults.add(number, f"parent_id {parent!r} is not the id of exactly one entry of its picture")
        faults.stop()


def scored_pictures(truth: Truth, results: Results, *, image_ids: Collection[Any] | None = None) -> ScoredPictures:
    """Check a truth and the results on it, and give them picture by picture.

    Everything is looked at before the first picture comes. Files are never in memory as a whole: truth and results are
    kept by picture in a temporary file, in the folder that TMPDIR names.

    Args:
        truth: COCO instances (`images`, `annotations`, `categories` with `parent_id`, null or left out for objects,
            and `info`), or their file.
        results: COCO results with `image_id`, `category_id`, `score`, `segmentation` (run lengths), and, optional,
            `bbox`, `id` and `parent_id`; or their file.
        image_ids: these pictures only; all of the truth when left out.

    Returns:
        The pictures in the truth's order, to be gone through as often as needed.

    Raises:
        UserError: an entry of the truth or of the results cannot be scored; the first wrong ones are named.

    Example:
        >>> for picture in scored_pictures("data/cars/val.json", "predictions.json"):  # doctest: +SKIP
        ...     print(picture.image["file_name"], len(picture.truth), len(picture.results))
    """
    return ScoredPictures(truth, results, image_ids=image_ids)


def _objects_first(category: Entry) -> tuple[bool, bool, Any]:
    return category["parent_id"] is not None, isinstance(category["id"], str), category["id"]


def _head(truth: Mapping[str, Any] | Path, source: str) -> dict[str, Any]:
    """All of a truth but its annotations."""
    if isinstance(truth, Path):
        head: dict[str, Any] = {}
        for key, value in stream_mapping(truth):
            if key in head:
                raise UserError(f"{source} has several lists of {key}; put them together.", code=DATA)
            if isinstance(value, Items):
                value = [entry for entry, _ in value] if key in ("images", "categories") else []
            head[key] = value
    elif isinstance(truth, Mapping):
        head = dict(truth)
    else:
        raise UserError(f"{source} holds no ground truth: a JSON object with images is needed.", code=DATA)
    for key in ("images", "annotations", "categories"):
        if not isinstance(head.get(key), list):
            raise UserError(f"{source} has no list {key!r}: give a prepared or COCO instances file.", code=DATA)
    return head


def _annotations(truth: Mapping[str, Any] | Path) -> Iterator[Any]:
    if isinstance(truth, Path):
        for key, value in stream_mapping(truth):
            if key == "annotations" and isinstance(value, Items):
                yield from (entry for entry, _ in value)
    else:
        yield from truth["annotations"]


def _whole_list(entries: list[Any], check: Callable[[Any], Entry], source: str) -> list[Entry]:
    faults = Faults(source)
    good = [entry for _, entry in faults.good(entries, check)]
    faults.stop()
    return good


def _categories(entries: list[Any], source: str) -> list[Entry]:
    faults = Faults(source)
    numbered = list(faults.good(entries, category_entry))
    known = {None, *(entry["id"] for _, entry in numbered)}
    for number, entry in numbered:
        if entry["parent_id"] not in known:
            faults.add(number, f"parent_id {entry['parent_id']!r} is no category")
    faults.stop()
    return [entry for _, entry in numbered]


def _entries(results: Any, source: str) -> Iterator[Any]:
    if not isinstance(results, Path):
        if isinstance(results, Mapping) or not isinstance(results, Iterable):
            raise UserError(f"{source} holds no list of COCO results: [{{image_id, ...}}, ...] is needed.", code=DATA)
        yield from results
        return
    number = 0
    try:
        for entry, _ in stream_list(results):
            yield entry
            number += 1
    except UserError as error:
        where = f" Entry {number:,} is the first that cannot be read; nothing was scored." if number else ""
        raise UserError(f"{error}{where}", code=error.code) from None
