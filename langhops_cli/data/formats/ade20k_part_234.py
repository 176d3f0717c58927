"""ADE20K-Part-234, 44 objects and 234 parts: as it was released, or taken out of full ADE20K."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from langhops_cli.data.formats.ade20k_full import FOLDERS, NAME, find_full, read_full
from langhops_cli.data.formats.coco_files import CocoFile
from langhops_cli.data.formats.published import choose_layout, published_tree, size_remarks
from langhops_cli.data.formats.regions import split_among
from langhops_cli.data.formats.semantic_maps import read_masks
from langhops_cli.data.manifests import load_manifest
from langhops_cli.data.masks import BadMaskError, to_rle
from langhops_cli.data.records import Drops, InstanceRecord, Picture, PictureRecords, Role, Source, SplitSource, Tree
from langhops_cli.data.splits import load_split
from langhops_cli.errors import DATA, USAGE, UserError
from langhops_cli.vocabulary import clean_name

UNSEEN = frozenset(load_split(NAME).unseen)
"""Objects that the benchmark's zero-shot setting measures on and does not train on."""
IGNORE = 65535
"""Number of a pixel that belongs to no part."""
MAPS = "annotations_detectron2_part"


def read_ade20k_part_234(source: Path, *, all_names: bool = False, zero_shot: bool = True) -> Source:
    """Read ADE20K-Part-234, from its own release or from full ADE20K, whichever the folder holds.

    Args:
        source: the folder with ade20k_instance_*.json, or the one with ADE20K_2021_17_01.
        all_names: of full ADE20K keep every object and every part, parts of parts below the part they belong to.
        zero_shot: the eleven unseen objects are left out of train, and those in training pictures belong to val, as the
            benchmark has it; else each picture stays in its own split with all that it shows.

    Raises:
        UserError: files are missing or malformed, or all names are asked of the release, which has only its own.
    """
    layouts = {
        NAME: [source] if any((source / _file_name(split)).is_file() for split in FOLDERS) else [],
        "ade20k-full": find_full(source),
    }
    layout, folder = choose_layout(NAME, source, layouts)
    unseen = UNSEEN if zero_shot else frozenset()
    if layout != NAME:
        vocabulary = None if all_names else load_manifest(NAME).vocabulary
        records = read_full(folder, vocabulary=vocabulary, unseen=unseen)
    elif all_names:
        raise UserError(f"{source} names 44 objects only; all names are in full ADE20K.", code=USAGE)
    else:
        records = _read_released(folder, unseen)
    if unseen and len(records.splits) > 1:
        records.remarks.append(
            "val also holds the unseen objects of training pictures, as the benchmark has it: that pictures stand in "
            "both splits is no fault, no instance does"
        )
    return records


def _file_name(split: str) -> str:
    return f"ade20k_instance_{split}.json"


@dataclass(frozen=True)
class _Share:
    """What a split takes of an annotation file.

    Args:
        file: the annotations.
        names: category id -> object.
        takes: the objects.
        rest: it also takes what is of no known category, to count it, and pictures without annotations.
        but: pictures that it does not take.
    """

    file: CocoFile
    names: dict[int, str]
    takes: frozenset[str]
    rest: bool
    but: frozenset[str] = frozenset()

    def pictures(self) -> Iterator[tuple[dict[str, Any], str, list[str]]]:
        """Rows of the pictures, their paths, and the annotations that are taken."""
        for row, name, texts in self.file.pictures():
            if name in self.but:
                continue
            taken = [text for text in texts if self._takes(text)]
            if taken or (self.rest and not texts):
                yield row, name, taken

    def _takes(self, text: str) -> bool:
        number = json.loads(text)["category_id"]
        name = self.names.get(number) if isinstance(number, int) else None
        return self.rest if name is None else name in self.takes


