"""Which query answers for which true instance: Hungarian matching, all outputs of a level at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import pad, softplus
from torch.nn.utils.rnn import pad_sequence

from .point_sampling import sample_points
from .structures import Instances, Predictions

# Price of a pair that must not be: above any sum of real costs, exact in float32, within what float64 solves exactly.
FORBIDDEN = 1e9


class NonFiniteCost(RuntimeError):  # noqa: N818 - it names what is wrong
    """A prediction is so far off that it cannot be compared; the message names the picture."""


@dataclass(frozen=True)
class Truth:
    """The true instances of one level, padded over the batch.

    Args:
        labels: (B, N); boxes: (B, N, 4); parents: -1 where unknown, (B, N); valid: (B, N).
        negatives: names an unmatched query may be told it is not, (B, C).
        masks: of each picture, (n, h, w), or None where it has only boxes.
        has_masks: (B,), bool.
        counts: number of instances of each picture.
    """

    labels: Tensor
    boxes: Tensor
    parents: Tensor
    valid: Tensor
    negatives: Tensor
    masks: tuple[Tensor | None, ...]
    has_masks: Tensor
    counts: tuple[int, ...]

    @classmethod
    def of(cls, instances: Sequence[Instances], *, num_names: int) -> Self:
        """Pad the instances of the pictures of a batch.

        Args:
            instances: one level of each picture.
            num_names: C, the padded number of names of the level.
        """
        device = instances[0].labels.device
        labels = pad_sequence([item.labels for item in instances], batch_first=True)
        counts = tuple(len(item.labels) for item in instances)
        unknown = [item.labels.new_full(item.labels.shape, -1) for item in instances]
        parents = [u if item.parents is None else item.parents for u, item in zip(unknown, instances, strict=True)]
        return cls(
            labels=labels,
            boxes=pad_sequence([item.boxes.float() for item in instances], batch_first=True),
            parents=pad_sequence(parents, batch_first=True, padding_value=-1),
            valid=torch.arange(labels.shape[1], device=device) < torch.tensor(counts, device=device)[:, None],
            negatives=torch.stack([pad(item.negatives, (0, num_names - len(item.negatives))) for item in instances]),
            masks=tuple(item.masks for item in instances),
            has_masks=torch.tensor([item.masks is not None for item in instances], device=device),
            counts=counts,
        )

    def masks_at(self, points: Tensor) -> Tensor:
        """All masks of each picture at the picture's points (B, P, 2): float32, (B, N, P), zero without a mask."""
        values = points.new_zeros(*self.labels.shape, points.shape[1])
        for b, masks in enumerate(self.masks):
            if masks is not None and len(masks):
                values[b, : len(masks)] = sample_points(masks.unsqueeze(0), points[b : b + 1])[0]
        return values

    def matched_masks_at(self, points: Tensor, matches: Matches) -> Tensor:
        """Mask of each pair at the pair's own points (M, P, 2): float32, (M, P), zero without a mask."""
        rows = matches.target[matches.by_picture].split(matches.per_picture)
        places = points[matches.by_picture].split(matches.per_picture)
        values = [
            place.new_zeros(place.shape[:2])
            if masks is None
            else sample_points(masks.unsqueeze(1), place, rows=row).squeeze(1)
            for masks, place, row in zip(self.masks, places, rows, strict=True)
        ]
        ordered = torch.cat(values)
        return torch.empty_like(ordered).index_copy_(0, matches.by_picture, ordered)


