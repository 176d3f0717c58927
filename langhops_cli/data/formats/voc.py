"""PASCAL VOC, 20 objects: masks of its segmentation pictures, or the boxes of all pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from langhops_cli.data.formats.coco_files import check_file_name
from langhops_cli.data.formats.folders import check_file
from langhops_cli.data.formats.published import published_tree, size_remarks
from langhops_cli.data.formats.semantic_maps import read_label_map, split_labels
from langhops_cli.data.masks import BadMaskError, to_box
from langhops_cli.data.records import Drops, InstanceRecord, Picture, PictureRecords, Source, SplitSource
from langhops_cli.errors import DATA, UserError

NAME = "voc"
VOID = 255
"""Label of the pixels between objects, and of those that were too hard to annotate."""
_LARGEST_XML = 1 << 20
_PUBLISHED = "VOC2012"
"""The edition that the sizes of the manifest are of."""


def read_voc(source: Path, *, year: int | None = None, boxes: bool = False) -> Source:
    """Read an edition of PASCAL VOC.

    Args:
        source: VOCdevkit, the folder that holds it, or that of one edition such as VOC2012.
        year: which edition, where the folder holds several.
        boxes: read the pictures of ImageSets/Main, with boxes where there are no masks; else those of
            ImageSets/Segmentation, with masks.

    Raises:
        UserError: the folder holds no edition or several, or has no list of pictures.
    """
    root = _choose_edition(source, year)
    lists = root / "ImageSets" / ("Main" if boxes else "Segmentation")
    usual = [split for split in ("train", "val") if _is_annotated(root, lists, split, boxes)] or ["trainval"]
    found = {split: lists / f"{split}.txt" for split in (*usual, "test") if _is_annotated(root, lists, split, boxes)}
    if not found:
        other = "" if boxes else "; with --boxes the pictures of ImageSets/Main are read"
        raise UserError(f"{lists} has no list of annotated pictures (train.txt, val.txt){other}.", code=DATA)
    tree = published_tree(NAME)
    records = Source(NAME, [], tree, {(name, None): voc_name(name) for name in tree})
    for split, path in found.items():
        drops = Drops()
        names = read_list(path, drops)
        reader = partial(_read, root=root, names=tuple(tree), boxes=boxes)
        pictures = partial(list_pictures, names)
        images = (root / "JPEGImages").resolve()
        records.splits.append(SplitSource(split, images, len(names), pictures, reader, drops=drops))
    if root.name == _PUBLISHED and not boxes:
        records.remarks += size_remarks(NAME, {split.name: split.total for split in records.splits})
    return records


def voc_name(name: str) -> str:
    """How VOC spells an object: "tv monitor" -> "tvmonitor"."""
    return name.replace(" ", "")


def find_editions(source: Path) -> list[Path]:
    """The editions of VOC, folders with JPEGImages, in a folder, in its VOCdevkit, or the folder itself."""
    if (source / "JPEGImages").is_dir():
        return [source]
    places = (source, source / "VOCdevkit", source / "TrainVal" / "VOCdevkit")
    return sorted(folder for place in places for folder in place.glob("VOC20??") if (folder / "JPEGImages").is_dir())


def _choose_edition(source: Path, year: int | None) -> Path:
    found = find_editions(source)
    chosen = [folder for folder in found if year is None or folder.name == f"VOC{year}"]
    if len(chosen) == 1:
        return chosen[0]
    if not found:
        raise UserError(f"{source} holds no VOCdevkit/VOC2012 or other edition with JPEGImages.", code=DATA)
    editions = ", ".join(folder.name for folder in found)
    told = f"not that of {year}" if year is not None else "several editions; name one with --year"
    raise UserError(f"{source} holds {editions}, {told}.", code=DATA)


def _is_annotated(root: Path, lists: Path, split: str, boxes: bool) -> bool:
    """Whether a split has a list and annotations: those of some test pictures were never published."""
    path = lists / f"{split}.txt"
    names = read_list(path, Drops()) if path.is_file() else []
    folder, suffix = ("Annotations", "xml") if boxes else ("SegmentationObject", "png")
    return any((root / folder / f"{name}.{suffix}").is_file() for name in names)


def read_list(path: Path, drops: Drops) -> list[str]:
    """Read the names of the pictures of a split, without their ending.

    Args:
        path: a list of ImageSets, a name a line; what follows the name is left alone.
        drops: gets names that stand twice.

    Raises:
        UserError: the list cannot be read, or a name leads out of the folder.
    """
    check_file(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path} is no list of names; it is not UTF-8.", code=DATA) from None
    names: dict[str, None] = {}
    for line in lines:
        if not line.strip():
            continue
        name = check_file_name(path, line.split()[0])
        if name in names:
            drops.add("picture that stands twice in the list", name)
        names[name] = None
    return list(names)


def list_pictures(names: Sequence[str]) -> Iterator[Picture]:
    """Pictures by name, whose annotations have the same name."""
    for number, name in enumerate(names, start=1):
        yield Picture(number, f"{name}.jpg", content=name)


def _read(
    path: Path, picture: Picture, size: tuple[int, int], *, root: Path, names: Sequence[str], boxes: bool
) -> PictureRecords:
    """Read the masks of a picture, or its boxes where these are wanted and it has no masks."""
    masks = root / "SegmentationObject" / f"{picture.content}.png"
    if boxes and not masks.is_file():
        return _read_boxes(root / "Annotations" / f"{picture.content}.xml", size, names)
    return _read_masks(masks, root / "SegmentationClass" / f"{picture.content}.png", size, names)


def _read_masks(objects: Path, classes: Path, size: tuple[int, int], names: Sequence[str]) -> PictureRecords:
    records = PictureRecords()
    numbers = read_label_map(objects, size, "palette")
    kinds = read_label_map(classes, size, "palette")
    pairs, counts = np.unique(numbers.astype(np.int32) * 256 + kinds, return_counts=True)
    votes = [(int(pair) // 256, int(pair) % 256, int(count)) for pair, count in zip(pairs, counts, strict=True)]
    # Rising numbers of pixels: of an object that lies in several classes the largest stays.
    rising = sorted(votes, key=lambda vote: vote[2])
    kind_of = {number: kind for number, kind, _ in rising if kind not in (0, VOID)}
    for number, rle in split_labels(numbers, VOID):
        if number == 0:
            continue
        kind = kind_of.get(number, 0)
        if 0 < kind <= len(names):
            records.instances.append(InstanceRecord(number, names[kind - 1], None, rle))
        else:
            reason = "label that stands for no name" if kind else "instance without a class"
            records.drops.add(reason, f"{objects.name}: {number}")
    owned = {kind for number, kind in kind_of.items() if number not in (0, VOID)}
    for kind in sorted({kind for _, kind, _ in votes} - owned - {0, VOID}):
        records.drops.add("class without an instance", f"{classes.name}: {kind}")
    return records


class _PlainTree(ElementTree.TreeBuilder):
    """Builds a tree of a file that defines nothing of its own: entities can grow a file without end."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse the definitions."""
        raise ValueError("it has a DOCTYPE, which annotations have no need of")


