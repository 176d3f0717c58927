"""Pascal-Part-116, 20 objects and 116 parts as maps of labels; objects told apart where Pascal-Part lies beside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from langhops_cli.data import masks
from langhops_cli.data.formats.folders import check_file
from langhops_cli.data.formats.pascal_part import FOLDER, list_stems, mask_of, read_objects
from langhops_cli.data.formats.published import published_tree, size_remarks
from langhops_cli.data.formats.regions import intersect, split_among, subtract
from langhops_cli.data.formats.semantic_maps import read_masks
from langhops_cli.data.formats.voc import list_pictures, voc_name
from langhops_cli.data.masks import BadMaskError, Rle
from langhops_cli.data.records import Drops, InstanceRecord, Picture, PictureRecords, Role, Source, SplitSource, Tree
from langhops_cli.errors import DATA, UserError

NAME = "pascal-part-116"
IGNORE = 255
"""Label of a pixel that belongs to none of the names."""
PARTS = "annotations_detectron2_part"
OBJECTS = "annotations_detectron2_obj"
SHOTS = "train_16shot"
_UNPACKED = ("PascalPart116", "Pascal-Part-116")


def read_pascal_part_116(source: Path) -> Source:
    """Read Pascal-Part-116.

    Args:
        source: the folder with images and annotations_detectron2_*, or the one it was unpacked into. Where it also
            holds Annotations_Part of Pascal-Part, objects and parts are told apart by instance.

    Raises:
        UserError: folders are missing, or the list of the 16 shots is malformed.
    """
    root = next((place for place in (source, *map(source.joinpath, _UNPACKED)) if (place / PARTS).is_dir()), source)
    missing = [name for name in ("images", OBJECTS, PARTS) if not (root / name).is_dir()]
    if missing:
        raise UserError(f"{source} has no folder {', '.join(missing)}; unpack the whole archive there.", code=DATA)
    mats = next((place / FOLDER for place in (root, source) if (place / FOLDER).is_dir()), None)
    tree = published_tree(NAME)
    records = Source(NAME, [], tree)
    records.source_names = {(owner, None): voc_name(owner) for owner in tree}
    records.source_names |= {(o, part): f"{voc_name(o)}'s {part}" for o, parts in tree.items() for part in parts}
    listed: dict[str, list[str]] = {}
    for split in ("train", "val"):
        if (root / PARTS / split).is_dir():
            drops = Drops()
            listed[split] = _list(root, split, drops)
            records.splits.append(_split(root, split, listed[split], tree, mats, drops))
    if not listed:
        raise UserError(f"{root / PARTS} has neither a folder train nor val.", code=DATA)
    if "train" in listed and (root / f"{SHOTS}.json").is_file():
        drops = Drops()
        shots = _read_shots(root / f"{SHOTS}.json", listed["train"], drops)
        records.splits.append(_split(root, "train", shots, tree, mats, drops, name=SHOTS))
        records.remarks.append(f"{SHOTS} is a part of train, as its list says; train on one of them")
    records.remarks += size_remarks(NAME, {split: len(names) for split, names in listed.items()})
    records.remarks.append(_instances_remark(mats, [name for names in listed.values() for name in names]))
    return records


def _instances_remark(mats: Path | None, names: Sequence[str]) -> str:
    if mats is None:
        return (
            "all objects of one name in a picture are one instance, and all its parts of one name too: the maps do not "
            f"tell them apart. With {FOLDER} of Pascal-Part in the folder they are"
        )
    bare = sum(not (mats / f"{name}.mat").is_file() for name in names)
    return f"objects are told apart by {FOLDER}" + (
        f"; {bare:,} of {len(names):,} pictures have no file there, their objects of one name are one" if bare else ""
    )


def _list(root: Path, split: str, drops: Drops) -> list[str]:
    """Names of the annotated pictures of a split, in order."""
    annotated = list_stems(root / PARTS / split, ".png", drops)
    pictures = list_stems(root / "images" / split, ".jpg", drops)
    if bare := sorted(set(pictures) - set(annotated)):
        drops.add("picture without annotations", *bare)
    return sorted(annotated)


def _read_shots(path: Path, train: Sequence[str], drops: Drops) -> list[str]:
    """Names of the pictures of train that a list of mappings with `file_name` names, whatever folder it says."""
    check_file(path)
    try:
        rows = json.loads(path.read_bytes())
        found = {PurePosixPath(row["file_name"].replace("\\", "/")).stem: None for row in rows}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path} is no JSON list of pictures with a file_name.", code=DATA) from None
    known = set(train)
    if unknown := [name for name in found if name not in known]:
        drops.add("picture of the 16 shots that is not in train", *unknown)
    return sorted(found.keys() & known)


def _split(
    root: Path,
    folder: str,
    names: Sequence[str],
    tree: Tree,
    mats: Path | None,
    drops: Drops,
    *,
    name: str | None = None,
) -> SplitSource:
    reader = partial(
        _read,
        root=root.resolve(),
        split=folder,
        objects=tuple(tree),
        parts=tuple((owner, part) for owner, parts in tree.items() for part in parts),
        mats=mats.resolve() if mats is not None else None,
    )
    images = (root / "images" / folder).resolve()
    return SplitSource(name or folder, images, len(names), partial(list_pictures, names), reader, drops=drops)


def _read(
    path: Path,
    picture: Picture,
    size: tuple[int, int],
    *,
    root: Path,
    split: str,
    objects: Sequence[str],
    parts: Sequence[Role],
    mats: Path | None,
) -> PictureRecords:
    """Read the objects of a picture and then its parts, by instance where they are told apart."""
    records = PictureRecords()
    drops, name = records.drops, picture.content

    def read_map(folder: str, names: Sequence[Any]) -> list[tuple[int, Rle]]:
        file = root / folder / split / f"{name}.png"
        return read_masks(file, size, "8 bit", known=range(len(names)), ignore=IGNORE, drops=drops)

    told = _read_instances(mats / f"{name}.mat", objects, size, drops) if mats is not None else {}
    for label, mask in read_map(OBJECTS, objects):
        _add_object(records.instances, objects[label], mask, told.get(objects[label], []))
    for label, mask in read_map(PARTS, parts):
        owner, part = parts[label]
        assert part is not None
        _add_part(records.instances, owner, part, mask, by_instance=owner in told)
    return records


def _read_instances(path: Path, names: Sequence[str], size: tuple[int, int], drops: Drops) -> dict[str, list[Rle]]:
    """Masks of the objects of a file of Pascal-Part by name; none where it is missing or cannot be used."""
    told: dict[str, list[Rle]] = {}
    if not path.is_file():
        return told
    try:
        for item in read_objects(path, names):
            if item.name is not None:
                told.setdefault(item.name, []).append(mask_of(item.mask, size))
    except UserError as error:
        drops.add("file of Pascal-Part that cannot be read", str(error))
        return {}
    except BadMaskError as error:
        drops.add(f"file of Pascal-Part that does not fit: {error}", path.name)
        return {}
    return told


def _add_object(instances: list[InstanceRecord], owner: str, mask: Rle, told: Sequence[Rle]) -> None:
    own = [piece for rle in told if masks.area(piece := intersect([mask, rle]))]
    for piece in own or [mask]:
        instances.append(InstanceRecord(len(instances) + 1, owner, None, piece))
    if own and masks.area(rest := subtract(mask, own)):
        # Objects of this name that Pascal-Part does not have: nobody says how many they are.
        instances.append(InstanceRecord(len(instances) + 1, owner, None, rest, crowd=True))


def _add_part(instances: list[InstanceRecord], owner: str, part: str, mask: Rle, *, by_instance: bool) -> None:
    owners = [item for item in instances if item.object == owner and item.part is None and not item.crowd]
    first = len(instances) + 1
    if not by_instance:
        parent = owners[0].id if owners else None
        instances.append(InstanceRecord(first, owner, part, mask, parent=parent))
        return
    found, rest = split_among(mask, owners, part=part, first_id=first)
    instances.extend(found)
    if rest is not None:
        instances.append(InstanceRecord(len(instances) + 1, owner, part, rest, crowd=True))
