"""What the tests of `langhops predict` share: names, pictures of noise, and the files of a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

VOCABULARY = "dog:head,leg*2; 猫:ear"
FILES = {"predictions.json", "predictions.jsonl", "run.json", "index.html"}


def draw(path, size=(60, 40), seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
