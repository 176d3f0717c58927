"""Maps of parts on disk, of this or any other system, from which semantic hIoU is scored without a model.

A folder holds `index.json` and the maps as PNG pictures of one channel. The index is a mapping:

- `format`: 1. `setting`: "oracle-obj" or "pred-all".
- `names`: the part of each label, from 0, as the set calls it: "dog head". In any order; those that are missing are
  never predicted.
- `bits`: 8 or 16, of the PNGs. `ignore`: the label of a pixel without a name, above those of the names.
- `records`: a list of `{"image_id": 12, "file": "maps/12-0.png"}`. With "oracle-obj" each also has `object`, its name,
  and in a set that is scored object by object `instance`: the place of the object among the annotated objects of the
  picture, from 0, in the order of the set's annotation file.
- `made_by`: whatever is to be said of the system, a mapping; may be missing.

Each map has the size of its picture. With "oracle-obj" pixels outside the object count as having no name, and inside it
there are only names of its own parts.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from langhops_cli.checkpoint.files import write_text
from langhops_cli.data.formats.semantic_maps import read_label_map
from langhops_cli.errors import DATA, UserError
from langhops_cli.evaluation.predictions import ALONE, Ranks, write_predictions
from langhops_cli.evaluation.semantic.hiou import Setting
from langhops_cli.evaluation.semantic.records import LabelMap, Record

INDEX = "index.json"
MAPS = "maps"
FOLDER = "semantic"
"""Folder of the index and the maps in that of an evaluation."""
RECORDS = "records.json"
"""Holds the records of the index until all processes have written theirs."""
FORMAT = 1
NAMED = 5
"""Wrong records that an error names; the rest is counted."""
_IGNORE = {8: 255, 16: 65535}
_STRANGE = 65535

Entry = dict[str, Any]
"""A record of the index."""
Key = tuple[int, str | None, int | None]
"""Picture, object and its place; what is not told in a setting or a set is None."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    image_id: int
    file: str
    object: str | None = None
    instance: int | None = Field(default=None, ge=0)


class _Index(BaseModel):
    model_config = ConfigDict(strict=True)
    format: Literal[1]
    setting: Literal["oracle-obj", "pred-all"]
    names: list[str]
    bits: Literal[8, 16]
    ignore: int = Field(ge=0, le=65535)
    records: list[_Entry]
    made_by: dict[str, Any] = {}


