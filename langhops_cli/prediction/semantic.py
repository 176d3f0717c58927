"""From queries to a map of names, as the semantic protocols of the field read one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from langhops_cli.prediction.masks import resized
from langhops_cli.prediction.postprocess import PictureOutput
from langhops_cli.prediction.results import Mask

TEMPERATURE = 0.06
"""Of the softmax over names in the published protocol."""
MAX_QUERIES = 100
"""Part queries of a picture that have a say, the surest ones, as in the release."""
_VALUES = 1 << 23
"""Most values of one array: a picture is gone through in bands of rows, whatever its size."""


def semantic_scores(
    logits: Tensor,
    masks: Tensor,
    *,
    size: tuple[int, int],
    original: tuple[int, int],
    temperature: float = TEMPERATURE,
) -> Tensor:
    """How much each pixel is each name: every query gives its share of the names to the pixels of its mask.

    Args:
        logits: of N queries over C names, (N, C); minus infinity where a query cannot be the name.
        masks: logits at stride 4, (N, h, w), on the same device.
        size: height and width of the picture on the canvas in pixels.
        original: height and width of the picture as it came, in pixels.
        temperature: of the softmax over the names' probabilities; small makes a query speak for one name.

    Returns:
        (C, height, width), 0 and more.

    Source: OV-PARTS (arXiv 2310.05107), section 4; EVALUATION.md, "Semantic hIoU".
    """
    shares = _shares(logits, temperature)
    return torch.einsum("nc,nhw->chw", shares, resized(masks, size, original).sigmoid())


def _shares(logits: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """What each query gives to each name, (N, C); the shares of a query add up to 1."""
    return (logits.float().sigmoid() / temperature).softmax(-1)


@dataclass(frozen=True)
class Wanted:
    """A map of names that is asked for.

    Args:
        labels: the parts that it may hold, places among the part names; those of an object stand side by side.
        inside: the pixels that it may name, (height, width); None for all.
    """

    labels: range
    inside: Mask | None = None


def part_maps(
    picture: PictureOutput, wanted: Sequence[Wanted], *, names: tuple[int, int], abstain_below: float = 0.0
) -> list[NDArray[np.uint16]]:
    """Name the part that each pixel is likeliest to be.

    Object queries and part queries stand side by side in the published protocol, with the names of both. An object
    query gives all parts the same, which changes no map, so that only its names are counted here: in the softmax.

    Args:
        picture: the model's output for the picture.
        wanted: the maps; all are made in one pass over the picture.
        names: how many object names and part names the model was asked for.
        abstain_below: a pixel whose best part gets less has no name. At 0 every pixel that may be named is; where no
            query says anything it is the first part.

    Returns:
        For each the part of every pixel, (height, width); the number of part names where it has none.
    """
    maps = [np.full(picture.original, names[1], dtype=np.uint16) for _ in wanted]
    asked = sorted({label for item in wanted for label in item.labels})
    firsts = [asked.index(item.labels.start) for item in wanted]
    for rows, scores in _bands(picture, asked, names=names, rows=_rows(wanted, picture.original[0])):
        for labels, item, first in zip(maps, wanted, firsts, strict=True):
            inside = slice(None) if item.inside is None else item.inside[rows]
            best, number = scores[first : first + len(item.labels)].max(0)
            named = (number + item.labels.start).masked_fill_(best < abstain_below, names[1])
            labels[rows][inside] = named.cpu().numpy()[inside]
    return maps


def _rows(wanted: Sequence[Wanted], height: int) -> range:
    """Rows of the picture that hold anything to be named."""
    rows = np.zeros(height, dtype=bool)
    for item in wanted:
        rows |= True if item.inside is None else item.inside.any(axis=1)
    found = np.flatnonzero(rows)
    return range(int(found[0]), int(found[-1]) + 1) if found.size else range(0)


def _bands(
    picture: PictureOutput, labels: Sequence[int], *, names: tuple[int, int], rows: range
) -> Iterator[tuple[slice, Tensor]]:
    """The scores of some parts, as `semantic_scores`, a band of rows at a time: (len(labels), rows, width)."""
    objects, parts = names
    device = picture.objects.logits.device
    logits, masks = torch.zeros(0, parts, device=device), torch.zeros(0, 1, 1, device=device)
    if picture.parts is not None and picture.parts.masks is not None:
        surest = picture.parts.logits.amax(1).topk(min(MAX_QUERIES, len(picture.parts.logits))).indices
        logits, masks = picture.parts.logits[surest], picture.parts.masks[surest]
    # A part query cannot be an object; in the release its logit for one is minus infinity.
    shares = _shares(F.pad(logits, (objects, 0), value=-torch.inf))[:, [objects + label for label in labels]].T
    step = max(1, _VALUES // (max(len(labels), len(masks)) * picture.original[1]))
    for first in range(rows.start, rows.stop, step):
        band = slice(first, min(first + step, rows.stop))
        inside = resized(masks, picture.size, picture.original, rows=band).sigmoid_()
        yield band, (shares @ inside.flatten(1)).unflatten(1, inside.shape[1:])