@dataclass(frozen=True)
class Matches:
    """Matched pairs of all outputs of a level, output by output.

    Args:
        output, picture, query, target: what the pair joins, (M,) each, int64.
        per_output: number of pairs of each output.
        by_picture: order of the pairs that puts them picture by picture, (M,); per_picture: how many each has.
    """

    output: Tensor
    picture: Tensor
    query: Tensor
    target: Tensor
    per_output: tuple[int, ...]
    by_picture: Tensor
    per_picture: tuple[int, ...]

    @classmethod
    def of(cls, pairs: np.ndarray, *, outputs: int, pictures: int, device: torch.device) -> Self:
        """Tabulate pairs.

        Args:
            pairs: rows of output, picture, query, target, sorted by output, (M, 4).
            outputs: number of outputs; pictures: number of pictures.
            device: where the tensors go.
        """
        table = np.column_stack([pairs, np.argsort(pairs[:, 1], kind="stable")])
        output, picture, query, target, by_picture = torch.from_numpy(table.astype(np.int64)).to(device).unbind(1)
        return cls(
            output=output,
            picture=picture,
            query=query,
            target=target,
            per_output=tuple(np.bincount(pairs[:, 0], minlength=outputs).tolist()),
            by_picture=by_picture,
            per_picture=tuple(np.bincount(pairs[:, 1], minlength=pictures).tolist()),
        )

    def instance_of(self, *, output: int, like: Tensor) -> Tensor:
        """Instance matched by each query of one output, -1 for none, (B, Q) as `like`."""
        start = sum(self.per_output[:output])
        part = slice(start, start + self.per_output[output])
        table = self.query.new_full(like.shape, -1)
        table[self.picture[part], self.query[part]] = self.target[part]
        return table


