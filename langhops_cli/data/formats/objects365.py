"""Objects365, version 2: boxes of 365 objects, all of them annotated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from langhops_cli.data.formats.coco_family import annotation_files, object_roles, open_coco, read_boxes
from langhops_cli.data.formats.coco_parts import coco_split
from langhops_cli.data.records import Source
from langhops_cli.vocabulary import clean_name

FILES: dict[str, tuple[str, ...]] = {
    split: tuple(
        f"{folder}zhiyuan_objv2_{split}.json" for folder in ("", "annotations/", f"{split}/", f"data/{split}/")
    )
    for split in ("train", "val")
}
MENDED = {
    "moniter/tv": "monitor/tv",
    "bakset": "basket",
    "ballon": "balloon",
    "dinning table": "dining table",
    "billards": "billiards",
    "extention cord": "extension cord",
    "hotair ballon": "hot air balloon",
    "hamimelon": "hami melon",
    "mushroon": "mushroom",
    "tape measur/ ruler": "tape measure/ruler",
    "campel": "camel",
    "buttefly": "butterfly",
    "french": "french horn",
    "noddles": "noodles",
    "table teniis paddle": "table tennis paddle",
}
"""Names that the dataset misspells or cuts short; others stay, two in one ("cabinet/shelf") included."""


def read_objects365(source: Path, *, images: Path | None = None) -> Source:
    """Read Objects365.

    Boxes around a depiction (`isfake`) or a reflection (`isreflected`) stay: detectors are trained and measured on
    them like on any other.

    Args:
        source: the folder with zhiyuan_objv2_*.json.
        images: the folder of the pictures, or of their folders train and val, where it is not the same.

    Raises:
        UserError: files are missing or malformed.
    """
    records = Source("objects365", [])
    for split, path in annotation_files(source, "objects365", FILES).items():
        file, root = open_coco(path, _places(source, images, split), _spell)
        roles = object_roles(file, records, mend)
        records.splits.append(replace(coco_split(split, file, roles, root), read=partial(read_boxes, roles=roles)))
    return records


def mend(name: str) -> str:
    """Return a name of the dataset in clean English."""
    cleaned = clean_name(name)
    return MENDED.get(cleaned, cleaned)


def _places(source: Path, images: Path | None, split: str) -> list[Path]:
    tops = [source, source / "images", source / "data"] if images is None else [images]
    return [top / split for top in tops] + tops


def _spell(row: Mapping[str, Any]) -> list[Any]:
    """The paths that "images/v1/patch8/objects365_v1_00420917.jpg" may have.

    The archives of the two splits unpack differently, and some put all pictures into one folder.
    """
    name = row.get("file_name")
    if not isinstance(name, str):
        return [name] * 4
    parts = name.split("/")
    return [name, "/".join(parts[-3:]), "/".join(parts[-2:]), parts[-1] or name]
