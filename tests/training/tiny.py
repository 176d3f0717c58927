"""A prepared set of a few small pictures, and a recipe whose model is as small as the code allows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.handmade import write_index

SIDE = 64
TINY = {
    "preset": "mini",
    "decoder": {
        "dim": 32,
        "feedforward": 32,
        "heads": 4,
        "encoder_layers": 1,
        "object_layers": 1,
        "part_layers": 1,
        "num_queries": 12,
        "denoising_queries": 6,
    },
    "hierarchy": {"num_kept": 3},
}


def make_set(root: Path, *, pictures: int) -> None:
    """Cars with a wheel, each somewhere else; the last picture shows nothing."""
    from pycocotools import mask as coco_mask

    root.mkdir(parents=True)
    images, annotations = [], []
    for number in range(pictures):
        canvas = np.full((SIDE, SIDE, 3), 40 * number % 256, np.uint8)
        images.append({"id": number, "file_name": f"{number}.png", "width": SIDE, "height": SIDE})
        for category, box, colour in (
            (1, (8, 4 * number + 4, 40, 4 * number + 44), (200, 40, 40)),
            (2, (28, 4 * number + 8, 40, 4 * number + 24), (20, 20, 200)),
        ):
            if number + 1 == pictures > 1:
                continue
            top, left, bottom, right = box
            mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
            mask[top:bottom, left:right] = 1
            canvas[mask > 0] = colour
            code = coco_mask.encode(mask)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category,
                    "parent_id": None if category == 1 else len(annotations),
                    "segmentation": {"size": [SIDE, SIDE], "counts": code["counts"].decode()},
                    "bbox": [left, top, right - left, bottom - top],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                }
            )
        Image.fromarray(canvas).save(root / f"{number}.png")
    categories = [
        {"id": 1, "name": "car", "parent_id": None},
        {"id": 2, "name": "car wheel", "part_name": "wheel", "parent_id": 1},
        {"id": 3, "name": "dog", "parent_id": None},
    ]
    info = {"format": 1, "exhaustive": True, "image_root": "."}
    content = {"info": info, "images": images, "annotations": annotations, "categories": categories}
    for split in ("train", "val"):
        (root / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")
        write_index(root, split)
    (root / "hierarchy.yaml").write_text("car: {wheel: }\ndog:\n", encoding="utf-8")


def make_recipe(path: Path, level: str, **changes: Any) -> Path:
    """Write a recipe of the tiny model; `changes` replace whole sections."""
    sections = {
        "model": TINY,
        "stage": {"level": level},
        "data": {"train": [{"name": "cars"}], "image_size": SIDE, "batch": 2, "workers": 0},
        "optimizer": {"learning_rate": 1e-3},
        "schedule": {"steps": 5, "warmup": 1, "decay": "cosine"},
        "logging": {"every": 1, "save_every": 100},
    }
    path.write_text(json.dumps(sections | changes), encoding="utf-8")
    return path
