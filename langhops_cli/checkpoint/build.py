"""From the numbers of a configuration to a model: each builder reads its fields and calls one constructor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from torch import nn

from langhops_cli.checkpoint import base_models
from langhops_cli.errors import UserError
from langhops_cli.model.backbone import Backbone, TransformersBackbone
from langhops_cli.model.configuration import BaseModelConfig, DecoderConfig, ModelConfig, Precision, RefinerConfig
from langhops_cli.model.denoising import DenoisingQueries
from langhops_cli.model.efficientnet import EfficientNetLite0
from langhops_cli.model.hierarchy_queries import HierarchyQueries
from langhops_cli.model.langhops import LangHOPSModel, PartBranch
from langhops_cli.model.lora import add_lora
from langhops_cli.model.mllm import LanguageRefiner, PaliGemmaImageTower, token_scale
from langhops_cli.model.pixel_decoder import PixelDecoder
from langhops_cli.model.qformer import LearnedPartQueries, QFormer
from langhops_cli.model.query_decoder import QueryDecoder
from langhops_cli.model.text_encoder import TextEncoder

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BertModel, PreTrainedModel


class Bases(Protocol):
    """Where base models come from: the module `base_models`, or what stands in for it."""

    def load_minilm(self) -> tuple[BertModel, Any]: ...
    def load_efficientnet_lite0(self) -> dict[str, Tensor]: ...
    def load_swin_l(self, source: str, revision: str | None = None) -> PreTrainedModel: ...
    def load_clip_text(self, source: str, revision: str | None = None) -> tuple[PreTrainedModel, Any]: ...
    def load_paligemma(
        self, source: str, revision: str | None = None, *, precision: Precision
    ) -> tuple[PreTrainedModel, Any]: ...
    def load_language_model(
        self, source: str, revision: str | None = None, *, precision: Precision
    ) -> tuple[PreTrainedModel, Any]: ...


def build_model(config: ModelConfig, *, pretrained: bool = True, bases: Bases = base_models) -> LangHOPSModel:
    """Build a model on the CPU, its own parts freshly initialised.

    Args:
        config: of the model; `level` "objects" leaves the part branch out.
        pretrained: start the backbone from its ImageNet weights; False where a checkpoint is loaded next. Frozen
            bases are always loaded.
        bases: offers the base models.

    Raises:
        UserError: a base model is unknown or cannot be had.
    """
    decoder = config.decoder
    backbone = _backbone(config.backbone, bases, pretrained=pretrained)
    encoder, tokenizer = _text_model(config.text.base, bases)
    return LangHOPSModel(
        backbone=backbone,
        text_encoder=TextEncoder(
            encoder=encoder,
            tokenizer=tokenizer,
            width=encoder.config.hidden_size,
            query_dim=decoder.dim,
            trainable=config.text.trainable,
        ),
        pixel_decoder=PixelDecoder(
            channels=backbone.channels,
            dim=decoder.dim,
            layers=decoder.encoder_layers,
            feedforward=decoder.feedforward,
            heads=decoder.heads,
            points=decoder.points,
        ),
        object_decoder=_query_decoder(decoder, decoder.object_layers),
        part_branch=_part_branch(config, bases) if config.level == "parts" else None,
        denoising=_denoising(decoder.dim, decoder.denoising_queries),
        num_queries=decoder.num_queries,
        num_kept=config.hierarchy.num_kept,
        dense=nn.Conv2d(decoder.dim, decoder.dim, 1) if decoder.dense_auxiliary else None,
    )


def _backbone(base: BaseModelConfig, bases: Bases, *, pretrained: bool) -> Backbone:
    if base.kind == "efficientnet-lite0":
        model = EfficientNetLite0()
        if pretrained:
            model.load_state_dict(bases.load_efficientnet_lite0())
        return model
    if base.kind == "swin":
        if pretrained:
            swin = bases.load_swin_l(base.source, base.revision)
        else:
            swin = base_models.build_random(base_models.SWIN_L_CONFIG | base.shape)
        swin.swin.layernorm = nn.Identity()  # transformers normalises the last state once more and uses it for nothing
        return TransformersBackbone(swin, channels=swin.channels)
    raise UserError(f"model.backbone.kind is {base.kind}; known are efficientnet-lite0 and swin")


def _text_model(base: BaseModelConfig, bases: Bases) -> tuple[Any, Any]:
    if base.kind == "minilm":
        return bases.load_minilm()
    if base.kind == "clip":
        return bases.load_clip_text(base.source, base.revision)
    raise UserError(f"model.text.base.kind is {base.kind}; known are clip and minilm")


def _query_decoder(decoder: DecoderConfig, layers: int, *, masks_in_boxes: bool = False) -> QueryDecoder:
    return QueryDecoder(
        dim=decoder.dim,
        layers=layers,
        feedforward=decoder.feedforward,
        heads=decoder.heads,
        points=decoder.points,
        masks_in_boxes=masks_in_boxes,
    )


def _part_branch(config: ModelConfig, bases: Bases) -> PartBranch:
    decoder, hierarchy = config.decoder, config.hierarchy
    if hierarchy.start_where_seen and not hierarchy.start_in_parent:
        raise UserError("model.hierarchy.start_where_seen needs model.hierarchy.start_in_parent: set that as well")
    refiner: LanguageRefiner | QFormer
    if config.refiner.kind == "mllm":
        refiner = language = _language_refiner(config.refiner, decoder.dim, bases)
        hidden, scale = language.hidden_dim, token_scale(language.language_model)
        _check_room(config, language)
    else:
        refiner = QFormer(
            query_dim=decoder.dim,
            num_layers=config.refiner.qformer_layers,
            num_heads=decoder.heads,
            feedforward_dim=decoder.feedforward,
        )
        hidden, scale = decoder.dim, 1.0
    queries: HierarchyQueries | LearnedPartQueries
    if hierarchy.source == "hierarchy":
        queries = HierarchyQueries(
            query_dim=decoder.dim,
            hidden_dim=hidden,
            slots=hierarchy.slots,
            max_queries=hierarchy.max_queries,
            empty_queries=hierarchy.empty_object_queries,
            norm=config.refiner.norm,
            scale=scale,
        )
    else:
        queries = LearnedPartQueries(
            num_queries=hierarchy.learned_queries, query_dim=decoder.dim, hidden_dim=hidden, scale=scale
        )
    return PartBranch(
        queries=queries,
        refiner=refiner,
        decoder=_query_decoder(decoder, decoder.part_layers, masks_in_boxes=decoder.part_masks_in_boxes),
        detach_object_queries=hierarchy.detach_object_queries,
        start_in_parent=hierarchy.start_in_parent,
        start_where_seen=hierarchy.start_where_seen,
        denoising=_denoising(decoder.dim, decoder.part_denoising_queries),
    )


def _denoising(dim: int, count: int) -> DenoisingQueries | None:
    return DenoisingQueries(query_dim=dim, num_queries=count) if count else None


def _check_room(config: ModelConfig, refiner: LanguageRefiner) -> None:
    """The longest sequence that the numbers allow must fit the language model, not only that of the next picture."""
    room = refiner.max_part_queries(num_objects=config.hierarchy.num_kept, image_tokens=config.refiner.image_grid**2)
    if room is not None and config.hierarchy.max_queries > room:
        raise UserError(
            f"model.hierarchy.max_queries is {config.hierarchy.max_queries}, but the language model has room for "
            f"{room} part queries of {config.hierarchy.num_kept} objects; lower it, or num_kept, or refiner.image_grid"
        )


def _language_refiner(refiner: RefinerConfig, query_dim: int, bases: Bases) -> LanguageRefiner:
    base = refiner.base
    language_model: Any
    image_tower = None
    precision = _precision(refiner)
    if base.kind == "minilm":
        language_model, tokenizer = bases.load_minilm()
    elif base.kind == "paligemma":
        whole, tokenizer = bases.load_paligemma(base.source, base.revision, precision=precision)
        language_model = whole.language_model
        vision = whole.config.vision_config
        if refiner.image_size != vision.image_size:
            raise UserError(
                f"model.refiner.image_size is {refiner.image_size}; {base.source} reads {vision.image_size} pixels"
            )
        image_tower = PaliGemmaImageTower(
            vision_tower=whole.vision_tower,
            projector=whole.multi_modal_projector,
        )
    elif base.kind == "language":
        language_model, tokenizer = bases.load_language_model(base.source, base.revision, precision=precision)
    else:
        raise UserError(f"model.refiner.base.kind is {base.kind}; known are paligemma, minilm and language")
    add_lora(language_model, rank=refiner.lora_rank, alpha=refiner.lora_alpha, dropout=refiner.lora_dropout)
    before, after = _around(refiner.prompt.partition("{parts}")[0], "{image}", "model.refiner.prompt")
    segments = (refiner.segment,) if isinstance(refiner.segment, str) else refiner.segment
    sides = [_around(segment, "{queries}", "model.refiner.segment") for segment in segments]
    opening = [token for token in (tokenizer.cls_token_id, tokenizer.bos_token_id) if token is not None][:1]
    try:
        return LanguageRefiner(
            language_model=language_model,
            hidden_dim=language_model.config.hidden_size,
            query_dim=query_dim,
            before_ids=[*opening, *_ids(tokenizer, before)],
            after_ids=_ids(tokenizer, after),
            start_ids=[_ids(tokenizer, start) for start, _ in sides],
            end_ids=[_ids(tokenizer, end) for _, end in sides],
            image_tower=image_tower,
            image_grid=refiner.image_grid,
            norm=refiner.norm,
            softcap=refiner.softcap,
        )
    except ValueError as error:
        raise UserError(f"model.refiner.softcap does not fit {base.source}: {error}") from None


def _precision(refiner: RefinerConfig) -> Precision:
    kind = refiner.base.kind
    if refiner.precision == "auto":
        return "bf16" if kind == "paligemma" else "fp32"
    if kind == "minilm" and refiner.precision != "fp32":
        raise UserError(f"model.refiner.precision is {refiner.precision}, and MiniLM runs in fp32 only: leave it out")
    return refiner.precision


def _around(text: str, marker: str, where: str) -> tuple[str, str]:
    before, found, after = text.partition(marker)
    if not found:
        raise UserError(f"{where} has no {marker}: put it where that belongs")
    return before.strip(), after.strip()


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