def _read_released(source: Path, unseen: frozenset[str]) -> Source:
    tree = published_tree(NAME)
    images = source / "images"
    if not images.is_dir() or not (source / MAPS).is_dir():
        missing = "images" if not images.is_dir() else MAPS
        raise UserError(f"{source} has no folder {missing}; unpack the whole archive.", code=DATA)
    paths = {split: source / _file_name(split) for split in FOLDERS}
    files = {
        split: CocoFile(path, name_of=_locate(images, FOLDERS[split]))
        for split, path in paths.items()
        if path.is_file()
    }
    names = {split: _object_names(file, tree) for split, file in files.items()}
    # Objects in the order of their own numbers, by name; parts in the order of theirs.
    records = Source(NAME, [], {owner: tree[owner] for owner in sorted(tree)})
    records.source_names = {(o, p): f"{o}'s {p}" for o, parts in tree.items() for p in parts}
    seen = frozenset(tree) - unseen
    for split, file in files.items():
        shares = [_Share(file, names[split], seen if split == "train" else frozenset(tree), rest=True)]
        if split == "val" and unseen and "train" in files:
            listed = frozenset(file.names(len(file)))
            shares.append(_Share(files["train"], names["train"], unseen, rest=False, but=listed))
        records.splits.append(_split(split, shares, images.resolve(), (source / MAPS).resolve(), tree))
    records.remarks += size_remarks(NAME, {split: len(file) for split, file in files.items()})
    return records


def _locate(images: Path, folder: str) -> Callable[[dict[str, Any]], Any]:
    """Find the folder of a picture: its split's, or the other one, as val has pictures of training too."""

    def path_of(row: dict[str, Any]) -> Any:
        name = row.get("file_name")
        if not isinstance(name, str) or "/" in name or "\\" in name:
            return name
        places = [folder, *(other for other in FOLDERS.values() if other != folder)]
        return f"{next((place for place in places if (images / place / name).is_file()), folder)}/{name}"

    return path_of


def _object_names(file: CocoFile, tree: Tree) -> dict[int, str]:
    """Category id -> object, for the categories that are one."""
    names = {row["id"]: clean_name(row["name"].split(",")[0]) for row in file.categories}
    known = {number: name for number, name in names.items() if name in tree}
    if not known:
        raise UserError(
            f"{file.path} has none of the 44 objects among its categories; is it the right file?", code=DATA
        )
    return known


def _split(name: str, shares: Sequence[_Share], images: Path, maps: Path, tree: Tree) -> SplitSource:
    drops = Drops()
    drops.merge(shares[0].file.drops)
    return SplitSource(
        name,
        images,
        sum(1 for share in shares for _ in share.pictures()),
        pictures=partial(_pictures, shares),
        read=partial(
            _read,
            maps=maps,
            names=[share.names for share in shares],
            takes=[share.takes for share in shares],
            parts=[(owner, part) for owner, parts in tree.items() for part in parts],
        ),
        exhaustive=False,
        drops=drops,
    )


def _pictures(shares: Sequence[_Share]) -> Iterator[Picture]:
    number = 0
    for place, share in enumerate(shares):
        for row, name, texts in share.pictures():
            number += 1
            yield Picture(number, name, (row["width"], row["height"]), len(texts), (place, texts))


def _read(
    path: Path,
    picture: Picture,
    size: tuple[int, int],
    *,
    maps: Path,
    names: Sequence[dict[int, str]],
    takes: Sequence[frozenset[str]],
    parts: Sequence[Role],
) -> PictureRecords:
    """Read the objects of a picture, and its map of parts as parts of those."""
    place, texts = picture.content
    records = PictureRecords()
    for text in texts:
        _read_object(json.loads(text), names[place], size, records)
    objects = [item for item in records.instances if not item.crowd]
    free = max((item.id for item in records.instances), default=0) + 1
    file = maps / PurePosixPath(picture.file_name).with_suffix(".png")
    known = range(len(parts))
    for label, mask in read_masks(file, size, "16 bit", known=known, ignore=IGNORE, drops=records.drops):
        owner, part = parts[label]
        if part is None or owner not in takes[place]:
            continue
        found, left = split_among(mask, [item for item in objects if item.object == owner], part=part, first_id=free)
        free += len(found)
        records.instances += found
        if left is not None:
            # Parts of objects that were not annotated: one region, that nobody says how many they are.
            records.instances.append(InstanceRecord(free, owner, part, left, crowd=True))
            free += 1
    return records


def _read_object(row: dict[str, Any], names: dict[int, str], size: tuple[int, int], records: PictureRecords) -> None:
    number = row["category_id"]
    name = names.get(number) if isinstance(number, int) else None
    if name is None:
        records.drops.add("unknown category", row["id"])
        return
    try:
        rle, short = to_rle(row.get("segmentation"), size[1], size[0])
    except BadMaskError as error:
        records.drops.add(str(error), row["id"])
        return
    if short:
        records.drops.add("polygon of fewer than three points beside whole ones", *[row["id"]] * short)
    records.instances.append(InstanceRecord(row["id"], name, None, rle, crowd=bool(row.get("iscrowd", False))))
