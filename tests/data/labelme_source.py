"""LabelMe files written for tests."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Write = Callable[..., Path]
Shape = dict[str, Any]
TRIANGLE = [[5.0, 5.0], [70.5, 8.25], [40.0, 55.0]]


def shape(label: Any, points: Any = TRIANGLE, kind: str = "polygon", **more: Any) -> Shape:
    """A shape as LabelMe 5 writes it."""
    return {
        "label": label,
        "points": points,
        "group_id": None,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": None,
        **more,
    }


def square(left: float, top: float, side: float = 10) -> list[list[float]]:
    return [[left, top], [left + side, top], [left + side, top + side], [left, top + side]]


def png(mask: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def writer(tmp_path: Path) -> Write:
    """Write a LabelMe file and, where `picture` is not None, its picture of 80 x 60 pixels; give the source."""

    def write_file(
        file: str,
        shapes: Any,
        *,
        picture: str | None = "",
        image_path: Any = None,
        folder: str = "source",
        **more: Any,
    ) -> Path:
        source = tmp_path / folder
        path = source / file
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "version": "5.4.1",
            "flags": {},
            "shapes": shapes,
            "imagePath": path.with_suffix(".png").name if image_path is None else image_path,
            "imageData": None,
            "imageHeight": 60,
            "imageWidth": 80,
            **more,
        }
        path.write_text(json.dumps(content, indent=2))
        if picture is not None:
            place = source / picture if picture else path.with_suffix(".png")
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (80, 60), (len(file), sum(file.encode()) % 255, 3)).save(place)
        return source

    return write_file
