"""A training recipe: a YAML file whose sections stand in one order, checked before anything heavy is loaded."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from langhops_cli.errors import UserError
from langhops_cli.training.recipe_files import BASE, read_tree, set_key, shipped_recipes


class Section(BaseModel):
    """One group of settings; a key that it does not know is a mistake."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ModelSection(Section):
    """A preset, and what is different from it: any key of the model configuration, nested as there.

    The preset `init` is the model of the checkpoint that training starts from, such as a converted release.
    """

    model_config = ConfigDict(extra="allow")

    preset: Literal["mini", "paper", "init"] = "mini"

    @property
    def overrides(self) -> dict[str, Any]:
        """Everything but the preset, as a nested mapping."""
        return dict(self.__pydantic_extra__ or {})


class StageSection(Section):
    """What is learned: objects alone (stage 1), or objects and parts together (stage 2); with all weights, or few.

    `train: adapters` keeps backbone and pixel decoder as they are, and trains the decoders' heads, the projections of
    names and queries, and the language model's LoRA: for a few pictures of one's own.
    """

    level: Literal["objects", "parts"]
    init: str | None = None
    init_part_decoder: Literal["objects", "none"] = "objects"
    train: Literal["all", "adapters"] = "all"


class TrainSet(Section):
    """A data set, how often it is drawn, whatever its size, and objects that none of its pictures holds.

    It is either `name`, a prepared set below the data root, or `stream`, a folder of shards or a data set on the Hub.
    Training never hears of the objects `without`, nor of their parts, though pictures show them: they are unseen.
    With `repeat_threshold` t, pictures of names that stand in a share f < t of its pictures are drawn sqrt(t / f) times
    as often (repeat-factor sampling, LVIS).
    """

    name: str | None = None
    stream: str | None = None
    ratio: float = Field(default=1.0, gt=0)
    split: str = "train"
    absent: list[str] = []
    without: list[str] = []
    repeat_threshold: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if (self.name is None) == (self.stream is None):
            raise ValueError("give either name, a prepared set, or stream, a folder of shards or a Hub id")
        if self.stream is not None and self.repeat_threshold is not None:
            raise ValueError("repeat_threshold needs a prepared set, given by name: what is streamed is read in order")
        if both := sorted(set(self.absent) & set(self.without)):
            raise ValueError(f"{both[0]} is either absent from the pictures or left without its name, not both")
        return self


class DataSection(Section):
    """Which pictures, and how they become batches."""

    root: str | None = None
    train: list[TrainSet] = Field(min_length=1)
    val: list[str] = []
    val_pictures: int = Field(default=100, ge=1)
    image_size: int = Field(default=320, ge=64)
    jitter: tuple[float, float] = (0.6, 1.6)
    flip: float = Field(default=0.5, ge=0, le=1)
    colour: float = Field(default=0.3, ge=0, lt=1)
    batch: int = Field(default=2, ge=1)
    accumulate: int = Field(default=1, ge=1)
    group_by_aspect: bool = False
    workers: int = Field(default=1, ge=0)
    max_names: int = Field(default=300, ge=1)
    drop_parts: float = Field(default=0.0, ge=0, lt=1)

    @field_validator("val", mode="before")
    @classmethod
    def _check_val(cls, value: object) -> object:
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            raise ValueError("only prepared sets are measured on: give their names, such as [cars]")
        return value

    @model_validator(mode="after")
    def _check_jitter(self) -> Self:
        if not 0 < self.jitter[0] <= self.jitter[1]:
            raise ValueError("jitter is the smallest and the largest scale, above 0")
        return self

    @model_validator(mode="after")
    def _check_grouping(self) -> Self:
        if self.group_by_aspect and any(item.stream is not None for item in self.train):
            raise ValueError("group_by_aspect needs prepared sets, given by name: what is streamed is read in order")
        return self


class LossSection(Section):
    """Weights of the losses, which are the costs of the matcher too, and who may match whom."""

    class_weight: float = Field(default=4.0, ge=0)
    mask_weight: float = Field(default=5.0, ge=0)
    dice_weight: float = Field(default=5.0, ge=0)
    box_weight: float = Field(default=5.0, ge=0)
    giou_weight: float = Field(default=2.0, ge=0)
    dense_weight: float = Field(default=1.0, ge=0)
    distillation_weight: float = Field(default=4.0, ge=0)
    parent_aware_matching: bool = True


class OptimizerSection(Section):
    """AdamW and its parameter groups; so many batches in all whose loss is not finite are left out."""

    learning_rate: float = Field(default=5e-5, gt=0)
    backbone_multiplier: float = Field(default=0.1, ge=0)
    lora_multiplier: float = Field(default=1.0, ge=0)
    weight_decay: float = Field(default=0.05, ge=0)
    clip_norm: float = Field(default=1.0, ge=0)
    skip_nonfinite: int = Field(default=0, ge=0)


class ScheduleSection(Section):
    """How long, and how the learning rate goes: a warm-up, then drops to a tenth or a cosine to nothing."""

    steps: int = Field(ge=1)
    warmup: int = Field(default=100, ge=0)
    decay: Literal["drops", "cosine"] = "drops"
    drops: list[int] = []
    minutes: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check_drops(self) -> Self:
        if self.drops and self.decay == "cosine":
            raise ValueError("drops belong to decay: drops, not to a cosine")
        if self.drops != sorted(set(self.drops)):
            raise ValueError("drops are steps in rising order")
        return self


