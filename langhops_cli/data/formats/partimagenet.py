"""PartImageNet, of which there are two: the detection set with disjoint classes, and the one of label maps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any

from langhops_cli.data.formats.coco_files import CocoFile, find_splits
from langhops_cli.data.formats.coco_parts import coco_split, read_annotations
from langhops_cli.data.formats.partimagenet_seg import NAME, SPLITS, find_seg, read_seg
from langhops_cli.data.formats.published import choose_layout, published_tree, size_remarks
from langhops_cli.data.formats.regions import add_objects
from langhops_cli.data.formats.roles import note_names
from langhops_cli.data.records import Picture, PictureRecords, Role, Source, Tree
from langhops_cli.errors import DATA, UserError
from langhops_cli.vocabulary import split_part_name

SYNSET = re.compile(r"n\d{8}")
"""How ImageNet numbers its classes; a picture's name starts with it, and its folder is called so."""
_FILES: dict[str, tuple[str, ...]] = {split: (f"{split}.json", f"annotations/{split}.json") for split in SPLITS}


def read_partimagenet(source: Path) -> Source:
    """Read PartImageNet, whichever of the two the folder holds; they are never mixed.

    Args:
        source: the folder of the one or the other, or one that holds it as a folder PartImageNet*.

    Raises:
        UserError: the folder holds neither or both, or files are missing or malformed.
    """
    places = [source, *sorted(source.glob("PartImageNet*")), *sorted(source.glob("PartImageNet*/PartImageNet*"))]
    folders = [place for place in places if place.is_dir()]
    found = {
        "partimagenet-ood": [place for place in folders if _is_ood(place)],
        "partimagenet-seg": [place for place in folders if find_seg(place)],
    }
    layout, folder = choose_layout(NAME, source, found)
    return read_seg(folder) if layout == "partimagenet-seg" else _read_ood(folder)


def _is_ood(folder: Path) -> bool:
    """Whether there are annotation files of the detection set; those of the other lie beside its maps."""
    for split, files in _FILES.items():
        if any((folder / file).is_file() for file in files) and (not find_seg(folder) or (folder / split).is_dir()):
            return True
    return False


class Classes:
    """Gives the path of a picture below its split's folder, and remembers the classes that came by."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def __call__(self, row: Mapping[str, Any]) -> Any:
        name = row.get("file_name")
        if not isinstance(name, str):
            return name
        plain = PurePosixPath(name.replace("\\", "/"))
        synset = SYNSET.match(plain.name)
        if synset is None:
            return name
        self.found.add(synset[0])
        # The file lies in the folder of its class, which the annotation leaves out.
        return f"{synset[0]}/{plain.name}" if len(plain.parts) == 1 else name


def _read_ood(folder: Path) -> Source:
    tree = published_tree(NAME)
    records = Source("partimagenet-ood", [], tree)
    records.remarks.append("PartImageNet OOD: classes differ between splits; an object is the union of its parts")
    classes: dict[str, Classes] = {}
    counts: dict[str, int] = {}
    for split, path in find_splits(folder, _FILES).items():
        classes[split] = Classes()
        file = CocoFile(path, name_of=classes[split])
        roles = part_roles(file, tree)
        note_names(records, [row for row in file.categories if row["id"] in roles], roles)
        chosen = coco_split(split, file, roles, _image_root(folder, split, file))
        chosen.read = partial(_read, roles=roles)
        records.splits.append(chosen)
        counts[split] = len(file)
    records.remarks += _class_remarks(classes) + size_remarks(NAME, counts)
    return records


def part_roles(file: CocoFile, tree: Tree) -> dict[int, list[Role]]:
    """What the categories stand for: "Car Side Mirror" -> ("car", "side mirror").

    Raises:
        UserError: none of them is a part that is known.
    """
    roles: dict[int, list[Role]] = {}
    for row in file.categories:
        split = split_part_name(row["name"], tree)
        if split is not None and split[1] in tree[split[0]]:
            roles[row["id"]] = [split]
    if not roles:
        raise UserError(f"{file.path} has none of PartImageNet's parts among its categories.", code=DATA)
    return roles


def _image_root(folder: Path, split: str, file: CocoFile) -> Path:
    """The folder of a split's classes."""
    names = file.names()
    places = [folder / split, folder / "images" / split, folder, folder / "images"]
    for place in places:
        if any((place / name).is_file() for name in names):
            return place.resolve()
    archive = folder / f"{split}.zip"
    if archive.is_file():
        raise UserError(f"{archive} is still packed; unpack it where it lies.", code=DATA)
    example = names[0] if names else "pictures"
    raise UserError(f"{folder} has no pictures of {split} such as {split}/{example}; unpack the whole set.", code=DATA)


def _read(
    path: Path, picture: Picture, size: tuple[int, int], *, roles: Mapping[int, Sequence[Role]]
) -> PictureRecords:
    """Read the parts of a picture, and join them to the one object that each picture of this set shows."""
    records = read_annotations(path, picture, size, roles=roles)
    boxes = [item.id for item in records.instances if item.rle is None]
    if boxes:
        records.drops.add("no mask", *boxes)
    records.instances = add_objects([item for item in records.instances if item.rle is not None])
    return records


def _class_remarks(classes: Mapping[str, Classes]) -> list[str]:
    remarks = [f"{split}: {len(of_split.found)} classes" for split, of_split in classes.items()]
    for first, second in combinations(classes, 2):
        shared = sorted(classes[first].found & classes[second].found)
        if shared:
            told = ", ".join(shared[:3]) + (", ..." if len(shared) > 3 else "")
            remarks.append(f"{first} and {second} share {len(shared)} classes ({told}); as released they share none")
    return remarks
