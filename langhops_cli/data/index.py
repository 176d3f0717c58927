"""A prepared set as it is read in training: a memory-mapped Arrow index, masks decoded one picture at a time."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

from langhops_cli.data import masks
from langhops_cli.data.formats.coco_files import read_coco
from langhops_cli.data.pictures import read_picture
from langhops_cli.data.rows import fingerprint, is_exhaustive, list_names, list_rows
from langhops_cli.data.sample import Sample, SampleInstance, box_of
from langhops_cli.errors import DATA, UserError
from langhops_cli.vocabulary import Vocabulary

CACHE = ".index"
"""Folder beside the annotation files that holds their indices; it can be deleted at any time."""


class PreparedDataset:
    """One split of a prepared set, as a sequence of samples.

    Args:
        root: the prepared set's folder.
        split: "train" or "val".

    Raises:
        UserError: the set, the split or its hierarchy is missing or broken.
    """

    def __init__(self, root: Path, split: str) -> None:
        self.root = Path(root)
        self.split = split
        self.annotation_file = self.root / f"{split}.json"
        if not self.root.is_dir():
            raise UserError(f"{self.root} does not exist; make it with `langhops prepare`.", code=DATA)
        if not self.annotation_file.is_file():
            there = ", ".join(sorted(path.stem for path in self.root.glob("*.json") if path.stem != "report"))
            raise UserError(f"{self.root} has no split '{split}' (it has: {there or 'none'}).", code=DATA)
        self.vocabulary = _read_hierarchy(self.root / "hierarchy.yaml")
        folder = _build_index(self.annotation_file)
        self._meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        self._rows = _quiet_datasets().load_from_disk(str(folder / "rows"))
        self._labels = self._map_labels()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        return self.load(index)

    @property
    def name(self) -> str:
        """The set and the split, "cars/train"."""
        return f"{self.root.name}/{self.split}"

    @property
    def exhaustive(self) -> bool:
        """Whether every instance of every name was annotated."""
        return bool(self._meta["exhaustive"])

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the index: pictures, masks, names and parents, wherever the pictures lie."""
        return str(self._meta["fingerprint"])

    @cached_property
    def image_ids(self) -> list[int]:
        """Id of each picture in the annotation file."""
        return list(self._rows["image_id"])

    @property
    def image_root(self) -> Path:
        """The folder that the annotation file's names are relative to."""
        return self.root / self._meta["image_root"]

    def image_path(self, index: int) -> Path:
        """Where a picture lies."""
        return self.image_root / self._rows[index]["file_name"]

    def load(self, index: int, *, longest: int | None = None) -> Sample:
        """Read a picture with its instances.

        Args:
            index: 0 .. len - 1.
            longest: where given, picture and masks may come back smaller by 2, 4 or 8 as long as the longer side keeps
                at least this many pixels, which is faster.

        Raises:
            UserError: the picture cannot be read or has another size than annotated; the message names it.
        """
        row = self._rows[index]
        path = self.image_root / row["file_name"]
        image = read_picture(path, longest=longest)
        _check_size(path, image.size, (row["width"], row["height"]))
        height, width = image.height, image.width
        reduced = (height, width) != (row["height"], row["width"])
        objects: list[SampleInstance] = []
        parts: list[SampleInstance] = []
        place: dict[int, int] = {}
        unsure: tuple[set[int], set[int]] = (set(), set())
        for number, (category, counts) in enumerate(zip(row["category"], row["counts"], strict=True)):
            level, label = self._labels.get(category, (-1, -1))
            if level < 0:
                continue
            if not self.exhaustive or row["crowd"][number]:
                unsure[level].add(label)
            if row["crowd"][number]:
                continue
            rle = {"size": [row["height"], row["width"]], "counts": counts}
            mask = masks.decode(rle, height=height, width=width)
            if reduced and not mask.any():
                continue
            box = box_of(mask) if reduced else masks.box_xyxy(rle)
            instances = parts if level else objects
            if not level:
                place[number] = len(objects)
            instances.append(SampleInstance(label, mask, box, place.get(row["parent"][number], -1)))
        return Sample(
            name=str(path),
            image=image,
            objects=objects,
            parts=parts,
            vocabulary=self.vocabulary,
            exhaustive=self.exhaustive,
            image_id=row["image_id"],
            unsure_objects=frozenset(unsure[0]),
            unsure_parts=frozenset(unsure[1]),
        )

    def _map_labels(self) -> dict[int, tuple[int, int]]:
        """Category id -> (0 for objects, 1 for parts; label). A name taken out of the hierarchy has none."""
        names = self.vocabulary.object_names
        objects = {name: number for number, name in enumerate(names)}
        parts = {(names[part.object], part.name): number for number, part in enumerate(self.vocabulary.part_classes)}
        labels = {}
        for category, owner, part in self._meta["categories"]:
            if part is None and owner in objects:
                labels[category] = (0, objects[owner])
            elif (owner, part) in parts:
                labels[category] = (1, parts[owner, part])
        if not labels:
            raise UserError(f"{self.root / 'hierarchy.yaml'} shares no name with {self.annotation_file}.", code=DATA)
        return labels


