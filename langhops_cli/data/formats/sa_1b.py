"""SA-1B and what else the Segment Anything generator writes: masks without names, of which some lie in others."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from langhops_cli.data import masks
from langhops_cli.data.formats.folders import check_file, list_files, survey
from langhops_cli.data.json_stream import Items, stream_mapping
from langhops_cli.data.masks import BadMaskError, Rle
from langhops_cli.data.pictures import SUFFIXES
from langhops_cli.data.records import Drops, InstanceRecord, Picture, PictureRecords, Source, SplitSource
from langhops_cli.errors import DATA, UserError

OBJECT, PART = "object", "part"
"""The only names: the masks have no classes."""
INSIDE = 0.9
"""A mask lies in another one if at least this share of it does."""
SMALLER = 0.9
"""A mask is a part only of one that it covers less than this share of: else the two show the same thing."""
MOST_MASKS = 4096
"""Masks of one picture; SA-1B has a few hundred at most, and every mask is compared with every other."""


def read_sa_1b(source: Path, *, images: Path | None = None) -> Source:
    """Read pictures that each have a JSON file of masks without names.

    A mask that lies in a larger one is a part, of the object at the top of the chain of the smallest masks around it;
    all others are objects. The split is not exhaustive: "object" and "part" fit whatever was not annotated as well,
    so what has no mask is unknown rather than background.

    Args:
        source: the folder of `sa_000000/sa_1.json` and so on, or of the JSON files themselves.
        images: the folder that holds the pictures in the same folders, where they do not lie beside the JSON files.

    Raises:
        UserError: there is no such folder, or no picture with a JSON file in it.
    """
    if not source.is_dir():
        raise UserError(f"{source} is no folder; give the folder that holds sa_000000 and so on.", code=DATA)
    source, root = source.resolve(), (images if images is not None else source).resolve()
    drops = Drops()
    found = survey(root, partial(_annotations_of, root, source), ".json", drops, annotations=source)
    if found.pictures == found.bare:
        packed = next((path for path in sorted(source.glob("*.tar")) if not path.name.startswith(".")), None)
        raise UserError(
            f"{root} holds no picture with a JSON file of masks "
            + (f"(sa_1.jpg with {source / 'sa_1.json'})" if root != source else "(sa_1.jpg beside sa_1.json)")
            + (f"; unpack {packed.name} and the like first." if packed is not None else "; check --source."),
            code=DATA,
        )
    if found.bare:
        drops.add("picture without an annotation file", found.first, count=found.bare)
    split = SplitSource(
        "train",
        root,
        found.pictures - found.bare,
        pictures=partial(_pictures, root, source),
        read=read_masks,
        exhaustive=False,
        drops=drops,
    )
    return Source("sa-1b", [split], tree={OBJECT: {PART: None}})


def _annotations_of(root: Path, source: Path, folder: Path) -> Path:
    return source / folder.relative_to(root)


def _pictures(root: Path, source: Path) -> Iterator[Picture]:
    numbers = count(1)
    for name in list_files(root, SUFFIXES):
        path = (source / name).with_suffix(".json")
        if path.is_file():
            yield Picture(next(numbers), name, content=str(path))


def read_masks(path: Path, picture: Picture, size: tuple[int, int]) -> PictureRecords:
    """Read the masks of a picture; a `Read` whose picture's content is the path of the JSON file."""
    records = PictureRecords()
    rows = _read_rows(Path(picture.content), size)
    ids, runs = _usable(rows, size, records.drops)
    for place, above in enumerate(find_parents(runs)):
        name = None if above is None else PART
        parent = None if above is None else ids[above]
        records.instances.append(InstanceRecord(ids[place], OBJECT, name, runs[place], parent))
    return records


def _read_rows(path: Path, size: tuple[int, int]) -> list[Any]:
    check_file(path)
    rows: list[Any] | None = None
    for key, value in stream_mapping(path):
        if key == "image" and isinstance(value, dict):
            stated = (value.get("width"), value.get("height"))
            if stated not in ((None, None), size):
                raise UserError(
                    f"{path} was made for a picture of {stated[0]!r} x {stated[1]!r} pixels, which has "
                    f"{size[0]} x {size[1]}.",
                    code=DATA,
                )
        elif key == "annotations" and isinstance(value, Items):
            rows = []
            for row, _ in value:
                rows.append(row)
                if len(rows) > MOST_MASKS:
                    raise UserError(f"{path} has more than {MOST_MASKS:,} masks.", code=DATA)
    if rows is None:
        raise UserError(f"{path} has no list of annotations.", code=DATA)
    return rows


def _usable(rows: list[Any], size: tuple[int, int], drops: Drops) -> tuple[list[int], list[Rle]]:
    ids: list[int] = []
    runs: list[Rle] = []
    taken: set[int] = set()
    for place, row in enumerate(rows):
        number = row.get("id") if isinstance(row, dict) else None
        if type(number) is not int or not -(2**63) <= number < 2**63:
            drops.add("annotation id that is no whole number", place)
        elif number in taken:
            drops.add("annotation id that stands twice", number)
        else:
            try:
                rle, _ = masks.to_rle(row.get("segmentation"), size[1], size[0])
            except BadMaskError as error:
                drops.add(str(error), number)
            else:
                taken.add(number)
                ids.append(number)
                runs.append(rle)
    return ids, runs


def find_parents(runs: list[Rle]) -> list[int | None]:
    """For each mask the place of the object that it is a part of, None for an object.

    The smallest mask around a mask is followed upwards until one that lies in none: there is one level of parts, so a
    part of a part belongs to the object.
    """
    if not runs:
        return []
    areas = np.array([masks.area(rle) for rle in runs], dtype=np.float64)
    holds = (masks.share_inside(runs, runs) >= INSIDE) & (areas[:, None] < SMALLER * areas[None])
    nearest = np.where(holds, areas[None], np.inf).argmin(axis=1)
    above = np.where(holds.any(axis=1), nearest, np.arange(len(runs)))
    # Each step leads to a larger mask, so that this ends; paths are halved as in a union of sets.
    while not np.array_equal(higher := above[above], above):
        above = higher
    return [None if top == place else int(top) for place, top in enumerate(above)]
