"""Pictures of different sizes laid on a common canvas, as a model reads them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from langhops_cli.model.structures import Pictures

CANVAS_STEP = 64
"""Canvas sides are multiples of the coarsest map's stride, so that every stride divides them."""


def to_canvas(images: Sequence[np.ndarray], *, tower_size: int | None = None) -> Pictures:
    """Lay pictures on a common canvas, each in the top left corner.

    Args:
        images: (h, w, 3) uint8 RGB each.
        tower_size: side in pixels of the square picture that the language model's own image tower wants; None for a
            language model without one.

    Returns:
        Pictures with uint8 pixels, the padding black; canvas sides are multiples of 64.
    """
    sizes = [image.shape[:2] for image in images]
    height, width = (-(-max(side) // CANVAS_STEP) * CANVAS_STEP for side in zip(*sizes, strict=True))
    pixels = np.zeros((len(images), 3, height, width), dtype=np.uint8)
    for canvas, image, (h, w) in zip(pixels, images, sizes, strict=True):
        canvas[:, :h, :w] = image.transpose(2, 0, 1)
    tower = None if tower_size is None else torch.stack([_for_tower(image, tower_size) for image in images])
    return Pictures(torch.from_numpy(pixels), torch.tensor(sizes, dtype=torch.int64), tower)


def _for_tower(image: np.ndarray, side: int) -> torch.Tensor:
    """A picture as SigLIP was trained on it: squeezed to a square by bicubic resampling, values in -1..1, (3, s, s)."""
    square = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(square, dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1)
