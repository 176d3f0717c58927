"""The training loss: what the model said against what is true, for every output of every level."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, pad, softplus

from .matcher import HungarianMatcher, Matches, Truth, generalised_iou
from .point_sampling import num_points, sample_points, uncertain_points
from .structures import (
    DecoderOutput,
    Denoising,
    Instances,
    KeptObjects,
    Output,
    PartQueries,
    Pictures,
    Predictions,
    Targets,
    VocabularyBatch,
)

STRIDE = 4  # of the dense logits, in pixels of the canvas


@dataclass(frozen=True)
class _Batch:
    """What all levels of a batch share: names of the pictures, share of the canvas they fill, points, randomness."""

    names: list[str]
    extent: Tensor
    num_points: int
    generator: torch.Generator | None


class Criterion(nn.Module):
    """Matches and scores every output of both levels; LangHOPS, section 3.4, with the losses of Mask DINO.

    Losses are summed over instances and divided by the mean number of instances over the ranks, at least 1.

    Args:
        class_weight: of the focal loss over (query, name).
        mask_weight: of the binary cross-entropy at points.
        dice_weight: of the dice loss at points.
        box_weight: of the L1 distance of boxes.
        giou_weight: of the generalised IoU loss of boxes.
        dense_weight: of the per-pixel cross-entropy, used where the model gives dense logits.
        distillation_weight: of the distance of the text encoder to its teacher, used where it is given.
        parent_aware: a part query may only answer for a part of the object that its own object query answers for.
        tied: a part query may only answer for a part of the name that it was made for.
        points_rule: number of mask points from height and width of the canvas in pixels.
    """

    def __init__(
        self,
        *,
        class_weight: float = 4.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        box_weight: float = 5.0,
        giou_weight: float = 2.0,
        dense_weight: float = 1.0,
        distillation_weight: float = 4.0,
        parent_aware: bool = True,
        tied: bool = True,
        points_rule: Callable[[int, int], int] = num_points,
    ) -> None:
        super().__init__()
        self.weights = {
            "class": class_weight,
            "mask": mask_weight,
            "dice": dice_weight,
            "box": box_weight,
            "giou": giou_weight,
            "dense": dense_weight,
            "distillation": distillation_weight,
        }
        self.parent_aware = parent_aware
        self.tied = tied
        self.points_rule = points_rule
        self.matcher = HungarianMatcher(
            class_cost=class_weight,
            mask_cost=mask_weight,
            dice_cost=dice_weight,
            box_cost=box_weight,
            giou_cost=giou_weight,
        )

    def forward(
        self,
        output: Output,
        targets: Sequence[Targets],
        pictures: Pictures,
        vocabulary: VocabularyBatch,
        *,
        distillation: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Score a batch.

        Args:
            output: of the model, B pictures.
            targets: what is true in each picture.
            pictures: the batch, for the canvas and the share of it that each picture fills.
            vocabulary: for the names that are real.
            distillation: mean squared distance of the text encoder to its teacher, a scalar.
            generator: source of randomness on the device of the output.

        Returns:
            Weighted losses by name, such as "objects/final/class", and their sum "total"; scalars.

        Raises:
            NonFiniteCost: a prediction for one of the pictures is not finite.
        """
        with torch.autocast(pictures.sizes.device.type, enabled=False):
            return self._score(output, targets, pictures, vocabulary, distillation, generator)

    def _score(
        self,
        output: Output,
        targets: Sequence[Targets],
        pictures: Pictures,
        vocabulary: VocabularyBatch,
        distillation: Tensor | None,
        generator: torch.Generator | None,
    ) -> dict[str, Tensor]:
        objects = Truth.of([item.objects for item in targets], num_names=vocabulary.objects.shape[1])
        parts = Truth.of([item.parts for item in targets], num_names=vocabulary.parts.shape[1])
        normalisers = self._normalisers(objects, parts, output.noised, output.noised_parts)
        batch = _Batch(
            names=[item.name for item in targets],
            extent=pictures.extent,
            num_points=self.points_rule(*pictures.pixels.shape[-2:]),
            generator=generator,
        )
        values, matches = self._level(output.objects, objects, vocabulary.object_valid, batch)
        losses = self._weighted("objects", values, normalisers[0])
        if output.noised is not None:
            values = self._denoising(output.objects.denoising, output.noised, objects, vocabulary.object_valid)
            losses |= self._weighted("denoising", values, normalisers[2])
        if output.parts is not None and output.part_queries is not None:
            final = matches.instance_of(output=0, like=output.objects.valid)
            forbidden = self.forbidden(output.part_queries, output.kept, final, parts)
            values, _ = self._level(output.parts, parts, vocabulary.part_valid, batch, forbidden)
            losses |= self._weighted("parts", values, normalisers[1])
            if output.noised_parts is not None:
                values = self._denoising(output.parts.denoising, output.noised_parts, parts, vocabulary.part_valid)
                losses |= self._weighted("part_denoising", values, normalisers[3])
        if output.dense is not None:
            dense = self._dense(output.dense, targets, vocabulary)
            losses |= {f"dense/{level}": value * self.weights["dense"] for level, value in dense.items()}
        if distillation is not None:
            losses["text/distillation"] = distillation.float() * self.weights["distillation"]
        losses["total"] = torch.stack(list(losses.values())).sum()
        return losses

    def forbidden(self, queries: PartQueries, kept: KeptObjects, matched: Tensor, parts: Truth) -> Tensor:
        """Pairs of part query and part instance that must not be matched.

        Args:
            queries: the part queries; a parent or name of -1 is free to match any.
            kept: the objects that the queries belong to.
            matched: object instance that each object query answers for, -1 for none, (B, Q).
            parts: true parts; a parent of -1 is unknown and open to any query.

        Returns:
            (B, M, N), bool.
        """
        ban = torch.zeros(*queries.name.shape, parts.labels.shape[1], dtype=torch.bool, device=queries.name.device)
        if self.tied:
            name = queries.name[:, :, None]
            ban |= (name >= 0) & (name != parts.labels[:, None])
        if self.parent_aware:
            instance = matched.gather(1, kept.index.gather(1, queries.parent.clamp(min=0)))[:, :, None]
            known = (queries.parent[:, :, None] >= 0) & (parts.parents[:, None] >= 0)
            ban |= known & (instance != parts.parents[:, None])
        return ban

    def _normalisers(self, objects: Truth, parts: Truth, *noised: Denoising | None) -> Tensor:
        """Mean number of objects, parts and noised queries of each kind over the ranks, at least 1 each, (4,)."""
        device = objects.boxes.device
        counts = torch.tensor([sum(objects.counts), sum(parts.counts), 0, 0], dtype=torch.float32, device=device)
        for place, item in enumerate(noised, start=2):
            if item is not None:
                counts[place] = item.valid.sum()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(counts)
            counts /= torch.distributed.get_world_size()
        return counts.clamp(min=1)

    def _weighted(self, level: str, values: dict[str, dict[str, Tensor]], normaliser: Tensor) -> dict[str, Tensor]:
        """Name, weigh and normalise the sums of a level's outputs."""
        return {
            f"{level}/{output}/{kind}": value * self.weights[kind] / normaliser
            for output, row in values.items()
            for kind, value in row.items()
        }

    def _level(
        self,
        decoder: DecoderOutput,
        truth: Truth,
        name_valid: Tensor,
        batch: _Batch,
        forbidden: Tensor | None = None,
    ) -> tuple[dict[str, dict[str, Tensor]], Matches]:
        """Losses of every output of one level, summed over instances, and the matches, the final output's first."""
        outputs = {"final": decoder.final} | {f"auxiliary{i}": item for i, item in enumerate(decoder.auxiliary)}
        if decoder.proposals is not None:
            outputs["proposals"] = decoder.proposals
        predictions = list(outputs.values())
        size = (len(decoder.valid), batch.num_points, 2)
        matches = self.matcher.match(
            predictions,
            truth,
            valid=decoder.valid,
            points=torch.rand(size, generator=batch.generator, device=decoder.valid.device),
            extent=batch.extent,
            forbidden=forbidden,
            names=batch.names,
        )
        sums = {"class": self._class(predictions, decoder.valid, truth, name_valid, matches)}
        sums |= self._boxes(predictions, truth, matches)
        sums |= self._masks(predictions, truth, matches, batch)
        return _by_output(outputs, sums), matches

    def _class(
        self, outputs: Sequence[Predictions], valid: Tensor, truth: Truth, name_valid: Tensor, matches: Matches
    ) -> Tensor:
        """Focal loss over real queries and names, (L,); the unmatched answer only for the picture's negatives."""
        logits = torch.stack([item.logits for item in outputs]).float()
        place = (matches.output, matches.picture, matches.query)
        labels = valid.new_full(logits.shape[:3], -1, dtype=torch.long)
        labels[place] = truth.labels[matches.picture, matches.target]
        matched = labels[..., None] >= 0
        present = labels[..., None] == torch.arange(logits.shape[-1], device=logits.device)
        counted = valid[:, :, None] & name_valid[:, None] & (matched | truth.negatives[:, None])
        return focal_loss(logits, present, counted).flatten(1).sum(1)

    def _boxes(self, outputs: Sequence[Predictions], truth: Truth, matches: Matches) -> dict[str, Tensor]:
        """L1 and generalised IoU losses of the matched boxes, (L,) each."""
        boxes = torch.stack([item.boxes for item in outputs]).float()
        predicted = boxes[matches.output, matches.picture, matches.query]
        box, giou = box_distances(predicted, truth.boxes[matches.picture, matches.target])
        empty = box.new_zeros(len(outputs))
        return {"box": empty.index_add(0, matches.output, box), "giou": empty.index_add(0, matches.output, giou)}

    def _masks(
        self, outputs: Sequence[Predictions], truth: Truth, matches: Matches, batch: _Batch
    ) -> dict[str, Tensor]:
        """Cross-entropy and dice of the matched masks at points, (L,) each; nothing where no masks were asked for."""
        masks = [item.masks for item in outputs if item.masks is not None]
        if not masks:
            return {}
        pairs = zip(matches.picture.split(matches.per_output), matches.query.split(matches.per_output), strict=True)
        logits = torch.cat([item[pair] for item, pair in zip(masks, pairs, strict=True)]).unsqueeze(1)
        extent = batch.extent[matches.picture]
        points = uncertain_points(logits.detach(), batch.num_points, extent=extent, generator=batch.generator)
        entropy, dice = mask_distances(
            sample_points(logits, points, extent=extent).squeeze(1), truth.matched_masks_at(points, matches)
        )
        known = truth.has_masks[matches.picture]
        empty = entropy.new_zeros(len(outputs))
        return {
            "mask": empty.index_add(0, matches.output, torch.where(known, entropy, 0.0)),
            "dice": empty.index_add(0, matches.output, torch.where(known, dice, 0.0)),
        }

    def _denoising(
        self, predictions: Sequence[Predictions], denoising: Denoising, truth: Truth, name_valid: Tensor
    ) -> dict[str, dict[str, Tensor]]:
        """Class and box losses of the noised queries, each against the instance that it was made from."""
        if not predictions:
            return {}
        logits = torch.stack([item.logits for item in predictions]).float()
        boxes = torch.stack([item.boxes for item in predictions]).float()
        labels = pad(truth.labels, (0, 1)).gather(1, denoising.target)
        target = pad(truth.boxes, (0, 0, 0, 1)).gather(1, denoising.target[..., None].expand(-1, -1, 4))
        valid = denoising.valid
        present = labels[..., None] == torch.arange(logits.shape[-1], device=logits.device)
        counted = valid[:, :, None] & name_valid[:, None]
        box, giou = box_distances(torch.where(valid[..., None], boxes, 0.5), torch.where(valid[..., None], target, 0.5))
        sums = {"class": focal_loss(logits, present, counted).flatten(1).sum(1)}
        sums |= {"box": box.flatten(1).sum(1), "giou": giou.flatten(1).sum(1)}
        names = [*(f"auxiliary{i}" for i in range(len(predictions) - 1)), "final"]
        return _by_output(names, sums)

    def _dense(self, dense: Tensor, targets: Sequence[Targets], vocabulary: VocabularyBatch) -> dict[str, Tensor]:
        """Cross-entropy of the per-pixel logits of each level, and of zero for nothing, over known pixels, scalars."""
        levels = dense.float().split([vocabulary.objects.shape[1], vocabulary.parts.shape[1]], dim=1)
        losses = {}
        for level, logits, valid in zip(
            ("objects", "parts"), levels, (vocabulary.object_valid, vocabulary.part_valid), strict=True
        ):
            if not logits.shape[1]:
                losses[level] = logits.sum()
                continue
            size = logits.shape[-2:]
            instances = [getattr(item, level) for item in targets]
            # where every name that is there is labelled, an unlabelled pixel shows nothing: a logit of zero, the last
            others = [torch.where(item.negatives.all(), logits.shape[1], -1) for item in instances]
            labels = torch.stack([dense_labels(*pair, size) for pair in zip(instances, others, strict=True)])
            logits = pad(logits.masked_fill(~valid[:, :, None, None], -1e4), (0, 0, 0, 0, 0, 1))
            entropy = cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
            losses[level] = entropy / (labels >= 0).sum().clamp(min=1)
        return losses


