"""Predictions with masks of every kind: with holes, in pieces, a pixel wide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from langhops_cli.prediction.results import Detection, Prediction
from langhops_cli.vocabulary import parse_vocabulary

VOCABULARY = parse_vocabulary('dog:head(ear),leg*2,house roof; dog house:door; "café: bar":stool')
SIZE = (60, 80)


def blobs(seed: int, size: tuple[int, int] = SIZE, share: float = 0.3) -> np.ndarray:
    """A mask of several pieces with holes, some of which touch at corners."""
    noise = np.random.default_rng(seed).random(size)
    smooth = ndimage.gaussian_filter(noise, 1.3)
    return smooth > np.quantile(smooth, 1 - share)


def ring(top: int, left: int, side: int = 9) -> np.ndarray:
    """A square with a hole, one piece."""
    mask = np.zeros(SIZE, dtype=bool)
    mask[top : top + side, left : left + side] = True
    mask[top + 2 : top + side - 2, left + 2 : left + side - 2] = False
    return mask


def block(top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


def everything(name: str = "a b/ü.jpg") -> Prediction:
    """Objects and parts of three levels, two of one name in one object, pieces, holes and single pixels."""
    return Prediction(
        name,
        SIZE,
        (
            Detection.from_mask(("dog",), 0.9, blobs(1), track=3),
            Detection.from_mask(("dog", "leg"), 0.5, blobs(2, share=0.1), parent=0),
            Detection.from_mask(("dog", "leg"), 0.7, ring(20, 30), parent=0),
            Detection.from_mask(("dog", "head"), 0.8, blobs(3, share=0.2), parent=0),
            Detection.from_mask(("dog", "head", "ear"), 0.6, block(0, 79, 1, 1), parent=3),
            Detection.from_mask(("dog",), 0.4, block(0, 0, 60, 80)),
            Detection.from_mask(("dog", "house roof"), 0.3, block(59, 0, 1, 80), parent=5),
            Detection.from_mask(("dog house",), 0.35, np.eye(60, 80, dtype=bool)),
            Detection.from_mask(("dog house", "door"), 0.25, ring(50, 70), parent=7),
        ),
    )


def apart() -> Prediction:
    """Two dogs side by side, each with a head and two legs; every level without overlaps."""
    rows: list[Detection] = []
    for left in (0, 40):
        dog = len(rows)
        rows.append(Detection.from_mask(("dog",), 0.9, block(10, left, 40, 30)))
        rows.append(Detection.from_mask(("dog", "head"), 0.8, ring(10, left), parent=dog))
        rows.append(Detection.from_mask(("dog", "head", "ear"), 0.7, block(10, left, 2, 2), parent=dog + 1))
        rows.append(Detection.from_mask(("dog", "leg"), 0.6, block(40, left, 10, 4), parent=dog))
        rows.append(Detection.from_mask(("dog", "leg"), 0.5, block(40, left + 20, 10, 4), parent=dog))
    return Prediction("pictures/two.png", SIZE, tuple(rows))


def photograph(path: Path) -> Path:
    """A picture file of the right size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
