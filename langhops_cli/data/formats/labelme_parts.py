"""Folders of LabelMe files whose labels are objects and parts."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from langhops_cli.data import masks
from langhops_cli.data.formats.folders import check_file, is_text, list_files, walk
from langhops_cli.data.formats.labelme_shapes import draw
from langhops_cli.data.formats.roles import check_tree, note_names, roles_of
from langhops_cli.data.json_stream import Items, stream_mapping
from langhops_cli.data.masks import BadMaskError, Box, Rle
from langhops_cli.data.pictures import SUFFIXES
from langhops_cli.data.records import Drops, InstanceRecord, Picture, PictureRecords, Role, Source, SplitSource
from langhops_cli.errors import DATA, USAGE, UserError
from langhops_cli.vocabulary import Vocabulary, clean_name

VAL_SHARE = 0.1
"""Share of the pictures to measure on where no folder is called val."""
MOST_LABELS = 5000
"""Different labels; more are hardly names of classes."""
_SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
}  # fmt: skip
_NO_CLASS = ("__ignore__", "_background_")
"""Labels that LabelMe's own converters give a meaning: regions that show no class."""


def read_labelme_parts(
    source: Path,
    *,
    images: Path | None = None,
    object_name: str | None = None,
    tree: Vocabulary | None = None,
    exhaustive: bool | None = None,
    val_share: float = VAL_SHARE,
    boxes: bool = False,
) -> Source:
    """Read a folder of LabelMe files with objects and parts.

    Shapes of one label and one group are one instance, and an object and parts of one group belong together; where
    `langhops predict` wrote which instance a part is of (entries `instance` and `parent`), that holds. A file
    in a folder called train, val or test is of that split. Where none is called val, a share of the others is, chosen
    by a hash of the picture's path, so that it stays the same when pictures are added.

    Args:
        source: the folder, searched through.
        images: the folder of the pictures, where they do not lie where the files say.
        object_name: every label is a part of this object.
        tree: which labels are parts of which object; all others are objects.
        exhaustive: whether every instance of every name was annotated; yes when left out.
        val_share: share of the pictures to measure on where no folder is called val, 0 for none.
        boxes: rectangles are boxes around things; else they are their masks, as LabelMe itself fills them.

    Raises:
        UserError: there is no LabelMe file with a picture, or a name of the tree is no label.
    """
    if object_name is not None and tree is not None:
        raise UserError("give --object or --tree, not both: --tree already names the objects.", code=USAGE)
    if not 0 <= val_share < 1:
        raise UserError(f"--val-share is {val_share}; it must be at least 0 and below 1.", code=USAGE)
    if not source.is_dir():
        raise UserError(f"{source} is no folder; give the folder that holds the LabelMe files.", code=DATA)
    source = source.resolve()
    root = images.resolve() if images is not None else source
    drops = Drops()
    found = _look_through(source, images.resolve() if images is not None else None, drops)
    if not found.pictures:
        told = "; ".join(f"{reason}: {drops.first[reason][0]}" for reason in drops.counts)
        raise UserError(f"{source} holds no LabelMe file with a picture ({told or 'no .json file'}).", code=DATA)
    rows: list[dict[str, Any]] = [{"id": number, "name": label} for number, label in enumerate(sorted(found.labels))]
    if tree is not None:
        check_tree(source, tree, rows)
    roles = roles_of(rows, object_name=object_name, tree=tree)
    records = Source("labelme-parts", [])
    note_names(records, rows, roles, tree)
    _note_bare(records, root, found)
    if found.rectangles and not boxes:
        records.remarks.append(
            f"{found.rectangles:,} rectangles were taken for masks; with --boxes they are boxes around things"
        )
    read = partial(read_shapes, source=source, roles={row["name"]: roles[row["id"]] for row in rows}, boxes=boxes)
    for split, pictures in _share_out(found, val_share, records.remarks).items():
        whole = exhaustive is not False
        records.splits.append(SplitSource(split, root, len(pictures), partial(iter, pictures), read, whole, drops))
        drops = Drops()
    return records


@dataclass
class _Found:
    """What the files hold: labels, the pictures by path, each with the path of its file as content, and rectangles."""

    labels: set[str] = field(default_factory=set)
    pictures: dict[str, Picture] = field(default_factory=dict)
    rectangles: int = 0