class DistributedSection(Section):
    """How DeepSpeed shares the work, and after how long without a step a run counts as hanging."""

    zero: Literal[0, 1, 2, 3] = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    offload: Literal["none", "optimizer", "parameters"] = "none"
    checkpoint_activations: bool = False
    tf32: bool = True
    hang_minutes: float = Field(default=30.0, gt=0)

    @model_validator(mode="after")
    def _check_offload(self) -> Self:
        if self.offload == "optimizer" and self.zero == 0:
            raise ValueError("offload: optimizer needs zero: 1, 2 or 3")
        if self.offload == "parameters" and self.zero != 3:
            raise ValueError("offload: parameters needs zero: 3")
        return self


class LoggingSection(Section):
    """How often a line is written, the run is saved and looked at, in steps; what is kept, and who is told.

    `keep` saves are kept to go on from, and the checkpoint with the best `best` figure beside them, where the run is
    measured on the way (`evaluate_every`): on `evaluate_pictures` of each held-out set, a sheet of `sheet` with it.
    """

    every: int = Field(default=20, ge=1)
    save_every: int = Field(default=500, ge=1)
    keep: int = Field(default=1, ge=1)
    evaluate_every: int | None = Field(default=None, ge=1)
    evaluate_pictures: int = Field(default=20, ge=1)
    best: Literal["all", "objects", "parts"] = "all"
    sheet: int = Field(default=6, ge=0)
    tensorboard: bool = False
    wandb: str | None = None


class Recipe(Section):
    """A whole training run. The order of the sections is the order of every recipe file."""

    model: ModelSection = ModelSection()
    stage: StageSection
    data: DataSection
    loss: LossSection = LossSection()
    optimizer: OptimizerSection = OptimizerSection()
    schedule: ScheduleSection
    distributed: DistributedSection = DistributedSection()
    logging: LoggingSection = LoggingSection()
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The recipe with every default spelled out, as plain values."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """The recipe as a file that is itself a recipe."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, default_flow_style=None)


def find_recipe(text: str | Path) -> Path:
    """The file of a recipe.

    Args:
        text: a path, or the name of a recipe that comes with the package, with or without `.yaml`.

    Raises:
        UserError: there is no such recipe; the message names the nearest one.
    """
    path = Path(text)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    if path.stem in shipped and path.suffix in ("", ".yaml") and path.parent in (Path(), Path("recipes")):
        return shipped[path.stem]
    near = difflib.get_close_matches(path.stem, shipped, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the package's own are {', '.join(shipped)}"
    raise UserError(f"no recipe {text}; {hint}", code=2)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file on top of the one that it builds on, if any, and change single keys of it.

    Args:
        path: a YAML file.
        overrides: `section.key=value`; the value is read as YAML.

    Raises:
        UserError: the file is no recipe, a key is unknown (the nearest is named), or a value does not fit.
    """
    tree = read_tree(path)
    for override in overrides:
        set_key(tree, override)
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(error)}", code=2) from None
    if unknown := _unknown_model_key(recipe.model):
        raise UserError(f"{path}: {_unknown(unknown)}", code=2)
    return recipe


def _explain(error: ValidationError) -> str:
    mistakes = error.errors(include_url=False)
    for mistake in mistakes:
        if mistake["type"] == "extra_forbidden":
            return _unknown(_dotted(mistake["loc"]))
    first = mistakes[0]
    place = _dotted(first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"{place} is missing"
    if isinstance(first["input"], str | int | float | bool | None):
        return f"{place} = {first['input']!r}: {message[0].lower()}{message[1:]}"
    return f"{place}: {message[0].lower()}{message[1:]}"


def _dotted(location: Sequence[int | str]) -> str:
    return ".".join(map(str, location))


def _unknown(key: str) -> str:
    near = nearest_key(key)
    return f"unknown key {key}" + (f"; did you mean {near}?" if near else "")


def nearest_key(key: str) -> str | None:
    """The recipe key most like an unknown one: in its own section first, then the same word elsewhere."""
    known = [BASE, *_keys(Recipe), *(f"model.{name}" for name in _model_keys())]
    plain = ".".join(step for step in key.split(".") if not step.isdecimal())
    section, _, last = plain.rpartition(".")
    siblings = [name for name in known if name.rpartition(".")[0] == section]
    if near := difflib.get_close_matches(plain, siblings, n=1, cutoff=0.7):
        return near[0]
    for name in known:
        if name.rpartition(".")[2] == last:
            return name
    words = {name.rpartition(".")[2]: name for name in known}
    near = difflib.get_close_matches(last, words, n=1, cutoff=0.7)
    return words[near[0]] if near else None


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, item in section.model_fields.items():
        yield f"{prefix}{name}"
        inner = TrainSet if item.annotation == list[TrainSet] else item.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _keys(inner, f"{prefix}{name}.")


def _model_keys() -> list[str]:
    from langhops_cli.model.configuration import ModelConfig

    names = [name for preset in ("mini", "paper") for name in _flatten(ModelConfig.preset(preset).to_dict())]
    return [name for name in names if name != "level"]  # it is the stage's, not the model's


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in tree.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")


def _unknown_model_key(section: ModelSection) -> str | None:
    if not section.overrides:
        return None
    known = set(_model_keys())
    return next((f"model.{name}" for name in _flatten(section.overrides) if name not in known), None)
