"""A training recipe: a YAML file whose sections stand in one order, checked before anything heavy is loaded."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from langhops_cli.errors import UserError


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
    """What is learned: objects alone (stage 1), or objects and parts together (stage 2)."""

    level: Literal["objects", "parts"]
    init: str | None = None
    init_part_decoder: Literal["objects", "none"] = "objects"


class TrainSet(Section):
    """A prepared data set, how often it is drawn, whatever its size, and objects that none of its pictures holds."""

    name: str
    ratio: float = Field(default=1.0, gt=0)
    split: str = "train"
    absent: list[str] = []


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
    workers: int = Field(default=1, ge=0)
    max_names: int = Field(default=300, ge=1)

    @model_validator(mode="after")
    def _check_jitter(self) -> Self:
        if not 0 < self.jitter[0] <= self.jitter[1]:
            raise ValueError("jitter is the smallest and the largest scale, above 0")
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
    """AdamW and its parameter groups."""

    learning_rate: float = Field(default=5e-5, gt=0)
    backbone_multiplier: float = Field(default=0.1, ge=0)
    lora_multiplier: float = Field(default=1.0, ge=0)
    weight_decay: float = Field(default=0.05, ge=0)
    clip_norm: float = Field(default=1.0, ge=0)


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
    """How DeepSpeed shares the work."""

    zero: Literal[0, 1, 2, 3] = 0
    precision: Literal["fp32", "bf16"] = "fp32"


class LoggingSection(Section):
    """How often a line is written and the run is saved, in steps."""

    every: int = Field(default=20, ge=1)
    save_every: int = Field(default=500, ge=1)


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
    from langhops_cli.resources import recipes_folder

    path = Path(text)
    if path.is_file():
        return path
    shipped = {recipe.stem: recipe for recipe in sorted(recipes_folder().glob("*.yaml"))}
    if path.stem in shipped and path.suffix in ("", ".yaml") and path.parent in (Path(), Path("recipes")):
        return shipped[path.stem]
    near = difflib.get_close_matches(path.stem, shipped, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the package's own are {', '.join(shipped)}"
    raise UserError(f"no recipe {text}; {hint}", code=2)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and change single keys of it.

    Args:
        path: a YAML file.
        overrides: `section.key=value`; the value is read as YAML.

    Raises:
        UserError: the file is no recipe, a key is unknown (the nearest is named), or a value does not fit.
    """
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise UserError(f"{path}: a recipe is a mapping of sections ({', '.join(Recipe.model_fields)})", code=2)
    for override in overrides:
        set_key(tree, override)
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(error)}", code=2) from None
    if unknown := _unknown_model_key(recipe.model):
        raise UserError(f"{path}: {_unknown(unknown)}", code=2)
    return recipe


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        UserError: it cannot be read, or is no YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})", code=2) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not YAML: {' '.join(str(error).split())}", code=2) from None


def set_key(tree: dict[str, Any], override: str) -> None:
    """Change one key of nested plain values, in place.

    Args:
        tree: mappings and lists.
        override: `section.key=value`; the value is read as YAML.

    Raises:
        UserError: it is not of that form, or leads through what has no keys.
    """
    key, equals, text = override.partition("=")
    steps = key.strip().split(".")
    if not equals or not all(steps):
        raise UserError(f"{override!r} is not of the form section.key=value", code=2)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"{override!r}: the value is not YAML; put it in quotes", code=2) from None
    node: Any = tree
    for step in steps[:-1]:
        node = _child(node, step, override)
    if isinstance(node, list):
        node[_position(node, steps[-1], override)] = value
    else:
        node[steps[-1]] = value


def _child(node: Any, step: str, override: str) -> Any:
    if isinstance(node, list):
        child = node[_position(node, step, override)]
    else:
        child = node.setdefault(step, {})
        if child is None:
            child = node[step] = {}
    if not isinstance(child, dict | list):
        raise UserError(f"{override!r}: {step} is a single value and has no keys below it", code=2)
    return child


def _position(node: list[Any], step: str, override: str) -> int:
    if not step.isdecimal() or int(step) >= len(node):
        raise UserError(f"{override!r}: {step} is no position in a list of {len(node)}", code=2)
    return int(step)


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
    known = [*_keys(Recipe), *(f"model.{name}" for name in _model_keys())]
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
