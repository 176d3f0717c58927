"""The whole model; its forward reads like the figure of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbone import Backbone
from .denoising import DenoisingQueries
from .hierarchy_queries import HierarchyQueries, keep_objects
from .mllm import LanguageRefiner
from .part_anchors import repeated, seen_anchors, slot_anchors
from .part_levels import PartLevel, join_levels, keep_parts, parts_of_parts
from .pixel_decoder import PixelDecoder, Pyramid
from .qformer import LearnedPartQueries, QFormer
from .query_decoder import QueryDecoder
from .structures import (
    DecoderOutput,
    Denoising,
    KeptObjects,
    Names,
    Output,
    PartQueries,
    Pictures,
    Targets,
    VocabularyBatch,
)
from .text_encoder import TextEncoder

IMAGE_LEVEL = 1  # of the pyramid, coarsest first: the stride-32 map is what a text-only language model sees


class PartBranch(nn.Module):
    """What stage 2 adds: part queries from the hierarchy, their refinement by a language model, the part decoder.

    Args:
        queries: makes the initial part queries of the kept objects.
        refiner: refines them.
        decoder: turns them into parts.
        detach_object_queries: keep the gradients of the part losses out of the object queries (ablation).
        start_in_parent: the box of a part starts as a share of its object's box; else of the whole picture, as
            published, and the part branch has to learn from the object query where the object is. The repetitions
            of a part start spread over it.
        start_where_seen: let the picture say more of where in its object a part starts: at the mask that the query
            itself gives before it has looked closer, or, for the repetitions of a part, at the places that the
            per-pixel likelihood of its name shows.
        denoising: noised true parts for training; None goes without.
    """

    def __init__(
        self,
        *,
        queries: HierarchyQueries | LearnedPartQueries,
        refiner: LanguageRefiner | QFormer,
        decoder: QueryDecoder,
        detach_object_queries: bool = False,
        start_in_parent: bool = False,
        start_where_seen: bool = False,
        denoising: DenoisingQueries | None = None,
    ) -> None:
        super().__init__()
        self.queries = queries
        self.refiner = refiner
        self.decoder = decoder
        self.detach_object_queries = detach_object_queries
        self.start_in_parent = start_in_parent
        self.start_where_seen = start_where_seen
        self.denoising = denoising

    def forward(
        self,
        pyramid: Pyramid,
        kept: KeptObjects,
        names: Names,
        vocabulary: VocabularyBatch,
        *,
        likelihood: Tensor | None = None,
        mllm_pixels: Tensor | None = None,
        noised: Denoising | None = None,
        auxiliary: bool = False,
        traces: dict[str, dict[str, Tensor]] | None = None,
    ) -> tuple[PartQueries, DecoderOutput]:
        """Ask for the parts of the kept objects and decode the answers, query for query.

        `likelihood` is that of every part name at every stride-4 pixel, (B, Cp, h, w), for `start_where_seen`.
        """
        if self.detach_object_queries:
            kept = replace(kept, queries=kept.queries.detach())
        traces = {} if traces is None else traces
        if isinstance(self.queries, HierarchyQueries):
            queries = self.queries(kept, names, vocabulary, trace=traces.get("mllm"))
        else:
            queries = self.queries(kept)
        if isinstance(self.refiner, LanguageRefiner):
            image_map, image_valid = pyramid.level(IMAGE_LEVEL)
            refined = self.refiner(
                queries,
                num_objects=kept.index.shape[1],
                image_map=image_map,
                image_valid=image_valid,
                extent=pyramid.extent,
                mllm_pixels=mllm_pixels,
                trace=traces.get("mllm"),
            )
        else:
            refined = self.refiner(queries, objects=kept.queries)
        frames, anchors, from_mask = self._start(queries, kept, likelihood, pyramid.extent)
        parts = self.decoder(
            pyramid,
            names,
            queries=refined,
            valid=queries.valid,
            anchors=anchors,
            frames=frames,
            from_mask=from_mask,
            denoising=noised,
            auxiliary=auxiliary,
            trace=traces.get("part"),
        )
        return replace(queries, embeds=refined), parts

    def _start(
        self, queries: PartQueries, kept: KeptObjects, likelihood: Tensor | None, extent: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Frames, anchors and which boxes start around masks, for the decoder; None where it does without."""
        if not self.start_in_parent:
            return None, None, None
        frames = kept.boxes.detach().gather(1, queries.parent.unsqueeze(-1).expand(-1, -1, 4))
        anchors = None if queries.slot is None else slot_anchors(queries.slot)
        if not self.start_where_seen:
            return frames, anchors, None
        many = repeated(queries)
        if anchors is not None and likelihood is not None:
            seen, found = seen_anchors(likelihood, queries, frames, extent)
            anchors = torch.where((many & found).unsqueeze(-1), seen, anchors)
        return frames, anchors, queries.valid & ~many


