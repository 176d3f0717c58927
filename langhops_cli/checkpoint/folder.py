"""A checkpoint is a folder: `config.json`, weights as safetensors and a model card. It loads on any machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from importlib import metadata as packages
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from langhops_cli.checkpoint.base_models import identity
from langhops_cli.checkpoint.build import build_model
from langhops_cli.checkpoint.card import model_card
from langhops_cli.checkpoint.files import write_text, write_whole
from langhops_cli.errors import DATA, UserError
from langhops_cli.model.configuration import ModelConfig
from langhops_cli.model.langhops import LangHOPSModel

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
"""Which file holds which tensor, where there are several."""
SHARD = 5 * 10**9
"""Largest file of weights in bytes, unless one tensor is larger."""
CARD = "README.md"
FORMAT = 1
RECORDED = ("langhops", "torch", "transformers", "peft", "deepspeed", "safetensors")


def save_checkpoint(
    model: LangHOPSModel,
    folder: Path,
    *,
    config: ModelConfig,
    metadata: Mapping[str, Any],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a checkpoint; each file appears whole or not at all.

    Args:
        model: its trained tensors are written; frozen base weights are named by the configuration instead.
        folder: made where missing; an older checkpoint in it is replaced.
        config: what the model was built from.
        metadata: preprocessing, vocabulary, recipe, data, stage; plain values. Package versions are added.
        dtype: of the floating tensors in the file; float32 where None. A tensor whose range `dtype` cannot hold
            stays float32.
    """
    state = model.state_dict()
    tensors = {name: state[name] for name in model.saved_names()}
    if config.level == "parts" and config.refiner.kind == "mllm" and not any(".lora_" in name for name in tensors):
        raise ValueError("the language model's corrections were merged into it; save the model as it was before")
    write_checkpoint(tensors, folder, config=config, metadata=metadata, dtype=dtype)


def write_checkpoint(
    tensors: Mapping[str, Tensor],
    folder: Path,
    *,
    config: ModelConfig,
    metadata: Mapping[str, Any],
    dtype: torch.dtype | None = None,
    shard: int = SHARD,
) -> None:
    """Write a checkpoint of tensors that fit a configuration; see `save_checkpoint`.

    Args:
        tensors: by their names in the model.
        shard: largest file of weights in bytes; more are written beyond it.
    """
    write_tensors(folder, tensors, dtype=dtype, shard=shard)
    record = {"format": FORMAT, "model": config.to_dict(), "dtype": str(dtype or torch.float32).removeprefix("torch.")}
    record |= {key: value for key, value in metadata.items() if key not in record}
    record.setdefault("base_models", _base_models(config))
    record.setdefault("versions", _versions())
    write_text(folder / CONFIG, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / CARD, model_card(record))


