"""The files of a COCO dataset: where annotations and pictures lie, and what each picture holds, in bounded memory."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from langhops_cli.data.json_stream import Items, stream_mapping
from langhops_cli.data.records import FIRST, Drops
from langhops_cli.errors import DATA, ENVIRONMENT, UserError
from langhops_cli.vocabulary import clean_name

_PATTERNS = {
    "train": ("train.json", "annotations/train.json", "annotations/instances_train*.json", "instances_train*.json",
              "train/_annotations.coco.json"),
    "val": ("val.json", "annotations/val.json", "annotations/instances_val*.json", "instances_val*.json",
            "valid/_annotations.coco.json", "val/_annotations.coco.json"),
}  # fmt: skip
MOST = 50_000
"""Annotations of one picture that are read; no picture shows more, and they have to be in memory together."""
_WHOLE = range(-(2**63), 2**63)


def find_annotations(source: Path) -> dict[str, Path]:
    """Find the annotation files of the splits below a folder.

    Returns:
        "train" and "val" as far as there are such files.

    Raises:
        UserError: the folder is missing, holds none, or holds several for one split.
    """
    found = find_splits(source, _PATTERNS)
    if not found:
        raise UserError(
            f"{source} holds no COCO annotations (train.json, val.json or annotations/instances_*.json); "
            "name the files with --train and --val.",
            code=DATA,
        )
    return found


def find_splits(source: Path, patterns: dict[str, tuple[str, ...]]) -> dict[str, Path]:
    """Find the file of each split by the first of its patterns that matches.

    Args:
        source: the folder of a dataset.
        patterns: split -> patterns relative to the folder, the usual one first.

    Raises:
        UserError: the folder is missing, or holds several files for one split.
    """
    if not source.is_dir():
        raise UserError(f"{source} is no folder; give the folder that holds the annotations.", code=DATA)
    found: dict[str, Path] = {}
    for split, names in patterns.items():
        for pattern in names:
            matches = sorted(path for path in source.glob(pattern) if not path.name.startswith("._"))
            if len(matches) > 1:
                spelt = ", ".join(str(match.relative_to(source)) for match in matches)
                raise UserError(f"{source} has several files for {split}: {spelt}; name one with --{split}.", code=DATA)
            if matches:
                found[split] = matches[0]
                break
    return found


class CocoFile:
    """A COCO instances file, gone through once and kept on disk by picture, so that its size does not matter.

    Args:
        path: the file.
        name_of: gives the path of a picture below the image root from its row; its `file_name` when left out.

    Raises:
        UserError: the file is missing, no JSON, or not of the COCO form; the message names the fault.
    """

    def __init__(self, path: Path, *, name_of: Callable[[dict[str, Any]], Any] | None = None) -> None:
        self.path = path
        self.info: dict[str, Any] = {}
        self.categories: list[dict[str, Any]] = []
        self.drops = Drops()
        self._name_of = name_of
        self._db = sqlite3.connect("")  # a temporary file of its own, gone when it is closed
        self._db.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE images (id INTEGER PRIMARY KEY, place INTEGER, name TEXT, text TEXT);"
            "CREATE TABLE annotations (place INTEGER PRIMARY KEY, id INTEGER, image INTEGER, text TEXT);"
        )
        try:
            self._read()
            self._index()
        except sqlite3.Error as error:
            raise UserError(
                f"{path} cannot be kept by picture in a temporary file ({error}); make room in "
                f"{tempfile.gettempdir()}, or name another folder by TMPDIR.",
                code=ENVIRONMENT,
            ) from None

    def __len__(self) -> int:
        return int(self._db.execute("SELECT COUNT(*) FROM images").fetchone()[0])

    def pictures(self) -> Iterator[tuple[dict[str, Any], str, list[str]]]:
        """Go through the pictures in the file's order.

        Yields:
            The picture's row, its checked path below the image root, and its annotations as JSON texts.
        """
        find = "SELECT text FROM annotations WHERE image = ? ORDER BY place"
        for number, name, text in self._db.execute("SELECT id, name, text FROM images ORDER BY place"):
            yield json.loads(text), name, [row for (row,) in self._db.execute(find, (number,))]

    def names(self, most: int = 20) -> list[str]:
        """Paths of the first pictures below the image root."""
        rows = self._db.execute("SELECT name FROM images ORDER BY place LIMIT ?", (most,))
        return [name for (name,) in rows]

    def _read(self) -> None:
        found = set()
        for key, value in stream_mapping(self.path):
            if key in found:
                raise UserError(f"{self.path} has several lists of {key}; put them together.", code=DATA)
            if key == "images" and isinstance(value, Items):
                self._add_images(value)
            elif key == "annotations" and isinstance(value, Items):
                self._add_annotations(value)
            elif key == "categories" and isinstance(value, Items):
                self.categories = [row for row, _ in value]
                _check_categories(self.path, self.categories)
            elif key == "info" and isinstance(value, dict):
                self.info = value
            else:
                continue
            found.add(key)
        for table in ("images", "annotations", "categories"):
            if table not in found:
                raise UserError(f"{self.path} is no COCO file: it has no list of {table}.", code=DATA)

    def _add_images(self, items: Iterable[tuple[Any, str]]) -> None:
        keys = {"id", "width", "height"} | ({"file_name"} if self._name_of is None else set())
        for place, (row, text) in enumerate(items):
            _check_row(self.path, row, "images", place, keys)
            _check_id(self.path, row["id"], "images")
            if not all(isinstance(row[side], int) and row[side] > 0 for side in ("width", "height")):
                raise UserError(
                    f"{self.path}: images[{place}] is {row['width']!r} x {row['height']!r} pixels; export it again.",
                    code=DATA,
                )
            name = row["file_name"] if self._name_of is None else self._name_of(row)
            values = (row["id"], place, check_file_name(self.path, name), text)
            try:
                self._db.execute("INSERT INTO images VALUES (?, ?, ?, ?)", values)
            except sqlite3.IntegrityError:
                raise _twice(self.path, "images", row["id"]) from None

    def _add_annotations(self, items: Iterable[tuple[Any, str]]) -> None:
        rows = (self._annotation(place, row, text) for place, (row, text) in enumerate(items))
        self._db.executemany("INSERT INTO annotations VALUES (?, ?, ?, ?)", (row for row in rows if row))

    def _annotation(self, place: int, row: Any, text: str) -> tuple[int, int, int, str] | None:
        _check_row(self.path, row, "annotations", place, {"id", "image_id", "category_id"})
        if not _is_whole(row["id"]):
            self.drops.add("annotation id that is no whole number", row["id"])
            return None
        if not _is_whole(row["image_id"]):
            self.drops.add("annotation of an unknown picture", row["id"])
            return None
        return place, row["id"], row["image_id"], text

    def _index(self) -> None:
        self._db.execute("CREATE INDEX by_image ON annotations (image, place)")
        self._leave_out("annotation of an unknown picture", "image NOT IN (SELECT id FROM images)")
        again = "place NOT IN (SELECT MIN(place) FROM annotations GROUP BY id)"
        self._leave_out("annotation id that stands twice", again)
        crowded = "SELECT image FROM annotations GROUP BY image HAVING COUNT(*) > ?"
        last = "SELECT place FROM annotations WHERE image = ? ORDER BY place LIMIT 1 OFFSET ?"
        for (image,) in self._db.execute(crowded, (MOST,)).fetchall():
            ((place,),) = self._db.execute(last, (image, MOST))
            self._leave_out(
                f"annotation beyond the first {MOST:,} of a picture", f"image = {image} AND place >= {place}"
            )

    def _leave_out(self, reason: str, where: str) -> None:
        rows = self._db.execute(f"SELECT id FROM annotations WHERE {where} ORDER BY place LIMIT {FIRST}")
        first = [number for (number,) in rows]
        if first:
            removed = self._db.execute(f"DELETE FROM annotations WHERE {where}")
            self.drops.add(reason, *first, count=removed.rowcount)


def _check_categories(path: Path, rows: list[Any]) -> None:
    seen = set()
    for place, row in enumerate(rows):
        _check_row(path, row, "categories", place, {"id", "name"})
        _check_id(path, row["id"], "categories")
        if row.get("parent_id") is not None:
            _check_id(path, row["parent_id"], "categories")
        if not isinstance(row["name"], str) or not clean_name(row["name"]):
            raise UserError(f"{path}: categories[{place}] has the name {row['name']!r}; give it one.", code=DATA)
        if row["id"] in seen:
            raise _twice(path, "categories", row["id"])
        seen.add(row["id"])


def _check_row(path: Path, row: Any, table: str, place: int, keys: set[str]) -> None:
    if not isinstance(row, dict) or not keys <= row.keys():
        missing = ", ".join(sorted(keys - row.keys())) if isinstance(row, dict) else "all keys"
        raise UserError(f"{path}: {table}[{place}] lacks {missing}.", code=DATA)


def _check_id(path: Path, number: Any, table: str) -> None:
    if not _is_whole(number):
        raise UserError(f"{path}: {table} has the id {number!r}; ids must be whole numbers.", code=DATA)


def _is_whole(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number in _WHOLE


def _twice(path: Path, table: str, number: int) -> UserError:
    return UserError(f"{path}: {table} has the id {number} twice; ids must differ.", code=DATA)


def check_file_name(path: Path, name: Any) -> str:
    """Return a picture's path below its root, refusing one that leads out of it.

    Raises:
        UserError: the name is no text, absolute, or climbs out of the folder.
    """
    if not isinstance(name, str) or not name:
        raise UserError(f"{path}: a picture's file_name is {name!r}; it must be a path.", code=DATA)
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or (len(name) > 1 and name[1] == ":"):
        raise UserError(f"{path}: file_name '{name}' leads out of the picture folder; refused.", code=DATA)
    return str(parts)


def find_image_root(annotations: Path, source: Path, split: str, names: list[str]) -> Path:
    """Find the folder that the file names of an annotation file are relative to.

    Args:
        annotations: the annotation file.
        source: the folder of the dataset.
        split: "train", "val".
        names: a few file names, not the first alone: one missing picture must not hide the folder.

    Raises:
        UserError: none of the usual places holds one of the pictures.
    """
    stem = annotations.stem.removeprefix("instances_")
    places = [
        source / "images", source, annotations.parent, annotations.parent / "images",
        source / "images" / split, source / split, source / stem, source / "images" / stem,
    ]  # fmt: skip
    for place in places:
        if any(os.path.isfile(place / name) for name in names):  # no error for a name that no file can have
            return place.resolve()
    example = names[0] if names else "pictures"
    raise UserError(
        f"{source}: found no picture of {annotations.name} (such as {example}) in it or in images/; "
        "name the folder with --images.",
        code=DATA,
    )
