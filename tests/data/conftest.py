"""Small data sets on disk, made for each test."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from langhops_cli.data.formats.coco_parts import read_coco_parts
from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.prepare import prepare, state_of
from langhops_cli.data.sample import Sample, SampleInstance, box_of
from langhops_cli.vocabulary import parse_vocabulary


def rectangle(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


@pytest.fixture
def write_coco(tmp_path: Path) -> Callable[..., Path]:
    """Write a COCO folder with pictures of 40 x 30 pixels; the split's file name can be chosen."""

    def write(
        annotations: list[dict[str, Any]],
        categories: list[dict[str, Any]],
        *,
        pictures: int = 1,
        split: str = "train",
        info: dict[str, Any] | None = None,
        folder: str = "source",
    ) -> Path:
        source = tmp_path / folder
        (source / "images" / split).mkdir(parents=True)
        images = []
        for number in range(1, pictures + 1):
            name = f"{split}/{number}.png"
            pixels = np.random.default_rng(number).integers(0, 255, (30, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(source / "images" / name)
            images.append({"id": number, "file_name": name, "width": 40, "height": 30})
        rows = [{"id": number, "image_id": 1, **row} for number, row in enumerate(annotations, start=1)]
        content = {"info": info or {}, "images": images, "annotations": rows, "categories": categories}
        (source / f"{split}.json").write_text(json.dumps(content))
        return source

    return write


@pytest.fixture
def dogs(write_coco: Callable[..., Path]) -> Path:
    """Two dogs with a head each, one more head outside both, on one picture; a second picture without anything."""
    return write_coco(
        [
            {"category_id": 1, "segmentation": rectangle(2, 2, 18, 22), "parent_id": None},
            {"category_id": 1, "segmentation": rectangle(20, 2, 38, 22), "parent_id": None},
            {"category_id": 2, "segmentation": rectangle(4, 4, 10, 10), "parent_id": None},
            {"category_id": 2, "segmentation": rectangle(24, 4, 30, 10), "parent_id": 2},
            {"category_id": 2, "segmentation": rectangle(2, 24, 10, 29), "parent_id": None},
        ],
        [{"id": 1, "name": "dog", "parent_id": None}, {"id": 2, "name": "dog's head", "parent_id": 1}],
        pictures=2,
    )


@pytest.fixture
def prepare_coco(tmp_path: Path) -> Callable[..., tuple[dict[str, Any], Path]]:
    """Read and prepare a COCO folder; give the report and the prepared folder."""

    def run(source: Path, *, union: bool = False, strict: bool = False, **options: Any) -> tuple[dict[str, Any], Path]:
        folder = tmp_path / "data" / "set"
        inputs = {"source": state_of(source), **{name: str(value) for name, value in options.items()}}
        report, _ = prepare(
            lambda _: read_coco_parts(source, **options), folder, inputs=inputs, union=union, strict=strict, workers=1
        )
        return report, folder

    return run


@pytest.fixture
def prepared_dogs(dogs: Path, prepare_coco: Callable[..., tuple[dict[str, Any], Path]]) -> PreparedDataset:
    _, folder = prepare_coco(dogs)
    return PreparedDataset(folder, "train")


@pytest.fixture
def car_sample() -> Sample:
    """A car, 40 x 30 pixels, with its left and its right door and a wheel; all pixels differ."""
    vocabulary = parse_vocabulary("car:left door,right door,wheel; left shoe")
    pixels = np.arange(30 * 40 * 3, dtype=np.int64).reshape(30, 40, 3) % 251

    def instance(label: int, left: int, top: int, right: int, bottom: int, parent: int = -1) -> SampleInstance:
        mask = np.zeros((30, 40), np.uint8)
        mask[top:bottom, left:right] = 1
        return SampleInstance(label, mask, box_of(mask), parent)

    return Sample(
        name="car.png",
        image=Image.fromarray(pixels.astype(np.uint8)),
        objects=[instance(1, 0, 26, 6, 30), instance(0, 4, 4, 34, 24)],
        parts=[instance(0, 6, 6, 16, 16, parent=1), instance(2, 20, 18, 28, 24, parent=1)],
        vocabulary=vocabulary,
    )
