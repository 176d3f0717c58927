"""Where the boxes of part queries start: in their object, and where the picture shows the part."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .pixel_decoder import cell_centres
from .positions import logit
from .structures import PartQueries

PEAKS = 256  # of one name in a picture
FAINT = 0.05  # likelihood below which a peak is no reason to look there
REPEATED = 0.25  # width and height of a repeated part at the start, as shares of its object's


def slot_anchors(slots: Tensor) -> Tensor:
    """Box logits at which the repetitions of a part start, as shares of their object's box, (B, M) to (B, M, 4).

    The first starts in the middle, half as wide and high as the object; the others a quarter, at the points of a
    sequence of which any first n cover the box evenly. Without places of their own, the many windows of a facade
    would all be looked for at the same spot.

    Source: the R2 sequence, M. Roberts, "The unreasonable effectiveness of quasirandom sequences" (2018).
    """
    golden = 1.32471795724474602596  # root of x^3 = x + 1
    steps = torch.tensor([1 / golden, 1 / golden**2], device=slots.device)
    centres = ((0.5 + slots.unsqueeze(-1) * steps) % 1).clamp(0.02, 0.98)
    sizes = torch.where(slots > 0, REPEATED, 0.5).unsqueeze(-1).expand_as(centres)
    return logit(torch.cat([centres, sizes], dim=-1))


def repeated(queries: PartQueries) -> Tensor:
    """Which queries ask for a part that others ask the same object for as well, (B, M), bool."""
    same = (queries.name.unsqueeze(2) == queries.name.unsqueeze(1)) & (
        queries.parent.unsqueeze(2) == queries.parent.unsqueeze(1)
    )
    return queries.valid & ((same & queries.valid.unsqueeze(1)).sum(-1) > 1)


def seen_anchors(likelihood: Tensor, queries: PartQueries, frames: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
    """The places in its object that look most like a part: slot k of a query is the k-th best of them.

    Args:
        likelihood: of every part name at every stride-4 pixel of the canvas, 0..1, (B, Cp, h, w).
        queries: with names and slots, (B, M).
        frames: boxes of their objects as shares of the picture, (B, M, 4).
        extent: share of the canvas that each picture fills, (B, 2) as (x, y).

    Returns:
        Box logits as shares of the frames, (B, M, 4), and whether there is such a place, (B, M).
    """
    assert queries.slot is not None
    # twice a mean of nine: a window of a few pixels has one highest pixel, its middle
    smooth = F.avg_pool2d(F.avg_pool2d(likelihood, 3, 1, 1), 3, 1, 1)
    highest = (smooth == F.max_pool2d(smooth, 3, 1, 1)) & (smooth > FAINT)
    strength = (smooth * highest).flatten(2)
    values, places = strength.topk(min(PEAKS, strength.shape[-1]), dim=-1)
    rows = queries.name.clamp(min=0).unsqueeze(-1).expand(-1, -1, values.shape[-1])
    values, places = values.gather(1, rows), places.gather(1, rows)

    cells = cell_centres((likelihood.shape[-2], likelihood.shape[-1]), likelihood)[places]
    centre, size = frames.unsqueeze(2).split(2, dim=-1)
    shares = (cells / extent[:, None, None] - centre) / size.clamp(min=1e-4) + 0.5  # B, M, P, 2
    usable = (values > 0) & ((shares > 0) & (shares < 1)).all(-1)
    wanted = usable & (usable.cumsum(-1) == queries.slot.unsqueeze(-1) + 1)
    best = wanted.byte().argmax(-1)[..., None, None].expand(-1, -1, 1, 2)
    found = wanted.any(-1) & (queries.name >= 0)
    centres = shares.gather(2, best).squeeze(2).clamp(0.02, 0.98)
    return logit(torch.cat([centres, torch.full_like(centres, REPEATED)], dim=-1)), found
