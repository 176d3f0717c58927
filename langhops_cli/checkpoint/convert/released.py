"""The releases of LangHOPS, PartGLEE, GLEE and Mask DINO as our checkpoints, their quirks folded into the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from langhops_cli.checkpoint.base_models import SWIN_L
from langhops_cli.checkpoint.convert.decoders import convert_pixel_decoder, convert_query_decoder
from langhops_cli.checkpoint.convert.ledger import Ledger
from langhops_cli.checkpoint.convert.swin import convert_swin
from langhops_cli.errors import DATA, UserError
from langhops_cli.model.configuration import BaseModelConfig, ModelConfig

EPSILON = 1e-5  # of BatchNorm
LLM = "llm_model.base_model.model."
TOWER = "part_branch.refiner.image_tower."


@dataclass(frozen=True)
class Layout:
    """Where a project keeps its modules.

    Args:
        prefix: of the backbone and of what reads names.
        pixel_decoder, objects, parts: prefixes of the decoders; `parts` is None where there is one decoder for all.
        part_queries: how part queries are made and refined, None where there are none.
    """

    prefix: str
    pixel_decoder: str
    objects: str
    parts: str | None = None
    part_queries: str | None = None


LAYOUTS = {
    "langhops": Layout(
        "partglee.",
        "partglee.pixel_decoder.",
        "partglee.object_predictor.",
        "partglee.part_predictor.",
        "hierarchy",
    ),
    "partglee": Layout(
        "partglee.",
        "partglee.pixel_decoder.",
        "partglee.object_predictor.",
        "partglee.part_predictor.",
        "learned",
    ),
    "glee": Layout("glee.", "glee.pixel_decoder.", "glee.predictor."),
    "maskdino": Layout("", "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."),
}


@dataclass(frozen=True)
class Conversion:
    """A model configuration with the tensors that fit it.

    Args:
        config: of the model.
        ledger: what was taken, dropped and left.
        fresh: patterns of our tensors that the release has no counterpart of and that start new.
    """

    config: ModelConfig
    ledger: Ledger
    fresh: tuple[str, ...]


def convert_release(ledger: Ledger, *, layout: str) -> Conversion:
    """Take everything that a release holds and our model has a place for.

    Args:
        ledger: of the released file.
        layout: key of `LAYOUTS`.

    Returns:
        The conversion; what its ledger has left was expected by no rule.

    Raises:
        UserError: a tensor that the layout must have is missing, or two names of one tensor differ.
    """
    where = LAYOUTS[layout]
    if not ledger.has(f"{where.prefix}backbone.") or not ledger.has(where.objects):
        raise UserError(
            f"{ledger.source}: holds nothing below {where.prefix}backbone. and {where.objects}, so it is no checkpoint "
            f"of {layout}; see --from",
            code=DATA,
        )
    shape = convert_swin(ledger, source=f"{where.prefix}backbone.", target="backbone.backbone.")
    numbers = convert_pixel_decoder(ledger, source=where.pixel_decoder, target="pixel_decoder.")
    layers = convert_query_decoder(ledger, source=where.objects, target="object_decoder.")
    paper = ModelConfig.preset("paper")
    queries = f"{where.prefix}obj_queries_pos.weight"
    config = replace(
        paper,
        level="objects",
        backbone=BaseModelConfig("swin", SWIN_L, shape=shape),
        decoder=replace(
            paper.decoder,
            dim=numbers["dim"],
            feedforward=numbers["feedforward"],
            encoder_layers=numbers["encoder_layers"],
            object_layers=layers,
            part_layers=layers,
            num_queries=len(ledger.look(queries)) if ledger.has(queries) else paper.decoder.num_queries,
        ),
        part_scoring="open",
    )
    fresh = [r"denoising\..*"]
    if ledger.has(f"{where.prefix}text_encoder."):
        _text(ledger, where.prefix)
    else:
        fresh += [r"text_encoder\..*", r"object_decoder\.category_embed\.weight"]
    if where.parts is not None:
        layers = convert_query_decoder(ledger, source=where.parts, target="part_branch.decoder.")
        config = replace(config, level="parts", decoder=replace(config.decoder, part_layers=layers))
    if where.part_queries == "hierarchy":
        config = _hierarchy(ledger, where.prefix, config)
        fresh.append(r"part_branch\.queries\.slots\.weight")
    elif where.part_queries == "learned":
        config = _learned(ledger, where.prefix, config)
    _drop_rest(ledger, where.prefix)
    return Conversion(config, ledger, tuple(fresh))


def fold_norm(weight: Tensor, bias: Tensor, norm: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """A linear layer that does what it did behind a BatchNorm in evaluation.

    Args:
        weight: (D_out, D_in); bias: (D_out,).
        norm: weight, bias, running mean and running variance of the norm, (D_in,) each.

    Returns:
        Weight and bias that read what entered the norm.
    """
    gain, shift, mean, variance = (tensor.double() for tensor in norm)
    scale = gain / (variance + EPSILON).sqrt()
    offset = shift - mean * scale
    folded = weight.double() * scale, bias.double() + weight.double() @ offset
    return folded[0].float(), folded[1].float()


def _text(ledger: Ledger, prefix: str) -> None:
    ledger.drop(r"text_encoder(_teacher)?\..*position_ids", "a table that is computed", below=prefix)
    ledger.rename(f"{prefix}text_encoder.", "text_encoder.encoder.", [(r"text_model\.(.*)", r"\1")])
    ledger.drop(r"text_encoder_teacher\..*", "frozen base: had by its id", below=prefix)
    ledger.take(f"{prefix}lang_projection", "text_encoder.lang_projection")


def _hierarchy(ledger: Ledger, prefix: str, config: ModelConfig) -> ModelConfig:
    """The two query mappers and what belongs to PaliGemma: adapters, and the ends of the image tower."""
    mapper, back = f"{prefix}obj_part_queries_mapper.", f"{prefix}part_queries_back_mapper."
    width = len(ledger.look(f"{mapper}0.bias"))
    # Whatever entered the release's Gemma was multiplied by the root of its width; nothing multiplies it today.
    scale = width**0.5
    _mapper(ledger, mapper, "part_branch.queries.mlp.", folds={3: 2, 6: 5}, scale={6: scale})
    _mapper(ledger, back, "part_branch.refiner.output.", folds={3: 2}, scale={})
    model = f"{prefix}{LLM}"
    ledger.rename(
        f"{model}language_model.model.",
        "part_branch.refiner.language_model.",
        [(r"(layers\.\d+\.self_attn\.(?:q|v)_proj\.lora_[AB]\.default\.weight)", r"\1")],
    )
    for kind in ("weight", "bias"):
        ledger.take(
            f"{model}multi_modal_projector.linear.{kind}",
            f"{TOWER}projector.linear.{kind}",
            lambda tensor: tensor * scale,
        )
    _patches(ledger, f"{model}vision_tower.vision_model.embeddings.patch_embedding.")
    rank = len(ledger.look(f"{model}language_model.model.layers.0.self_attn.q_proj.lora_A.default.weight"))
    ledger.drop(r".*", "frozen base: had by its id", below=model)
    return replace(
        config,
        hierarchy=replace(config.hierarchy, empty_object_queries=True),
        refiner=replace(config.refiner, norm="none", softcap=None, lora_rank=rank, lora_alpha=2 * rank),
    )


def _mapper(ledger: Ledger, source: str, target: str, *, folds: dict[int, int], scale: dict[int, float]) -> None:
    """Linear layers with a BatchNorm in front of some: number of the layer to number of its norm."""
    for number in (0, *folds):
        names = [f"{source}{number}.weight", f"{source}{number}.bias"]
        weight, bias = (ledger.look(name).float() for name in names)
        if number in folds:
            norm = [f"{source}{folds[number]}.{kind}" for kind in ("weight", "bias", "running_mean", "running_var")]
            weight, bias = fold_norm(weight, bias, [ledger.look(name) for name in norm])
            names += norm
        factor = scale.get(number, 1.0)
        ledger.put(f"{target}{number}.weight", weight * factor, of=names)
        ledger.put(f"{target}{number}.bias", bias * factor, of=names)
    ledger.drop(r".*num_batches_tracked", "a counter of training steps", below=source)


def _patches(ledger: Ledger, source: str) -> None:
    """The release divided its picture by 255 twice: p in -1..1 arrived as (p + 1) / 255 - 1, a map that is linear."""
    names = [f"{source}weight", f"{source}bias"]
    weight, bias = (ledger.look(name).double() for name in names)
    target = f"{TOWER}vision_tower.embeddings.patch_embedding."
    ledger.put(f"{target}weight", (weight / 255).float(), of=names)
    ledger.put(f"{target}bias", (bias + weight.sum((1, 2, 3)) * (1 / 255 - 1)).float(), of=names)


def _learned(ledger: Ledger, prefix: str, config: ModelConfig) -> ModelConfig:
    """Learned part queries, their places added to them, and the Q-Former that refines them."""
    names = [f"{prefix}part_queries_feat.weight", f"{prefix}part_queries_pos.weight"]
    queries = ledger.look(names[0]).float() + ledger.look(names[1]).float()
    ledger.put("part_branch.queries.queries.weight", queries, of=names)
    # theirs know their object by the Q-Former alone
    width = queries.shape[1]
    ledger.put("part_branch.queries.object_projection.weight", torch.zeros(width, width), of=())
    ledger.put("part_branch.queries.object_projection.bias", torch.zeros(width), of=())
    layers = ledger.count(f"{prefix}qformer.layers.")
    ledger.rename(f"{prefix}qformer.", "part_branch.refiner.decoder.", [(r"(.*)", r"\1")])
    return replace(
        config,
        hierarchy=replace(config.hierarchy, source="learned", learned_queries=len(queries)),
        refiner=replace(config.refiner, kind="qformer", qformer_layers=layers),
    )


def _drop_rest(ledger: Ledger, prefix: str) -> None:
    ledger.drop(r"criterion\..*", "a buffer of the training loss")
    ledger.drop(r"pixel_(mean|std)", "constants")
    ledger.drop(
        r"(qformer|part_queries_feat|part_queries_pos)\..*", "learned part queries, not used here", below=prefix
    )
    ledger.drop(r"obj_queries_pos\..*", "places of objects for the Q-Former", below=prefix)
    ledger.drop(r"(llm_token_embed_func|llm_model)\..*", "frozen base: had by its id", below=prefix)
    ledger.drop(r"(vision_projector|mask_sptial_embed|pn_indicator)\..*", "not used by the release", below=prefix)
