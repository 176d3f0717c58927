"""The rows of a COCO instances file: categories, images and annotations with their parents."""

from __future__ import annotations

from typing import Any

from langhops_cli.prediction.results import NamePath, Prediction, coco_box, json_rle, title


def coco_categories(numbers: dict[NamePath, int]) -> list[dict[str, Any]]:
    """Return COCO categories: a part's `name` stands alone ("dog head") and its `parent_id` is the category above."""
    rows = []
    for path, number in numbers.items():
        row = {"id": number, "name": title(path), "parent_id": numbers.get(path[:-1])}
        rows.append(row if len(path) == 1 else {**row, "part_name": path[-1]})
    return rows


def coco_image(prediction: Prediction, *, image_id: int) -> dict[str, Any]:
    """Return the COCO image entry of a prediction."""
    height, width = prediction.size
    row = {"id": image_id, "file_name": prediction.picture, "height": height, "width": width}
    if prediction.frame is not None:
        row |= {"frame_index": prediction.frame, "seconds": prediction.seconds}
    return row


def coco_annotations(
    prediction: Prediction, numbers: dict[NamePath, int], *, image_id: int, first_id: int = 1
) -> list[dict[str, Any]]:
    """Return one COCO annotation an instance, numbered from `first_id`; `parent_id` is the parent's annotation."""
    return [
        {
            "id": first_id + index,
            "image_id": image_id,
            "category_id": numbers[found.path],
            "parent_id": None if found.parent is None else first_id + found.parent,
            "score": round(found.score, 6),
            "bbox": coco_box(found.box),
            "area": found.area,
            "iscrowd": 0,
            "segmentation": json_rle(found.rle),
            **({} if found.track is None else {"track_id": found.track}),
        }
        for index, found in enumerate(prediction)
    ]
