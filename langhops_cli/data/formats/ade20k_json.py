"""A picture's JSON file of full ADE20K: its objects, their parts, and parts of those, whatever shape the file is in."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langhops_cli.data.records import Drops, Role
from langhops_cli.errors import DATA, UserError
from langhops_cli.vocabulary import clean_name

LARGEST = 1 << 26
"""Bytes that a file may have; the largest of the dataset has a few hundred thousand."""
MOST_LEVELS = 8
"""How deep parts of parts may go; the dataset goes to four."""

_OBJECTS = {783: "door", 533: "wardrobe"}
"""Names, by their number in ADE20K, that ADE20K-Part-234 takes together with one of its own: double doors, closets."""
_BUTTONS = dict.fromkeys((339, 341, 342, 2250), "button panel")
_WINDSHIELD = {3057: "window"}
_PARTS: dict[str, dict[int, str]] = {
    # Left and right limbs have names of their own.
    "person": {
        1428: "arm", 2117: "arm", 1429: "foot", 2118: "foot", 1430: "hand", 2119: "hand", 1431: "leg", 2120: "leg",
    },
    "door": {774: "panel", 1746: "panel", 1748: "panel"},
    "cabinet": {783: "door"},
    "stool": {1804: "leg"},
    "pool table": {625: "pocket", 2374: "pocket"},
    "car": _WINDSHIELD, "bus": _WINDSHIELD, "van": _WINDSHIELD, "truck": _WINDSHIELD,
    "oven": _BUTTONS, "microwave": _BUTTONS, "cooking stove": {2250: "button panel"},
    "dishwasher": {342: "button panel"}, "washer": {342: "button panel", 2250: "button panel"},
}  # fmt: skip
"""Parts, by their number in ADE20K, that ADE20K-Part-234 takes under another name of the same object."""


@dataclass(frozen=True)
class Entry:
    """An object or a part.

    Args:
        id: its number in the file.
        name: the first of its names, cleaned.
        number: of its name in ADE20K, where the file has it.
        spelt: all of its names, as the file has them.
        above: id of what it is a part of, None for an object.
        mask: path of its mask from the file's folder, where it is given.
        outline: x and y of its outline, as the file has them.
    """

    id: int
    name: str
    number: int | None
    spelt: str
    above: int | None
    mask: str | None
    outline: Any


@dataclass(frozen=True)
class Annotation:
    """A picture's file.

    Args:
        size: (width, height) in pixels, where the file has it.
        entries: by id, in the file's order; every chain of parts ends at an object.
    """

    size: tuple[int, int] | None
    entries: dict[int, Entry]


def read_annotation(path: Path, drops: Drops) -> Annotation:
    """Read a picture's file.

    Args:
        path: the file.
        drops: gets the objects and parts that are left out.

    Raises:
        UserError: it is missing, no JSON, or has no list of objects.
    """
    content = _load(path)
    inner = content.get("annotation") if isinstance(content, dict) else None
    rows = inner.get("object") if isinstance(inner, dict) else None
    if isinstance(rows, dict):
        rows = [rows]  # the writer of these files takes a list of one out of its brackets
    if not isinstance(inner, dict) or not isinstance(rows, list):
        raise UserError(f"{path} has no list of objects.", code=DATA)
    entries: dict[int, Entry] = {}
    for place, row in enumerate(rows):
        entry = _entry(row, place, drops)
        if entry is None:
            continue
        if entry.id in entries:
            drops.add("annotation id that stands twice", entry.id)
        else:
            entries[entry.id] = entry
    return Annotation(_size(inner.get("imsize")), _rooted(entries, drops))


def _load(path: Path) -> Any:
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path} has more than {LARGEST:,} bytes; is it the annotation of one picture?", code=DATA)
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is missing.", code=DATA) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.", code=DATA) from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")  # names of people and places in some file names
    try:
        return json.loads(text, strict=False)
    except RecursionError:
        raise UserError(f"{path} is nested too deep.", code=DATA) from None
    except ValueError as error:
        raise UserError(f"{path} is no JSON ({error}).", code=DATA) from None


def _entry(row: Any, place: int, drops: Drops) -> Entry | None:
    if not isinstance(row, dict):
        drops.add("object that is no mapping", place)
        return None
    number, spelt = _count(row.get("id")), row.get("name")
    if number is None:
        drops.add("annotation id that is no whole number", row.get("id"))
        return None
    name = first_name(spelt) if isinstance(spelt, str) else ""
    if not name:
        drops.add("object without a name", number)
        return None
    parts = row.get("parts")
    mask = row.get("instance_mask")
    return Entry(
        id=number,
        name=name,
        number=_count(row.get("name_ndx")),
        spelt=spelt.strip() if isinstance(spelt, str) else name,
        above=_above(parts.get("ispartof") if isinstance(parts, dict) else None),
        mask=mask if isinstance(mask, str) and mask else None,
        outline=row.get("polygon"),
    )


def first_name(spelt: str) -> str:
    """The first of several names: "car, auto, automobile" -> "car"; empty where there is none to be used."""
    name = unicodedata.normalize("NFC", clean_name(spelt.split(",")[0]))
    return "" if name == "*" else name


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def _above(value: Any) -> int | None:
    """What `ispartof` says: a number, a list of numbers, or an empty list or text for nothing."""
    values = value if isinstance(value, list) else [value]
    numbers = [int(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v < 2**63]
    return numbers[0] if numbers else None


def _size(value: Any) -> tuple[int, int] | None:
    """Width and height from `imsize`, which has the height first."""
    height, width = (_count(value[0]), _count(value[1])) if isinstance(value, list) and len(value) > 1 else (0, 0)
    return (width, height) if width and height else None


def _rooted(entries: dict[int, Entry], drops: Drops) -> dict[int, Entry]:
    """Those entries whose chain of parts ends at an object."""
    kept = {}
    for entry in entries.values():
        fault = None
        above, levels = entry.above, 0
        while above is not None and fault is None:
            levels += 1
            if above not in entries:
                fault = "part of something that is not there"
            elif levels >= MOST_LEVELS:
                fault = "part that is a part of itself, or too deep"
            else:
                above = entries[above].above
        if fault is None:
            kept[entry.id] = entry
        else:
            drops.add(fault, entry.id)
    return kept


def roles_of(entries: Mapping[int, Entry], vocabulary: Mapping[str, list[str]] | None) -> dict[int, Role]:
    """What the entries stand for.

    Args:
        entries: of a picture.
        vocabulary: object -> parts; others are left out. None takes every name.

    Returns:
        Id -> (object, part), the object being that at the top of the chain of parts.
    """
    roles: dict[int, Role] = {}
    for entry in entries.values():
        top = entry
        while top.above is not None:
            top = entries[top.above]
        if vocabulary is None:
            roles[entry.id] = (top.name, None if top is entry else entry.name)
            continue
        owner = _named(top, vocabulary, _OBJECTS)
        if owner is None:
            continue
        part = None if top is entry else _named(entry, vocabulary[owner], _PARTS.get(owner, {}))
        if top is entry or part is not None:
            roles[entry.id] = (owner, part)
    return roles


def _named(entry: Entry, names: Mapping[str, Any] | list[str], others: Mapping[int, str]) -> str | None:
    if entry.name in names:
        return entry.name
    return others.get(entry.number) if entry.number is not None else None
