"""A split of a prepared set as it is written: its Arrow index and its COCO file grow picture by picture."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from langhops_cli.checkpoint.files import file_hash
from langhops_cli.data.index import INDEX, open_datasets
from langhops_cli.data.rows import CategoryNumbers, Fingerprint, Row, features, to_row
from langhops_cli.data.verify import CheckedPicture

BATCH = 256
"""Pictures that are held before they go to the index."""


class SplitWriter:
    """Writes `<name>.json` and the index of a split into a folder; a context manager.

    Args:
        folder: an existing one.
        name: of the split.
        image_root: the folder that file names are relative to.
        exhaustive: whether every instance of every name was annotated.
        numbers: gives the category ids, the same for all splits of a set.
    """

    def __init__(
        self, folder: Path, name: str, *, image_root: Path, exhaustive: bool, numbers: CategoryNumbers
    ) -> None:
        from datasets.arrow_writer import ArrowWriter

        self.name = name
        self._path = folder / f"{name}.json"
        self._index = folder / INDEX / name
        self._info = {"exhaustive": exhaustive, "image_root": str(image_root)}
        self._numbers = numbers
        self._fingerprint = Fingerprint()
        self._annotations = 0
        self._index.mkdir(parents=True)
        self._rows = ArrowWriter(
            path=str(self._index / "rows.arrow"), features=features(open_datasets()), writer_batch_size=BATCH
        )
        self._images_file = self._open("images")
        self._annotations_file = self._open("annotations")

    def __enter__(self) -> SplitWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._images_file.close()
        self._annotations_file.close()
        if kind is not None:
            self._rows.close()

    def add(self, picture: CheckedPicture) -> None:
        """Write a picture and its instances."""
        row = to_row(picture, self._numbers)
        self._rows.write(row)
        self._fingerprint.add(row)
        image = {"id": picture.id, **{key: row[key] for key in ("file_name", "width", "height")}}
        if row["checked"] is not None:
            image["checked_category_ids"] = row["checked"]
        _write_entry(self._images_file, image)
        for entry in _annotations(picture, row, first=self._annotations + 1):
            _write_entry(self._annotations_file, entry)
        self._annotations += len(picture.instances)

    def finish(self, categories: list[dict[str, Any]], *, title: str, version: int) -> str:
        """Put the files together.

        Args:
            categories: of the set, as COCO has them.
            title: of the split, for people.
            version: of the format.

        Returns:
            The fingerprint.
        """
        self._rows.finalize()
        self._images_file.close()
        self._annotations_file.close()
        names = category_names(categories)
        for entry in (self.name, self._info["exhaustive"], names):
            self._fingerprint.add(entry)
        with self._path.open("wb") as file:
            info = {"description": title, "format": version, **self._info}
            file.write(b'{"info":' + _json(info))
            for key in ("images", "annotations"):
                file.write(f',"{key}":['.encode())
                part = self._part(key)
                with part.open("rb") as entries:
                    shutil.copyfileobj(entries, file)
                part.unlink()
                file.write(b"]")
            file.write(b',"categories":' + _json(categories) + b"}\n")
        meta = {
            **self._info,
            "categories": names,
            "fingerprint": str(self._fingerprint),
            "sha256": file_hash(self._path),
        }
        (self._index / "meta.json").write_bytes(_json(meta))
        return str(self._fingerprint)

    def _part(self, key: str) -> Path:
        return self._path.with_name(f".{self.name}.{key}")

    def _open(self, key: str) -> IO[bytes]:
        return self._part(key).open("wb")


def _annotations(picture: CheckedPicture, row: Row, *, first: int) -> list[dict[str, Any]]:
    entries = []
    for place, item in enumerate(picture.instances):
        left, top, right, bottom = item.box
        entry = {
            "id": first + place,
            "image_id": picture.id,
            "category_id": row["category"][place],
            "parent_id": first + item.parent if item.parent >= 0 else None,
            "segmentation": {"size": [picture.height, picture.width], "counts": item.counts},
            "area": item.area,
            "bbox": [left, top, right - left, bottom - top],
            "iscrowd": int(item.crowd),
        }
        if not item.counts:
            del entry["segmentation"]
        entries.append(entry)
    return entries


def category_names(categories: Sequence[Mapping[str, Any]]) -> list[tuple[int, str, str | None]]:
    """What each category of a prepared set stands for: id, object name, part name or None."""
    names = {row["id"]: row["name"] for row in categories}
    return [
        (row["id"], row["name"], None)
        if row["parent_id"] is None
        else (row["id"], names[row["parent_id"]], row["part_name"])
        for row in categories
    ]


def _write_entry(file: IO[bytes], entry: dict[str, Any]) -> None:
    if file.tell():
        file.write(b",\n")
    file.write(_json(entry))


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