def _look_through(source: Path, images: Path | None, drops: Drops) -> _Found:
    """Go through all files for their labels and pictures; what a file's shapes are is read later."""
    found = _Found()
    for below, names in walk(source, {".json"}, drops):
        for name in names:
            file = f"{below}/{name}" if below else name
            try:
                head = _read_head(source / file)
                picture = _find_picture(source, images, below, head)
            except UserError as error:
                drops.add("annotations that cannot be read", str(error))
            except BadMaskError as error:
                drops.add(str(error), file)
            else:
                if picture in found.pictures:
                    drops.add("second LabelMe file of a picture", file)
                    continue
                found.labels |= head.labels
                found.rectangles += head.rectangles
                number = len(found.pictures) + 1
                found.pictures[picture] = Picture(number, picture, head.size, head.shapes, content=file)
                if len(found.labels) > MOST_LABELS:
                    raise UserError(
                        f"{source} has more than {MOST_LABELS:,} different labels; labels are names of classes.",
                        code=DATA,
                    )
    return found


@dataclass
class _Head:
    """What a LabelMe file says but for where the shapes are."""

    path: Any = None
    stored: bool = False
    sides: dict[str, Any] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)
    shapes: int = 0
    rectangles: int = 0

    @property
    def size(self) -> tuple[int, int] | None:
        width, height = self.sides.get("imageWidth"), self.sides.get("imageHeight")
        return (width, height) if type(width) is int and type(height) is int and min(width, height) > 0 else None


def _read_head(path: Path) -> _Head:
    check_file(path)
    head, listed = _Head(), False
    for key, value in stream_mapping(path):
        if key == "shapes" and isinstance(value, Items):
            listed = True
            for shape, _ in value:
                head.shapes += 1
                head.rectangles += isinstance(shape, dict) and shape.get("shape_type") == "rectangle"
                if (label := _label(shape)) is not None and label not in _NO_CLASS:
                    head.labels.add(label)
        elif key == "imagePath":
            head.path = value
        elif key == "imageData":
            head.stored = isinstance(value, str) and bool(value)
        elif key in ("imageWidth", "imageHeight"):
            head.sides[key] = value
    if not listed or head.path is None:
        raise BadMaskError("JSON file that is not of LabelMe")
    return head


def _label(shape: Any) -> str | None:
    label = shape.get("label") if isinstance(shape, dict) else None
    return label if isinstance(label, str) and clean_name(label) and is_text(label) else None


def _find_picture(source: Path, images: Path | None, below: str, head: _Head) -> str:
    """A file's picture as a path below the root.

    Raises:
        BadMaskError: it is nowhere, or outside; the message is the reason under which that is counted.
    """
    if not isinstance(head.path, str) or not head.path or not is_text(head.path):
        raise BadMaskError("LabelMe file without a path of its picture")
    stated = head.path.replace("\\", "/")  # as it is written on Windows
    path = posixpath.normpath(posixpath.join(below, stated))
    outside = path.startswith(("../", "/")) or path == ".." or stated[1:2] == ":"
    if images is not None and (outside or not os.path.isfile(images / path)):
        path, outside = posixpath.basename(stated), False
    if outside:
        raise BadMaskError("imagePath that leads out of the folder; name the pictures' folder with --images")
    if head.stored and not os.path.isfile((images or source) / path):
        raise BadMaskError("picture that is only inside its LabelMe file (imageData); write it out as a file")
    return path


def _note_bare(records: Source, root: Path, found: _Found) -> None:
    bare, first = 0, ""
    for name in list_files(root, SUFFIXES):
        if name not in found.pictures:
            bare, first = bare + 1, first or name
    if bare:
        records.remarks.append(f"{bare:,} pictures have no LabelMe file and are not part of the set ({first})")


def _share_out(found: _Found, val_share: float, remarks: list[str]) -> dict[str, list[Picture]]:
    """The pictures of each split, the training split first, none of them empty."""
    splits: dict[str, list[Picture]] = {"train": [], "val": [], "test": []}
    for picture in found.pictures.values():
        splits[_split_of(picture.content) or _split_of(picture.file_name) or "train"].append(picture)
    if not splits["val"] and val_share and len(splits["train"]) > 1:
        ranks = {picture.id: _rank(picture.file_name) for picture in splits["train"]}
        chosen = {number for number, rank in ranks.items() if rank < val_share} or {min(ranks, key=ranks.__getitem__)}
        splits["val"] = [picture for picture in splits["train"] if picture.id in chosen]
        splits["train"] = [picture for picture in splits["train"] if picture.id not in chosen]
        remarks.append(
            f"no folder is called val: {len(splits['val']):,} of {len(ranks):,} pictures are to measure on, chosen by "
            f"a hash of their paths (--val-share {val_share:g})"
        )
    return {split: pictures for split, pictures in splits.items() if pictures}


