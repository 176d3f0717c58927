"""Pascal-Part, the parts of VOC 2010 in MATLAB files: 93 grouped part names, or all that it has."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from langhops_cli.data import masks
from langhops_cli.data.formats.folders import is_text
from langhops_cli.data.formats.mat_file import read_mat
from langhops_cli.data.formats.published import published_tree, size_remarks
from langhops_cli.data.formats.voc import find_editions, list_pictures, read_list, voc_name
from langhops_cli.data.masks import BadMaskError, Rle
from langhops_cli.data.records import Drops, InstanceRecord, Picture, PictureRecords, Source, SplitSource, Tree
from langhops_cli.errors import DATA, UserError

NAME = "pascal-part"
FOLDER = "Annotations_Part"
_BEYOND = {
    "aeroplane": ("stern", "engine"),
    "bicycle": ("chainwheel", "headlight"),
    "bus": ("front", "side", "back", "roof"),
    "car": ("front", "side", "back", "roof"),
    "horse": ("hoof",),
    "person": ("eyebrow",),
    "train": ("headlight", "head", "front", "side", "back", "roof", "coach"),
    "tv monitor": ("screen",),
}
"""Parts that the 93 names leave out, named as Pascal-Part-116 names them."""
_SPELT = {
    "arm": "llarm luarm rlarm ruarm",
    "back": "backside hbackside cbackside",
    "ear": "lear rear",
    "eye": "leye reye",
    "eyebrow": "lebrow rebrow",
    "foot": "lfoot rfoot",
    "front": "frontside hfrontside cfrontside",
    "hand": "lhand rhand",
    "hoof": "lfho rfho lbho rbho",
    "horn": "lhorn rhorn",
    "leg": "lleg rleg lfleg rfleg lbleg rbleg lfuleg lflleg rfuleg rflleg lbuleg lblleg rbuleg rblleg "
    "llleg luleg rlleg ruleg",
    "license plate": "fliplate bliplate",
    "mirror": "leftmirror rightmirror",
    "paw": "lfpa rfpa lbpa rbpa",
    "roof": "roofside hroofside croofside",
    "side": "leftside rightside hleftside hrightside cleftside crightside",
    "wheel": "wheel fwheel bwheel",
    "wing": "lwing rwing",
}
"""Grouped name -> how Pascal-Part spells it, without the number; a name that is not here is spelt as it is."""
_GROUPED = {raw: name for name, spelt in _SPELT.items() for raw in spelt.split()}
_NUMBERED = re.compile(r"_\d{1,3}$")


@dataclass(frozen=True)
class MatObject:
    """An object as a file of Pascal-Part has it.

    Args:
        name: clean, None for a name that is none of the 20.
        spelt: as the file spells it.
        mask: (height, width), of any kind; or what the file has in its place.
        parts: name as the file spells it -> mask.
    """

    name: str | None
    spelt: str
    mask: Any
    parts: tuple[tuple[str, Any], ...]


def read_pascal_part(source: Path, *, images: Path | None = None, all_names: bool = False) -> Source:
    """Read Pascal-Part.

    Args:
        source: the folder with Annotations_Part and VOCdevkit, or one with each .mat beside its picture.
        images: the folder of the pictures, JPEGImages of VOC 2010.
        all_names: also read the parts that the 93 grouped names leave out, such as an aeroplane's engine.

    Raises:
        UserError: the folder holds no annotations, or the pictures are not to be found.
    """
    folder = source / FOLDER if (source / FOLDER).is_dir() else source
    drops = Drops()
    names = list_stems(folder, ".mat", drops)
    if not names:
        raise UserError(f"{source} holds no {FOLDER}/*.mat; unpack trainval.tar.gz of Pascal-Part there.", code=DATA)
    base = folder.parent if folder.name == FOLDER else folder
    root = _find_pictures(base, folder, names) if images is None else images
    kept = published_tree(NAME)
    tree = {owner: kept[owner] | dict.fromkeys(_BEYOND.get(owner, ()) if all_names else ()) for owner in kept}
    records = Source(NAME, [], tree, {(name, None): voc_name(name) for name in tree})
    reader = partial(_read, folder=folder.resolve(), tree=tree)
    for split, listed in _split(root.parent / "ImageSets", names, drops, records.remarks).items():
        pictures = partial(list_pictures, listed)
        records.splits.append(SplitSource(split, root.resolve(), len(listed), pictures, reader))
    records.splits[0].drops.merge(drops)
    if len(records.splits) > 1:
        records.remarks += size_remarks(NAME, {split.name: split.total for split in records.splits})
    return records


def list_stems(folder: Path, suffix: str, drops: Drops) -> list[str]:
    """Names of the files of one kind in a folder, without their ending, in order.

    Args:
        folder: where they lie; one that is not there holds none.
        suffix: their ending, ".mat".
        drops: gets those that cannot be meant.
    """
    names = []
    for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
        stem, ending = os.path.splitext(name)
        if ending != suffix:
            continue
        if name.startswith("."):
            drops.add("hidden file", name)
        elif not is_text(name):
            drops.add("file name that is no UTF-8", ascii(name))
        else:
            names.append(stem)
    return names


def _find_pictures(base: Path, folder: Path, names: Sequence[str]) -> Path:
    """The first usual place that holds a picture of the annotations."""
    editions = sorted(find_editions(base), key=lambda edition: edition.name != "VOC2010")
    places = [folder, *(edition / "JPEGImages" for edition in editions)]
    for place in places:
        if any((place / f"{name}.jpg").is_file() for name in names):
            return place
    raise UserError(
        f"{base} holds no picture of its annotations, such as VOCdevkit/VOC2010/JPEGImages/{names[0]}.jpg; "
        "name their folder with --images.",
        code=DATA,
    )


def _split(sets: Path, names: Sequence[str], drops: Drops, remarks: list[str]) -> dict[str, list[str]]:
    """The annotated pictures of each split."""
    for lists in (sets / "Main", sets / "Segmentation"):
        paths = {split: lists / f"{split}.txt" for split in ("train", "val") if (lists / f"{split}.txt").is_file()}
        if not paths:
            continue
        annotated, listed = set(names), {split: read_list(path, drops) for split, path in paths.items()}
        splits = {split: [name for name in found if name in annotated] for split, found in listed.items()}
        for found in listed.values():
            if bare := [name for name in found if name not in annotated]:
                drops.add("picture of a list without annotations", *bare)
        if lone := sorted(annotated.difference(*listed.values())):
            drops.add("annotations that no list names", *lone)
        if splits := {split: found for split, found in splits.items() if found}:
            return splits
    remarks.append("there are no lists of train and val (ImageSets/Main): all pictures are in train")
    return {"train": list(names)}


def read_objects(path: Path, names: Iterable[str]) -> list[MatObject]:
    """Read the objects of a picture from its file.

    Args:
        path: the file.
        names: of the 20 objects, clean.

    Raises:
        UserError: the file is missing or broken, or is not of Pascal-Part.
    """
    try:
        (annotation,) = read_mat(path)["anno"]
        known = {voc_name(name): name for name in names} | {"table": "dining table"}
        return [_object(row, known) for row in annotation["objects"]]
    except (LookupError, TypeError, ValueError):
        raise UserError(f"{path} is no file of Pascal-Part: it has no objects in 'anno'.", code=DATA) from None


def _object(row: Mapping[str, Any], known: Mapping[str, str]) -> MatObject:
    spelt = row["class"] if isinstance(row["class"], str) else ""
    parts = row["parts"] if isinstance(row["parts"], list) else []
    pairs = [(part["part_name"] if isinstance(part["part_name"], str) else "", part["mask"]) for part in parts]
    return MatObject(known.get(spelt), spelt, row["mask"], tuple(pairs))


def grouped_name(spelt: str) -> str:
    """The part that a name stands for, without side and number: "lfuleg" -> "leg", "wheel_2" -> "wheel"."""
    stem = _NUMBERED.sub("", spelt)
    return _GROUPED.get(stem, stem)


def mask_of(value: Any, size: tuple[int, int]) -> Rle:
    """Compressed run lengths of a mask of a file.

    Args:
        value: what the file holds.
        size: (width, height) of the picture.

    Raises:
        BadMaskError: it is no mask, of another size, or empty.
    """
    if not isinstance(value, np.ndarray) or value.ndim != 2:
        raise BadMaskError("no mask")
    if value.shape != (size[1], size[0]):
        raise BadMaskError("mask of another size than the picture")
    rle = masks.encode(value > 0)
    if not masks.area(rle):
        raise BadMaskError("empty mask")
    return rle


def _read(path: Path, picture: Picture, size: tuple[int, int], *, folder: Path, tree: Tree) -> PictureRecords:
    """Read the objects of a picture, each followed by its parts."""
    name = picture.content
    file = folder / f"{name}.mat"
    records, drops = PictureRecords(), Drops()
    found = read_objects(file, tree)
    for place, item in enumerate(found, start=1):
        which = f"{name}: {item.spelt[:40]} {place}"
        if item.name is None:
            drops.add("object of an unknown name", which)
            if item.parts:
                drops.add("part of an object of an unknown name", which, count=len(item.parts))
            continue
        parent = _add(records, drops, item.name, None, item.mask, size, None, which)
        for spelt, mask in item.parts:
            part, told = grouped_name(spelt), f"{which}, {spelt[:40]}"
            if part in tree[item.name]:
                _add(records, drops, item.name, part, mask, size, parent, told)
            elif part in _BEYOND.get(item.name, ()):
                drops.add("part that the 93 names leave out (read with --all-names)", told)
            else:
                drops.add("part of an unknown name", told)
    if found and not records.instances:
        # A picture without its annotations would pass for one without objects.
        raise UserError(f"{file}: nothing of it can be used ({next(iter(drops.counts))}).", code=DATA)
    records.drops = drops
    return records


def _add(
    records: PictureRecords,
    drops: Drops,
    owner: str,
    part: str | None,
    mask: Any,
    size: tuple[int, int],
    parent: int | None,
    which: str,
) -> int | None:
    """Add an instance and return its id, or None where its mask cannot be used."""
    try:
        rle = mask_of(mask, size)
    except BadMaskError as error:
        drops.add(str(error), which)
        return None
    number = len(records.instances) + 1
    records.instances.append(InstanceRecord(number, owner, part, rle, parent=parent))
    return number
