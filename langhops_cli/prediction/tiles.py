"""Large pictures in windows: each at the picture's own resolution, and the whole picture once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from langhops_cli.prediction.postprocess import with_parts
from langhops_cli.prediction.results import Prediction
from langhops_cli.prediction.views import View, Window, merge_views

if TYPE_CHECKING:
    from langhops_cli.prediction.postprocess import Level, PartScoring
    from langhops_cli.prediction.predictor import Picture, Predictor
    from langhops_cli.vocabulary import Vocabulary

LEAST_TILE = 64
"""Pixels that a window's side has at least."""
LEAST_OVERLAP, MOST_OVERLAP = 0.05, 0.75
"""Shares of a window that two neighbours may have in common; with less, pieces on two sides of a seam cannot agree."""


def predict_tiled(
    predictor: Predictor,
    image: Picture,
    vocabulary: Vocabulary | str | Sequence[str],
    *,
    tile: int,
    overlap: float = 0.25,
    batch_size: int = 1,
    min_score: float | None = None,
    part_scoring: PartScoring | None = None,
    name: str | None = None,
    level: Level = "all",
    max_objects: int | None = None,
) -> Prediction:
    """Find objects and their parts in a large picture: small ones in windows, large ones in the whole picture.

        prediction = predict_tiled(predictor, "aerial.tif", "car:wheel,door", tile=800)

    Args:
        predictor: looks at every window, and at the whole picture once.
        image: a path, a PIL picture, or an array (h, w, 3) or (h, w), uint8, RGB or grey.
        vocabulary: names to look for, as text "dog:head,leg*4" or parsed.
        tile: side of a window in pixels of the picture, at least 64; a picture that fits into one is predicted plainly.
        overlap: share of a window that it has in common with its neighbour at least, in 0.05..0.75.
        batch_size: windows the model sees at once, at least 1.
        min_score, part_scoring, name, level, max_objects: as for `Predictor.predict`.

    Returns:
        What was found, with masks of the picture's own size; see `merge_views` for how the windows' answers are joined.

    Raises:
        UserError: the picture cannot be read, or the vocabulary has a mistake.
        ValueError: `tile`, `overlap` or `batch_size` is out of range, or as for `Predictor.predict`.
    """
    from langhops_cli.prediction.predictor import as_picture

    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if max_objects is not None and max_objects < 1:
        raise ValueError(f"max_objects must be at least 1, got {max_objects}")
    picture = as_picture(image)
    title = name if name is not None else str(image) if isinstance(image, str | Path) else ""
    places = windows((picture.height, picture.width), tile=tile, overlap=overlap)
    if len(places) == 1:
        return predictor.predict(
            picture,
            vocabulary,
            min_score=min_score,
            part_scoring=part_scoring,
            name=title,
            level=level,
            max_objects=max_objects,
        )
    # What hangs from an object that a window shows a piece of is wanted even where the object is not.
    seen: Level = "object" if level == "object" else "all"
    whole = predictor.predict(
        picture, vocabulary, min_score=min_score, part_scoring=part_scoring, name=title, level=seen
    )
    views = []
    for begin in range(0, len(places), batch_size):
        chosen = places[begin : begin + batch_size]
        crops = [picture.crop(window) for window in chosen]
        answers = predictor.predict_batch(crops, vocabulary, min_score=min_score, part_scoring=part_scoring, level=seen)
        views += [View(window, answer) for window, answer in zip(chosen, answers, strict=True)]
    merged = merge_views(whole, views, max_objects=max_objects)
    return replace(merged, instances=tuple(with_parts(merged.instances))) if level == "part" else merged


def windows(size: tuple[int, int], *, tile: int, overlap: float) -> list[Window]:
    """Cover a picture with windows that lie evenly, row by row.

    Args:
        size: height and width of the picture in pixels.
        tile: side of a window in pixels, at least 64; a picture that is smaller in one direction bounds it there.
        overlap: share of a window that it has in common with its neighbour at least, in 0.05..0.75.

    Returns:
        Left, top, right, bottom of each in pixels.

    Raises:
        ValueError: `tile` or `overlap` is out of range.
    """
    if tile < LEAST_TILE:
        raise ValueError(f"tile must be at least {LEAST_TILE} pixels, got {tile}")
    if not LEAST_OVERLAP <= overlap <= MOST_OVERLAP:
        raise ValueError(f"overlap must be in {LEAST_OVERLAP}..{MOST_OVERLAP}, got {overlap}")
    rows, columns = (_spans(side, tile, overlap) for side in size)
    return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]


def _spans(side: int, tile: int, overlap: float) -> list[tuple[int, int]]:
    """First pixel and the one behind the last of each window along one side."""
    if side <= tile:
        return [(0, side)]
    count = math.ceil((side - tile) / (tile * (1 - overlap))) + 1
    return [(start, start + tile) for start in np.linspace(0, side - tile, count).round().astype(int).tolist()]
