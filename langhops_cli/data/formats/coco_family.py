"""What datasets in COCO's form share: where their files and pictures lie, and categories that are objects only."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from langhops_cli.data.formats.coco_files import CocoFile, check_file_name, find_splits
from langhops_cli.data.formats.coco_parts import known_rows
from langhops_cli.data.formats.roles import note_names
from langhops_cli.data.masks import BadMaskError, to_box
from langhops_cli.data.records import InstanceRecord, Picture, PictureRecords, Role, Source
from langhops_cli.errors import DATA, UserError
from langhops_cli.vocabulary import clean_name

MOST_LOOKED_FOR = 500
"""Pictures that are looked for at most, until one is found and tells where all the others lie."""
_OF_2014 = re.compile(r"COCO_(train|val)2014_")

Spell = Callable[[Mapping[str, Any]], Sequence[Any]]
"""The paths that a picture may have below a folder, from its row; as many for every row, the likeliest first."""


def annotation_files(source: Path, name: str, patterns: dict[str, tuple[str, ...]]) -> dict[str, Path]:
    """Find the annotation files of a dataset's splits.

    Args:
        source: its folder.
        name: as `langhops prepare` takes it.
        patterns: split -> paths relative to the folder, the usual one first.

    Raises:
        UserError: the folder is missing or holds none of them.
    """
    found = find_splits(source, patterns)
    if not found:
        usual = ", ".join(paths[0] for paths in patterns.values())
        raise UserError(
            f"{source} holds none of {usual}; see what must lie where: langhops prepare {name} --describe.", code=DATA
        )
    return found


class PictureFinder:
    """Learns from a dataset's first pictures in which folder they lie and how, so that no other is looked for.

    Args:
        file: the annotation file, for messages.
        places: the folders they may lie in, the likeliest first.
        spell: the paths that they may have there.
    """

    def __init__(self, file: Path, places: Iterable[Path], spell: Spell) -> None:
        self._file = file
        self._places = list(dict.fromkeys(places))
        self._spell = spell
        self._spelling = 0
        self._looked_for = 0
        self._example = "pictures"
        self._root: Path | None = None

    def __call__(self, row: Mapping[str, Any]) -> str:
        """Return the path of a picture below the root, as far as that is known by now."""
        spelt = self._spell(row)
        if self._root is None and self._looked_for < MOST_LOOKED_FOR:
            self._look_for([check_file_name(self._file, path) for path in spelt])
        return check_file_name(self._file, spelt[self._spelling])

    @property
    def root(self) -> Path:
        """The folder that all paths are below.

        Raises:
            UserError: none of the first pictures was found.
        """
        if self._root is None:
            raise UserError(
                f"found no picture of {self._file} (such as {self._example}) in {_listed(self._places)}; "
                "name the folder with --images.",
                code=DATA,
            )
        return self._root

    def _look_for(self, paths: Sequence[str]) -> None:
        if not self._looked_for:
            self._example = paths[0]
        self._looked_for += 1
        for number, path in enumerate(paths):
            for place in self._places:
                if os.path.isfile(place / path):  # no error for a name that cannot be one
                    self._root, self._spelling = place.resolve(), number
                    return


def _listed(places: Sequence[Path]) -> str:
    return ", ".join(map(str, places[:3])) + (f" and {len(places) - 3} more places" if len(places) > 3 else "")


def spell_coco(row: Mapping[str, Any]) -> list[Any]:
    """The paths that a picture of COCO may have: "val2017/000000000139.jpg", what its row says, or the bare name.

    LVIS took pictures of both folders into each split, and names pictures by their address or as in 2014.
    """
    name, url = row.get("file_name"), row.get("coco_url")
    by_url = "/".join(url.split("/")[-2:]) if isinstance(url, str) and "/" in url else name
    name = by_url if name is None else name
    if not isinstance(name, str) or not isinstance(by_url, str):
        return [name] * 4
    old = _OF_2014.match(name)
    return [by_url, name, by_url.split("/")[-1] or name, f"{old[1]}2014/{name}" if old else name]


def coco_places(source: Path, images: Path | None, *folders: str) -> list[Path]:
    """Where the folders train2017 and val2017 may lie, or the pictures of one split by themselves.

    Args:
        source: the folder of the dataset.
        images: the folder of the pictures where the user named it; then only that.
        folders: names of folders that hold the pictures of the split.
    """
    beside = source.resolve().parent / "coco"
    tops = [source, source / "images", source / "coco", source / "coco" / "images", beside, beside / "images"]
    tops = tops if images is None else [images]
    return tops + [top / folder for folder in folders for top in tops]


def open_coco(path: Path, places: Iterable[Path], spell: Spell = spell_coco) -> tuple[CocoFile, Path]:
    """Read a COCO file whose pictures may lie in several places.

    Returns:
        The file, and the folder that its pictures' paths are below.

    Raises:
        UserError: the file is malformed, or none of its first pictures is there.
    """
    finder = PictureFinder(path, places, spell)
    file = CocoFile(path, name_of=finder)
    return file, finder.root


def object_roles(file: CocoFile, records: Source, clean: Callable[[str], str] = clean_name) -> dict[int, list[Role]]:
    """Take every category as an object, and enter them into the source's tree."""
    roles: dict[int, list[Role]] = {row["id"]: [(clean(row["name"]), None)] for row in file.categories}
    note_names(records, [{"id": row["id"], "name": row["name"]} for row in file.categories], roles)
    return roles


def read_boxes(
    path: Path, picture: Picture, size: tuple[int, int], *, roles: Mapping[int, Sequence[Role]]
) -> PictureRecords:
    """Read the boxes of a picture, whatever its annotations say of masks; its content is their JSON texts."""
    records = PictureRecords()
    for row, meant in known_rows(picture, roles, records.drops):
        add_box(records, row["id"], meant[0][0], row.get("bbox"), size, crowd=bool(row.get("iscrowd")))
    return records


def add_box(
    records: PictureRecords, number: int, name: str, bbox: Any, size: tuple[int, int], *, crowd: bool = False
) -> None:
    """Add an object that only the box is known of, or the reason why it is left out.

    Args:
        records: what is known of the picture.
        number: id of the annotation.
        name: of the object.
        bbox: left, top, width and height in pixels, as the source has them.
        size: (width, height) of the picture in pixels.
        crowd: the box covers several instances.
    """
    try:
        box = to_box(bbox, size[1], size[0])
    except BadMaskError as error:
        records.drops.add(str(error), number)
    else:
        records.instances.append(InstanceRecord(number, name, None, None, crowd=crowd, box=box))
