"""A prepared set as it is read in training: a memory-mapped Arrow index, masks decoded one picture at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from langhops_cli.checkpoint.files import file_hash
from langhops_cli.data import masks
from langhops_cli.data.names import ask_for_known, leave_out
from langhops_cli.data.pictures import read_picture
from langhops_cli.data.rows import Row
from langhops_cli.data.sample import Sample, SampleInstance, box_of
from langhops_cli.errors import DATA, UserError
from langhops_cli.vocabulary import Vocabulary

INDEX = "index"
"""Folder of a prepared set that holds the index of each split."""


class PreparedDataset:
    """One split of a prepared set, as a sequence of samples.

    Args:
        root: the prepared set's folder.
        split: "train" or "val".
        without: objects that are left out with their parts, as if the set did not name them.

    Raises:
        UserError: the set, the split or its hierarchy is missing or broken, or has no such object.
    """

    def __init__(self, root: Path, split: str, *, without: Sequence[str] = ()) -> None:
        self.root = Path(root)
        self.split = split
        self.annotation_file = self.root / f"{split}.json"
        if not self.root.is_dir():
            raise UserError(f"{self.root} does not exist; make it with `langhops prepare`.", code=DATA)
        if not self.annotation_file.is_file():
            there = ", ".join(sorted(path.stem for path in self.root.glob("*.json") if path.stem != "report"))
            raise UserError(f"{self.root} has no split '{split}' (it has: {there or 'none'}).", code=DATA)
        hierarchy = self.root / "hierarchy.yaml"
        self.vocabulary = read_hierarchy(hierarchy, without=without)
        self._meta = _read_meta(self.annotation_file)
        self._rows = open_rows(self.root, split)
        self._reader = RowReader(
            self.vocabulary, self.categories, exhaustive=self.exhaustive, told=(hierarchy, self.annotation_file)
        )

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

    @property
    def categories(self) -> list[tuple[int, str, str | None]]:
        """What each category of the index stands for: id, object name, part name or None."""
        return [(number, owner, part) for number, owner, part in self._meta["categories"]]

    @cached_property
    def image_ids(self) -> list[int]:
        """Id of each picture in the annotation file."""
        return list(self._rows["image_id"])

    @property
    def known_categories(self) -> frozenset[int]:
        """Ids of the categories that are read: all but those whose names were taken out of the hierarchy."""
        return self._reader.known_categories

    def column(self, name: str) -> Any:
        """A column of the index over all pictures, as Arrow maps it into memory."""
        return self._rows.data.column(name)

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
        return self._reader.read(row, self.image_root / row["file_name"], longest=longest)


class RowReader:
    """Makes samples of index rows, wherever the rows and the pictures come from.

    Args:
        vocabulary: of the set.
        categories: what each category of the rows stands for: id, object name, part name or None.
        exhaustive: whether every instance of every name was annotated.
        told: the files that the vocabulary and the categories come from, for messages.

    Raises:
        UserError: the vocabulary has none of the names.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        categories: Sequence[tuple[int, str, str | None]],
        *,
        exhaustive: bool,
        told: tuple[Path, Path],
    ) -> None:
        self.vocabulary = vocabulary
        self.exhaustive = exhaustive
        self._labels = _map_labels(vocabulary, categories)
        if not self._labels:
            raise UserError(f"{told[0]} shares no name with {told[1]}.", code=DATA)

    @property
    def known_categories(self) -> frozenset[int]:
        """Ids of the categories that the vocabulary has names for."""
        return frozenset(self._labels)

    def read(self, row: Row, path: Path, *, longest: int | None = None, content: bytes | None = None) -> Sample:
        """Read a picture with its instances.

        Args:
            row: of the index.
            path: the picture, or what it is called where its bytes are given.
            longest: as `read_picture` has it.
            content: the picture file's bytes, where it is not to be opened.

        Raises:
            UserError: the picture cannot be read or has another size than annotated; the message names it.
        """
        image = read_picture(path, longest=longest, content=content)
        check_size(path, image.size, (row["width"], row["height"]))
        return self._sample(row, path, image)

    def _sample(self, row: Row, path: Path, image: Image.Image) -> Sample:
        shrink = image.width / row["width"], image.height / row["height"]
        objects: list[SampleInstance] = []
        parts: list[SampleInstance] = []
        place: dict[int, int] = {}
        unsure: tuple[set[int], set[int]] = (set(), set())
        for number, category in enumerate(row["category"]):
            level, label = self._labels.get(category, (-1, -1))
            if level < 0:
                continue
            if row["crowd"][number] or (not self.exhaustive and row["checked"] is None):
                unsure[level].add(label)
            if row["crowd"][number]:
                continue
            mask, box = _shape(row, number, image.size, shrink)
            if mask is not None and not mask.any():
                continue  # too small to be seen in the reduced picture
            instances = parts if level else objects
            if not level:
                place[number] = len(objects)
            instances.append(SampleInstance(label, mask, box, place.get(row["parent"][number], -1)))
        sample = Sample(
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
        if row["checked"] is None:
            return sample
        checked: tuple[list[int], list[int]] = ([], [])
        for category in row["checked"]:
            if category in self._labels:
                level, label = self._labels[category]
                checked[level].append(label)
        return ask_for_known(sample, checked_objects=checked[0], checked_parts=checked[1])


def _map_labels(
    vocabulary: Vocabulary, categories: Sequence[tuple[int, str, str | None]]
) -> dict[int, tuple[int, int]]:
    """Category id -> (0 for objects, 1 for parts; label). A name taken out of the hierarchy has none."""
    names = vocabulary.object_names
    objects = {name: number for number, name in enumerate(names)}
    parts = {(names[part.object], part.name): number for number, part in enumerate(vocabulary.part_classes)}
    labels = {}
    for category, owner, part in categories:
        if part is None and owner in objects:
            labels[category] = (0, objects[owner])
        elif part is not None and (owner, part) in parts:
            labels[category] = (1, parts[owner, part])
    return labels


def _shape(
    row: Row, number: int, size: tuple[int, int], shrink: tuple[float, float]
) -> tuple[np.ndarray | None, masks.Box]:
    """The mask and the box of an instance in a picture that may be reduced."""
    width, height = size
    if not row["counts"][number]:
        left, top, right, bottom = row["box"][number]
        return None, (left * shrink[0], top * shrink[1], right * shrink[0], bottom * shrink[1])
    rle = {"size": [row["height"], row["width"]], "counts": row["counts"][number]}
    mask = masks.decode(rle, height=height, width=width)
    if size == (row["width"], row["height"]):
        return mask, masks.box_xyxy(rle)
    return mask, box_of(mask) if mask.any() else (0.0, 0.0, 0.0, 0.0)


def check_size(path: Path, found: tuple[int, int], annotated: tuple[int, int], *, reduced: bool = True) -> None:
    """See that a picture is as large as its annotation says.

    Args:
        path: of the picture, for the message.
        found, annotated: width and height.
        reduced: whether it may have been made smaller when it was read.

    Raises:
        UserError: it is not; the message names it.
    """
    factors = (1, 2, 4, 8) if reduced else (1,)
    # A reduced picture has the annotated size divided by 1, 2, 4 or 8 and rounded up.
    if not any(found == tuple(-(-side // factor) for side in annotated) for factor in factors):
        raise UserError(
            f"{path} has {found[0]} x {found[1]} pixels, its annotation {annotated[0]} x {annotated[1]}; "
            "the picture was changed since it was prepared: prepare the set again.",
            code=DATA,
        )


def read_hierarchy(path: Path, *, without: Sequence[str] = ()) -> Vocabulary:
    """The vocabulary of a set.

    Args:
        path: its file.
        without: objects that are left out with their parts.

    Raises:
        UserError: the file is missing, no tree of names, or does not have an object that is to be left out.
    """
    import yaml

    try:
        whole = Vocabulary.from_dict(yaml.safe_load(path.read_text(encoding="utf-8")))
        return leave_out(whole, without)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; prepare the set again.", code=DATA) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no YAML: {str(error).splitlines()[0]}.", code=DATA) from None
    except UserError as error:
        raise UserError(f"{path}: {error}", code=DATA) from None


def _read_meta(annotation_file: Path) -> dict[str, Any]:
    """What is said of a split beside its index.

    Raises:
        UserError: there is no index, or the annotation file is no longer the one that it was made with.
    """
    path = annotation_file.parent / INDEX / annotation_file.stem / "meta.json"
    try:
        meta: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise UserError(f"{path} is missing or broken; prepare the set again.", code=DATA) from None
    if file_hash(annotation_file) != meta["sha256"]:
        raise UserError(
            f"{annotation_file} was changed after its set was prepared; to read what it says now, prepare a new set "
            f"from it: langhops prepare coco-parts --source {annotation_file.parent} --name NAME",
            code=DATA,
        )
    return meta


def open_rows(root: Path, split: str) -> Any:
    """The index rows of a split, mapped into memory.

    Raises:
        UserError: the file is missing or broken.
    """
    import pyarrow

    path = root / INDEX / split / "rows.arrow"
    try:
        return open_datasets().Dataset.from_file(str(path))
    except (OSError, pyarrow.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path} cannot be read ({reason}); prepare the set again.", code=DATA) from None


def open_datasets() -> Any:
    """The `datasets` library without its progress bars and remarks."""
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    return datasets
