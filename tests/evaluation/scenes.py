"""Small ground truths and results, made by hand or at random."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

SIDE = 120


def encode(mask: np.ndarray) -> dict[str, Any]:
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(code["size"]), "counts": code["counts"].decode("ascii")}


def rectangle(x: int, y: int, width: int, height: int, *, size: tuple[int, int] = (SIDE, SIDE)) -> dict[str, Any]:
    mask = np.zeros(size, np.uint8)
    mask[y : y + height, x : x + width] = 1
    return encode(mask)


def annotation(image_id: int, category_id: int, *box: int, **more: Any) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": rectangle(*box),
        "bbox": [float(side) for side in box],
        "area": float(box[2] * box[3]),
        "iscrowd": 0,
        "parent_id": None,
        **more,
    }


def result(image_id: int, category_id: int, score: float, *box: int) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "category_id": category_id,
        "score": score,
        "segmentation": rectangle(*box),
        "bbox": [float(side) for side in box],
    }


def truth(
    annotations: list[dict[str, Any]], *, pictures: int = 1, exhaustive: bool = True, objects: int = 1
) -> dict[str, Any]:
    """Objects car (1) and dog (2), parts car wheel (3), car door (4) and dog head (5)."""
    names = [("car", None), ("dog", None), ("car wheel", 1), ("car door", 1), ("dog head", 2)]
    return {
        "info": {"exhaustive": exhaustive},
        "images": [{"id": i, "file_name": f"{i}.png", "height": SIDE, "width": SIDE} for i in range(1, pictures + 1)],
        "categories": [{"id": i, "name": name, "parent_id": parent} for i, (name, parent) in enumerate(names, 1)],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, start=1)],
    }


def random_scene(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A few pictures, some empty, with crowds, instances of every size, ties of scores and false results.

    Every seventh seed has more than 100 results of one name in one picture.
    """
    random = np.random.default_rng(seed)
    pictures = int(random.integers(1, 5))

    def box() -> list[int]:
        width, height = random.integers(2, [110, 110] if random.random() < 0.4 else [40, 40])
        x, y = random.integers(0, [SIDE - width + 1, SIDE - height + 1])
        return [int(side) for side in (x, y, width, height)]

    annotations, results = [], []
    for image_id in range(1, pictures + 1):
        for _ in range(int(random.integers(0, 7))):
            place, category = box(), int(random.integers(1, 6))
            crowd = int(random.random() < 0.15)
            annotations.append(annotation(image_id, category, *place, iscrowd=crowd))
            for _ in range(int(random.integers(0, 3))):
                shift = random.integers(-4, 5, 2)
                x, y = (np.array(place[:2]) + shift).clip(0, SIDE - 2)
                width, height = min(place[2], SIDE - int(x)), min(place[3], SIDE - int(y))
                share = round(float(random.random()), 1)
                results.append(result(image_id, category, share, int(x), int(y), width, height))
        for _ in range(150 if seed % 7 == 0 and image_id == 1 else int(random.integers(0, 5))):
            category = 1 if seed % 7 == 0 else int(random.integers(1, 6))
            results.append(result(image_id, category, round(float(random.random()), 2), *box()))
    return truth(annotations, pictures=pictures), results
