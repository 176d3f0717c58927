"""Visual Genome: boxes of whatever people named in a picture, in their own words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from langhops_cli.data.formats.coco_family import PictureFinder, add_box, annotation_files, open_coco
from langhops_cli.data.formats.coco_files import find_splits
from langhops_cli.data.formats.coco_parts import coco_split
from langhops_cli.data.json_stream import stream_list
from langhops_cli.data.records import Drops, Picture, PictureRecords, Source, SplitSource
from langhops_cli.errors import DATA, UserError
from langhops_cli.vocabulary import clean_name
from langhops_cli.vocabulary.tree import name_key

FILES: dict[str, tuple[str, ...]] = {"train": ("objects.json", "annotations/objects.json")}
COCO_FILES: dict[str, tuple[str, ...]] = {"train": ("train_from_objects.json", "annotations/train_from_objects.json")}
IMAGE_DATA: dict[str, tuple[str, ...]] = {"image data": ("image_data.json", "annotations/image_data.json")}
_EDGES = " .,;:!?\"'`*_-()[]{}<>/\\|~"


def read_visual_genome(source: Path, *, images: Path | None = None) -> Source:
    """Read Visual Genome's objects: `objects.json` with `image_data.json`, else `train_from_objects.json`.

    Relationships are not read: "man has arm" and "man has shirt" are told apart neither by the predicate nor by the
    boxes, so that the parts made of them would be wrong ones.

    Args:
        source: the folder with the files.
        images: the folder that holds VG_100K and VG_100K_2, or all pictures, where it is not the same.

    Raises:
        UserError: files are missing or malformed.
    """
    places = [source, source / "images"] if images is None else [images]
    if find_splits(source, FILES) or not find_splits(source, COCO_FILES):
        split = _objects_split(source, places)
    else:
        file, root = open_coco(find_splits(source, COCO_FILES)["train"], places, _spell_coco)
        names = {row["id"]: row["name"] for row in file.categories}
        split = replace(coco_split("train", file, {}, root, exhaustive=False), read=partial(read_coco_row, names=names))
    return Source("visual-genome", [split])


def free_name(text: Any) -> str:
    """Clean a name that somebody typed: "A Tree." -> "a tree"; nothing where it holds no word."""
    name = name_key(clean_name(text.strip(_EDGES))) if isinstance(text, str) else ""
    return name if name.isprintable() and any(character.isalnum() for character in name) else ""


@dataclass(frozen=True)
class _Row:
    """A picture as `image_data.json` has it."""

    path: str
    size: tuple[int, int]


def _objects_split(source: Path, places: list[Path]) -> SplitSource:
    objects = annotation_files(source, "visual-genome", FILES)["train"]
    found = find_splits(source, IMAGE_DATA)
    if not found:
        raise UserError(f"{source} lacks image_data.json, which holds sizes and folders of the pictures.", code=DATA)
    finder = PictureFinder(found["image data"], places, _spell)
    rows = {number: _Row(finder(row), size) for number, row, size in _image_data(found["image data"])}
    root = finder.root
    drops = Drops()
    total = sum(1 for _ in _pictures(objects, rows, drops))
    return SplitSource(
        "train",
        root,
        total,
        # What was dropped is known from the first time the file was gone through.
        pictures=lambda: _pictures(objects, rows, Drops()),
        read=read_objects,
        exhaustive=False,
        drops=drops,
    )


def _image_data(path: Path) -> Iterator[tuple[int, dict[str, Any], tuple[int, int]]]:
    for place, (row, _) in enumerate(stream_list(path)):
        keys = ("image_id", "width", "height")
        if not isinstance(row, dict) or not all(isinstance(row.get(key), int) and row[key] > 0 for key in keys):
            raise UserError(f"{path}: entry {place} lacks {', '.join(keys)} as whole numbers.", code=DATA)
        yield row["image_id"], row, (row["width"], row["height"])


def _spell(row: Mapping[str, Any]) -> list[Any]:
    """The paths that a picture may have: ".../VG_100K_2/1.jpg" or, where all lie in one folder, "1.jpg"."""
    bare = f"{row['image_id']}.jpg"
    url = row.get("url")
    if not isinstance(url, str) or "/" not in url:
        return [bare, bare]
    return ["/".join(url.split("/")[-2:]), bare]


def _spell_coco(row: Mapping[str, Any]) -> list[Any]:
    name = row.get("file_name")
    return [name, name.split("/")[-1] or name] if isinstance(name, str) else [name, name]


def _pictures(path: Path, rows: Mapping[int, _Row], drops: Drops) -> Iterator[Picture]:
    """Go through `objects.json`; a picture that is not in `image_data.json` or comes again goes to the drops."""
    seen: set[int] = set()
    for place, (entry, text) in enumerate(stream_list(path)):
        number = entry.get("image_id") if isinstance(entry, dict) else None
        if not isinstance(number, int) or not isinstance(entry.get("objects"), list):
            raise UserError(f"{path}: entry {place} lacks image_id or objects; export it again.", code=DATA)
        if number not in rows:
            drops.add("picture that is not in image_data.json", number)
        elif number in seen:
            drops.add("picture that stands twice", number)
        else:
            seen.add(number)
            yield Picture(number, rows[number].path, rows[number].size, len(entry["objects"]), text)


def read_objects(path: Path, picture: Picture, size: tuple[int, int]) -> PictureRecords:
    """Read a picture's entry of `objects.json`, which is its content as JSON text."""
    records = PictureRecords()
    seen: set[int] = set()
    for item in json.loads(picture.content)["objects"]:
        number = item.get("object_id") if isinstance(item, dict) else None
        if not isinstance(number, int):
            records.drops.add("object without an id", picture.id)
            continue
        names = item.get("names")
        name = free_name(names[0] if isinstance(names, list) and names else item.get("name"))
        if number in seen:
            records.drops.add("object id that stands twice", number)
        elif not name:
            records.drops.add("object without a name", number)
        else:
            add_box(records, number, name, [item.get(side) for side in "xywh"], size)
        seen.add(number)
    return records


def read_coco_row(path: Path, picture: Picture, size: tuple[int, int], *, names: Mapping[int, str]) -> PictureRecords:
    """Read a picture's annotations in COCO's form: each has a name of its own, else that of its category."""
    records = PictureRecords()
    for text in picture.content:
        row = json.loads(text)
        number = row["category_id"]
        name = free_name(row.get("object_name") or (names.get(number) if isinstance(number, int) else None))
        if name:
            add_box(records, row["id"], name, row.get("bbox"), size, crowd=bool(row.get("iscrowd")))
        else:
            records.drops.add("object without a name", row["id"])
    return records
