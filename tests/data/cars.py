"""A prepared set of noise pictures, each with a car and its wheel, for what is written as shards and streamed."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from langhops_cli.data.formats.coco_parts import read_coco_parts
from langhops_cli.data.prepare import prepare

SIDE = 96


def prepare_cars(place: Path, *, pictures: int, val: int = 0) -> Path:
    """Write pictures, every other one a JPEG, and prepare them; give the prepared folder, `place/cars`."""
    for split, number in {"train": pictures, "val": val}.items():
        if number:
            _write_split(place / "source", split, number)
    source = read_coco_parts(place / "source")
    prepare(lambda _: source, place / "cars", inputs={"pictures": pictures, "val": val}, workers=1)
    return place / "cars"


def _write_split(source: Path, split: str, number: int) -> None:
    (source / "images" / split).mkdir(parents=True)
    images, annotations = [], []
    for picture in range(1, number + 1):
        name = f"{split}/{picture}.{'jpg' if picture % 2 else 'png'}"
        noise = np.random.default_rng(picture + 1000 * len(split)).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(noise).save(source / "images" / name)
        images.append({"id": picture, "file_name": name, "width": SIDE, "height": SIDE})
        left = picture % 40
        for category, right in ((1, left + 40), (2, left + 12)):
            shape = [[left, 8, right, 8, right, 60, left, 60]]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": picture,
                    "category_id": category,
                    "segmentation": shape,
                    "parent_id": None if category == 1 else len(annotations),
                }
            )
    categories = [{"id": 1, "name": "car", "parent_id": None}, {"id": 2, "name": "car's wheel", "parent_id": 1}]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    (source / f"{split}.json").write_text(json.dumps(content))
