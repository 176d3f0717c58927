"""Finer masks by a SAM of transformers, asked with the boxes and mask centres of what was found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from langhops_cli.checkpoint.base_models import quiet
from langhops_cli.checkpoint.hub import explained, is_local
from langhops_cli.errors import DATA, ENVIRONMENT, UserError
from langhops_cli.prediction.masks import STRIDE, to_original
from langhops_cli.prediction.predictor import Picture, Precision, as_picture, choose_device, choose_dtype
from langhops_cli.prediction.results import Detection, Mask, Prediction
from langhops_cli.prediction.tiles import windows
from langhops_cli.prediction.views import Window, placed

LEAST_IOU = 0.5
"""A refined mask that agrees less with the one it was made from has flown away to another thing; it is not taken."""
PROMPTS = 32
"""Instances asked for at once; each takes a copy of the picture's embedding."""
SHAPES = {"sam": "padded", "sam2": "square", "sam2_video": "square"}
"""How each kind of model wants a picture: in its own shape with padding behind, or squeezed to a square."""
_MEAN = np.array((0.485, 0.456, 0.406), dtype=np.float32)
_DEVIATION = np.array((0.229, 0.224, 0.225), dtype=np.float32)
_FINEST = 512
"""Cells of the grid on which the middle of a mask is looked for, along its longer side."""
_MARGIN = 0.05
"""Share of a window's side that an instance keeps away from the window's edge to be refined in it."""