class MapWriter:
    """Writes maps of parts into a folder; they count once `finish` has written the index.

    Args:
        folder: made where missing; an older index in it is removed first.
        setting: "oracle-obj" or "pred-all".
        names: the scored parts.
        made_by: of the system, plain values.
        ranks: the processes that write into the folder together.
    """

    def __init__(
        self,
        folder: Path,
        *,
        setting: Setting,
        names: Sequence[str],
        made_by: Mapping[str, Any],
        ranks: Ranks = ALONE,
    ) -> None:
        self._folder = folder
        self._ranks = ranks
        bits = 8 if len(names) <= _IGNORE[8] else 16
        self._names = len(names)
        self._type = np.uint8 if bits == 8 else np.uint16
        self._ignore = _IGNORE[bits]
        self._head: dict[str, Any] = {
            "format": FORMAT,
            "setting": setting,
            "names": [*names],
            "bits": bits,
            "ignore": self._ignore,
            "made_by": dict(made_by),
        }
        (folder / MAPS).mkdir(parents=True, exist_ok=True)
        if ranks.is_first:
            (folder / INDEX).unlink(missing_ok=True)

    def add(self, image_id: int, labels: LabelMap, *, number: int = 0, record: Record | None = None) -> Entry:
        """Write a map and return its entry.

        Args:
            image_id: of the picture.
            labels: (height, width), places among the names; their number where there is none.
            number: which map of the picture this is.
            record: what it is of, where the object is given.
        """
        file = f"{MAPS}/{image_id}-{number}.png"
        values = np.where(labels == self._names, self._ignore, labels)
        Image.fromarray(values.astype(self._type)).save(self._folder / file)
        entry: Entry = {"image_id": image_id}
        if record is not None:
            entry["object"] = record.object
            if record.instance is not None:
                entry["instance"] = record.instance
        return {**entry, "file": file}

    def finish(self, pictures: Iterable[Sequence[Entry]]) -> None:
        """Write the index of all pictures of this process's share, which are gone through here, and of the others'."""
        path = self._folder / RECORDS
        write_predictions(path, pictures, self._ranks)
        if self._ranks.is_first:
            content = {**self._head, "records": json.loads(path.read_bytes())}
            write_text(self._folder / INDEX, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
            path.unlink()
        self._ranks.wait()


class MapReader:
    """Reads the maps of a folder; whatever would be scored wrongly is refused.

    Args:
        folder: with `index.json`.
        names: the scored parts, K.
        image_ids: of the pictures of the set.

    Raises:
        UserError: the index is missing or broken, or names a part or a picture that the set does not have.
    """

    def __init__(self, folder: Path, *, names: Sequence[str], image_ids: Collection[int]) -> None:
        self.path = folder / INDEX
        self._folder = folder
        self._index = _read_index(self.path)
        self._labels = self._translate(names)
        self._names = len(names)
        self._files: dict[Key, str] = {}
        known = frozenset(image_ids)
        wrong = []
        for number, entry in enumerate(self._index.records):
            key = (entry.image_id, entry.object, entry.instance)
            reason = self._fault(entry, key, known)
            if reason:
                wrong.append(f"record {number}: {reason}")
            self._files.setdefault(key, entry.file)
        if wrong:
            raise UserError(f"{self.path}: {_listed(wrong)}; nothing was scored", code=DATA)

    @property
    def setting(self) -> Setting:
        """What was given."""
        return self._index.setting

    @property
    def made_by(self) -> Mapping[str, Any]:
        """What is said of the system."""
        return self._index.made_by

    def check(self, image_id: int, wanted: Sequence[Key]) -> list[str]:
        """What is wrong with the records of a picture: those that are missing, and those of nothing annotated."""
        given = self._by_picture.get(image_id, ())
        missing = [f"{_title(key)} has no map" for key in wanted if key not in self._files]
        strange = [f"{_title(key)} is annotated nowhere in the set" for key in given if key not in wanted]
        return missing + strange

    def read(self, key: Key, size: tuple[int, int]) -> LabelMap:
        """Read a map.

        Args:
            key: picture, object and its place.
            size: height and width of the picture.

        Returns:
            (height, width), places among the scored parts; K where there is none.

        Raises:
            UserError: the file is missing, broken or of another size, or holds a label that stands for nothing.
        """
        path = self._folder / self._files[key]
        height, width = size
        found = read_label_map(path, (width, height), "8 bit" if self._index.bits == 8 else "16 bit")
        labels = self._labels[found]
        if (labels == _STRANGE).any():
            label = int(found[labels == _STRANGE][0])
            raise UserError(
                f"{path} holds the label {label}: {self.path} has {len(self._index.names)} names and "
                f"{self._index.ignore} for none; nothing was scored",
                code=DATA,
            )
        return labels

    @cached_property
    def _by_picture(self) -> dict[int, list[Key]]:
        grouped: dict[int, list[Key]] = {}
        for key in self._files:
            grouped.setdefault(key[0], []).append(key)
        return grouped

    def _translate(self, names: Sequence[str]) -> LabelMap:
        """The scored part of each label of the files; a label that stands for nothing has a number of its own."""
        given = self._index.names
        place = {name: number for number, name in enumerate(names)}
        if unknown := [name for name in given if name not in place]:
            raise UserError(f"{self.path}: the set has no part {unknown[0]!r}; nothing was scored", code=DATA)
        if len(set(given)) < len(given):
            twice = next(name for name in given if given.count(name) > 1)
            raise UserError(f"{self.path}: {twice!r} stands twice among its names; nothing was scored", code=DATA)
        if self._index.ignore < len(given) or self._index.ignore >= 1 << self._index.bits:
            raise UserError(
                f"{self.path}: ignore is {self._index.ignore}, which is no label of {self._index.bits} bits above "
                f"those of its {len(given)} names; nothing was scored",
                code=DATA,
            )
        table = np.full(1 << 16, _STRANGE, dtype=np.uint16)
        table[: len(given)] = [place[name] for name in given]
        table[self._index.ignore] = len(names)
        return table

    def _fault(self, entry: _Entry, key: Key, known: Collection[int]) -> str | None:
        if entry.image_id not in known:
            return f"the set has no picture {entry.image_id}"
        if key in self._files:
            return f"{_title(key)} stands twice"
        if self.setting == "pred-all" and (entry.object is not None or entry.instance is not None):
            return f"{_title(key)}: with pred-all no object is given, and a picture has one map"
        path = PurePosixPath(entry.file)
        return f"{entry.file} lies outside the folder" if path.is_absolute() or ".." in path.parts else None


def _read_index(path: Path) -> _Index:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist; give --predictions a folder of maps as `langhops eval --protocol hiou` writes it",
            code=DATA,
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}); write it again", code=DATA) from None
    try:
        return _Index.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise UserError(f"{path}: {place}: {first['msg'].lower()}; nothing was scored", code=DATA) from None


def _title(key: Key) -> str:
    image_id, owner, instance = key
    return (
        f"picture {image_id}"
        + (f", {owner}" if owner else "")
        + (f", object {instance}" if instance is not None else "")
    )


def _listed(wrong: Sequence[str]) -> str:
    more = f"; and {len(wrong) - NAMED:,} more" if len(wrong) > NAMED else ""
    return "; ".join(wrong[:NAMED]) + more


def refuse(path: Path, wrong: Sequence[str]) -> None:
    """Raise one error for all that is wrong with a folder, the first ones named.

    Raises:
        UserError: something is.
    """
    if wrong:
        raise UserError(f"{path}: {_listed(wrong)}; nothing was scored", code=DATA)