def load_checkpoint(folder: Path) -> tuple[LangHOPSModel, dict[str, Any]]:
    """Build the model of a checkpoint and fill it, on the CPU, in float32.

    Args:
        folder: what `save_checkpoint` wrote.

    Returns:
        The model in evaluation mode, and what `config.json` says.

    Raises:
        UserError: a file is missing or damaged, or a tensor is missing, unknown or of another shape.
    """
    metadata = read_config(folder)
    tensors = read_tensors(folder)
    model = build_model(config_of(folder, metadata), pretrained=False)
    fill_model(model, tensors, source=folder / WEIGHTS)
    return model.eval(), metadata


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json` of a checkpoint.

    Raises:
        UserError: there is no such folder or file, or it is damaged.
    """
    path = folder / CONFIG
    if not path.is_file():
        what = "is no checkpoint: it holds no config.json" if folder.is_dir() else "does not exist"
        raise UserError(f"{folder} {what}; give the folder of a training run or a model's id on the Hub", code=DATA)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}); copy the checkpoint again", code=DATA) from None
    if not isinstance(record, dict) or not isinstance(record.get("model"), dict):
        raise UserError(f"{path} says nothing of a model; it is no checkpoint of langhops", code=DATA)
    if record.get("format", FORMAT) > FORMAT:
        raise UserError(f"{path} was written by a newer langhops; update with pip install -U langhops", code=DATA)
    return record


def config_of(folder: Path, metadata: Mapping[str, Any]) -> ModelConfig:
    """The model configuration that a checkpoint's `config.json` holds.

    Raises:
        UserError: a setting is unknown, missing or has no allowed value.
    """
    try:
        return check_config(metadata["model"])
    except ValueError as error:
        raise UserError(f"{folder / CONFIG}: the model cannot be built from it: {error}", code=DATA) from None


def check_config(tree: Mapping[str, Any]) -> ModelConfig:
    """A model configuration from nested plain values, every one of them checked.

    Raises:
        ValueError: a key is unknown or a value does not fit; in one line that names the key.
    """
    config = ModelConfig.from_dict(dict(tree))
    try:
        return TypeAdapter(ModelConfig).validate_python(config.to_dict())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, ("model", *first["loc"])))
        raise ValueError(f"{key} = {first['input']!r}: {first['msg'].lower()}") from None


def write_tensors(
    folder: Path, tensors: Mapping[str, Tensor], *, dtype: torch.dtype | None = None, shard: int = SHARD
) -> None:
    """Write tensors to one safetensors file or several, sorted by name, so that equal tensors give equal bytes."""
    ready = {name: _as_saved(tensors[name], dtype or torch.float32) for name in sorted(tensors)}
    plan = split_torch_state_dict_into_shards(ready, max_shard_size=shard)
    for file, names in plan.filename_to_tensors.items():
        inside = {name: ready[name] for name in names}
        write_whole(folder / file, partial(save_file, inside, metadata={"format": "pt"}))
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        write_text(folder / INDEX, json.dumps(index, indent=2, sort_keys=True) + "\n")
    else:
        (folder / INDEX).unlink(missing_ok=True)
    for old in folder.glob("model*.safetensors"):
        if old.name not in plan.filename_to_tensors:
            old.unlink()


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read all tensors of a checkpoint to the CPU, floating ones as float32.

    Raises:
        UserError: the file is missing or damaged.
    """
    index = folder / INDEX
    return read_shards(index) if index.is_file() else read_safetensors(folder / WEIGHTS)


def read_shards(index: Path) -> dict[str, Tensor]:
    """Read all files that an index names; as for `read_tensors`."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, OSError) as error:
        raise UserError(f"{index} is damaged ({error}); copy the checkpoint again", code=DATA) from None
    tensors: dict[str, Tensor] = {}
    for name in names:
        shard = index.parent / name
        if not shard.is_file():
            raise UserError(f"{shard} is missing, which {index.name} names; copy the whole checkpoint", code=DATA)
        tensors |= read_safetensors(shard)
    return tensors


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read one file; as for `read_tensors`."""
    if not path.is_file():
        raise UserError(f"{path} is missing; copy the whole checkpoint folder", code=DATA)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a handle, not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        text = " ".join(str(error).split())
        raise UserError(f"{path} is damaged or cut off ({text}); copy the checkpoint again", code=DATA) from None
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def fill_model(
    model: LangHOPSModel,
    tensors: Mapping[str, Tensor],
    *,
    source: Path,
    may_miss: Callable[[str], bool] = lambda _: False,
) -> list[str]:
    """Copy tensors into a model, all of them and nothing else.

    Args:
        model: filled in place.
        tensors: by name.
        source: the file they came from, for messages.
        may_miss: whether a tensor of the model may be missing among them and keeps its value.

    Returns:
        Names of the tensors that were missing and kept their value, sorted.

    Raises:
        UserError: names the first tensor that is missing, unknown or of another shape.
    """
    state = model.state_dict()
    wanted = model.saved_names()
    unknown = sorted(tensors.keys() - wanted)
    if unknown:
        _refuse(source, f"holds {unknown[0]}, which this model does not have", len(unknown))
    kept = sorted(wanted - tensors.keys())
    missing = [name for name in kept if not may_miss(name)]
    if missing:
        _refuse(source, f"lacks {missing[0]}", len(missing))
    wrong = [name for name in sorted(tensors) if tensors[name].shape != state[name].shape]
    if wrong:
        shapes = f"{tuple(tensors[wrong[0]].shape)}, and the model wants {tuple(state[wrong[0]].shape)}"
        _refuse(source, f"{wrong[0]} has the shape {shapes}", len(wrong))
    with torch.no_grad():
        for name, tensor in tensors.items():
            state[name].copy_(tensor)
    return kept


def _refuse(source: Path, what: str, count: int) -> None:
    more = f" (and {count - 1} tensors more)" if count > 1 else ""
    raise UserError(f"{source}: {what}{more}; was it made with another model configuration?", code=DATA)


def _as_saved(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    tensor = tensor.detach().to("cpu", copy=True).contiguous()
    if not tensor.is_floating_point():
        return tensor
    tensor = tensor.float()
    narrow = tensor.to(dtype)
    return narrow if bool(torch.isfinite(narrow).all()) or not bool(torch.isfinite(tensor).all()) else tensor


def _base_models(config: ModelConfig) -> dict[str, dict[str, str | None]]:
    bases = {"backbone": config.backbone, "text": config.text.base, "refiner": config.refiner.base}
    if config.refiner.kind != "mllm":
        del bases["refiner"]
    return {name: identity(base.source, base.revision) for name, base in bases.items()}


def _versions() -> dict[str, str]:
    found = {}
    for name in RECORDED:
        try:
            found[name] = packages.version(name)
        except packages.PackageNotFoundError:
            continue
    return found