class LangHOPSModel(nn.Module):
    """Segments objects and their parts from names given at run time.

    Source: LangHOPS, NeurIPS 2025, arXiv 2510.25263.

    Args:
        backbone: pictures to four maps.
        text_encoder: names to embeddings.
        pixel_decoder: maps to memory and mask features.
        object_decoder: memory to objects.
        part_branch: objects to parts; None for stage 1.
        denoising: noised true objects for training; None goes without.
        num_queries, num_kept: Q object queries, K objects whose parts are looked for.
        dense: projects mask features to name every pixel in training; None goes without.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        text_encoder: TextEncoder,
        pixel_decoder: PixelDecoder,
        object_decoder: QueryDecoder,
        part_branch: PartBranch | None,
        denoising: DenoisingQueries | None,
        num_queries: int,
        num_kept: int,
        dense: nn.Conv2d | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.text_encoder = text_encoder
        self.pixel_decoder = pixel_decoder
        self.object_decoder = object_decoder
        self.part_branch = part_branch
        self.denoising = denoising
        self.dense = dense
        self.num_queries = num_queries
        self.num_kept = num_kept

    def forward(
        self,
        pictures: Pictures,
        vocabulary: VocabularyBatch,
        targets: Sequence[Targets] | None = None,
        *,
        return_intermediates: bool = False,
        objects_only: bool = False,
    ) -> Output:
        """Segment a batch; every picture has a vocabulary of its own.

        Args:
            pictures: B padded pictures.
            vocabulary: the names of each.
            targets: what is true in each; in training mode they bring denoising and the outputs of all layers.
            return_intermediates: return the tensors on the way by name, the predictions of every layer among them;
                of the parts those of the first level.
            objects_only: leave the part stage out.

        Returns:
            Output, for `postprocess` to turn into instances or for the criterion.
        """
        training = self.training and targets is not None
        auxiliary = training or return_intermediates
        traces: dict[str, dict[str, Tensor]] = {"object": {}, "mllm": {}, "part": {}} if return_intermediates else {}

        embeddings = self.text_encoder(vocabulary.texts)
        objects_named = Names(embeddings[vocabulary.objects], vocabulary.object_valid)
        parts_named = Names(embeddings[vocabulary.parts], vocabulary.part_valid)
        inside = pictures.valid(1)
        features = self.backbone(self.backbone.normalise(pictures.pixels, inside), inside)
        pyramid = self.pixel_decoder(features, pictures)
        num_queries = min(self.num_queries, pyramid.memory.shape[1])
        noised, noised_parts = None, None
        if training and targets is not None:
            if self.denoising is not None:
                noised = self.denoising([item.objects for item in targets], objects_named)
            if self.part_branch is not None and self.part_branch.denoising is not None:
                noised_parts = self.part_branch.denoising([item.parts for item in targets], parts_named)
        objects = self.object_decoder(
            pyramid,
            objects_named,
            num_queries=num_queries,
            denoising=noised,
            auxiliary=auxiliary,
            trace=traces.get("object"),
        )
        kept = keep_objects(objects, self.num_kept)
        dense = self._name_pixels(pyramid, objects_named, parts_named) if training else None
        queries, parts, likelihood = None, None, None
        if self.part_branch is not None and not objects_only:
            likelihood = self._part_likelihood(pyramid, parts_named, dense)
            queries, parts = self.part_branch(
                pyramid,
                kept,
                parts_named,
                vocabulary,
                likelihood=likelihood,
                mllm_pixels=pictures.mllm_pixels,
                noised=noised_parts,
                auxiliary=auxiliary,
                traces=traces,
            )
        intermediates = {f"{level}.{name}": value for level, trace in traces.items() for name, value in trace.items()}
        if return_intermediates:
            intermediates |= {f"backbone.res{number + 2}": level for number, level in enumerate(features)}
            intermediates |= {f"pixel.level{3 - index}": pyramid.level(index)[0] for index in range(4)}
            intermediates |= {"pixel.mask_features": pyramid.mask_features, "text.class_embeddings": embeddings}
            intermediates |= _answers("object", objects) | ({} if parts is None else _answers("part", parts))
            intermediates |= {"object.topk_index": kept.index, "object.topk_class": kept.classes}
        if queries is not None and parts is not None and not training:
            queries, parts = self._look_deeper(
                PartLevel(kept, queries, parts), pyramid, parts_named, likelihood, pictures, vocabulary
            )
        return Output(objects, kept, queries, parts, noised, noised_parts, dense, intermediates)

    def _look_deeper(
        self,
        level: PartLevel,
        pyramid: Pyramid,
        names: Names,
        likelihood: Tensor | None,
        pictures: Pictures,
        vocabulary: VocabularyBatch,
    ) -> tuple[PartQueries, DecoderOutput]:
        """Run the part stage again on the parts that have parts, level by level; all levels together."""
        assert self.part_branch is not None
        found = [level]
        for number in range(1, vocabulary.levels):
            assert vocabulary.deeper is not None
            # the first run asks for parts of parts too, but whose they are is not known there
            has_parts = vocabulary.deeper.child_valid.any(-1)
            usable = has_parts & ~parts_of_parts(vocabulary.deeper) if number == 1 else has_parts
            hosts = keep_parts(found[-1], usable, self.num_kept)
            queries, parts = self.part_branch(
                pyramid,
                hosts,
                names,
                vocabulary.deeper,
                likelihood=likelihood,
                mllm_pixels=pictures.mllm_pixels,
            )
            found.append(PartLevel(hosts, queries, parts))
        return join_levels(found)

    def _name_pixels(self, pyramid: Pyramid, *levels: Names) -> Tensor | None:
        """Logits of every name at every stride-4 pixel: teaches the pixels before the matcher has settled."""
        if self.dense is None:
            return None
        names = torch.cat([level.embeddings for level in levels], dim=1)
        return torch.einsum("bcd,bdhw->bchw", names, self.dense(pyramid.mask_features))

    @torch.no_grad()
    def _part_likelihood(self, pyramid: Pyramid, parts: Names, dense: Tensor | None) -> Tensor | None:
        """How likely each part name is at every stride-4 pixel, against the others and nothing; none in padding.

        `dense` are the logits of all names, those of the parts last, where they are known already.
        """
        assert self.part_branch is not None
        if not self.part_branch.start_where_seen:
            return None
        if dense is None:
            dense = self._name_pixels(pyramid, parts)
        if dense is None:
            return None
        logits = dense[:, -parts.embeddings.shape[1] :].float().masked_fill(~parts.valid[:, :, None, None], -torch.inf)
        likelihood = F.pad(logits, (0, 0, 0, 0, 0, 1)).softmax(1)[:, :-1]
        return likelihood * pyramid.mask_valid.unsqueeze(1)

    def saved_names(self) -> set[str]:
        """State-dict names that a checkpoint holds: all but the frozen bases, which are had by their identity."""
        tower = "part_branch.refiner.image_tower."
        frozen = ["text_encoder.teacher.", "part_branch.refiner.language_model.", tower]
        if not self.text_encoder.trainable:
            frozen.append("text_encoder.encoder.")
        # the two ends of the image tower are small, and what a conversion folds scales into
        ends = (f"{tower}projector.", f"{tower}vision_tower.embeddings.patch_embedding.")
        return {
            name
            for name in self.state_dict()
            if not name.startswith(tuple(frozen)) or ".lora_" in name or name.startswith(ends)
        }


def _answers(level: str, decoder: DecoderOutput) -> dict[str, Tensor]:
    """What a decoder said after every layer, before the first one, and of its proposals, by name."""
    outputs = {"": decoder.final} | {f"aux{number}.": item for number, item in enumerate(decoder.auxiliary)}
    if decoder.proposals is not None:
        outputs["interm."] = decoder.proposals
    named = {f"{level}.queries": decoder.queries}
    for place, item in outputs.items():
        named |= {f"{level}.{place}pred_logits": item.logits, f"{level}.{place}pred_boxes": item.boxes}
        if item.masks is not None:
            named[f"{level}.{place}pred_masks"] = item.masks
    return named
