"""COCO instances whose categories are objects and parts: with parent ids, spelt in the names, or told by the user."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from langhops_cli.data.formats.coco_files import CocoFile, find_annotations, find_image_root
from langhops_cli.data.formats.roles import check_tree, note_names, roles_of
from langhops_cli.data.masks import BadMaskError, to_box, to_rle
from langhops_cli.data.records import Drops, InstanceRecord, Picture, PictureRecords, Role, Source, SplitSource
from langhops_cli.errors import USAGE, UserError
from langhops_cli.vocabulary import Vocabulary


def read_coco_parts(
    source: Path,
    *,
    train: Path | None = None,
    val: Path | None = None,
    images: Path | None = None,
    object_name: str | None = None,
    tree: Vocabulary | None = None,
    exhaustive: bool | None = None,
) -> Source:
    """Read a COCO dataset with objects and parts.

    Args:
        source: the folder of the dataset.
        train: annotation file of the train split, when it is not at a usual place; val: that of the val split.
        images: the folder that file names are relative to.
        object_name: every category without a known parent is a part of this object.
        tree: which categories are parts of which object; all others are objects.
        exhaustive: whether every instance of every name was annotated; else what the file's `info` says, else yes.

    Raises:
        UserError: files are missing or malformed, or a name of the tree is no category.
    """
    if object_name is not None and tree is not None:
        raise UserError("give --object or --tree, not both: --tree already names the objects.", code=USAGE)
    paths = {split: path for split, path in (("train", train), ("val", val)) if path is not None}
    files = {split: CocoFile(path) for split, path in (paths or find_annotations(source)).items()}
    if tree is not None:
        check_tree(source, tree, [row for file in files.values() for row in file.categories])
    records = Source("coco-parts", [])
    for split, file in files.items():
        try:
            roles = roles_of(file.categories, object_name=object_name, tree=tree)
        except UserError as error:
            raise UserError(f"{file.path}: {error}", code=error.code) from None
        note_names(records, file.categories, roles, tree)
        root = images.resolve() if images is not None else _stated_root(file)
        root = root if root is not None else find_image_root(file.path, source, split, file.names())
        stated = file.info.get("exhaustive", True) if exhaustive is None else exhaustive
        made = coco_split(split, file, roles, root, exhaustive=bool(stated))
        records.splits.append(
            replace(made, pictures=partial(_searched_pictures, file), read=partial(read_searched, roles=roles))
        )
    return records


def _stated_root(file: CocoFile) -> Path | None:
    """The folder of the pictures as a prepared set states it, if one is there."""
    stated = file.info.get("image_root")
    if not isinstance(stated, str):
        return None
    root = file.path.parent / stated
    return root.resolve() if any(os.path.isfile(root / name) for name in file.names()) else None


def _searched_pictures(file: CocoFile) -> Iterator[Picture]:
    for row, name, texts in file.pictures():
        checked = row.get("checked_category_ids")
        content = (texts, checked if isinstance(checked, list) else None)
        yield Picture(row["id"], name, (row["width"], row["height"]), len(texts), content)


def read_searched(
    path: Path, picture: Picture, size: tuple[int, int], *, roles: Mapping[int, Sequence[Role]]
) -> PictureRecords:
    """Read a picture that may have been searched for some names only, as in a prepared LVIS.

    Its content are the annotations' JSON texts, and the ids of the categories that it was searched for, or None.
    """
    texts, checked = picture.content
    records = read_annotations(path, replace(picture, content=texts), size, roles=roles)
    if checked is not None:
        known = [number for number in checked if isinstance(number, int) and number in roles]
        records.checked = tuple(dict.fromkeys(role for number in known for role in roles[number]))
    return records


def coco_split(
    name: str, file: CocoFile, roles: Mapping[int, Sequence[Role]], root: Path, *, exhaustive: bool = True
) -> SplitSource:
    """The split that a COCO file describes.

    Args:
        name: of the split.
        file: the annotations.
        roles: what each category stands for; several roles where several objects have such a part.
        root: the folder of the pictures.
        exhaustive: whether every instance of every name was annotated.
    """
    return SplitSource(
        name,
        root,
        len(file),
        pictures=partial(_pictures, file),
        read=partial(read_annotations, roles=roles),
        exhaustive=exhaustive,
        drops=file.drops,
    )


def _pictures(file: CocoFile) -> Iterator[Picture]:
    for row, name, texts in file.pictures():
        yield Picture(row["id"], name, (row["width"], row["height"]), len(texts), texts)


def read_annotations(
    path: Path, picture: Picture, size: tuple[int, int], *, roles: Mapping[int, Sequence[Role]]
) -> PictureRecords:
    """Read the annotations of a picture; a `Read` whose picture's content is their JSON texts."""
    records = PictureRecords()
    for row, meant in known_rows(picture, roles, records.drops):
        records.instances.extend(read_instance(row, size, meant, records.drops))
    return records


def known_rows(
    picture: Picture, roles: Mapping[int, Sequence[Role]], drops: Drops
) -> Iterator[tuple[dict[str, Any], Sequence[Role]]]:
    """The annotations of a picture, each with what its category stands for; those of unknown ones are left out."""
    for text in picture.content:
        row = json.loads(text)
        number = row["category_id"]
        if isinstance(number, int) and number in roles:
            yield row, roles[number]
        else:
            drops.add("unknown category", row["id"])


def read_instance(
    row: dict[str, Any], size: tuple[int, int], roles: Sequence[Role], drops: Drops
) -> Iterator[InstanceRecord]:
    """Give the instance of an annotation, or nothing where it is bad.

    Args:
        row: the annotation; its `parent_id` is the instance that it is a part of.
        size: (width, height) of the picture in pixels.
        roles: what its category stands for; several roles where several objects have such a part.
        drops: gets what has to be left out.
    """
    width, height = size
    rle, box = None, None
    try:
        if row.get("segmentation") is None and row.get("bbox") is not None:
            box = to_box(row["bbox"], height, width)
        else:
            rle, short = to_rle(row.get("segmentation"), height, width)
            if short:
                drops.add("polygon of fewer than three points beside whole ones", *[row["id"]] * short)
    except BadMaskError as error:
        drops.add(str(error), row["id"])
        return
    (owner, part), *others = roles
    parent = row.get("parent_id")
    yield InstanceRecord(
        id=row["id"],
        object=owner,
        part=part,
        rle=rle,
        parent=parent if isinstance(parent, int) else None,
        crowd=bool(row.get("iscrowd", False)),
        others=tuple(name for name, _ in others),
        box=box,
    )
