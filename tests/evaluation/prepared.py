"""A tiny prepared set, and a model that reads the answers out of the pictures' colours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from langhops_cli.data.index import PreparedDataset
from langhops_cli.model.configuration import ModelConfig, PreprocessingConfig
from langhops_cli.model.structures import DecoderOutput, KeptObjects, Output, PartQueries, Predictions
from tests.handmade import write_index

from .scenes import encode

SIDE = 64
CONFIG = ModelConfig(preprocessing=PreprocessingConfig(shortest=SIDE, longest=SIDE))
SURE, SELDOM = 6.0, -6.0
HIERARCHY = "car:\n  wheel:\n  door:\ndog:\n  head:\n"
# Ids are not in the hierarchy's order, as in sets of other origin.
CATEGORIES = [
    {"id": 40, "name": "car wheel", "part_name": "wheel", "parent_id": 7},
    {"id": 7, "name": "car", "parent_id": None},
    {"id": 3, "name": "dog", "parent_id": None},
    {"id": 12, "name": "dog head", "part_name": "head", "parent_id": 3},
    {"id": 11, "name": "car door", "part_name": "door", "parent_id": 7},
]
OBJECTS, PARTS = [7, 3], [40, 11, 12]


def make_set(root: Path, *, pictures: int = 3, exhaustive: bool = True, split: str = "val") -> PreparedDataset:
    """Each picture has a car with one wheel, in places of its own; its grey is its number."""
    (root / "pictures").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(pictures):
        Image.new("RGB", (SIDE, SIDE), (number, number, number)).save(root / "pictures" / f"{number}.png")
        images.append({"id": 100 + number, "file_name": f"{number}.png", "width": SIDE, "height": SIDE})
        for category, mask in ((7, car(number)), (40, wheel(number))):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            left, top = int(columns[0]), int(rows[0])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 + number,
                    "category_id": category,
                    "parent_id": None if category == 7 else len(annotations),
                    "segmentation": encode(mask),
                    "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                }
            )
    info = {"exhaustive": exhaustive, "image_root": "pictures", "format": 1}
    content = {"info": info, "images": images, "annotations": annotations, "categories": CATEGORIES}
    (root / f"{split}.json").write_text(json.dumps(content))
    (root / "hierarchy.yaml").write_text(HIERARCHY)
    write_index(root, split)
    return PreparedDataset(root, split)


def car(number: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[8:40, 4 * number : 4 * number + 32] = True
    return mask


def wheel(number: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[24:40, 4 * number + 4 : 4 * number + 20] = True
    return mask


class Reader(nn.Module):
    """Reads a picture's number from its grey and answers its car, its wheel, and a faint dog where there is none."""

    def __init__(self, *, parts: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.parts = parts
        self.seen: list[Any] = []

    def forward(self, pictures: Any, vocabulary: Any) -> Output:
        number = int(pictures.pixels[0, 0, 0, 0])
        self.seen.append((tuple(pictures.pixels.shape), vocabulary.texts, self.training, torch.is_grad_enabled()))
        objects = predictions([car(number), ~car(number)], torch.tensor([[SURE, SELDOM], [SELDOM, -2.0]]))
        valid = torch.ones(1, 2, dtype=torch.bool)
        decoded = DecoderOutput(torch.zeros(1, 2, 4), valid, objects)
        index = torch.tensor([[0, 1]])
        kept = KeptObjects(
            index, torch.zeros(1, 2, 4), torch.tensor([[0, 1]]), torch.tensor([[SURE, -2.0]]), valid, objects.boxes
        )
        if not self.parts:
            return Output(decoded, kept)
        queries = PartQueries(torch.zeros(1, 2, 4), torch.tensor([[0, 0]]), torch.tensor([[0, 1]]), valid)
        logits = torch.tensor([[SURE, SELDOM, SELDOM], [SURE, -3.0, SELDOM]])
        found = predictions([wheel(number), car(number)], logits)
        return Output(decoded, kept, queries, DecoderOutput(torch.zeros(1, 2, 4), valid, found))


def predictions(masks: list[np.ndarray], logits: torch.Tensor) -> Predictions:
    cells = torch.from_numpy(np.stack(masks))[:, ::4, ::4].float() * 20 - 10
    boxes = []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        boxes.append([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])
    return Predictions(logits[None], torch.tensor(boxes)[None] / SIDE, cells[None])
