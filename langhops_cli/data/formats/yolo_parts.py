"""Ultralytics segmentation folders whose class names are objects and parts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from langhops_cli.data.formats.folders import Survey, check_file, is_text, list_files, survey
from langhops_cli.data.formats.roles import check_tree, note_names, roles_of
from langhops_cli.data.formats.yolo_labels import label_of, labels_of, read_labels
from langhops_cli.data.pictures import SUFFIXES
from langhops_cli.data.records import Drops, Picture, Source, SplitSource
from langhops_cli.errors import DATA, USAGE, UserError
from langhops_cli.vocabulary import Vocabulary, clean_name

_YAML_LARGEST = 1 << 22
_LONGEST_LINE = 1 << 13
_NO_LABELS = ("classes.txt",)
"""The list of names that annotation tools put beside the labels."""


def read_yolo_parts(
    source: Path,
    *,
    data: Path | None = None,
    images: Path | None = None,
    object_name: str | None = None,
    tree: Vocabulary | None = None,
    exhaustive: bool | None = None,
) -> Source:
    """Read an Ultralytics dataset with objects and parts: polygons, or boxes where a line has four numbers.

    Pictures and labels are found as Ultralytics finds them: `train`, `val` and `test` of the YAML file are folders or
    lists of pictures below its `path`, and the label file of `.../images/.../a.jpg` is `.../labels/.../a.txt`.

    Args:
        source: the folder of the dataset.
        data: the YAML file, where the folder holds none or several.
        images: the folder that `train` and `val` are relative to, instead of the YAML file's `path`.
        object_name: every class is a part of this object.
        tree: which classes are parts of which object; all others are objects.
        exhaustive: whether every instance of every name was annotated; yes when left out.

    Raises:
        UserError: files are missing or malformed, or a name of the tree is no class.
    """
    if object_name is not None and tree is not None:
        raise UserError("give --object or --tree, not both: --tree already names the objects.", code=USAGE)
    path = data if data is not None else _find_yaml(source)
    content = _read_yaml(path)
    rows = _classes(path, content)
    if tree is not None:
        check_tree(path, tree, rows)
    roles = roles_of(rows, object_name=object_name, tree=tree)
    records = Source("yolo-parts", [])
    note_names(records, rows, roles, tree)
    layout = _Layout.of(path, content, images, records.remarks)
    bare = []
    for split, stated in _stated_splits(path, content).items():
        listing = layout.listing(split, stated, records.remarks)
        if listing is None:
            continue
        drops = Drops()
        found = listing.survey(drops)
        if not found.pictures:
            raise UserError(f"{path}: {split} ({stated}) holds no picture below {listing.root}.", code=DATA)
        if found.bare:
            records.remarks.append(
                f"{split}: {found.bare:,} of {found.pictures:,} pictures have no label file and count as pictures "
                f"without anything, as in Ultralytics ({found.first})"
            )
        if found.bare == found.pictures:
            bare.append(label_of((listing.root / found.first).as_posix()))
        pictures = partial(_pictures, listing)
        read = partial(read_labels, roles=roles)
        records.splits.append(
            SplitSource(split, listing.root, found.pictures, pictures, read, exhaustive is not False, drops)
        )
    if len(bare) == len(records.splits):
        raise UserError(f"{path}: no picture has a label file; there should be {bare[0]} and the like.", code=DATA)
    return records


def _find_yaml(source: Path) -> Path:
    if not source.is_dir():
        raise UserError(f"{source} is no folder; give the folder that holds data.yaml.", code=DATA)
    if (source / "data.yaml").is_file():
        return source / "data.yaml"
    found = sorted(p for p in source.iterdir() if p.suffix in (".yaml", ".yml") and not p.name.startswith("."))
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:5])
        raise UserError(
            f"{source} holds no data.yaml, which says where pictures are and what the classes are called"
            + (f", but {names}; name one with --data." if found else "."),
            code=DATA,
        )
    return found[0]


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            """Leave `<<` alone: mappings merged again and again grow without bounds."""

    check_file(path, _YAML_LARGEST)
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is no YAML that can be read: {reason}", code=DATA) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no mapping with train, val and names.", code=DATA)
    if "kpt_shape" in content:
        raise UserError(f"{path} describes keypoints (kpt_shape), which have no masks.", code=DATA)
    return content


def _classes(path: Path, content: dict[str, Any]) -> list[dict[str, Any]]:
    """The classes as rows of `id` and `name`."""
    names = content.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise UserError(f"{path} has no names of the classes; add names: [car, car wheel].", code=DATA)
    rows: dict[int, dict[str, Any]] = {}
    for key, name in names.items():
        number = int(key) if isinstance(key, int) or (isinstance(key, str) and key.isdecimal()) else -1
        if not 0 <= number < len(names) or number in rows:
            raise UserError(
                f"{path}: names has the number {key!r}, but {len(names)} classes are numbered 0 to {len(names) - 1}.",
                code=DATA,
            )
        # YAML reads yes, no, on and off as truth values.
        text = "" if isinstance(name, bool) else str(name) if isinstance(name, str | int | float) else ""
        if not clean_name(text) or not is_text(text):
            shown = f"{name!r:.50}" if isinstance(name, str | int | float) else "a list or nothing"
            raise UserError(f"{path}: class {number} has no name but {shown}; write one in quotes.", code=DATA)
        rows[number] = {"id": number, "name": text}
    if content.get("nc", len(names)) != len(names):
        raise UserError(f"{path}: nc is {content['nc']!r}, but there are {len(names)} names.", code=DATA)
    return [rows[number] for number in sorted(rows)]


def _stated_splits(path: Path, content: dict[str, Any]) -> dict[str, list[str]]:
    """Folders and lists of each split, the training split first."""
    stated = {split: content.get(split) for split in ("train", "val", "test")}
    stated["val"] = stated["val"] or content.get("validation")
    splits = {}
    for split, places in stated.items():
        listed = places if isinstance(places, list) else [places] if places else []
        if not all(isinstance(place, str) and place and is_text(place) for place in listed):
            raise UserError(f"{path}: {split} must be a folder, a list of pictures or several of them.", code=DATA)
        if listed:
            splits[split] = listed
    if not splits.keys() & {"train", "val"}:
        raise UserError(f"{path} has neither train nor val; say where the pictures are.", code=DATA)
    return splits


@dataclass(frozen=True)
class _Layout:
    """Where the paths of a YAML file start from.

    Args:
        path: the YAML file.
        bases: folders to look in, the right one first.
    """

    path: Path
    bases: tuple[Path, ...]

    @classmethod
    def of(cls, path: Path, content: dict[str, Any], images: Path | None, remarks: list[str]) -> _Layout:
        beside = path.resolve().parent
        if images is not None:
            return cls(path, (images.resolve(), beside))
        stated = content.get("path") or "."
        if not isinstance(stated, str) or not is_text(stated):
            raise UserError(f"{path}: path is {stated!r}; it must be a folder.", code=DATA)
        base = beside / stated
        if base.is_dir():
            return cls(path, (base.resolve(),))
        remarks.append(f"{path.name} says path: {stated}, which is not there; its own folder was taken instead")
        return cls(path, (beside,))

    def listing(self, split: str, stated: Sequence[str], remarks: list[str]) -> _Listing | None:
        """What a split consists of; None for a test split that is not there, which nothing depends on."""
        places = []
        for place in stated:
            tried = [base / place for base in self.bases]
            # Roboflow writes `../train/images` beside `train`; Ultralytics looks there without the dots as well.
            tried += [base / place[3:] for base in self.bases if place.startswith("../")]
            found = next((path.resolve() for path in tried if os.path.exists(path)), None)
            if found is None and split == "test":
                remarks.append(f"{self.path.name} names {place} for test, which is not there; there is no test split")
                return None
            if found is None:
                raise UserError(
                    f"{self.path}: {split} is '{place}', but {tried[0]} does not exist; correct path and {split} "
                    "there, or name the folder that they start from with --images.",
                    code=DATA,
                )
            places.append(found)
        base = self.bases[0]
        folders = [place for place in places if place.is_dir()]
        if all(folder.is_relative_to(base) for folder in folders):
            return _Listing(tuple(places), base, base)
        try:
            root = Path(os.path.commonpath(folders))
        except ValueError:
            raise UserError(f"{self.path}: the folders of {split} lie on different drives.", code=DATA) from None
        return _Listing(tuple(places), root, base)


@dataclass(frozen=True)
class _Listing:
    """The pictures of a split.

    Args:
        places: folders and lists.
        root: the folder that file names are relative to; what is listed outside is left out.
        base: the folder that entries of lists are relative to, where they do not start with "./".
    """

    places: tuple[Path, ...]
    root: Path
    base: Path

    @property
    def _is_folder(self) -> bool:
        return len(self.places) == 1 and self.places[0].is_dir()

    def names(self, drops: Drops) -> Iterator[str]:
        """Paths of the pictures below the root."""
        seen: set[str] = set()
        if self._is_folder:
            yield from self._below(self.places[0])
            return
        for place in self.places:
            for name in self._below(place) if place.is_dir() else self._listed(place, drops):
                if name in seen:
                    drops.add("picture that is listed twice", name)
                else:
                    seen.add(name)
                    yield name

    def survey(self, drops: Drops) -> Survey:
        """Count the pictures, and see which have labels."""
        if self._is_folder:
            place = self.places[0]
            labels = labels_of(place)
            found = survey(
                place, labels_of, ".txt", drops, annotations=labels if labels != place else None, known=_NO_LABELS
            )
            prefix = place.relative_to(self.root).as_posix()
            return Survey(found.pictures, found.bare, f"{prefix}/{found.first}".removeprefix("./"))
        total, lone, first = 0, 0, ""
        for name in self.names(drops):
            total += 1
            if not os.path.isfile(label_of((self.root / name).as_posix())):
                lone, first = lone + 1, first or name
        return Survey(total, lone, first)

    def _below(self, folder: Path) -> Iterator[str]:
        prefix = folder.relative_to(self.root).as_posix()
        return (f"{prefix}/{name}".removeprefix("./") for name in list_files(folder, SUFFIXES))

    def _listed(self, path: Path, drops: Drops) -> Iterator[str]:
        try:
            with path.open(encoding="utf-8-sig") as file:
                while line := file.readline(_LONGEST_LINE):
                    if len(line) == _LONGEST_LINE:
                        raise UserError(f"{path} is no list of pictures: it has very long lines.", code=DATA)
                    if entry := line.strip().replace("\\", "/"):
                        name, fault = self._place(entry, path.parent)
                        if fault is None:
                            yield name
                        else:
                            drops.add(fault, entry)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.", code=DATA) from None
        except UnicodeDecodeError:
            raise UserError(f"{path} is neither a folder nor a list of pictures.", code=DATA) from None

    def _place(self, entry: str, folder: Path) -> tuple[str, str | None]:
        """An entry's path below the root, and what is wrong with it."""
        if os.path.splitext(entry)[1].lower() not in SUFFIXES or "\0" in entry:
            return "", "listed file that is no picture"
        beside = entry.startswith("./") or (not os.path.exists(self.base / entry) and os.path.exists(folder / entry))
        path = os.path.normpath((folder if beside else self.base) / entry)
        for spelt in (path, os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))):
            if Path(spelt).is_relative_to(self.root):
                name = Path(spelt).relative_to(self.root)
                return name.as_posix(), "hidden file" if name.name.startswith(".") else None
        return "", "listed picture outside the dataset's folder"


def _pictures(listing: _Listing) -> Iterator[Picture]:
    for number, name in enumerate(listing.names(Drops()), start=1):
        yield Picture(number, name)
