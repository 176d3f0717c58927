"""What was found in a picture: instances with masks, scores and parents, checked once and then trusted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

if TYPE_CHECKING:
    from langhops_cli.vocabulary import Vocabulary

Mask = NDArray[np.bool_]
Box = tuple[float, float, float, float]
NamePath = tuple[str, ...]


@dataclass(frozen=True)
class Detection:
    """One object or part that was found; its mask is kept run-length encoded, so that thousands fit in memory.

    Args:
        path: names from the object down, ("dog",) for an object, ("dog", "head", "ear") for a part of a part.
        score: confidence in 0..1.
        rle: mask as compressed COCO run lengths, `size` (height, width) and `counts` as bytes.
        box: left, top, right, bottom around the mask in pixels.
        parent: index of the instance it belongs to in the same prediction; None for an object.

    Raises:
        ValueError: no name, a score that is not in 0..1, or a box that is not finite or is turned around.
    """

    path: NamePath
    score: float
    rle: dict[str, Any]
    box: Box
    parent: int | None = None

    def __post_init__(self) -> None:
        if not self.path or not all(self.path):
            raise ValueError(f"an instance needs a name, got {self.path!r}")
        if not (math.isfinite(self.score) and 0 <= self.score <= 1):
            raise ValueError(f"the score of {self.title!r} must be in 0..1, got {self.score}")
        left, top, right, bottom = self.box
        if not all(map(math.isfinite, self.box)) or left > right or top > bottom:
            raise ValueError(f"the box of {self.title!r} must be left, top, right, bottom, got {self.box}")
        if len(self.path) == 1 and self.parent is not None:
            raise ValueError(f"{self.title!r} is an object and cannot have a parent, got {self.parent}")

    @classmethod
    def from_mask(cls, path: NamePath, score: float, mask: Mask, *, parent: int | None = None) -> Detection:
        """Make an instance whose box is the tightest around its mask, (h, w), bool.

        Raises:
            ValueError: the mask is empty or not (h, w).
        """
        if mask.ndim != 2:
            raise ValueError(f"the mask of {' '.join(path)!r} must be (height, width), got shape {mask.shape}")
        rle = encode(mask)
        left, top, width, height = (float(edge) for edge in coco_mask.toBbox(rle))
        if not coco_mask.area(rle):
            raise ValueError(f"the mask of {' '.join(path)!r} is empty")
        return cls(path, score, rle, (left, top, left + width, top + height), parent)

    @property
    def name(self) -> str:
        """Own name without those above it: "head"."""
        return self.path[-1]

    @property
    def title(self) -> str:
        """Name that stands alone, as data sets spell it: "dog head"."""
        return title(self.path)

    @property
    def level(self) -> Literal["object", "part"]:
        """Which of the two levels it is of; a part of a part is a part."""
        return "object" if len(self.path) == 1 else "part"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture in pixels."""
        height, width = self.rle["size"]
        return int(height), int(width)

    @property
    def mask(self) -> Mask:
        """Its pixels, (h, w), bool; decoded anew each time."""
        return np.asarray(coco_mask.decode(self.rle)).astype(bool)

    @property
    def area(self) -> int:
        """Number of pixels in the mask."""
        return int(coco_mask.area(self.rle))


@dataclass(frozen=True)
class Prediction:
    """Everything found in one picture; every part names the instance it belongs to.

    Args:
        picture: path or name of the picture.
        size: its height and width in pixels.
        instances: what was found.

    Raises:
        ValueError: a size below 1, a mask of another size, a part without a parent, a parent that is not in
            `instances`, or instances that are their own ancestors.
    """

    picture: str
    size: tuple[int, int]
    instances: tuple[Detection, ...] = ()

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise ValueError(f"{self.picture}: a picture has at least 1 x 1 pixels, got {self.size}")
        for index, found in enumerate(self.instances):
            where = f"{self.picture}: instance {index} ({found.title})"
            if found.size != tuple(self.size):
                raise ValueError(f"{where} has a mask of {found.size}, the picture is {tuple(self.size)}")
            if found.level == "part" and found.parent is None:
                raise ValueError(f"{where} is a part without a parent")
            if found.parent is not None and not 0 <= found.parent < len(self.instances):
                raise ValueError(f"{where} has parent {found.parent}, there are {len(self.instances)} instances")
        for index in range(len(self.instances)):
            self._check_roots(index)

    def _check_roots(self, index: int) -> None:
        """Every chain of parents ends at an object."""
        seen: set[int] = set()
        step: int | None = index
        while step is not None:
            if step in seen:
                raise ValueError(f"{self.picture}: instance {index} is its own ancestor")
            seen.add(step)
            step = self.instances[step].parent

    def __len__(self) -> int:
        return len(self.instances)

    def __iter__(self) -> Iterator[Detection]:
        return iter(self.instances)

    def __getitem__(self, index: int) -> Detection:
        return self.instances[index]

    @property
    def masks(self) -> Mask:
        """All masks, (N, h, w), bool."""
        return np.stack([found.mask for found in self]) if self.instances else np.zeros((0, *self.size), dtype=bool)

    def children(self, parent: int | None) -> list[int]:
        """Return the indices of an instance's parts, of the objects for None; best score first."""
        chosen = (index for index, found in enumerate(self) if found.parent == parent)
        return sorted(chosen, key=lambda index: -self[index].score)

    def tree(self) -> list[dict[str, Any]]:
        """Return the objects, best first, as nested dicts with `name`, `score`, `instance` (index) and `parts`."""

        def node(index: int) -> dict[str, Any]:
            found = self[index]
            parts = [node(child) for child in self.children(index)]
            return {"name": found.name, "score": found.score, "instance": index, "parts": parts}

        return [node(index) for index in self.children(None)]

    def to_coco(self) -> dict[str, Any]:
        """Return a COCO instances dict of this one picture: `images`, `categories`, `annotations`."""
        categories = category_ids(found.path for found in self)
        return {
            "images": [coco_image(self, image_id=1)],
            "categories": coco_categories(categories),
            "annotations": coco_annotations(self, categories, image_id=1),
        }


