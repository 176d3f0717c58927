"""A loaded model that turns pictures and names into predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from langhops_cli.model.langhops import LangHOPSModel
from langhops_cli.model.structures import VocabularyBatch
from langhops_cli.prediction.postprocess import PartScoring, picture_output, predict_instances
from langhops_cli.prediction.results import Prediction
from langhops_cli.resources import assets_folder
from langhops_cli.vocabulary import Vocabulary, parse_vocabulary

Picture = str | Path | Image.Image | NDArray[np.uint8]

EMBEDDED = "mini"
"""Folder of the checkpoint that comes with the package, below the assets."""
SHORTEST = 32
"""Pixels that the shorter side of a picture has at least when the model sees it."""
_REMEMBERED = 8
"""Vocabularies whose tables are kept."""


class Predictor:
    """Finds objects and their parts in pictures.

        predictor = Predictor.from_pretrained()
        prediction = predictor.predict("street.jpg", "car:wheel,door; person:head")

    Args:
        model: a model with its weights.
        config: what it was built from.
        device: where it runs.
    """

    def __init__(self, *, model: LangHOPSModel, config: ModelConfig, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.config = config
        self.model = model.eval().to(self.device)
        self._tables: dict[tuple[Vocabulary, int], VocabularyBatch] = {}

    @classmethod
    def from_pretrained(cls, checkpoint: str | Path | None = None, *, device: str = "cpu") -> Predictor:
        """Load a checkpoint.

        Args:
            checkpoint: its folder, or its id on the Hub; None for the model that comes with the package.
            device: "cpu", "cuda", "cuda:1" ..., or "auto" for a GPU where there is one.

        Raises:
            UserError: the checkpoint is missing or damaged, or the device is not there.
        """
        place = choose_device(device)
        folder = checkpoint_folder(checkpoint)
        model, metadata = load_checkpoint(folder)
        return cls(model=model, config=config_of(folder, metadata), device=place)

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
    ) -> Prediction:
        """Find objects and their parts in one picture.

        Args:
            image: a path, a PIL picture, or an array (h, w, 3) or (h, w), uint8, RGB or grey.
            vocabulary: names to look for, as text "dog:head,leg*4" or parsed.
            min_score: instances below are left out, in 0..1; the checkpoint's own threshold when left out.
            part_scoring: "tied" or "open"; the checkpoint's own way when left out.
            name: what the result calls the picture; its path when left out.

        Returns:
            What was found, with masks of the picture's own size.

        Raises:
            UserError: the picture cannot be read, or the vocabulary has a mistake.
            ValueError: an array of another shape or type, or `min_score` is not in 0..1.
        """
        names = None if name is None else [name]
        return self.predict_batch([image], vocabulary, min_score=min_score, part_scoring=part_scoring, names=names)[0]

    def predict_batch(
        self,
        images: Sequence[Picture],
        vocabulary: Vocabulary | str | Sequence[str],
        *,
        min_score: float | None = None,
        part_scoring: PartScoring | None = None,
        names: Sequence[str] | None = None,
    ) -> list[Prediction]:
        """Find objects and their parts in several pictures in one pass; arguments as for `predict`.

        Returns:
            One prediction a picture, in their order.
        """
        min_score = self.config.min_score if min_score is None else min_score
        if not 0 <= min_score <= 1:
            raise ValueError(f"min_score must be in 0..1, got {min_score}")
        if not images:
            return []
        parsed = vocabulary if isinstance(vocabulary, Vocabulary) else parse_vocabulary(vocabulary)
        titles = names or [str(image) if isinstance(image, str | Path) else "" for image in images]
        pictures = [_as_picture(image) for image in images]
        resized = [resize(picture, self.config.preprocessing) for picture in pictures]
        canvas = to_canvas(resized, tower_size=self.config.refiner.image_size if self.finds_parts else None)
        sizes = [(int(height), int(width)) for height, width in canvas.sizes.tolist()]
        with torch.inference_mode():
            output = self.model(canvas.to(self.device), self._table(parsed, len(images)))
            counts = len(parsed.object_names), len(parsed.part_classes)
            return [
                predict_instances(
                    picture_output(
                        output, index, names=counts, size=sizes[index], original=(picture.height, picture.width)
                    ),
                    parsed,
                    picture_name=titles[index],
                    min_score=min_score,
                    part_scoring=part_scoring or self.config.part_scoring,
                )
                for index, picture in enumerate(pictures)
            ]

    def _table(self, vocabulary: Vocabulary, batch: int) -> VocabularyBatch:
        key = vocabulary, batch
        if key not in self._tables:
            while len(self._tables) >= _REMEMBERED:
                self._tables.pop(next(iter(self._tables)))
            repeats = self.config.hierarchy.queries_per_part
            table = VocabularyBatch.of([vocabulary] * batch, queries_per_part=repeats)
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


def _as_picture(image: Picture) -> Image.Image:
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
