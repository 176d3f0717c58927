"""Pictures with two cars and a dog, and a model that names their parts more or less rightly."""

from __future__ import annotations

import json

import numpy as np
import torch
from PIL import Image
from torch import nn

from langhops_cli.data.index import PreparedDataset
from langhops_cli.evaluation.semantic.runner import evaluate_semantic
from langhops_cli.model.structures import DecoderOutput, KeptObjects, Output, PartQueries
from tests.handmade import write_index

from .prepared import CATEGORIES, CONFIG, HIERARCHY, SELDOM, SIDE, SURE, predictions
from .scenes import encode


def box(x, y, width, height):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y : y + height, x : x + width] = True
    return mask


CARS = [box(0, 0, 32, 24), box(36, 0, 24, 24)]
DOG = box(8, 32, 40, 24)
WHEELS = [box(0, 16, 8, 8), box(36, 16, 8, 8)]
ITEMS = [  # category, mask, place of the object it belongs to; a handle lies on the first door and is smaller
    (7, CARS[0], None),
    (7, CARS[1], None),
    (3, DOG, None),
    (40, WHEELS[0], 0),
    (40, WHEELS[1], 1),
    (11, box(12, 0, 16, 24), 0),
    (40, box(12, 16, 4, 4), 0),
    (12, box(8, 32, 12, 12), 2),
]


def make_set(root, *, items=ITEMS, pictures=2):
    (root / "pictures").mkdir(parents=True)
    images, annotations = [], []
    for number in range(pictures):
        Image.new("RGB", (SIDE, SIDE), (number, 0, 0)).save(root / "pictures" / f"{number}.png")
        images.append({"id": 100 + number, "file_name": f"{number}.png", "width": SIDE, "height": SIDE})
        first = len(annotations) + 1
        for category, mask, parent in items if number == 0 else items[:2] + items[3:6]:
            # the second picture has the two cars alone, so that the places move up
            counts = {"counts": ""} if mask is None else encode(mask)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 + number,
                    "category_id": category,
                    "parent_id": None if parent is None else first + parent,
                    "segmentation": counts,
                    "iscrowd": 0,
                }
            )
    info = {"exhaustive": True, "image_root": "pictures", "format": 1}
    content = {"info": info, "images": images, "annotations": annotations, "categories": CATEGORIES}
    (root / "val.json").write_text(json.dumps(content))
    (root / "hierarchy.yaml").write_text(HIERARCHY)
    write_index(root, "val")
    return PreparedDataset(root, "val")


class Answers(nn.Module):
    """Finds the wheels, a door that covers both cars, and a dog's head that covers the upper half of the picture."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen = 0

    def forward(self, pictures, vocabulary):
        self.seen += 1
        valid = torch.ones(1, 1, dtype=torch.bool)
        objects = predictions([CARS[0]], torch.tensor([[SURE, SELDOM]]))
        kept = KeptObjects(
            torch.tensor([[0]]), torch.zeros(1, 1, 4), torch.tensor([[0]]), torch.tensor([[SURE]]), valid, objects.boxes
        )
        masks = [WHEELS[0] | WHEELS[1], CARS[0] | CARS[1], box(0, 0, 64, 32)]
        logits = torch.tensor([[SURE, 0.0, SELDOM], [0.0, SURE, SELDOM], [SELDOM, SELDOM, SURE]])
        many = torch.ones(1, 3, dtype=torch.bool)
        queries = PartQueries(
            torch.zeros(1, 3, 4), torch.zeros(1, 3, dtype=torch.long), torch.tensor([[0, 1, 2]]), many
        )
        parts = DecoderOutput(torch.zeros(1, 3, 4), many, predictions(masks, logits))
        return Output(DecoderOutput(torch.zeros(1, 1, 4), valid, objects), kept, queries, parts)


def evaluate(dataset, folder, **options):
    return evaluate_semantic(Answers(), dataset, folder, config=CONFIG, **options)
