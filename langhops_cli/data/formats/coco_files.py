"""The files of a COCO dataset: where annotations and pictures lie, read and checked before they are used."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from langhops_cli.errors import DATA, UserError

_PATTERNS = {
    "train": ("train.json", "annotations/train.json", "annotations/instances_train*.json", "instances_train*.json",
              "train/_annotations.coco.json"),
    "val": ("val.json", "annotations/val.json", "annotations/instances_val*.json", "instances_val*.json",
            "valid/_annotations.coco.json", "val/_annotations.coco.json"),
}  # fmt: skip


def find_annotations(source: Path) -> dict[str, Path]:
    """Find the annotation files of the splits below a folder.

    Returns:
        "train" and "val" as far as there are such files.

    Raises:
        UserError: the folder is missing, holds none, or holds several for one split.
    """
    if not source.is_dir():
        raise UserError(f"{source} is no folder; give the folder that holds train.json and val.json.", code=DATA)
    found: dict[str, Path] = {}
    for split, patterns in _PATTERNS.items():
        for pattern in patterns:
            matches = sorted(source.glob(pattern))
            if len(matches) > 1:
                names = ", ".join(str(match.relative_to(source)) for match in matches)
                raise UserError(f"{source} has several files for {split}: {names}; name one with --{split}.", code=DATA)
            if matches:
                found[split] = matches[0]
                break
    if not found:
        raise UserError(
            f"{source} holds no COCO annotations (train.json, val.json or annotations/instances_*.json); "
            "name the files with --train and --val.",
            code=DATA,
        )
    return found


def read_coco(path: Path) -> dict[str, Any]:
    """Read a COCO instances file and check its outline.

    Returns:
        The file's mapping; `info` is always a mapping.

    Raises:
        UserError: the file is missing, no JSON, or not of the COCO form; the message names the fault.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check the path.", code=DATA) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.", code=DATA) from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{path} is no JSON ({error.msg}, {place}); export it again.", code=DATA) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is no COCO file: expected a mapping with images, annotations, categories.", code=DATA)
    required = {
        "images": {"id", "file_name", "width", "height"},
        "annotations": {"id", "image_id", "category_id"},
        "categories": {"id", "name"},
    }
    for table, keys in required.items():
        _check_table(path, content.get(table), table, keys)
    for table in ("images", "categories"):
        _check_ids(path, content[table], table)
    if not isinstance(content.get("info"), dict):
        content["info"] = {}
    return content


def _check_table(path: Path, rows: Any, table: str, keys: set[str]) -> None:
    if not isinstance(rows, list):
        raise UserError(f"{path} is no COCO file: it has no list of {table}.", code=DATA)
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not keys <= row.keys():
            missing = ", ".join(sorted(keys - row.keys())) if isinstance(row, dict) else "all keys"
            raise UserError(f"{path}: {table}[{number}] lacks {missing}.", code=DATA)


def _check_ids(path: Path, rows: list[dict[str, Any]], table: str) -> None:
    seen: set[object] = set()
    for row in rows:
        number = row["id"]
        if not isinstance(number, int) or isinstance(number, bool):
            raise UserError(f"{path}: {table} has the id {number!r}; ids must be whole numbers.", code=DATA)
        if number in seen:
            raise UserError(f"{path}: {table} has the id {number} twice; ids must differ.", code=DATA)
        seen.add(number)


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

    Raises:
        UserError: none of the usual places holds one of the pictures.
    """
    stem = annotations.stem.removeprefix("instances_")
    places = [
        source / "images", source, annotations.parent, annotations.parent / "images",
        source / "images" / split, source / split, source / stem, source / "images" / stem,
    ]  # fmt: skip
    # A few names, not the first alone: one missing picture must not hide the folder.
    for place in places:
        if any((place / name).is_file() for name in names[:20]):
            return place.resolve()
    example = names[0] if names else "pictures"
    raise UserError(
        f"{source}: found no picture of {annotations.name} (such as {example}) in it or in images/; "
        "name the folder with --images.",
        code=DATA,
    )