def title(path: NamePath) -> str:
    """Return the name that stands alone: the object's and the part's own, as the text encoder reads it."""
    return path[0] if len(path) == 1 else f"{path[0]} {path[-1]}"


def encode(mask: Mask) -> dict[str, Any]:
    """Return the compressed COCO run lengths of a mask, (h, w), bool; `counts` are bytes."""
    rle: dict[str, Any] = coco_mask.encode(np.asfortranarray(mask, dtype=bool).view(np.uint8))
    return rle


def json_rle(rle: dict[str, Any]) -> dict[str, Any]:
    """Return run lengths as JSON can hold them: `counts` as text."""
    counts = rle["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [int(side) for side in rle["size"]], "counts": text}


def part_paths(vocabulary: Vocabulary) -> list[NamePath]:
    """Return the names from the object down of each of the vocabulary's part classes."""
    paths: list[NamePath] = []
    for part in vocabulary.part_classes:
        above = (vocabulary.object_names[part.object],) if part.parent is None else paths[part.parent]
        paths.append((*above, part.name))
    return paths


def category_ids(paths: Iterable[NamePath]) -> dict[NamePath, int]:
    """Number the categories from 1 in the order they come, with those above each one before it."""
    numbers: dict[NamePath, int] = {}
    for path in paths:
        for depth in range(1, len(path) + 1):
            numbers.setdefault(path[:depth], len(numbers) + 1)
    return numbers


def vocabulary_ids(vocabulary: Vocabulary) -> dict[NamePath, int]:
    """Number all names of a vocabulary as categories, objects first."""
    return category_ids([*((name,) for name in vocabulary.object_names), *part_paths(vocabulary)])


def coco_categories(numbers: dict[NamePath, int]) -> list[dict[str, Any]]:
    """Return COCO categories: a part's `name` stands alone ("dog head") and its `parent_id` is the category above."""
    rows = []
    for path, number in numbers.items():
        row = {"id": number, "name": title(path), "parent_id": numbers.get(path[:-1])}
        rows.append(row if len(path) == 1 else {**row, "part_name": path[-1]})
    return rows


def coco_image(prediction: Prediction, *, image_id: int) -> dict[str, Any]:
    """Return the COCO image entry of a prediction."""
    height, width = prediction.size
    return {"id": image_id, "file_name": prediction.picture, "height": height, "width": width}


def coco_annotations(
    prediction: Prediction, numbers: dict[NamePath, int], *, image_id: int, first_id: int = 1
) -> list[dict[str, Any]]:
    """Return one COCO annotation an instance, numbered from `first_id`; `parent_id` is the parent's annotation."""
    return [
        {
            "id": first_id + index,
            "image_id": image_id,
            "category_id": numbers[found.path],
            "parent_id": None if found.parent is None else first_id + found.parent,
            "score": round(found.score, 6),
            "bbox": coco_box(found.box),
            "area": found.area,
            "iscrowd": 0,
            "segmentation": json_rle(found.rle),
        }
        for index, found in enumerate(prediction)
    ]


def coco_box(box: Sequence[float]) -> list[float]:
    """Return left, top, width, height of a box given by its corners, to a hundredth of a pixel."""
    left, top, right, bottom = box
    return [round(left, 2), round(top, 2), round(right - left, 2), round(bottom - top, 2)]
