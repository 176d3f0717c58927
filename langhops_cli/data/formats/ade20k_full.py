"""Full ADE20K of 2021: a JSON file, the masks of all instances and parts of parts for each picture."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from langhops_cli.data.formats.ade20k_json import MOST_LEVELS, Annotation, Entry, read_annotation, roles_of
from langhops_cli.data.formats.coco_files import check_file_name
from langhops_cli.data.formats.published import published_tree
from langhops_cli.data.formats.regions import intersect
from langhops_cli.data.formats.semantic_maps import read_masks
from langhops_cli.data.masks import BadMaskError, Rle, area, to_rle, union
from langhops_cli.data.records import Drops, InstanceRecord, Picture, PictureRecords, Role, Source, SplitSource, Tree
from langhops_cli.errors import DATA, UserError

NAME = "ade20k-part-234"
HIDDEN, VISIBLE = 128, 255
"""Values of an instance's mask: what something in front of it covers, and what is seen of it."""
FOLDERS = {"train": "training", "val": "validation"}
"""Split -> folder, in both layouts."""
_FULL = "ADE20K_2021_17_01"

Vocabulary = dict[str, list[str]] | None
"""Object -> parts; None for all names."""


def find_full(source: Path) -> list[Path]:
    """Folders below a folder that hold `training` and `validation` of full ADE20K."""
    places = [source / place / "images" / "ADE" for place in (_FULL, ".")]
    return [place for place in places if any((place / folder).is_dir() for folder in FOLDERS.values())]


def read_full(root: Path, *, vocabulary: Vocabulary, unseen: frozenset[str]) -> Source:
    """Read full ADE20K.

    Args:
        root: the folder images/ADE.
        vocabulary: object -> parts that are taken; None takes all.
        unseen: objects that are left out of train, and that val takes from training pictures as well.

    Raises:
        UserError: there is no picture with any of the objects.
    """
    scans = {split: _scan(root, folder, vocabulary, unseen) for split, folder in FOLDERS.items()}
    taken: dict[str, list[tuple[list[_Found], frozenset[str] | None]]] = {
        "train": [([row for row in scans["train"].rows if row.others], None)],
        "val": [
            ([row for row in scans["val"].rows if row.others or row.unseen], frozenset()),
            ([row for row in scans["train"].rows if row.unseen], unseen),
        ],
    }
    records = Source("ade20k-full", [])
    for split, shares in taken.items():
        total = sum(len(rows) for rows, _ in shares)
        if total:
            reader = _Reader(root.resolve(), vocabulary, unseen)
            pictures = partial(_pictures, shares)
            records.splits.append(SplitSource(split, root.resolve(), total, pictures, reader.read, exhaustive=False))
    if not records.splits:
        raise UserError(f"{root} has no picture of any of the objects below training/ or validation/.", code=DATA)
    tallies = [scan.names for scan in scans.values()]
    records.tree = _tree(tallies) if vocabulary is None else _sorted(published_tree(NAME))
    for scan in scans.values():
        for role, spelt in scan.spelt.items():
            records.source_names.setdefault(role, spelt)
    names = "all names" if vocabulary is None else f"the {len(vocabulary)} objects of ADE20K-Part-234"
    records.remarks.append(f"built from full ADE20K with {names}; the published split holds a choice of these pictures")
    without = sum(not row.others and not row.unseen for scan in scans.values() for row in scan.rows)
    if without:
        records.remarks.append(f"{without:,} pictures show none of the objects and are not taken")
    return records


def _sorted(tree: Tree) -> Tree:
    return {owner: tree[owner] for owner in sorted(tree)}


@dataclass(frozen=True)
class _Found:
    """A picture: its path below the root, its size, and how many instances of unseen objects and others it shows."""

    name: str
    size: tuple[int, int] | None
    unseen: int
    others: int


@dataclass
class _Scan:
    """What a folder holds: its pictures, how often a part of an object lies in which part, and how names are spelt."""

    rows: list[_Found] = field(default_factory=list)
    names: Counter[tuple[str, str | None, str | None]] = field(default_factory=Counter)
    spelt: dict[Role, str] = field(default_factory=dict)


def _scan(root: Path, folder: str, vocabulary: Vocabulary, unseen: frozenset[str]) -> _Scan:
    scan = _Scan()
    for name in _jpegs(root, folder):
        drops = Drops()
        try:
            found = read_annotation((root / name).with_suffix(".json"), drops)
        except UserError:
            scan.rows.append(_Found(name, None, 0, 1))  # taken, so that the fault is found again and counted
            continue
        roles = roles_of(found.entries, vocabulary)
        of_unseen = sum(owner in unseen for owner, _ in roles.values())
        faults = sum(drops.counts.values())
        scan.rows.append(_Found(name, found.size, of_unseen, len(roles) - of_unseen + faults))
        for number, (owner, part) in roles.items():
            above = found.entries[number].above
            scan.names[owner, part, roles[above][1] if above in roles else None] += 1
            scan.spelt.setdefault((owner, part), found.entries[number].spelt)
    return scan


def _jpegs(root: Path, folder: str) -> Iterator[str]:
    for place, below, files in os.walk(root / folder):
        below.sort()
        for name in sorted(files):
            if name.lower().endswith(".jpg"):
                yield (Path(place) / name).relative_to(root).as_posix()