class HungarianMatcher:
    """The cheapest one-to-one assignment of queries to true instances, picture by picture.

    Source: DETR (arXiv 2005.12872), section 3.1; costs of MaskDINO (arXiv 2206.02777), section 3.

    Args:
        class_cost: weight of the focal classification cost.
        mask_cost: weight of the binary cross-entropy of the masks.
        dice_cost: weight of the dice distance of the masks.
        box_cost: weight of the L1 distance of the boxes.
        giou_cost: weight of the generalised IoU of the boxes.
    """

    def __init__(
        self,
        *,
        class_cost: float = 4.0,
        mask_cost: float = 5.0,
        dice_cost: float = 5.0,
        box_cost: float = 5.0,
        giou_cost: float = 2.0,
    ) -> None:
        self.class_cost = class_cost
        self.mask_cost = mask_cost
        self.dice_cost = dice_cost
        self.box_cost = box_cost
        self.giou_cost = giou_cost

    @torch.no_grad()
    def match(
        self,
        outputs: Sequence[Predictions],
        truth: Truth,
        *,
        valid: Tensor,
        points: Tensor,
        extent: Tensor,
        forbidden: Tensor | None = None,
        names: Sequence[str],
    ) -> Matches:
        """Match every output of a level; the costs travel to the host in one piece.

        Args:
            outputs: predictions of B pictures and Q queries each, all of them with masks or none.
            truth: what they are compared with.
            valid: queries that are real, (B, Q).
            points: where masks are compared, (x, y) as shares of the picture, (B, P, 2).
            extent: share of the canvas that each picture fills, (B, 2).
            forbidden: pairs that must not be, (B, Q, N).
            names: of the pictures, for messages.

        Raises:
            NonFiniteCost: a cost of a real query is not a finite number.
        """
        device = valid.device
        ban = ~(valid[:, :, None] & truth.valid[:, None])
        if forbidden is not None:
            ban = ban | forbidden
        costs = self.costs(outputs, truth, points=points, extent=extent).masked_fill(ban, FORBIDDEN)
        table = costs.cpu().numpy()
        found = [np.empty((0, 4), dtype=np.int64)]
        for o, b in np.ndindex(*table.shape[:2]):
            cost = table[o, b, :, : truth.counts[b]]
            if not np.isfinite(cost).all():
                raise NonFiniteCost(
                    f"{names[b] or f'picture {b} of the batch'}: a prediction is not a finite number (output {o} of "
                    f"{len(outputs)}); lower the learning rate, or resume from an earlier checkpoint."
                )
            queries, targets = linear_sum_assignment(cost)
            allowed = cost[queries, targets] != FORBIDDEN
            queries, targets = queries[allowed], targets[allowed]
            found.append(np.column_stack([np.full_like(queries, o), np.full_like(queries, b), queries, targets]))
        return Matches.of(np.concatenate(found), outputs=len(outputs), pictures=table.shape[1], device=device)

    @torch.no_grad()
    def costs(self, outputs: Sequence[Predictions], truth: Truth, *, points: Tensor, extent: Tensor) -> Tensor:
        """What each query would cost as the answer for each instance; arguments as for `match`.

        Returns:
            float32, (L, B, Q, N) for L outputs; entries of padding mean nothing.
        """
        with torch.autocast(truth.boxes.device.type, enabled=False):
            logits = torch.stack([output.logits for output in outputs]).float()
            boxes = torch.stack([output.boxes for output in outputs]).float()
            if not truth.labels.shape[1]:
                return logits.new_zeros(*logits.shape[:3], 0)
            picked = logits.gather(3, truth.labels[None, :, None].expand(*logits.shape[:3], -1))
            cost = self.class_cost * class_distance(picked)
            cost += self.box_cost * (boxes[:, :, :, None] - truth.boxes[:, None]).abs().sum(-1)
            cost -= self.giou_cost * generalised_iou(boxes[:, :, :, None], truth.boxes[:, None])
            predicted = [output.masks for output in outputs if output.masks is not None]
            if predicted and any(masks is not None for masks in truth.masks):
                target = truth.masks_at(points)
                masks = [self._mask_cost(sample_points(item, points, extent=extent), target) for item in predicted]
                cost += torch.where(truth.has_masks[:, None, None], torch.stack(masks), 0.0)
            return cost

    def _mask_cost(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy and dice of mask logits (B, Q, P) against all instances (B, N, P) at points, (B, Q, N)."""
        target = target.transpose(1, 2)
        # The cross-entropy softplus(x) - x t, summed over the points, needs one product for all pairs.
        entropy = softplus(logits).sum(-1, keepdim=True) - logits @ target
        share = logits.sigmoid()
        overlap = 2 * share @ target + 1
        dice = 1 - overlap / (share.sum(-1, keepdim=True) + target.sum(1, keepdim=True) + 1)
        return self.mask_cost * entropy / logits.shape[-1] + self.dice_cost * dice


def class_distance(logits: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss of calling a name present less that of calling it absent, elementwise.

    Args:
        logits: any shape.
        alpha: weight of presence, 0..1.
        gamma: how much sure answers are discounted.

    Source: Deformable DETR (arXiv 2010.04159), which puts the focal loss (arXiv 1708.02002) into the matching cost.
    """
    present = logits.sigmoid()
    absent = (-logits).sigmoid()
    return alpha * absent**gamma * softplus(-logits) - (1 - alpha) * present**gamma * softplus(logits)


def corners(boxes: Tensor) -> Tensor:
    """Boxes from (centre x, centre y, width, height) to (left, top, right, bottom), (..., 4)."""
    centre, size = boxes.split(2, dim=-1)
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def generalised_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Generalised intersection over union of boxes, with broadcasting.

    Args:
        boxes, others: centre x, centre y, width, height, (..., 4).

    Returns:
        -1..1, of the broadcast shape without the last axis.

    Source: Rezatofighi et al., CVPR 2019 (arXiv 1902.09630), algorithm 1.
    """
    left, right = corners(boxes), corners(others)
    tiny = torch.finfo(left.dtype).tiny
    overlap = (torch.minimum(left[..., 2:], right[..., 2:]) - torch.maximum(left[..., :2], right[..., :2])).clamp(min=0)
    hull = (torch.maximum(left[..., 2:], right[..., 2:]) - torch.minimum(left[..., :2], right[..., :2])).clamp(min=0)
    intersection = overlap.prod(-1)
    union = boxes[..., 2:].prod(-1) + others[..., 2:].prod(-1) - intersection
    around = hull.prod(-1)
    return intersection / union.clamp(min=tiny) - (around - union) / around.clamp(min=tiny)