def _split_of(path: str) -> str | None:
    """The split that one of a path's folders is called after."""
    return next((_SPLITS[name] for name in path.lower().split("/")[:-1] if name in _SPLITS), None)


def _rank(path: str) -> float:
    """A number in 0..1 that depends on nothing but a path."""
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") / 2**64


@dataclass
class _Instance:
    """The shapes of an instance, as far as they were read; `own` and `above` are the entries instance and parent."""

    number: int
    label: str
    group: int | str | None
    own: Any = None
    above: Any = None
    runs: list[Rle] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)

    def record(self, roles: Sequence[Role]) -> InstanceRecord:
        """The instance without its parent; boxes count only where there is no mask."""
        (owner, part), *others = roles
        box = None
        if not self.runs:
            left, top, right, bottom = zip(*self.boxes, strict=True)
            box = (min(left), min(top), max(right), max(bottom))
        rle = None if not self.runs else self.runs[0] if len(self.runs) == 1 else masks.union(self.runs)
        return InstanceRecord(self.number, owner, part, rle, others=tuple(name for name, _ in others), box=box)


def read_shapes(
    path: Path,
    picture: Picture,
    size: tuple[int, int],
    *,
    source: Path,
    roles: Mapping[str, Sequence[Role]],
    boxes: bool = False,
) -> PictureRecords:
    """Read the shapes of a picture; a `Read` whose picture's content is the path of its LabelMe file."""
    records = PictureRecords()
    instances: dict[object, _Instance] = {}
    for number, shape in enumerate(_shapes(source / picture.content), start=1):
        which = f"{picture.content}, shape {number}"
        label = _label(shape)
        if label is None:
            records.drops.add("shape without a label", which)
        elif label not in roles:
            records.drops.add("shape labelled as no class", f"{which} ({label})")
        else:
            try:
                rle, box = draw(shape, size, boxes=boxes)
            except BadMaskError as error:
                records.drops.add(str(error), which)
                continue
            group = shape.get("group_id")
            group = group if isinstance(group, int | str) else None
            key = number if group is None else (label, group)
            instance = instances.setdefault(
                key, _Instance(number, label, group, shape.get("instance"), shape.get("parent"))
            )
            instance.runs += [] if rle is None else [rle]
            instance.boxes += [] if box is None else [box]
    for instance in instances.values():
        if instance.runs and instance.boxes:
            beside = [f"{picture.content}, shape {instance.number}"] * len(instance.boxes)
            records.drops.add("box beside a mask of the same instance", *beside)
    records.instances = _with_parents(list(instances.values()), roles)
    return records


def _with_parents(instances: list[_Instance], roles: Mapping[str, Sequence[Role]]) -> list[InstanceRecord]:
    """The instances, each part with the object that it is said to be of, else with that of its group."""
    read = [(instance, instance.record(roles[instance.label])) for instance in instances]
    said: dict[int, tuple[_Instance, InstanceRecord]] = {}
    objects: dict[tuple[object, str], int] = {}
    for instance, item in read:
        if isinstance(instance.own, int):
            said.setdefault(instance.own, (instance, item))
        if instance.group is not None and item.part is None:
            objects.setdefault((instance.group, item.object), item.id)
    found = []
    for instance, item in read:
        if item.part is not None:
            owners = (item.object, *item.others)
            root = _root(instance, said)
            if root is not None and root.object in owners:
                item = replace(item, parent=root.id)
            else:
                above = [objects[instance.group, name] for name in owners if (instance.group, name) in objects]
                item = replace(item, parent=above[0] if above else None)
        found.append(item)
    return found


def _root(instance: _Instance, said: Mapping[int, tuple[_Instance, InstanceRecord]]) -> InstanceRecord | None:
    """The object that an instance is said to be of, through the parts between them; None where the way ends before."""
    passed = set()
    while isinstance(instance.above, int) and instance.above in said and instance.above not in passed:
        passed.add(instance.above)
        instance, item = said[instance.above]
        if item.part is None:
            return item
    return None


def _shapes(path: Path) -> Iterator[Any]:
    check_file(path)
    for key, value in stream_mapping(path):
        if key == "shapes" and isinstance(value, Items):
            for shape, _ in value:
                yield shape