def _tree(tallies: Iterable[Counter[tuple[str, str | None, str | None]]]) -> Tree:
    """All names in alphabetical order, each part below the part of that object it is a part of most often."""
    counts: Counter[tuple[str, str | None, str | None]] = Counter()
    for tally in tallies:
        counts.update(tally)
    tree: Tree = {owner: {} for owner in sorted({owner for owner, _, _ in counts})}
    for owner, part, above in sorted(counts, key=lambda key: (key[0], key[1] or "", -counts[key], key[2] or "")):
        if part is not None:
            tree[owner].setdefault(part, above)
    for parts in tree.values():
        for part in parts:
            if _levels(part, parts) >= MOST_LEVELS:
                parts[part] = None
    return tree


def _levels(part: str, parts: dict[str, str | None]) -> int:
    """How many parts are above a part; as many as may be where it is above itself, as drawers in drawers are."""
    seen: set[str] = set()
    above = parts[part]
    while above is not None and above not in seen:
        if above == part:
            return MOST_LEVELS
        seen.add(above)
        above = parts.get(above)
    return len(seen)


def _pictures(shares: Sequence[tuple[Sequence[_Found], frozenset[str] | None]]) -> Iterator[Picture]:
    number = 0
    for rows, takes in shares:
        for row in rows:
            number += 1
            count = row.others if takes is None else row.unseen if takes else row.others + row.unseen
            yield Picture(number, row.name, row.size, count, takes)


@dataclass(frozen=True)
class _Reader:
    """Reads the instances of a picture.

    Args:
        root: the folder of `training` and `validation`.
        vocabulary: which names are taken.
        unseen: objects that are no part of train.
    """

    root: Path
    vocabulary: Vocabulary
    unseen: frozenset[str]

    def read(self, path: Path, picture: Picture, size: tuple[int, int]) -> PictureRecords:
        """Read a picture; its content is None for all but the unseen objects, else the objects taken, or all."""
        records = PictureRecords()
        file = self.root / PurePosixPath(picture.file_name).with_suffix(".json")
        found = read_annotation(file, records.drops)
        roles = {
            number: role
            for number, role in roles_of(found.entries, self.vocabulary).items()
            if self._takes(role[0], picture.content)
        }
        masks = _Masks(file.parent, found, size, records.drops)
        for number, (owner, part) in roles.items():
            rle = masks.visible(number)
            if rle is not None:
                records.instances.append(InstanceRecord(number, owner, part, rle))
        kept = {item.id for item in records.instances}
        records.instances = [replace(item, parent=_holder(found.entries, item.id, kept)) for item in records.instances]
        return records

    def _takes(self, owner: str, takes: frozenset[str] | None) -> bool:
        if takes is None:
            return owner not in self.unseen
        return not takes or owner in takes


def _holder(entries: dict[int, Entry], number: int, kept: set[int]) -> int | None:
    """The nearest part or object above that was kept."""
    above = entries[number].above
    while above is not None and above not in kept:
        above = entries[above].above
    return above


class _Masks:
    """The masks of a picture, read once each as they are asked for.

    Args:
        folder: where the picture's files lie.
        found: what is annotated.
        size: (width, height) of the picture.
        drops: gets the faults.
    """

    def __init__(self, folder: Path, found: Annotation, size: tuple[int, int], drops: Drops) -> None:
        self._folder = folder
        self._entries = found.entries
        self._size = size
        self._drops = drops
        self._known: dict[int, Rle | None] = {}
        self._below: dict[int, list[int]] = {}
        for entry in found.entries.values():
            if entry.above is not None:
                self._below.setdefault(entry.above, []).append(entry.id)

    def visible(self, number: int) -> Rle | None:
        """What is seen of an instance, None where it has no usable mask.

        A part covers what it lies on, so that the object's own mask calls those pixels hidden: they are its own.
        """
        if number not in self._known:
            self._known[number] = self._join(number)
        return self._known[number]

    def _join(self, number: int) -> Rle | None:
        try:
            values = self._read(self._entries[number])
        except BadMaskError as error:
            self._drops.add(str(error), number)
            return None
        pieces = [values[VISIBLE]] if VISIBLE in values else []
        if HIDDEN in values:
            parts = [rle for below in self._below.get(number, ()) if (rle := self.visible(below)) is not None]
            pieces += [intersect([values[HIDDEN], rle]) for rle in parts]
        whole = union(pieces) if pieces else None
        if whole is None or not area(whole):
            self._drops.add("empty mask" if HIDDEN not in values else "instance that is hidden altogether", number)
            return None
        return whole

    def _read(self, entry: Entry) -> dict[int, Rle]:
        """The masks of an instance's values, from its file or, where that is missing or broken, from its outline."""
        if entry.mask is not None:
            try:
                path = self._folder / check_file_name(self._folder, entry.mask)
                known = dict.fromkeys((HIDDEN, VISIBLE))
                return dict(read_masks(path, self._size, "8 bit", known=known, ignore=0, drops=self._drops))
            except UserError:
                pass
        outline = _polygon(entry.outline)
        rle, _ = to_rle([outline], self._size[1], self._size[0])
        self._drops.add("mask file missing or broken, outline taken, with what is hidden", entry.id)
        return {VISIBLE: rle}


def _polygon(outline: Any) -> list[float]:
    xs, ys = (outline.get("x"), outline.get("y")) if isinstance(outline, dict) else (None, None)
    if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
        raise BadMaskError("no mask")
    return [value for point in zip(xs, ys, strict=True) for value in point]
