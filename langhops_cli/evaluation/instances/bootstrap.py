"""How sure a figure is: average precision over pictures drawn again and again, from matches and without masks.

A drawn picture counts as often as it was drawn. Only results that are right raise recall, and among the points of a
precision-recall curve only theirs can be the highest to their right, so that the curve is followed along the right
results alone; what lies between them is one running sum that all overlaps share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langhops_cli.evaluation.instances.matches import RECALLS, THRESHOLDS, Matches

Array = NDArray[Any]
ALL = 0
"""Place of the area range "all"."""
AT_ONCE = 2_000_000
"""Numbers that are held of a name's results at once."""


def draw(pictures: int, samples: int, *, seed: int = 0) -> Array:
    """Draw as many pictures as there are, with putting back, again and again.

    Args:
        pictures: how many there are, P.
        samples: how often, S.
        seed: the same seed draws the same.

    Returns:
        How often each picture was drawn in each sample, (P, S) uint16.
    """
    random = np.random.default_rng(seed)
    counts = np.empty((pictures, samples), np.uint16)
    for sample in range(samples):
        counts[:, sample] = np.bincount(random.integers(0, pictures, pictures), minlength=pictures)
    return counts


def sampled_ap(matches: Matches, weights: Array, *, watch: Callable[[Iterable[int]], Iterable[int]] = iter) -> Array:
    """Average precision of each name, as `tables` has it, in each bootstrap sample.

    Args:
        matches: of masks or of boxes.
        weights: how often each picture counts, (P, S) whole numbers.
        watch: goes through the places of the names and may show how far it is.

    Returns:
        Mean over overlaps and recall levels of instances of every size, (K, S); NaN where a sample has no instance
        of the name.
    """
    names, samples = len(matches.names), weights.shape[1]
    found = np.full((names, samples), np.nan)
    # By name and then from the best score down, as `tables` goes through them.
    order = np.lexsort((-matches.score, matches.name))
    ends = np.cumsum(np.bincount(matches.name, minlength=names))
    counted = matches.truth_counts[:, ALL]
    truth = np.argsort(matches.truth_name[counted], kind="stable")
    truth_picture = matches.truth_picture[counted][truth]
    truth_ends = np.cumsum(np.bincount(matches.truth_name[counted], minlength=names))
    for name in watch(range(names)):
        own = order[ends[name - 1] if name else 0 : ends[name]]
        pictures = truth_picture[truth_ends[name - 1] if name else 0 : truth_ends[name]]
        picture, right, ignored = matches.picture[own], matches.right[own, ALL], matches.ignored[own, ALL]
        step = max(1, AT_ONCE // max(len(own), len(pictures), 1))
        for begin in range(0, samples, step):
            part = weights[:, begin : begin + step]
            instances = part[pictures].sum(0, dtype=np.int64)
            there = instances > 0
            if there.any():
                scores = _one_name(part[picture], right, ignored, np.maximum(instances, 1))
                found[name, begin : begin + step] = np.where(there, scores, np.nan)
    return found


def _one_name(weight: Array, right: Array, ignored: Array, instances: Array) -> Array:
    """Average precision of a name in some samples, (S,).

    Args:
        weight: how often each of its results counts, best first, (D, S).
        right, ignored: bits of the overlaps, (D,).
        instances: (S,), at least 1.
    """
    above = np.cumsum(weight, axis=0, dtype=np.int32)
    total = np.zeros(len(instances))
    before: tuple[Array, Array] | None = None
    for number in range(len(THRESHOLDS)):
        places = np.flatnonzero((right >> number) & 1)
        aside = np.flatnonzero((ignored >> number) & ~(right >> number) & 1)
        if not len(places):
            continue
        if before is None or not (np.array_equal(before[0], places) and np.array_equal(before[1], aside)):
            mean = _mean_precision(weight, above, places, aside, instances)
        before = places, aside
        total += mean
    return total / len(THRESHOLDS)


def _mean_precision(weight: Array, above: Array, places: Array, aside: Array, instances: Array) -> Array:
    """Mean over recall levels of the highest precision from each level on, at one overlap, (S,).

    Args:
        weight: of all results, (D, S); above: its running sum, (D, S).
        places: of the right results; aside: of those that do not count.
        instances: (S,).
    """
    right = np.cumsum(weight[places], axis=0, dtype=np.int32)
    counted = above[places]
    if len(aside):
        passed = np.searchsorted(aside, places)
        left_out = np.concatenate([np.zeros((1, weight.shape[1]), np.int32), np.cumsum(weight[aside], 0, np.int32)])
        counted = counted - left_out[passed]
    precision = right / (counted + np.spacing(1))
    backwards = precision[::-1]
    np.maximum.accumulate(backwards, axis=0, out=backwards)
    reached = np.searchsorted(RECALLS, right / instances, side="right")
    levels = np.diff(reached, axis=0, prepend=0)
    return (precision * levels).sum(0) / len(RECALLS)


def interval(values: Array, *, share: float = 0.95) -> tuple[float, float] | None:
    """The middle range that holds so many of the sampled values, NaN left out; None where there are none."""
    known = values[~np.isnan(values)]
    if not known.size:
        return None
    low, high = np.quantile(known, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def level_means(scores: Array, places: list[int]) -> Array:
    """Mean over some names that have an instance in the sample, (S,); NaN where none has."""
    chosen = scores[places]
    there = ~np.isnan(chosen)
    count = there.sum(0)
    return np.where(count > 0, np.where(there, chosen, 0).sum(0) / np.maximum(count, 1), np.nan)