def _by_output(names: Iterable[str], sums: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """From one row (L,) a kind of loss to one dict an output."""
    rows = [
        dict(zip(sums, values, strict=True)) for values in zip(*(row.unbind() for row in sums.values()), strict=True)
    ]
    return dict(zip(names, rows, strict=True))


def focal_loss(logits: Tensor, present: Tensor, counted: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sigmoid focal loss, elementwise.

    Args:
        logits: any shape.
        present: True where the answer is yes, of the same shape.
        counted: where the loss counts; elsewhere it is zero, whatever the logit.
        alpha: weight of the answer yes, 0..1; no has the rest.
        gamma: how much sure answers are discounted.

    Source: RetinaNet (arXiv 1708.02002), section 3.
    """
    logits = torch.where(counted, logits, 0.0)
    margin = torch.where(present, logits, -logits)
    weight = torch.where(present, alpha, 1 - alpha)
    return torch.where(counted, weight * (-margin).sigmoid() ** gamma * softplus(-margin), 0.0)


def box_distances(boxes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """L1 distance, and 1 - generalised IoU, of boxes (..., 4) as centre x, centre y, width, height; each (...)."""
    return (boxes - targets).abs().sum(-1), 1 - generalised_iou(boxes, targets)


def mask_distances(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy and dice distance of masks read at points.

    Args:
        logits: (M, P).
        targets: 0..1, (M, P).

    Returns:
        Mean cross-entropy over the points and dice distance, (M,) each.

    Source: V-Net (arXiv 1606.04797) for dice, smoothed by one; Mask2Former (arXiv 2112.01527) for the pair.
    """
    entropy = binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
    share = logits.sigmoid()
    dice = 1 - (2 * (share * targets).sum(1) + 1) / (share.sum(1) + targets.sum(1) + 1)
    return entropy, dice


def dense_labels(instances: Instances, other: Tensor | int, size: Sequence[int]) -> Tensor:
    """What each cell of the dense map shows, by its middle pixel; a smaller instance covers a larger one.

    Args:
        instances: of one picture and level.
        other: label of the picture's cells that show none of them; unused where it has no masks to tell.
        size: height and width of the map.

    Returns:
        Index of the name, -1 where nobody knows or there is no picture, (h, w), int64.
    """
    labels = instances.labels.new_full(tuple(size), -1)
    if instances.masks is None or not len(instances.masks):
        return labels
    cells = instances.masks[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].bool()
    area = instances.masks.sum((1, 2)).float()
    smallest, index = torch.where(cells, area[:, None, None], torch.inf).min(0)
    shown = torch.where(smallest.isfinite(), instances.labels[index], other)
    labels[: shown.shape[0], : shown.shape[1]] = shown
    return labels
