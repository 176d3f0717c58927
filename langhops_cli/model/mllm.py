"""Part queries refined by a language model that sees the picture and all parts of all objects at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from langhops_cli.model.structures import PartQueries

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Norm = Literal["layer", "none"]


class PaliGemmaImageTower(nn.Module):
    """PaliGemma's frozen image side: vision tower, then its projector into the language model's width.

    Args:
        vision_tower: returns `last_hidden_state`.
        projector: maps it to the language model's width, D.
    """

    def __init__(self, *, vision_tower: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.vision_tower = vision_tower.requires_grad_(False)
        self.projector = projector.requires_grad_(False)

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Args:
            pixels: as the tower's own preprocessing makes them, (B, 3, h, w).

        Returns:
            Image tokens, (B, T, D).
        """
        pixels = pixels.to(next(self.vision_tower.parameters()).dtype)
        return self.projector(self.vision_tower(pixels).last_hidden_state)


class LanguageRefiner(nn.Module):
    """Refines part queries in one pass through a language model; no text is generated.

    The sequence of a picture is: text, image tokens, instruction, then for each kept object that has part queries a
    segment with those queries between delimiters; padding comes last. Every position attends to every other one that
    is no padding. What has no low-rank correction or projection of ours stays frozen, in evaluation mode.

    A multimodal model brings its own image tower. A text-only one reads the pixel decoder's coarse map instead,
    on a fixed grid laid over the picture's own extent, so that the canvas never matters.

    Args:
        language_model: transformers model that takes `inputs_embeds` and returns `last_hidden_state`; see `add_lora`.
            Its own input embeddings embed the prompt, with whatever scaling they bring.
        hidden_dim: width of the language model, D.
        query_dim: width of the refined queries and of the image map, d.
        before_ids: tokens before the image.
        after_ids: tokens of the instruction after the image.
        start_ids: tokens that open the segment of an object: one list for all objects, or one for each rank.
        end_ids: tokens that close it, likewise.
        image_tower: gives image tokens (B, T, D) of pictures of its own preprocessing; frozen. None: the image map.
        image_grid: side of the grid on which the image map is read, G.
        norm: "layer" for our models; "none" for converted ones, whose norm is folded into the next layer.
        softcap: soft limit of the attention logits, for a model that has one (Gemma 2); None goes without it, faster.

    Raises:
        ValueError: for a softcap with a model that knows none.
    Source: LangHOPS, section 3.3.
    """

    before_ids: Tensor
    after_ids: Tensor

    def __init__(
        self,
        *,
        language_model: PreTrainedModel,
        hidden_dim: int,
        query_dim: int,
        before_ids: Sequence[int],
        after_ids: Sequence[int],
        start_ids: Sequence[Sequence[int]],
        end_ids: Sequence[Sequence[int]],
        image_tower: nn.Module | None = None,
        image_grid: int = 10,
        norm: Norm = "layer",
        softcap: float | None = None,
    ) -> None:
        super().__init__()
        _set_softcap(language_model, softcap)
        for name, parameter in language_model.named_parameters():
            parameter.requires_grad_("lora_" in name)
        self.language_model = language_model
        self.hidden_dim = hidden_dim
        self.query_dim = query_dim
        self.image_grid = image_grid
        self.image_tower = None if image_tower is None else image_tower.requires_grad_(False)
        self.register_buffer("before_ids", torch.tensor(before_ids, dtype=torch.long), persistent=False)
        self.register_buffer("after_ids", torch.tensor(after_ids, dtype=torch.long), persistent=False)
        self.start = Delimiters(start_ids)
        self.end = Delimiters(end_ids)
        if image_tower is None:
            self.image_projector = nn.Sequential(nn.Linear(query_dim, hidden_dim), _norm(norm, hidden_dim))
            self._match_token_scale()
        self.output = nn.Sequential(
            nn.Linear(hidden_dim, query_dim),
            nn.ReLU(),
            _norm(norm, query_dim),
            nn.Linear(query_dim, query_dim),
        )
        self.train(self.training)

    def forward(
        self,
        queries: PartQueries,
        *,
        num_objects: int,
        image_map: Tensor | None = None,
        image_valid: Tensor | None = None,
        extent: Tensor | None = None,
        mllm_pixels: Tensor | None = None,
        trace: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Refine the part queries of a batch.

        Args:
            queries: `embeds` (B, M, D); objects may have any number of them, in any order.
            num_objects: kept objects, K; parents are below it.
            image_map: coarse map of the pixel decoder, (B, d, h, w); for a model without an image tower.
            image_valid: cells of the map that hold picture, (B, h, w), bool.
            extent: share of the canvas that each picture fills, (B, 2) as (x, y) in 0..1.
            mllm_pixels: pictures as the image tower wants them, (B, 3, h, w); for a model with one.
            trace: filled with named tensors on the way when given.

        Returns:
            (B, M, d); zero where a query is not valid.

        Raises:
            ValueError: when the sequence is longer than the language model's positions.
        """
        batch, num_queries, _ = queries.embeds.shape
        if num_queries == 0:
            return queries.embeds.new_zeros(batch, 0, self.query_dim)
        image = self._image_tokens(image_map, image_valid, extent, mllm_pixels)
        before, after = self._embed(self.before_ids, batch), self._embed(self.after_ids, batch)
        prefix = torch.cat([before, image.to(before.dtype), after], dim=1)
        length = self._length(prefix.shape[1], num_queries, num_objects)
        self._check_length(length, prefix.shape[1], num_queries, num_objects)
        rows, valid, positions = self._layout(queries, num_objects, prefix.shape[1], length)
        delimiters = (self._embed(side.ids.flatten(), batch) for side in (self.start, self.end))
        source = torch.cat([prefix, *delimiters, queries.embeds.to(prefix.dtype)], dim=1)
        sequence = _take(source, rows) * valid.unsqueeze(-1)
        answer = self.language_model(
            inputs_embeds=sequence,
            attention_mask=self._attention_mask(valid, sequence.dtype),
            position_ids=torch.arange(length, device=valid.device).expand(batch, -1),
            use_cache=False,
            output_hidden_states=trace is not None,
        )
        states = _take(answer.last_hidden_state, positions)
        refined = self.output(states.to(queries.embeds.dtype))
        if trace is not None:
            trace |= {
                "image_features": image,
                "inputs_embeds": sequence,
                "attention_mask": valid,
                "query_positions": positions,
                "query_hidden": states,
                "part_queries": refined,
            }
            trace |= {f"hidden{number}": layer for number, layer in enumerate(answer.hidden_states)}
        return refined.masked_fill(~queries.valid.unsqueeze(-1), 0.0)

    def train(self, mode: bool = True) -> Self:
        """Switch the mode of what trains; the frozen language model and image tower stay in evaluation mode."""
        super().train(mode)
        for frozen in (self.language_model, self.image_tower):
            if frozen is not None:
                frozen.eval()
        for name, module in self.language_model.named_modules():
            if "lora_" in name or getattr(module, "gradient_checkpointing", False):
                module.training = mode  # the module alone: the layer's own dropout is a module below it
        return self

    def max_part_queries(self, *, num_objects: int, image_tokens: int) -> int | None:
        """How many part queries of a picture fit the language model's positions; None where there is no limit."""
        limit = self._max_positions()
        if limit is None:
            return None
        text = len(self.before_ids) + len(self.after_ids) + num_objects * (self.start.width + self.end.width)
        return limit - text - image_tokens

    def query_positions(self, queries: PartQueries, *, num_objects: int, image_tokens: int) -> Tensor:
        """Where each part query stands in the sequence, (B, M); the image tokens stand behind `before_ids`."""
        prefix = len(self.before_ids) + image_tokens + len(self.after_ids)
        length = self._length(prefix, queries.valid.shape[1], num_objects)
        return self._layout(queries, num_objects, prefix, length)[2]

    def _length(self, prefix: int, num_queries: int, num_objects: int) -> int:
        return prefix + num_queries + num_objects * (self.start.width + self.end.width)

    def _layout(
        self, queries: PartQueries, num_objects: int, prefix: int, length: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Place everything in the sequence.

        Returns:
            For each position the row of the source that stands there, (B, T), and whether one does, (B, T); for each
            query its position, (B, M). The source is: prefix, start tokens, end tokens, queries.
        """
        device = queries.valid.device
        batch, num_queries = queries.valid.shape
        ranks = torch.arange(num_objects, device=device)
        member = (queries.parent.unsqueeze(-1) == ranks) & queries.valid.unsqueeze(-1)  # B, M, K
        count = member.sum(1)
        order = ((member.cumsum(1) * member).sum(-1) - 1).clamp(min=0)  # place among its object's queries
        start_rows, start_valid = self.start.rows(ranks)
        end_rows, end_valid = self.end.rows(ranks)
        start_length, end_length = start_valid.sum(-1), end_valid.sum(-1)
        present = count > 0
        lengths = (start_length + count + end_length) * present
        first = prefix + lengths.cumsum(1) - lengths
        parent = queries.parent.clamp(0, num_objects - 1)
        positions = (first + start_length).gather(1, parent) + order
        starts = first.unsqueeze(-1) + torch.arange(self.start.width, device=device)
        ends = (first + start_length + count).unsqueeze(-1) + torch.arange(self.end.width, device=device)
        rows_at_end = prefix + self.start.ids.numel()
        places = (
            (torch.arange(prefix, device=device).expand(batch, -1), torch.arange(prefix, device=device), None),
            (starts, prefix + start_rows, present.unsqueeze(-1) & start_valid),
            (ends, rows_at_end + end_rows, present.unsqueeze(-1) & end_valid),
            (
                positions,
                rows_at_end + self.end.ids.numel() + torch.arange(num_queries, device=device),
                queries.valid,
            ),
        )
        rows = torch.zeros(batch, length + 1, dtype=torch.long, device=device)  # the last column takes what is absent
        for position, row, exists in places:
            where = position if exists is None else torch.where(exists, position, length)
            rows.scatter_(1, where.flatten(1), row.expand(where.shape).flatten(1))
        valid = torch.arange(length, device=device) < (prefix + lengths.sum(1, keepdim=True))
        return rows[:, :-1], valid, positions.clamp(max=length - 1)

    def _image_tokens(
        self, image_map: Tensor | None, image_valid: Tensor | None, extent: Tensor | None, mllm_pixels: Tensor | None
    ) -> Tensor:
        if self.image_tower is not None:
            if mllm_pixels is None:
                raise ValueError("the language model has an image tower: give it mllm_pixels")
            tokens: Tensor = self.image_tower(mllm_pixels)
            return tokens
        if image_map is None or image_valid is None or extent is None:
            raise ValueError("the language model has no image tower: give it image_map, image_valid and extent")
        projected: Tensor = self.image_projector(read_grid(image_map, image_valid, extent, side=self.image_grid))
        return projected

    def _embed(self, ids: Tensor, batch: int) -> Tensor:
        with torch.no_grad():
            embedded: Tensor = self.language_model.get_input_embeddings()(ids)
        return embedded.expand(batch, -1, -1)

    def _attention_mask(self, valid: Tensor, dtype: torch.dtype) -> Tensor | dict[str, Tensor]:
        """Every position reads all that is no padding; padding does too, so that no row of the softmax is empty."""
        config = self.language_model.config
        length = valid.shape[1]
        mask = valid[:, None, None, :].expand(-1, 1, length, -1)
        if config._attn_implementation != "sdpa":
            mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, torch.finfo(dtype).min)
        # models with more than one kind of layer take a mask for each; a plain one they would make causal again
        kinds = getattr(config, "layer_types", None)
        return mask if kinds is None else dict.fromkeys((*kinds, "full_attention", "sliding_attention"), mask)

    def _max_positions(self) -> int | None:
        """Learned position tables end; rotary positions do not."""
        config = self.language_model.config
        return None if hasattr(config, "rope_parameters") else getattr(config, "max_position_embeddings", None)

    def _check_length(self, length: int, prefix: int, num_queries: int, num_objects: int) -> None:
        limit = self._max_positions()
        if limit is not None and length > limit:
            raise ValueError(
                f"{num_queries} part queries of {num_objects} objects and {prefix} tokens of text and image make "
                f"{length} positions, the language model has {limit}: keep fewer objects or part queries, or use a "
                "smaller image grid"
            )

    def _match_token_scale(self) -> None:
        """Start image tokens at the size of word embeddings, else they drown the positions added to them."""
        norm = self.image_projector[1]
        if isinstance(norm, nn.LayerNorm):
            nn.init.constant_(norm.weight, token_scale(self.language_model))


class Delimiters(nn.Module):
    """Token ids on one side of the segments: one list for all kept objects, or one for each rank of object.

    Args:
        ids: the lists; ranks beyond the last one use the last one.
    """

    ids: Tensor
    valid: Tensor

    def __init__(self, ids: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.width = max(map(len, ids))
        padded = [[*row, *[0] * (self.width - len(row))] for row in ids]
        real = [[i < len(row) for i in range(self.width)] for row in ids]
        self.register_buffer("ids", torch.tensor(padded, dtype=torch.long), persistent=False)
        self.register_buffer("valid", torch.tensor(real, dtype=torch.bool), persistent=False)

    def rows(self, ranks: Tensor) -> tuple[Tensor, Tensor]:
        """For each of K ranks the places of its tokens in `ids` flattened, and which of them are real, (K, width)."""
        row = ranks.clamp(max=self.ids.shape[0] - 1)
        places = row.unsqueeze(-1) * self.width + torch.arange(self.width, device=ranks.device)
        return places, self.valid[row]


@torch.no_grad()
def token_scale(language_model: PreTrainedModel) -> float:
    """Root mean square of the word embeddings that a language model is used to, from a sample of its vocabulary."""
    embeddings: nn.Module = language_model.get_input_embeddings()
    weight = next(embeddings.parameters())
    if weight.is_meta:
        return 1.0  # there are no numbers to ask
    ids = torch.arange(0, len(weight), max(1, len(weight) // 1000), device=weight.device)
    return float(embeddings(ids).float().square().mean().sqrt())


def read_grid(image_map: Tensor, valid: Tensor, extent: Tensor, *, side: int) -> Tensor:
    """Read a map on a regular grid over each picture's own extent; padding never enters.

    Args:
        image_map: (B, d, h, w).
        valid: cells that hold picture, (B, h, w), bool.
        extent: share of the canvas that each picture fills, (B, 2) as (x, y) in 0..1.
        side: points along each axis, G.

    Returns:
        Features at the points, row by row, (B, G * G, d).
    """
    steps = (torch.arange(side, device=extent.device, dtype=torch.float32) + 0.5) / side
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    points = torch.stack([x, y], dim=-1) * extent.to(steps.dtype)[:, None, None, :] * 2 - 1
    points = points.to(image_map.dtype)
    weight = valid.unsqueeze(1).to(image_map.dtype)
    # bilinear weights of padded cells go to the others: the share that was read makes up for them
    read = F.grid_sample(torch.cat([image_map * weight, weight], dim=1), points, align_corners=False)
    features, share = read[:, :-1], read[:, -1:]
    return (features / share.clamp(min=1e-6)).flatten(2).transpose(1, 2)


def _take(source: Tensor, rows: Tensor) -> Tensor:
    return source.gather(1, rows.unsqueeze(-1).expand(-1, -1, source.shape[-1]))


def _norm(norm: Norm, dim: int) -> nn.Module:
    return nn.LayerNorm(dim) if norm == "layer" else nn.Identity()


def _set_softcap(language_model: PreTrainedModel, softcap: float | None) -> None:
    """Set the soft limit of the attention logits; only eager attention knows one."""
    layers = [module for module in language_model.modules() if hasattr(module, "attn_logit_softcapping")]
    if not layers:
        if softcap is not None:
            raise ValueError(f"a softcap of {softcap:g} was asked of a language model that has none: leave it out")
        return
    for layer in layers:
        layer.attn_logit_softcapping = softcap
    language_model.config.attn_logit_softcapping = softcap
    # without a softcap PyTorch's fused attention fits, though transformers does not offer it for these models
    language_model.config._attn_implementation = "sdpa" if softcap is None else "eager"