def _read_boxes(path: Path, size: tuple[int, int], names: Sequence[str]) -> PictureRecords:
    check_file(path, _LARGEST_XML)
    try:
        parser = ElementTree.XMLParser(target=_PlainTree())
        tree: ElementTree.Element = ElementTree.fromstring(path.read_bytes(), parser=parser)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path} is no XML that can be read ({error}).", code=DATA) from None
    stated = (_number(tree, "size/width"), _number(tree, "size/height"))
    if all(side >= 1 for side in stated) and stated != size:
        told = f"{stated[0]:.0f} x {stated[1]:.0f} pixels; it has {size[0]} x {size[1]}"
        raise UserError(f"{path} is of a picture of {told}.", code=DATA)
    known = {voc_name(name): name for name in names}
    records = PictureRecords()
    for number, item in enumerate(tree.findall("object"), start=1):
        name = (item.findtext("name") or "").strip()
        which = f"{path.name}: object {number}"
        if name not in known:
            records.drops.add("object of an unknown name", f"{which} ({name[:40]})")
            continue
        try:
            box = to_box(_corners(item), size[1], size[0])
        except BadMaskError as error:
            records.drops.add(str(error), which)
            continue
        # VOC neither rewards nor punishes finding a difficult object, which is what COCO does with crowds.
        crowd = (item.findtext("difficult") or "").strip() == "1"
        records.instances.append(InstanceRecord(number, known[name], None, None, crowd=crowd, box=box))
    return records


def _corners(item: ElementTree.Element) -> list[float]:
    """Left, top, width, height: VOC counts pixels from 1, and its last ones belong to the box."""
    left, top, right, bottom = (_number(item, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
    return [left - 1, top - 1, right - left + 1, bottom - top + 1]


def _number(item: ElementTree.Element, path: str) -> float:
    try:
        return float(item.findtext(path) or "nan")
    except ValueError:
        return float("nan")
