"""What was found in a picture: instances with masks, scores and parents, checked once and then trusted."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from langhops_cli.data import masks
from langhops_cli.data.formats.folders import is_text
from langhops_cli.errors import ENVIRONMENT, UserError
from langhops_cli.vocabulary.tree import NamePath

if TYPE_CHECKING:
    from PIL import Image
    from supervision import Detections

    from langhops_cli.vocabulary import Vocabulary

Mask = NDArray[np.bool_]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Detection:
    """One object or part that was found; its mask is kept run-length encoded, so that thousands fit in memory.

    Args:
        path: names from the object down, ("dog",) for an object, ("dog", "head", "ear") for a part of a part.
        score: confidence in 0..1.
        rle: mask as compressed COCO run lengths, `size` (height, width) and `counts` as bytes.
        box: left, top, right, bottom around the mask in pixels.
        parent: index of the instance it belongs to in the same prediction; None for an object.
        track: number of the thing across the frames of a video, from 0; None where nothing was followed.

    Raises:
        ValueError: no name, a score that is not in 0..1, a box that is not finite or is turned around, or a negative
            track.
    """

    path: NamePath
    score: float
    rle: dict[str, Any]
    box: Box
    parent: int | None = None
    track: int | None = None

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
        if self.track is not None and self.track < 0:
            raise ValueError(f"the track of {self.title!r} must be 0 or more, got {self.track}")

    @classmethod
    def from_mask(
        cls, path: NamePath, score: float, mask: Mask, *, parent: int | None = None, track: int | None = None
    ) -> Detection:
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
        return cls(path, score, rle, (left, top, left + width, top + height), parent, track)

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
        picture: path or name of the picture; a frame of a video is "clip.mp4#123".
        size: its height and width in pixels.
        instances: what was found.
        frame: number of the frame in its video, from 0; None for a picture.
        seconds: time of the frame in its video; None for a picture.

    Raises:
        ValueError: a size below 1, a mask of another size, a part without a parent, a parent that is not in
            `instances`, instances that are their own ancestors, or a frame or time below 0.
    """

    picture: str
    size: tuple[int, int]
    instances: tuple[Detection, ...] = ()
    frame: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise ValueError(f"{self.picture}: a picture has at least 1 x 1 pixels, got {self.size}")
        if self.frame is not None and self.frame < 0:
            raise ValueError(f"{self.picture}: frames count from 0, got {self.frame}")
        if self.seconds is not None and not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise ValueError(f"{self.picture}: the time of a frame is 0 or more seconds, got {self.seconds}")
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

    @property
    def boxes(self) -> NDArray[np.float64]:
        """All boxes, (N, 4): left, top, right, bottom in pixels."""
        return np.array([found.box for found in self], dtype=np.float64).reshape(-1, 4)

    @property
    def scores(self) -> NDArray[np.float64]:
        """All scores, (N,), 0..1."""
        return np.array([found.score for found in self], dtype=np.float64)

    @property
    def parents(self) -> NDArray[np.int64]:
        """Index of the instance that each one belongs to, (N,); -1 for objects."""
        return np.array([-1 if found.parent is None else found.parent for found in self], dtype=np.int64)

    @property
    def moment(self) -> dict[str, float | None]:
        """`frame` and `seconds` as entries of a file; nothing for a picture."""
        return {} if self.frame is None else {"frame": self.frame, "seconds": self.seconds}

    def children(self, parent: int | None) -> list[int]:
        """Return the indices of an instance's parts, of the objects for None; best score first."""
        chosen = (index for index, found in enumerate(self) if found.parent == parent)
        return sorted(chosen, key=lambda index: -self[index].score)

    def root(self, index: int) -> int:
        """Return the index of the object that an instance belongs to; an object is its own."""
        while (parent := self[index].parent) is not None:
            index = parent
        return index

    def tree(self) -> list[dict[str, Any]]:
        """Return the objects, best first, as nested dicts with `name`, `score`, `instance` (index) and `parts`."""

        def node(index: int) -> dict[str, Any]:
            found = self[index]
            parts = [node(child) for child in self.children(index)]
            return {"name": found.name, "score": found.score, "instance": index, "parts": parts}

        return [node(index) for index in self.children(None)]

    def to_json(self) -> str:
        """Return the whole prediction as one line of JSON, without a line end; `from_json` gives it back equal."""
        height, width = self.size
        rows = []
        for found in self:
            row = {"path": found.path, "score": found.score, "box": found.box, "parent": found.parent}
            if found.track is not None:
                row["track"] = found.track
            rows.append({**row, "segmentation": json_rle(found.rle)})
        return json_text({"picture": self.picture, "height": height, "width": width, **self.moment, "instances": rows})

    @classmethod
    def from_json(cls, text: str) -> Prediction:
        """Read what `to_json` wrote.

        Raises:
            ValueError: the text is cut off, is no prediction, or holds a mask that is broken or empty.
        """
        try:
            data = json.loads(text)
            size = (data["height"], data["width"])
            rows = [
                Detection(
                    tuple(row["path"]),
                    row["score"],
                    _read_rle(row["segmentation"], size),
                    tuple(row["box"]),
                    row["parent"],
                    row.get("track"),
                )
                for row in data["instances"]
            ]
            return cls(data["picture"], size, tuple(rows), data.get("frame"), data.get("seconds"))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"this is no prediction: {type(error).__name__} {error}") from error

    def draw(self, image: Image.Image, *, names: Sequence[str] = (), scores: bool = True) -> Image.Image:
        """Draw what was found on the picture, as `draw_overlay` does, which says what the arguments are."""
        from langhops_cli.prediction.draw import draw_overlay

        return draw_overlay(image, self, names=names, scores=scores)

    def to_coco(self) -> dict[str, Any]:
        """Return a COCO instances dict of this one picture: `images`, `categories`, `annotations`."""
        from langhops_cli.prediction.coco import coco_annotations, coco_categories, coco_image

        categories = category_ids(found.path for found in self)
        return {
            "images": [coco_image(self, image_id=1)],
            "categories": coco_categories(categories),
            "annotations": coco_annotations(self, categories, image_id=1),
        }

    def to_supervision(self, vocabulary: Vocabulary | None = None) -> Detections:
        """Return the instances as `supervision.Detections`, in their order.

        Args:
            vocabulary: numbers the classes, so that they are the same in every picture; when left out they are
                numbered as they come.

        Returns:
            Boxes, masks, scores and class numbers from 0, tracks (-1 for none) where something was followed, and as
            `data` of each instance its `class_name`, its index `instance` and that of its `parent`, -1 for objects.

        Raises:
            KeyError: an instance has a name that the vocabulary has not.
            UserError: supervision is not installed.
        """
        try:
            from supervision import Detections
        except ImportError:
            raise UserError(
                "supervision is not installed: pip install 'langhops[supervision]'", code=ENVIRONMENT
            ) from None
        numbers = category_ids(found.path for found in self) if vocabulary is None else vocabulary_ids(vocabulary)
        followed = any(found.track is not None for found in self)
        return Detections(
            xyxy=self.boxes.astype(np.float32),
            mask=self.masks,
            confidence=self.scores.astype(np.float32),
            class_id=np.array([numbers[found.path] - 1 for found in self], dtype=np.int64),
            tracker_id=np.array([-1 if found.track is None else found.track for found in self]) if followed else None,
            data={
                "class_name": np.array([found.title for found in self], dtype=np.str_),
                "instance": np.arange(len(self)),
                "parent": self.parents,
            },
        )


