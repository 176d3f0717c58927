"""Small sources in COCO's form on disk."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

SQUARE = [[2, 2, 12, 2, 12, 12, 2, 12]]


def blank(path: Path, width: int = 40, height: int = 30) -> None:
    """Write a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (90, 120, 40)).save(path)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_instances(
    path: Path,
    names: dict[int, str],
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    **other: Any,
) -> None:
    """Write a COCO file: pictures of 40 x 30 pixels with ids from 1, annotations with ids from 1, in picture 1."""
    write_json(
        path,
        {
            **other,
            "images": [{"id": number, "width": 40, "height": 30, **row} for number, row in enumerate(images, 1)],
            "annotations": [{"id": number, "image_id": 1, **row} for number, row in enumerate(annotations, 1)],
            "categories": [{"id": number, "name": name} for number, name in names.items()],
        },
    )
