"""The query decoder: objects and parts share the class, not the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .deformable_attention import DeformableAttention
from .denoising import attention_mask
from .pixel_decoder import Pyramid, cell_centres
from .positions import box_around, box_in_frame, box_positions, logit
from .structures import DecoderOutput, Denoising, Names, Predictions

MARGIN, SLOPE, OUTSIDE = 1.2, 10.0, 8.0
"""Of masks in boxes: half sizes up to which nothing is taken off, logits taken off for each beyond, the most."""
MASKED_LOGIT = -1e4  # what a name or a query that is not there scores; finite, so that 0 x loss stays 0


class MLP(nn.Sequential):
    """`layers` linear layers with ReLU between them."""

    def __init__(self, *, inputs: int, hidden: int, outputs: int, layers: int) -> None:
        widths = [inputs, *[hidden] * (layers - 1), outputs]
        modules: list[nn.Module] = []
        for before, after in pairwise(widths):
            modules += [nn.Linear(before, after), nn.ReLU()]
        super().__init__(*modules[:-1])


class DecoderLayer(nn.Module):
    """Self-attention among the queries, deformable attention to the picture, feed-forward; post-norm."""

    def __init__(self, *, dim: int, feedforward: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn = DeformableAttention(dim=dim, heads=heads, levels=levels, points=points)
        self.norm2 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, feedforward)
        self.linear2 = nn.Linear(feedforward, dim)
        self.norm3 = nn.LayerNorm(dim)

    def forward(
        self, queries: Tensor, position: Tensor, reference: Tensor, pyramid: Pyramid, attention: Tensor
    ) -> Tensor:
        """Refine the queries.

        Args:
            queries, position: (B, Q, d).
            reference: boxes as shares of the canvas, (B, Q, 4).
            attention: added to the self-attention logits, (B * heads, Q, Q).
        """
        placed = queries + position
        attended, _ = self.self_attn(placed, placed, queries, attn_mask=attention, need_weights=False)
        queries = self.norm1(queries + attended)
        read = self.cross_attn(queries + position, reference, pyramid.memory, pyramid.valid, pyramid.shapes)
        queries = self.norm2(queries + read)
        return self.norm3(queries + self.linear2(F.relu(self.linear1(queries))))


@dataclass(frozen=True)
class Start:
    """Where the queries begin: content (B, Q, d), box logits (B, Q, 4), validity (B, Q)."""

    content: Tensor
    reference: Tensor
    valid: Tensor


class QueryDecoder(nn.Module):
    """Turns queries into named boxes and masks, refining the boxes layer by layer.

    Source: Mask DINO, arXiv 2206.02777; DINO, arXiv 2203.03605 (two stages, look forward twice); LangHOPS section 3.

    Args:
        dim: width of queries, memory, mask features and name embeddings, d.
        layers, feedforward, heads, levels, points: of the decoder.
        masks_in_boxes: let a mask end a little outside its query's box once that was refined. A small model's mask
            features hardly tell the windows of a facade apart; its boxes do.
    """

    def __init__(
        self,
        *,
        dim: int,
        layers: int,
        feedforward: int,
        heads: int = 8,
        levels: int = 4,
        points: int = 4,
        masks_in_boxes: bool = False,
    ) -> None:
        super().__init__()
        self.dim, self.heads, self.masks_in_boxes = dim, heads, masks_in_boxes
        self.enc_output = nn.Linear(dim, dim)
        self.enc_output_norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(
            DecoderLayer(dim=dim, feedforward=feedforward, heads=heads, levels=levels, points=points)
            for _ in range(layers)
        )
        self.ref_point_head = MLP(inputs=2 * dim, hidden=dim, outputs=dim, layers=2)
        self.norm = nn.LayerNorm(dim)
        self.category_embed = nn.Linear(dim, dim, bias=False)
        self.bbox_embed = MLP(inputs=dim, hidden=dim, outputs=4, layers=3)
        self.mask_embed = MLP(inputs=dim, hidden=dim, outputs=dim, layers=3)
        # at the start every name is as likely as not, whatever the size of its embedding, and boxes stay where they are
        nn.init.normal_(self.category_embed.weight, std=1 / dim)
        last = self.bbox_embed[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(
        self,
        pyramid: Pyramid,
        names: Names,
        *,
        queries: Tensor | None = None,
        valid: Tensor | None = None,
        anchors: Tensor | None = None,
        frames: Tensor | None = None,
        from_mask: Tensor | None = None,
        num_queries: int = 0,
        denoising: Denoising | None = None,
        auxiliary: bool = False,
        trace: dict[str, Tensor] | None = None,
    ) -> DecoderOutput:
        """Decode.

        Args:
            pyramid: memory and mask features.
            names: embeddings of the names of this level.
            queries: refined part queries (B, M, d) with `valid` (B, M); without them the best `num_queries` cells of
                the memory are taken, as objects are.
            anchors: box logits from which the queries' own boxes start, (B, M, 4); all zero without them.
            frames: boxes as shares of the picture in which the queries' own boxes start, (B, M, 4): what the content
                says is then a share of its frame. Without them it is a share of the picture.
            from_mask: queries whose box starts around the mask that their content alone gives, (B, M), bool; the
                box that it gives still learns. A query whose mask is empty starts as the others.
            denoising: noised true instances that ride along.
            auxiliary: predict before every layer as well, for training.
            trace: filled with named tensors on the way when given.

        Returns:
            DecoderOutput with one query for each given or selected one.
        """
        if queries is None:
            start = self._select(pyramid, names, num_queries, trace)
            seeds = replace(start, content=start.content.detach(), reference=start.reference.detach())
        else:
            assert valid is not None
            content = self.enc_output_norm(self.enc_output(queries))
            reference = self.bbox_embed(content)
            if anchors is not None:
                reference = reference + anchors
            if frames is not None:
                reference = logit(box_in_frame(reference.sigmoid(), frames))
            start = Start(content, reference, valid)
            seeds = replace(start, reference=start.reference.detach())
            if from_mask is not None:
                seeds = replace(seeds, reference=self._around_masks(seeds, from_mask, pyramid))
        if trace is not None:
            trace["init_content"], trace["init_ref_logit"] = start.content, start.reference
        if denoising is not None:
            seeds = Start(
                torch.cat([denoising.content, seeds.content], dim=1),
                torch.cat([denoising.reference, seeds.reference], dim=1),
                torch.cat([denoising.valid, seeds.valid], dim=1),
            )
        states, predictions, answers = self._refine(pyramid, names, seeds, denoising, auxiliary, trace)
        proposals = None
        if auxiliary:
            proposals = self._predict(start.content, start.reference.sigmoid(), start.valid, names, pyramid)
        return DecoderOutput(
            queries=states,
            valid=start.valid,
            final=predictions[-1],
            auxiliary=tuple(predictions[:-1]),
            proposals=proposals,
            denoising=tuple(answers),
        )

    def _refine(
        self,
        pyramid: Pyramid,
        names: Names,
        start: Start,
        denoising: Denoising | None,
        auxiliary: bool,
        trace: dict[str, Tensor] | None,
    ) -> tuple[Tensor, list[Predictions], list[Predictions]]:
        """All layers, the denoising queries in front.

        Returns:
            Final states after the norm, without those of denoising; predictions, the last layer's last; and those of
            the denoising queries.
        """
        noised = 0 if denoising is None else denoising.content.shape[1]
        queries, reference = start.content, start.reference.sigmoid()
        attached = reference  # look forward twice: a box also teaches the layer before it
        attention = self._attention(start.valid, denoising, queries.dtype)
        extent = pyramid.extent[:, None].repeat(1, 1, 2)
        predictions: list[Predictions] = []
        answers: list[Predictions] = []

        def predict(states: Tensor, boxes: Tensor, *, refined: bool) -> None:
            ours, theirs = slice(noised, None), slice(None, noised)
            found = self._predict(states[:, ours], boxes[:, ours], start.valid[:, ours], names, pyramid)
            if refined and self.masks_in_boxes and found.masks is not None:
                outside = outside_boxes(found.boxes.detach(), pyramid.extent, found.masks.shape[-2:])
                found = replace(found, masks=found.masks - outside)
            predictions.append(found)
            if noised:  # they are scored on names and boxes alone
                answers.append(self._predict(states[:, theirs], boxes[:, theirs], start.valid[:, theirs], names))

        if auxiliary:
            predict(queries, reference, refined=False)
        for number, layer in enumerate(self.layers):
            if trace is not None:
                trace[f"ref{number}"] = reference
            position = self.ref_point_head(box_positions(reference, self.dim))
            queries = layer(queries, position, reference * extent, pyramid, attention)
            states = self.norm(queries)
            if trace is not None:
                trace[f"layer{number}.state"] = states
            if auxiliary or number + 1 == len(self.layers):
                predict(states, (self.bbox_embed(states) + logit(attached)).sigmoid(), refined=True)
            attached = (self.bbox_embed(queries) + logit(reference)).sigmoid()
            reference = attached.detach()
        if trace is not None:
            trace[f"ref{len(self.layers)}"] = reference
        return states[:, noised:], predictions, answers

    def _select(self, pyramid: Pyramid, names: Names, num_queries: int, trace: dict[str, Tensor] | None) -> Start:
        """The cells of the memory that look most like any of the names."""
        memory, anchors, valid = propose(pyramid)
        content = self.enc_output_norm(self.enc_output(memory))
        scores = self._classify(content, valid, names).amax(-1)
        chosen = scores.topk(min(num_queries, scores.shape[1]), dim=1).indices
        if trace is not None:
            trace["proposal_scores"], trace["proposal_index"] = scores, chosen
        content = content.gather(1, chosen.unsqueeze(-1).expand(-1, -1, self.dim))
        reference = self.bbox_embed(content) + anchors.gather(1, chosen.unsqueeze(-1).expand(-1, -1, 4))
        return Start(content, reference, valid.gather(1, chosen))

    @torch.no_grad()
    def _around_masks(self, start: Start, chosen: Tensor, pyramid: Pyramid) -> Tensor:
        """Box logits around the first masks of the chosen queries, (B, M, 4).

        Source: Mask DINO, arXiv 2206.02777, mask-enhanced anchor boxes.
        """
        masks = (self._masks(self.norm(start.content), pyramid) > 0) & pyramid.mask_valid.unsqueeze(1)
        boxes, seen = box_around(masks, pyramid.extent)
        placed = logit(boxes.to(start.reference.dtype).clamp(0.02, 0.98))  # off the ends, from where no layer moves it
        return torch.where((chosen & seen).unsqueeze(-1), placed, start.reference)

    def _masks(self, states: Tensor, pyramid: Pyramid) -> Tensor:
        return torch.einsum("bqd,bdhw->bqhw", self.mask_embed(states), pyramid.mask_features)

    def _classify(self, states: Tensor, valid: Tensor, names: Names) -> Tensor:
        logits = self.category_embed(states) @ names.embeddings.transpose(1, 2)
        return logits.masked_fill(~(valid.unsqueeze(2) & names.valid.unsqueeze(1)), MASKED_LOGIT)

    def _predict(
        self, states: Tensor, boxes: Tensor, valid: Tensor, names: Names, pyramid: Pyramid | None = None
    ) -> Predictions:
        """The heads, which read the state after one more pass through the norm (boxes excepted)."""
        states = self.norm(states)
        masks = None
        if pyramid is not None:
            masks = self._masks(states, pyramid)
        return Predictions(self._classify(states, valid, names), boxes, masks)

    def _attention(self, valid: Tensor, denoising: Denoising | None, dtype: torch.dtype) -> Tensor:
        """What is added to the self-attention logits: queries that are not there are never read, but by themselves."""
        count = valid.shape[1]
        hidden = (~valid).unsqueeze(1).repeat(1, count, 1)
        if denoising is not None:
            noised = denoising.valid
            hidden = hidden | attention_mask(noised, groups=denoising.groups, num_matched=count - noised.shape[1])
        hidden = hidden & ~torch.eye(count, dtype=torch.bool, device=valid.device)
        bias = torch.zeros(hidden.shape, dtype=dtype, device=valid.device).masked_fill(hidden, float("-inf"))
        return bias.repeat_interleave(self.heads, dim=0)


def outside_boxes(boxes: Tensor, extent: Tensor, shape: Sequence[int]) -> Tensor:
    """How much is taken off mask logits outside of boxes: nothing up to a margin, from there more and more, to a limit.

    Args:
        boxes: as shares of the picture, (B, Q, 4).
        extent: share of the canvas that each picture fills, (B, 2) as (x, y).
        shape: height and width of the masks.

    Returns:
        (B, Q, h, w), 0..`OUTSIDE`.

    Source: YOLACT, arXiv 1904.02689, which cuts masks at their boxes.
    """
    centre, size = (boxes * extent.repeat(1, 2).unsqueeze(1)).split(2, dim=-1)
    half = (size / 2 * MARGIN).clamp(min=1e-3)
    x, y = ((torch.arange(side, device=boxes.device, dtype=boxes.dtype) + 0.5) / side for side in (shape[1], shape[0]))
    across = (x - centre[..., :1]).abs() / half[..., :1]
    down = (y - centre[..., 1:]).abs() / half[..., 1:]
    beyond = torch.maximum(down.unsqueeze(-1), across.unsqueeze(-2)) - 1
    return (SLOPE * beyond).clamp(0, OUTSIDE)


def propose(pyramid: Pyramid) -> tuple[Tensor, Tensor, Tensor]:
    """One proposal a cell: its centre, 0.05 * 2^level of the picture wide and high, level 0 the coarsest.

    Returns:
        Memory (B, S, d) and box logits (B, S, 4), zero and +inf where a coordinate leaves (0.01, 0.99) or the cell is
        padding, and where they are usable, (B, S).
    """
    anchors = []
    for number, shape in enumerate(pyramid.shapes):
        centres = cell_centres(shape, pyramid.memory) / pyramid.extent[:, None]
        anchors.append(torch.cat([centres, torch.full_like(centres, 0.05 * 2**number)], dim=-1))
    boxes = torch.cat(anchors, dim=1)
    usable = pyramid.valid & ((boxes > 0.01) & (boxes < 0.99)).all(-1)
    outside = ~usable.unsqueeze(-1)
    logits = torch.log(boxes / (1 - boxes)).masked_fill(outside, float("inf"))
    return pyramid.memory.masked_fill(outside, 0.0), logits, usable