def title(path: NamePath) -> str:
    """Return the name that stands alone: the object's and the part's own, as the text encoder reads it."""
    return path[0] if len(path) == 1 else f"{path[0]} {path[-1]}"


def encode(mask: Mask) -> dict[str, Any]:
    """Return the compressed COCO run lengths of a mask, (h, w), bool; `counts` are bytes."""
    rle: dict[str, Any] = coco_mask.encode(np.asfortranarray(mask, dtype=bool).view(np.uint8))
    return rle


def _read_rle(segmentation: Any, size: tuple[int, int]) -> dict[str, Any]:
    """Run lengths from a file, checked, since pycocotools writes past its memory on broken ones."""
    rle, _ = masks.to_rle(segmentation, *size)
    return {"size": rle["size"], "counts": rle["counts"].encode("ascii")}


def json_text(value: Any) -> str:
    """Return a value as one line of JSON that a UTF-8 file can hold."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    # A file name that is no UTF-8 comes as lone surrogates, which only the escaped form can hold.
    return text if is_text(text) else json.dumps(value, allow_nan=False)


def json_rle(rle: dict[str, Any]) -> dict[str, Any]:
    """Return run lengths as JSON can hold them: `counts` as text."""
    counts = rle["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [int(side) for side in rle["size"]], "counts": text}


def category_ids(paths: Iterable[NamePath]) -> dict[NamePath, int]:
    """Number the categories from 1 in the order they come, with those above each one before it."""
    numbers: dict[NamePath, int] = {}
    for path in paths:
        for depth in range(1, len(path) + 1):
            numbers.setdefault(path[:depth], len(numbers) + 1)
    return numbers


def vocabulary_ids(vocabulary: Vocabulary) -> dict[NamePath, int]:
    """Number all names of a vocabulary as categories, objects first."""
    return category_ids([*((name,) for name in vocabulary.object_names), *vocabulary.part_paths])


def coco_box(box: Sequence[float]) -> list[float]:
    """Return left, top, width, height of a box given by its corners, to a hundredth of a pixel."""
    left, top, right, bottom = box
    return [round(left, 2), round(top, 2), round(right - left, 2), round(bottom - top, 2)]
