"""Compressed COCO masks decoded to the lengths of their runs, many at a time: pycocotools itself checks nothing.

COCO writes a mask as text: five bits a character, a sign, each run from the fourth on as the difference to the run two
before it, background first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_BITS = 5
_MORE, _SIGN, _VALUE = 0x20, 0x10, 0x1F
_LONGEST = 7
"""Characters of one run: seven hold 35 bits, more than any picture needs."""


def run_lengths(counts: str | bytes) -> NDArray[np.int64]:
    """Lengths of the runs of one mask, (R,), background first.

    Raises:
        ValueError: the text is no such code.
    """
    return _decode([_as_bytes(counts)])[0]


def fill(counts: Sequence[str | bytes], areas: Sequence[int]) -> list[bool | None]:
    """Whether the runs of each mask fill its picture exactly.

    Args:
        counts: compressed masks.
        areas: of their pictures in pixels.

    Returns:
        For each mask True or False; None where its text is no such code.
    """
    try:
        runs, first = _decode([_as_bytes(text) for text in counts])
    except ValueError:
        if len(counts) == 1:
            return [None]
        return [fill([text], [area])[0] for text, area in zip(counts, areas, strict=True)]
    total, negative = (np.concatenate([[0], np.cumsum(values)]) for values in (runs, runs < 0))
    whole = (np.diff(total[first]) == np.asarray(areas)) & (np.diff(negative[first]) == 0)
    return [bool(value) for value in whole]


def _as_bytes(counts: str | bytes) -> bytes:
    return counts.encode("ascii") if isinstance(counts, str) else counts  # a UnicodeEncodeError is a ValueError


def _decode(texts: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The runs of all masks together, (R,), and where each mask begins among them, (N + 1,).

    Raises:
        ValueError: one of the texts is no such code.
    """
    codes = np.frombuffer(b"".join(texts), dtype=np.uint8) - np.uint8(48)
    sizes = np.array([len(text) for text in texts], dtype=np.int64)
    bounds = np.cumsum(sizes)
    goes_on = codes & _MORE
    ends = np.flatnonzero(goes_on == 0)
    lengths = np.diff(ends, prepend=-1)
    if codes.size and (codes.max() > 63 or goes_on[bounds[sizes > 0] - 1].any() or lengths.max() > _LONGEST):
        raise ValueError("not a compressed mask")
    first = np.concatenate([np.zeros(1, np.int64), np.searchsorted(ends, bounds)])
    if not codes.size:
        return np.zeros(0, np.int64), first
    starts = ends - lengths + 1
    place = _BITS * (np.arange(codes.size) - np.repeat(starts, lengths))
    runs = np.add.reduceat((codes & _VALUE).astype(np.int64) << place, starts)
    runs -= np.where(codes[ends] & _SIGN, np.int64(1) << (_BITS * lengths), 0)
    local = np.arange(runs.size) - np.repeat(first[:-1], np.diff(first))
    for chain in ((local & 1) == 1, ((local & 1) == 0) & (local > 0)):
        sums = np.cumsum(np.where(chain, runs, 0))
        before = np.concatenate([np.zeros(1, np.int64), sums])[first[:-1]]
        runs = np.where(chain, sums - np.repeat(before, np.diff(first)), runs)
    return runs, first
