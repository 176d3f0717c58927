"""A loaded model that turns pictures and names into predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from langhops_cli.checkpoint.folder import config_of, load_checkpoint, read_config
from langhops_cli.checkpoint.hub import find_checkpoint
from langhops_cli.data.canvas import to_canvas
from langhops_cli.data.pictures import read_picture
from langhops_cli.data.transforms import fit
from langhops_cli.errors import DATA, ENVIRONMENT, UserError
from langhops_cli.model.configuration import ModelConfig, PreprocessingConfig
from langhops_cli.model.hierarchy_queries import HierarchyQueries
from langhops_cli.model.langhops import LangHOPSModel
from langhops_cli.model.structures import VocabularyBatch
from langhops_cli.prediction.postprocess import (
    Level,
    PartScoring,
    PictureOutput,
    picture_output,
    predict_instances,
)
from langhops_cli.prediction.results import Prediction
from langhops_cli.resources import assets_folder
from langhops_cli.vocabulary import Vocabulary, parse_vocabulary

Picture = str | Path | Image.Image | NDArray[np.uint8]
Precision = Literal["auto", "float32", "bfloat16", "float16"]

EMBEDDED = "mini"
"""Folder of the checkpoint that comes with the package, below the assets."""
SHORTEST = 32
"""Pixels that the shorter side of a picture has at least when the model sees it."""
FIRST_WITH_BFLOAT16 = (8, 0)
"""Compute capability from which GPUs calculate in bfloat16; older ones imitate it, slower than float32."""
_REMEMBERED = 8
"""Vocabularies whose tables are kept."""


@dataclass(frozen=True)
class Prepared:
    """A picture as the model wants to see it.

    Args:
        name: what the result calls it.
        pixels: (h, w, 3), uint8, RGB.
        original: height and width as it came, in pixels.
    """

    name: str
    pixels: NDArray[np.uint8]
    original: tuple[int, int]


@dataclass(frozen=True)
class Answered:
    """What the model said of a picture, on the model's device, before instances are made of it.

    Args:
        name: what the result calls the picture.
        output: the picture's share of the model's answer.
        vocabulary: the names that were asked for.
        part_scoring, level: how they were.
    """

    name: str
    output: PictureOutput
    vocabulary: Vocabulary
    part_scoring: PartScoring
    level: Level


class Predictor:
    """Finds objects and their parts in pictures.

        predictor = Predictor.from_pretrained()
        prediction = predictor.predict("street.jpg", "car:wheel,door; person:head")

    For many pictures the three steps of `predict` can overlap: `prepare` and `finish` may run in threads while
    `forward` runs in one.

    Args:
        model: a model with its weights.
        config: what it was built from.
        device: where it runs.
        dtype: of matrix products and convolutions; weights, boxes and scores stay float32.
    """

    def __init__(
        self,
        *,
        model: LangHOPSModel,
        config: ModelConfig,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.device = torch.device(device)
        self.dtype = dtype
        self.config = config
        self.model = model.eval().to(self.device)
        self._tables: dict[tuple[Vocabulary, int, bool], VocabularyBatch] = {}

    @classmethod
    def from_pretrained(
        cls, checkpoint: str | Path | None = None, *, device: str = "cpu", dtype: Precision = "auto"
    ) -> Predictor:
        """Load a checkpoint.

        Args:
            checkpoint: its folder, or its id on the Hub; None for the model that comes with the package.
            device: "cpu", "cuda", "cuda:1" ..., or "auto" for a GPU where there is one.
            dtype: "float32", "bfloat16", "float16", or "auto" for bfloat16 on a GPU that has it and float32 elsewhere.

        Raises:
            UserError: the checkpoint is missing or damaged, the device is not there, or it has no such precision.
        """
        place = choose_device(device)
        precision = choose_dtype(dtype, place)
        folder = checkpoint_folder(checkpoint)
        model, metadata = load_checkpoint(folder)
        return cls(model=model, config=config_of(folder, metadata), device=place, dtype=precision)

    @property
    def finds_parts(self) -> bool:
        """Whether the model has a part branch; without one it finds objects only."""
        return self.model.part_branch is not None

    def predict(
        self,
        image: Picture,
        vocabulary: Vocabulary | str | Sequence[str],
        *,
        min_score: float | None = None,
        part_scoring: PartScoring | None = None,
        name: str | None = None,
        level: Level = "all",
        max_objects: int | None = None,
    ) -> Prediction:
        """Find objects and their parts in one picture.

        Args:
            image: a path, a PIL picture, or an array (h, w, 3) or (h, w), uint8, RGB or grey.
            vocabulary: names to look for, as text "dog:head,leg*4" or parsed.
            min_score: instances below are left out, in 0..1; the checkpoint's own threshold when left out.
            part_scoring: "tied" or "open"; the checkpoint's own way when left out.
            name: what the result calls the picture; its path when left out.
            level: "object" looks for no parts, which saves their time; "part" leaves out objects without a part that
                was found.
            max_objects: how many objects at most, the best ones; the parts of the others go with them.

        Returns:
            What was found, with masks of the picture's own size.

        Raises:
            UserError: the picture cannot be read, or the vocabulary has a mistake.
            ValueError: an array of another shape or type, `min_score` is not in 0..1, or `max_objects` is below 1.
        """
        prepared = self.prepare(image, name=name)
        (answered,) = self.forward([prepared], vocabulary, part_scoring=part_scoring, level=level)
        return self.finish(answered, min_score=min_score, max_objects=max_objects)

    def predict_batch(
        self,
        images: Sequence[Picture],
        vocabulary: Vocabulary | str | Sequence[str],
        *,
        min_score: float | None = None,
        part_scoring: PartScoring | None = None,
        names: Sequence[str] | None = None,
        level: Level = "all",
        max_objects: int | None = None,
    ) -> list[Prediction]:
        """Find objects and their parts in several pictures in one pass; arguments as for `predict`.

        Returns:
            One prediction a picture, in their order.
        """
        titles = [None] * len(images) if names is None else names
        prepared = [self.prepare(image, name=name) for image, name in zip(images, titles, strict=True)]
        answered = self.forward(prepared, vocabulary, part_scoring=part_scoring, level=level)
        return [self.finish(item, min_score=min_score, max_objects=max_objects) for item in answered]

    def prepare(self, image: Picture, *, name: str | None = None) -> Prepared:
        """Read a picture and bring it to the model's size; needs no model, may run in any thread.

        Args:
            image, name: as for `predict`.

        Raises:
            UserError: the picture cannot be read.
            ValueError: an array of another shape or type.
        """
        title = (str(image) if isinstance(image, str | Path) else "") if name is None else name
        picture = as_picture(image)
        return Prepared(title, resize(picture, self.config.preprocessing), (picture.height, picture.width))

    def forward(
        self,
        prepared: Sequence[Prepared],
        vocabulary: Vocabulary | str | Sequence[str],
        *,
        part_scoring: PartScoring | None = None,
        level: Level = "all",
    ) -> list[Answered]:
        """Show pictures to the model in one pass; not for several threads at a time.

        Each answer holds the mask logits of its picture, some ten to two hundred megabytes.

        Args:
            prepared: at least one, or there is nothing to do.
            vocabulary, part_scoring, level: as for `predict`.

        Raises:
            UserError: the vocabulary has a mistake.
        """
        if not prepared:
            return []
        parsed = vocabulary if isinstance(vocabulary, Vocabulary) else parse_vocabulary(vocabulary)
        scoring = part_scoring or self.config.part_scoring
        objects_only = level == "object" or not parsed.part_classes or not self.finds_parts
        tower = None if objects_only else self.config.refiner.image_size
        canvas = to_canvas([item.pixels for item in prepared], tower_size=tower)
        table = self._table(parsed, len(prepared), by_level=scoring == "tied" and self._asks_by_name)
        reduced = self.dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self.device.type, dtype=self.dtype, enabled=reduced):
            output = self.model(canvas.to(self.device), table, objects_only=objects_only)
            counts = len(parsed.object_names), len(parsed.part_classes)
            answers = [
                picture_output(output, index, names=counts, size=item.pixels.shape[:2], original=item.original)
                for index, item in enumerate(prepared)
            ]
        return [
            Answered(item.name, answer, parsed, scoring, level) for item, answer in zip(prepared, answers, strict=True)
        ]

    def finish(
        self, answered: Answered, *, min_score: float | None = None, max_objects: int | None = None
    ) -> Prediction:
        """Make instances of what the model said of a picture; may run in any thread.

        Args:
            answered: of `forward`.
            min_score, max_objects: as for `predict`.

        Raises:
            ValueError: `min_score` is not in 0..1, or `max_objects` is below 1.
        """
        with torch.inference_mode():
            return predict_instances(
                answered.output,
                answered.vocabulary,
                picture_name=answered.name,
                min_score=self.config.min_score if min_score is None else min_score,
                part_scoring=answered.part_scoring,
                level=answered.level,
                max_objects=max_objects,
            )

    @property
    def _asks_by_name(self) -> bool:
        """Whether every part query is for one name, so that the parts of parts can be looked for in those parts."""
        branch = self.model.part_branch
        return branch is not None and isinstance(branch.queries, HierarchyQueries)

    def _table(self, vocabulary: Vocabulary, batch: int, *, by_level: bool) -> VocabularyBatch:
        key = vocabulary, batch, by_level
        if key not in self._tables:
            while len(self._tables) >= _REMEMBERED:
                self._tables.pop(next(iter(self._tables)))
            repeats = self.config.hierarchy.queries_per_part
            table = VocabularyBatch.of([vocabulary] * batch, queries_per_part=repeats, by_level=by_level)
            self._tables[key] = table.to(self.device)
        return self._tables[key]


def resize(picture: Image.Image, limits: PreprocessingConfig) -> NDArray[np.uint8]:
    """Bring a picture to the size the model wants, (h, w, 3) uint8: larger or smaller in the same shape.

    Only a picture so long that its shorter side would become less than a cell of the coarser maps is stretched.
    """
    height, width = fit((picture.height, picture.width), limits.shortest, limits.longest)
    size = max(width, SHORTEST), max(height, SHORTEST)
    resized = picture if size == picture.size else picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(resized)


def checkpoint_folder(checkpoint: str | Path | None) -> Path:
    """Return the folder of a checkpoint, without loading it; None stands for the one that comes with the package.

    Args:
        checkpoint: a folder, or an id on the Hub, from where it is fetched.

    Raises:
        UserError: there is no checkpoint in it.
    """
    if checkpoint is not None:
        folder = find_checkpoint(checkpoint)
    else:
        folder = assets_folder() / EMBEDDED
        if not folder.is_dir():
            raise UserError("this copy of langhops comes without a model; give one with --checkpoint", code=DATA)
    read_config(folder)
    return folder


def choose_device(wanted: str) -> torch.device:
    """Return the device of a name; "auto" takes a GPU where there is one.

    Raises:
        UserError: there is no such device.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise UserError(f"--device {wanted} is not known; use auto, cpu or cuda") from None
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise UserError(f"--device {wanted}: torch finds no such GPU; use --device cpu", code=ENVIRONMENT)
    return device