class Refiner:
    """Makes the masks of a prediction finer.

        refiner = Refiner.from_pretrained("facebook/sam2.1-hiera-small", device="auto")
        prediction = refiner.refine("street.jpg", predictor.predict("street.jpg", "car:wheel,door"))

    Args:
        model: a `SamModel` or `Sam2Model` of transformers.
        device: where it runs.
        dtype: of the picture's encoder; prompts are read and masks made in float32, as half a type's precision would
            move a prompt by several pixels.

    Raises:
        ValueError: a model of another kind.
    """

    def __init__(self, *, model: Any, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        if model.config.model_type not in SHAPES:
            raise ValueError(f"a {model.config.model_type} model is no SAM; known are {', '.join(SHAPES)}")
        self.device = torch.device(device)
        self.dtype = dtype
        self.model = model.eval().to(self.device)
        self.padded = SHAPES[model.config.model_type] == "padded"
        self.side = int(model.config.prompt_encoder_config.image_size)

    @classmethod
    def from_pretrained(cls, model: str | Path, *, device: str = "cpu", dtype: Precision = "auto") -> Refiner:
        """Load a SAM or SAM 2.

        Args:
            model: its folder, or its id on the Hub, such as "facebook/sam-vit-base" or "facebook/sam2.1-hiera-small".
            device, dtype: as for `Predictor.from_pretrained`.

        Raises:
            UserError: it cannot be had or is no SAM, the device is not there, or it has no such precision.
        """
        from transformers import AutoConfig, AutoModelForMaskGeneration

        place = choose_device(device)
        precision = choose_dtype(dtype, place)
        local = is_local(Path(model))
        if local and not Path(model).is_dir():
            raise UserError(f"{model}: there is no such folder with a SAM", code=ENVIRONMENT)
        options: dict[str, Any] = {"local_files_only": True} if local else {}
        with quiet(), _whole(model) if local else explained(f"the model {model}: the Hub"):
            kind = AutoConfig.from_pretrained(model, **options).model_type
            if kind not in SHAPES:
                raise UserError(f"{model} is a {kind} model; --refine wants one of {', '.join(SHAPES)}", code=DATA)
            loaded, report = AutoModelForMaskGeneration.from_pretrained(
                model, dtype=torch.float32, output_loading_info=True, **options
            )
        if report["missing_keys"]:
            example = min(report["missing_keys"])
            raise UserError(f"{model} lacks {len(report['missing_keys'])} weights, such as {example}", code=DATA)
        return cls(model=loaded, device=place, dtype=precision)

    def refine(self, image: Picture, prediction: Prediction, *, tile: int | None = None) -> Prediction:
        """Ask for every instance again, by its box and the point deepest inside its mask.

        Of the masks that the model offers for a prompt the one most like the instance's own is taken, unless it is
        empty or another thing (IoU below 0.5): then the instance keeps its mask.

        Args:
            image: the picture as it came: a path, a PIL picture, or an array, RGB or grey.
            prediction: what was found in it.
            tile: side in pixels of windows that what fits into one is refined in, at the picture's own resolution; the
                whole picture, brought to the model's size, when left out.

        Returns:
            The same instances in their order, with other masks and boxes.

        Raises:
            UserError: the picture cannot be read.
            ValueError: the picture is not of the prediction's size, or `tile` is too small.
        """
        picture = as_picture(image)
        if (picture.height, picture.width) != prediction.size:
            raise ValueError(
                f"{prediction.picture}: the picture is of {(picture.height, picture.width)} pixels, "
                f"the prediction of {prediction.size}"
            )
        found = list(prediction)
        for window, members in _places(prediction, tile):
            finer = self._refine_in(picture.crop(window), [_cut(found[index].mask, window) for index in members])
            for index, mask in zip(members, finer, strict=True):
                if mask is not None:
                    here = Detection.from_mask(found[index].path, found[index].score, mask)
                    moved = placed(here, window, prediction.size)
                    found[index] = replace(found[index], rle=moved.rle, box=moved.box)
        return replace(prediction, instances=tuple(found))

    def _refine_in(self, picture: Image.Image, masks: Sequence[Mask]) -> list[Mask | None]:
        """Finer masks of the picture's size, None where the old one is better kept."""
        pixels, size = self.to_pixels(picture)
        prompts = prompts_of(masks)
        scale = np.array([size[1] / picture.width, size[0] / picture.height])
        # The model takes pixel numbers and adds a half to each.
        points = torch.from_numpy((prompts + 0.5) * scale - 0.5).to(self.device, torch.float32)
        reduced = self.dtype != torch.float32
        finer: list[Mask | None] = []
        with torch.inference_mode():
            with torch.autocast(self.device.type, dtype=self.dtype, enabled=reduced):
                embeddings = self.model.get_image_embeddings(pixels.to(self.device))
            embeddings = embeddings.float() if self.padded else [level.float() for level in embeddings]
            for begin in range(0, len(masks), PROMPTS):
                chosen = slice(begin, begin + PROMPTS)
                answer = self.model(
                    image_embeddings=embeddings,
                    input_points=points[None, chosen, :1],
                    input_boxes=points[None, chosen, 1:].flatten(2),
                )
                for mask, logits in zip(masks[chosen], answer.pred_masks[0].float().cpu(), strict=True):
                    finer.append(_agreeing(mask, logits, size))
        return finer

    def to_pixels(self, picture: Image.Image) -> tuple[Tensor, tuple[int, int]]:
        """Bring a picture to what the model reads.

        Args:
            picture: RGB.

        Returns:
            Normalised values, (1, 3, side, side), and height and width of the picture among them.
        """
        scale = self.side / max(picture.size)
        width, height = (max(1, math.floor(side * scale + 0.5)) for side in picture.size)
        if not self.padded:
            width = height = self.side
        resized = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
        values = (resized / 255 - _MEAN) / _DEVIATION
        canvas = torch.zeros(1, 3, self.side, self.side)
        canvas[0, :, :height, :width] = torch.from_numpy(values.transpose(2, 0, 1))
        return canvas, (height, width)


def prompts_of(masks: Sequence[Mask]) -> NDArray[np.float64]:
    """Pixels that ask for instances.

    Args:
        masks: (h, w), bool, none of them empty.

    Returns:
        (N, 3, 2): x and y of the pixel deepest inside, of the first and of the last pixel of the box around the mask.
    """
    prompts = np.zeros((len(masks), 3, 2))
    for prompt, mask in zip(prompts, masks, strict=True):
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        left, top = columns[0], rows[0]
        prompt[1:] = (left, top), (columns[-1], rows[-1])
        inside = mask[top : rows[-1] + 1, left : columns[-1] + 1]
        step = -(-max(inside.shape) // _FINEST)
        if not inside[::step, ::step].any():  # a line thinner than the grid
            step = 1
        # Outside the box, and so outside the picture, is outside the mask.
        depth = distance_transform_edt(np.pad(inside[::step, ::step], 1))[1:-1, 1:-1]
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        prompt[0] = left + step * int(column), top + step * int(row)
    return prompts


def _agreeing(mask: Mask, logits: Tensor, size: tuple[int, int]) -> Mask | None:
    """The mask of several, (M, cells, cells), that is most like the given one; None where none is like it.

    `size` is height and width of the picture in pixels of the model's canvas.
    """
    cells = [-(-side // STRIDE) for side in size]
    shares = Image.fromarray(mask.view(np.uint8) * 255).resize((cells[1], cells[0]), Image.Resampling.BOX)
    own = torch.from_numpy(np.asarray(shares, dtype=np.float32) / 255)
    offered = (logits[:, : cells[0], : cells[1]] > 0).float()
    alike = torch.minimum(offered, own).flatten(1).sum(1) / torch.maximum(offered, own).flatten(1).sum(1)
    # Cells behind the picture take part in the interpolation, as they do in the models' own.
    finer = to_original(logits[int(alike.argmax())], size, mask.shape)
    shared, together = np.count_nonzero(finer & mask), np.count_nonzero(finer | mask)
    return finer if shared >= LEAST_IOU * together else None


def _places(prediction: Prediction, tile: int | None) -> Iterator[tuple[Window, list[int]]]:
    """Windows with what is to be refined in each; an instance goes where it lies most in the middle."""
    height, width = prediction.size
    whole = (0, 0, width, height)
    inner = [] if tile is None else windows(prediction.size, tile=tile, overlap=0.5)
    if len(inner) < 2 or not len(prediction):
        if len(prediction):
            yield whole, list(range(len(prediction)))
        return
    sides = np.array(inner, dtype=np.float64)
    edge = np.where(sides == whole, 0, _MARGIN * np.tile(sides[:, 2:] - sides[:, :2], 2)) * (1, 1, -1, -1)
    boxes = prediction.boxes[:, None]
    inwards = (boxes - sides - edge) * (1, 1, -1, -1)
    fits = inwards.min(axis=2) >= 0
    away = np.abs(boxes[..., :2] + boxes[..., 2:] - sides[:, :2] - sides[:, 2:]).max(2)
    best = np.where(fits.any(1), np.where(fits, away, np.inf).argmin(1), -1)
    for place in np.unique(best).tolist():
        yield whole if place < 0 else inner[place], np.flatnonzero(best == place).tolist()


def _cut(mask: Mask, window: Window) -> Mask:
    left, top, right, bottom = window
    return np.ascontiguousarray(mask[top:bottom, left:right])


@contextmanager
def _whole(source: str | Path) -> Iterator[None]:
    """Turn what goes wrong with a folder into one line.

    Raises:
        UserError: it holds no whole model.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, LookupError, RuntimeError, SafetensorError) as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        what = "is no SAM that transformers reads, or a damaged one"
        raise UserError(f"{source} {what}: {why}", code=DATA) from error