def _check_size(path: Path, found: tuple[int, int], annotated: tuple[int, int]) -> None:
    """A reduced picture has the annotated size divided by 1, 2, 4 or 8 and rounded up."""
    if not any(found == tuple(-(-side // factor) for side in annotated) for factor in (1, 2, 4, 8)):
        raise UserError(
            f"{path} has {found[0]} x {found[1]} pixels, its annotation {annotated[0]} x {annotated[1]}; "
            "the picture was changed since it was prepared: prepare the set again.",
            code=DATA,
        )


def _read_hierarchy(path: Path) -> Vocabulary:
    import yaml

    try:
        return Vocabulary.from_dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; prepare the set again.", code=DATA) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no YAML: {str(error).splitlines()[0]}.", code=DATA) from None
    except UserError as error:
        raise UserError(f"{path}: {error}", code=DATA) from None


def _build_index(annotation_file: Path) -> Path:
    """Return the index of an annotation file, written now if it is not there for exactly this content."""
    key = hashlib.sha256(annotation_file.read_bytes()).hexdigest()
    folder = annotation_file.parent / CACHE / f"{annotation_file.stem}-{key[:16]}"
    if (folder / "meta.json").is_file():
        return folder
    content = read_coco(annotation_file)
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        datasets = _quiet_datasets()
        rows = list_rows(annotation_file, content)
        datasets.Dataset.from_list(rows, features=_features(datasets)).save_to_disk(str(partial / "rows"))
        meta = {
            "exhaustive": is_exhaustive(content),
            "image_root": content["info"].get("image_root", "."),
            "categories": list_names(content),
            "fingerprint": fingerprint(annotation_file.stem, content, rows),
        }
        (partial / "meta.json").write_text(json.dumps(meta, ensure_ascii=False), encoding="utf-8")
        try:
            partial.rename(folder)
        except OSError:
            if not (folder / "meta.json").is_file():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for stale in folder.parent.glob(f"{annotation_file.stem}-*"):
        if stale != folder and ".partial-" not in stale.name:
            shutil.rmtree(stale, ignore_errors=True)
    return folder


def _quiet_datasets() -> Any:
    """The `datasets` library without its progress bars and remarks."""
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    return datasets


def _features(datasets: Any) -> Any:
    whole, value = datasets.Value("int64"), datasets.Value
    return datasets.Features(
        {
            "image_id": whole,
            "file_name": value("string"),
            "width": whole,
            "height": whole,
            "category": datasets.List(whole),
            "counts": datasets.List(value("string")),
            "parent": datasets.List(whole),
            "crowd": datasets.List(value("bool")),
        }
    )
