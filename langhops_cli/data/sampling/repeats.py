"""Repeat-factor sampling: pictures that show seldom names stand several times in an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from langhops_cli.data.index import PreparedDataset

UNIT = 1 << 32
"""Factors are held as whole numbers of this fraction, so that their sums are exact."""


def repeat_factors(dataset: PreparedDataset, threshold: float) -> np.ndarray:
    """How often each picture is to stand in an epoch, on the average.

    The factor of a name, of an object or of a part, is max(1, sqrt(threshold / f)), where f is the share of the
    pictures that show it; that of a picture is the largest of its names, 1 where it shows none. What training does not
    read, crowds and names taken out of the hierarchy, does not count.

    Args:
        dataset: only the names in its index are read, no picture and no mask.
        threshold: names in a smaller share of the pictures than this are repeated, in 0..1.

    Returns:
        (len(dataset),), float64, 1 or more.

    Source: LVIS, arXiv 1908.03195, where the threshold is 0.001.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    column = dataset.column("category")
    names = pa.array(sorted(dataset.known_categories))
    places = pc.fill_null(pc.index_in(pc.list_flatten(column), value_set=names), -1).to_numpy()
    counted = (places >= 0) & ~pc.list_flatten(dataset.column("crowd")).to_numpy()
    pictures = np.repeat(np.arange(len(dataset)), pc.list_value_length(column).to_numpy())
    shown = np.sort(pictures[counted] * len(names) + places[counted])
    shown = shown[np.diff(shown, prepend=-1) > 0]  # a name counts once a picture
    pictures, places = np.divmod(shown, len(names))
    shares = np.bincount(places, minlength=len(names)) / len(dataset)
    factors = np.ones(len(dataset))
    np.maximum.at(factors, pictures, np.sqrt(threshold / shares[places]))
    return factors


class RepeatedEpochs:
    """Epochs in which each picture stands as often as its factor says, rounded up or down anew every time.

    An epoch lays the factors end to end in a new order, and counts for each picture the whole numbers that fall into
    its stretch, after a shift of 0..1 drawn for the epoch: the expected count is the factor itself, and the length of
    an epoch is the sum of the factors, rounded up or down. The lengths follow from the shifts alone, so any turn is
    found without going through the ones before it.

    Args:
        factors: how often each picture stands in an epoch on the average, 1 or more, (N,).
        stream: numbers that seed the epochs.
    """

    def __init__(self, factors: np.ndarray, stream: Sequence[int]) -> None:
        self._factors = np.round(np.asarray(factors) * UNIT).astype(np.int64)
        self._total = int(self._factors.sum())
        self._stream = tuple(stream)
        self._shifts = np.zeros(0, np.int64)
        self._ends = np.zeros(0, np.int64)
        self._pictures = lru_cache(maxsize=4)(self._shuffle)

    def picture(self, turn: int) -> int:
        """The picture that is drawn after `turn` others."""
        epoch, place = self.locate(turn)
        return int(self._pictures(epoch)[place])

    def locate(self, turn: int) -> tuple[int, int]:
        """The epoch that a turn belongs to, and how many of the epoch's turns come before it."""
        enough = turn // (self._total // UNIT) + 1
        if len(self._ends) < enough:
            # A longer table begins with the shorter one: the generator gives the same numbers in the same order.
            shifts = np.random.default_rng([*self._stream, 0, 1]).integers(UNIT, size=2 * enough)
            self._shifts, self._ends = shifts, np.cumsum((self._total + shifts) // UNIT)
        epoch = int(np.searchsorted(self._ends, turn, side="right"))
        return epoch, turn - (int(self._ends[epoch - 1]) if epoch else 0)

    def _shuffle(self, epoch: int) -> np.ndarray:
        generator = np.random.default_rng([*self._stream, epoch])
        order = generator.permutation(len(self._factors))
        ends = (np.cumsum(self._factors[order]) + self._shifts[epoch]) // UNIT
        return generator.permutation(np.repeat(order, np.diff(ends, prepend=0)))
