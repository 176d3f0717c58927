"""Batches of pictures of like shape, so that less of their canvas is padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from langhops_cli.data.canvas import CANVAS_STEP

STEPS, PICTURES = 64, 4096
"""Steps among which pictures are exchanged, at most, and pictures that they have, as looking at each takes time."""


def arrange(sizes: Sequence[tuple[int, int]], *, batch_size: int, generator: np.random.Generator) -> np.ndarray:
    """Put the pictures that need the same canvas into the same batch, as far as there are such.

    Args:
        sizes: height and width of each picture in pixels; a whole number of batches.
        batch_size: pictures of a batch.
        generator: decides the order of the batches, and which of the pictures with one canvas go together.

    Returns:
        Places in `sizes`, a batch a row, those of one canvas next to each other, (batches, batch_size).
    """
    shuffled = generator.permutation(len(sizes))
    canvases = -(-np.asarray(sizes)[shuffled] // CANVAS_STEP)
    order = shuffled[np.lexsort((canvases[:, 1], canvases[:, 0]))]
    return generator.permutation(order.reshape(-1, batch_size))
