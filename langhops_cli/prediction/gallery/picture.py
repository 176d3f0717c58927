"""One picture of the gallery as plain values: JPEG, thumbnail, and masks as run lengths in text."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from langhops_cli.prediction.draw import Shape
from langhops_cli.prediction.results import Detection, NamePath, Prediction, encode, json_rle

QUALITY = 85
"""JPEG quality of pictures and thumbnails."""
_HALF = 127


def shown_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Width and height of a picture whose longer side is at most so many pixels; a smaller one stays as it is."""
    factor = min(1.0, longest / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def summary(
    image: Image.Image,
    prediction: Prediction,
    numbers: dict[NamePath, int],
    *,
    shown: tuple[int, int],
    thumbnail: int,
) -> dict[str, Any]:
    """Return what the contact sheet needs of a picture.

    Args:
        image: the picture as it came.
        prediction: what was found in it.
        numbers: categories by their names, from 1.
        shown: width and height of the picture on the page.
        thumbnail: longer side of the thumbnail in pixels.

    Returns:
        `name`, `size` and `shown` (width, height), `thumbnail` (data URI) and `found`: for each instance its category
        counted from 0, score, parent (index or None) and area in pixels of the picture as it came.

    Raises:
        KeyError: an instance has a name without a number.
    """
    found = [[numbers[item.path] - 1, round(item.score, 6), item.parent, item.area] for item in prediction]
    return {
        "name": prediction.picture,
        "size": image.size,
        "shown": shown,
        "thumbnail": _data_uri(image, shown_size(image.size, thumbnail)),
        "found": found,
    }


def details(image: Image.Image, prediction: Prediction, *, shown: tuple[int, int]) -> dict[str, Any]:
    """Return what a picture's own view needs: `image` (data URI) and `masks`, compressed COCO run lengths as text."""
    return {
        "image": _data_uri(image, shown),
        "masks": [json_rle(mask_at(found, shown))["counts"] for found in prediction],
    }


def mask_at(found: Detection, size: tuple[int, int]) -> dict[str, Any]:
    """Return the run lengths of an instance's mask at a width and height: what it covers by half or more.

    A mask that is too small for that keeps the pixel that it covers most, so that nothing found is lost to sight.
    """
    if found.size == (size[1], size[0]):
        return found.rle
    shape = Shape.of(found, size, margin=1)
    mask = np.zeros((size[1], size[0]), dtype=bool)
    mask[shape.rows, shape.columns] = shape.shares >= min(_HALF + 1, max(1, int(shape.shares.max())))
    return encode(mask)


def _data_uri(image: Image.Image, size: tuple[int, int]) -> str:
    """The picture at a size as a JPEG that stands in the page itself."""
    small = image.convert("RGB")
    if small.size != size:
        small = small.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    file = io.BytesIO()
    small.save(file, format="JPEG", quality=QUALITY, optimize=True, progressive=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