def choose_dtype(wanted: Precision, device: torch.device) -> torch.dtype:
    """Return the type of a name; "auto" takes bfloat16 on a GPU that has it, float32 elsewhere.

    Raises:
        UserError: there is no such type, or the GPU does not have it.
    """
    has_bfloat16 = device.type != "cuda" or torch.cuda.get_device_capability(device) >= FIRST_WITH_BFLOAT16
    if wanted == "auto":
        return torch.bfloat16 if device.type == "cuda" and has_bfloat16 else torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if wanted not in known:
        raise UserError(f"--dtype {wanted} is not known; use auto, {', '.join(known)}")
    if wanted == "bfloat16" and not has_bfloat16:
        raise UserError(f"--dtype bfloat16: {device} has none; use --dtype float16", code=ENVIRONMENT)
    return known[wanted]


def as_picture(image: Picture) -> Image.Image:
    """Return a picture as RGB, whatever form it comes in.

    Args:
        image: a path, a PIL picture, or an array (h, w, 3) or (h, w), uint8, RGB or grey.

    Raises:
        UserError: the file cannot be read.
        ValueError: an array of another shape or type.
    """
    if isinstance(image, str | Path):
        return read_picture(image)
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    array: Any = image
    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] != 3)
        or not array.size
    ):
        raise ValueError(f"an image array is (h, w, 3) or (h, w), uint8; got {array.shape}, {array.dtype}")
    return Image.fromarray(array).convert("RGB")
