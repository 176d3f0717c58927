"""Many pictures with their masks on one sheet, to be looked at at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from langhops_cli.data.sample import Sample, SampleInstance
from langhops_cli.prediction.draw import draw_overlay
from langhops_cli.prediction.results import Detection, NamePath, Prediction

CELL = 360
"""Longer side of a picture on a sheet in pixels."""
GAP = 8
SHAPE = 1.5
"""A sheet is about this much wider than it is high."""


def draw_samples(samples: Sequence[Sample]) -> Image.Image:
    """Draw what is annotated in pictures.

    Args:
        samples: at least one.

    Returns:
        A sheet of all of them, each with its masks, RGB.
    """
    names = sorted({part.name for sample in samples for part in sample.vocabulary.part_classes})
    return contact_sheet(
        [draw_overlay(sample.image, annotated(sample), names=names, scores=False) for sample in samples]
    )


def contact_sheet(pictures: Sequence[Image.Image]) -> Image.Image:
    """Lay pictures out in rows on white, each shrunk to its cell.

    Args:
        pictures: at least one, RGB.

    Returns:
        The sheet, RGB, about one and a half times as wide as high.
    """
    shrunk = [picture.copy() for picture in pictures]
    for picture in shrunk:
        picture.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    width, height = max(picture.width for picture in shrunk), max(picture.height for picture in shrunk)
    columns = min(len(shrunk), max(1, round(math.sqrt(SHAPE * len(shrunk) * height / width))))
    rows = -(-len(shrunk) // columns)
    size = (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP)
    sheet = Image.new("RGB", size, "white")
    for place, picture in enumerate(shrunk):
        row, column = divmod(place, columns)
        left, top = GAP + column * (width + GAP), GAP + row * (height + GAP)
        sheet.paste(picture, (left + (width - picture.width) // 2, top + (height - picture.height) // 2))
    return sheet


def annotated(sample: Sample) -> Prediction:
    """What is annotated in a picture, as a prediction that is sure of all; a box without a mask is drawn filled.

    A part without a known object stands by itself under its whole name, "dog head".
    """
    names = sample.vocabulary.object_names
    paths = sample.vocabulary.part_paths
    found = [Detection.from_mask((names[item.label],), 1.0, _mask(item, sample)) for item in sample.objects]
    for item in sample.parts:
        parent = item.parent if item.parent >= 0 else None
        path: NamePath = paths[item.label] if parent is not None else (" ".join(paths[item.label]),)
        found.append(Detection.from_mask(path, 1.0, _mask(item, sample), parent=parent))
    return Prediction(sample.name, sample.size, tuple(found))


def _mask(item: SampleInstance, sample: Sample) -> np.ndarray:
    if item.mask is not None:
        return item.mask.astype(bool)
    mask = np.zeros(sample.size, bool)
    left, top, right, bottom = (round(edge) for edge in item.box)
    mask[top : max(bottom, top + 1), left : max(right, left + 1)] = True
    return mask
