"""From a recipe to what the loop works with: the model of a stage, its optimizer groups, what the run records."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from langhops_cli.checkpoint.build import build_model
from langhops_cli.checkpoint.folder import WEIGHTS, check_config, config_of, fill_model, read_config, read_tensors
from langhops_cli.checkpoint.hub import checkpoint_name
from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.sampling.mixture import MixedSet, TrainingDataset, TrainingLoader, training_loader
from langhops_cli.data.streamed import StreamedDataset
from langhops_cli.errors import USAGE, UserError
from langhops_cli.model.configuration import LANGUAGE_MODELS, ModelConfig
from langhops_cli.model.langhops import LangHOPSModel
from langhops_cli.training.needs import require_sets
from langhops_cli.training.recipe import Recipe, TrainSet
from langhops_cli.training.recipe_files import merge
from langhops_cli.training.trainable import set_trainable


def model_config(recipe: Recipe, init: Path | None = None) -> ModelConfig:
    """The preset with the recipe's changes, with the part branch where the stage trains parts.

    Args:
        recipe: says the preset and the changes.
        init: the checkpoint that training starts from; its model is the preset "init".

    Raises:
        UserError: a value does not fit its key, or the preset needs a checkpoint and there is none.
    """
    section = recipe.model
    changes = _with_named_language_model(section.overrides)
    tree = merge(_preset(section.preset, init).to_dict(), changes) | {"level": recipe.stage.level}
    try:
        return check_config(tree)
    except ValueError as error:
        raise UserError(str(error), code=USAGE) from None


def _preset(name: str, init: Path | None) -> ModelConfig:
    if name != "init":
        return ModelConfig.preset(name)
    if init is None:
        raise UserError(
            "model.preset is init, the model of the checkpoint to start from: give one with --init", code=USAGE
        )
    return config_of(init, read_config(init))


def _with_named_language_model(changes: dict[str, Any]) -> dict[str, Any]:
    """Spell out `refiner.base: NAME`, with the settings that the model of that name needs; those beside it win."""
    refiner = changes.get("refiner")
    if not isinstance(refiner, Mapping) or not isinstance(name := refiner.get("base"), str):
        return changes
    if name.lower() not in LANGUAGE_MODELS:
        raise UserError(
            f"model.refiner.base = {name!r} is no language model with a name; known are {', '.join(LANGUAGE_MODELS)}; "
            "any other is given as {kind: language, source: FOLDER_OR_HUB_ID}",
            code=USAGE,
        )
    others = {key: value for key, value in refiner.items() if key != "base"}
    return changes | {"refiner": LANGUAGE_MODELS[name.lower()] | others}


def build_stage(recipe: Recipe, config: ModelConfig, init: Path | None) -> tuple[LangHOPSModel, list[str]]:
    """Build the model of a stage, filled from a checkpoint where one is given, with what it trains set to train.

    Args:
        recipe: says the stage.
        config: of the model.
        init: a checkpoint of stage 1 or 2, or None for the base models alone.

    Returns:
        The model, and lines that say what its weights came from.

    Raises:
        UserError: the checkpoint does not fit the model.
    """
    torch.manual_seed(recipe.seed)
    said = []
    if init is not None:
        read_config(init)
        tensors, left_out = tensors_of_stage(read_tensors(init), config.level)
        if left_out:
            said.append(f"the part branch of {init} is left out ({left_out} tensors)")
    model = build_model(config, pretrained=init is None)
    if init is not None:
        missing = fill_model(model, tensors, source=init / WEIGHTS, may_miss=in_part_branch)
        said.append(f"weights from {init}" + f"; {len(missing)} tensors of the part branch start new" * bool(missing))
        if missing and recipe.stage.init_part_decoder == "objects":
            said.append(f"part decoder starts as the object decoder ({copy_decoder(model)} tensors)")
    set_trainable(model, recipe.stage.train)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    frozen = sum(parameter.numel() for parameter in model.parameters() if not parameter.requires_grad)
    said.append(f"{trained / 1e6:.1f} M parameters are trained, {frozen / 1e6:.1f} M are frozen")
    return model, said


def tensors_of_stage(tensors: dict[str, torch.Tensor], level: str) -> tuple[dict[str, torch.Tensor], int]:
    """What a stage takes of a checkpoint's tensors: for objects alone those of the part branch stay behind.

    Returns:
        The tensors, and how many were left out.
    """
    if level == "parts":
        return tensors, 0
    taken = {name: value for name, value in tensors.items() if not in_part_branch(name)}
    return taken, len(tensors) - len(taken)


def in_part_branch(name: str) -> bool:
    """Whether a tensor is one that a checkpoint of stage 1 does not hold."""
    return name.startswith("part_branch.")


def copy_decoder(model: LangHOPSModel) -> int:
    """Start the part decoder as the object decoder, in all tensors that agree in name and shape.

    Returns:
        How many tensors were copied.
    """
    if model.part_branch is None:
        return 0
    source = model.object_decoder.state_dict()
    target = model.part_branch.decoder.state_dict()
    shared = [name for name in target if name in source and source[name].shape == target[name].shape]
    with torch.no_grad():
        for name in shared:
            target[name].copy_(source[name])
    return len(shared)


def open_datasets(recipe: Recipe, root: Path) -> tuple[list[TrainingDataset], list[PreparedDataset]]:
    """The sets of a recipe that are trained on, and those that are held out, in its order.

    Raises:
        UserError: one is not prepared, or its shards are not there.
    """
    require_sets(recipe, root)
    train = [open_set(item, root) for item in recipe.data.train]
    return train, [PreparedDataset(root / name, "val") for name in recipe.data.val]


def open_set(item: TrainSet, root: Path) -> TrainingDataset:
    """One set of a recipe, prepared below `root` or streamed; as for `open_datasets`."""
    if item.stream is not None:
        return StreamedDataset(item.stream, item.split, without=item.without)
    assert item.name is not None, "a recipe names one of the two"
    return PreparedDataset(root / item.name, item.split, without=item.without)


def batches(recipe: Recipe, config: ModelConfig, datasets: Sequence[TrainingDataset], *, first: int) -> TrainingLoader:
    """The batches of a run from step `first` on, `accumulate` a step; each depends on the recipe and its step alone."""
    data = recipe.data
    return training_loader(
        [
            MixedSet(dataset, item.ratio, tuple(item.absent), item.repeat_threshold)
            for dataset, item in zip(datasets, data.train, strict=True)
        ],
        batch_size=data.batch,
        size=data.image_size,
        jitter=data.jitter,
        flip=data.flip,
        colour=data.colour,
        seed=recipe.seed,
        workers=data.workers,
        start_step=first * data.accumulate,
        steps=recipe.schedule.steps * data.accumulate,
        rank=int(os.environ.get("RANK", "0")),
        world_size=int(os.environ.get("WORLD_SIZE", "1")),
        group_by_aspect=data.group_by_aspect,
        queries_per_part=config.hierarchy.queries_per_part,
        max_names=data.max_names,
        drop_parts=data.drop_parts,
        tower_size=config.refiner.image_size if config.level == "parts" else None,
    )


def run_metadata(recipe: Recipe, config: ModelConfig, datasets: Sequence[TrainingDataset]) -> dict[str, Any]:
    """What a checkpoint of the run says of itself, beside the model's configuration; no path of this machine."""
    settings = recipe.to_dict()
    settings["data"].pop("root")
    if recipe.stage.init is not None:
        settings["stage"]["init"] = checkpoint_name(recipe.stage.init)
    data = {}
    for item, said, dataset in zip(recipe.data.train, settings["data"]["train"], datasets, strict=True):
        if item.stream is not None:
            said["stream"] = checkpoint_name(item.stream)
        data[said["stream"] or said["name"]] = {
            "split": item.split,
            "pictures": len(dataset),
            "fingerprint": dataset.fingerprint,
        }
    return {
        "preprocessing": config.to_dict()["preprocessing"],
        "vocabulary": merge_trees(dataset.vocabulary.to_dict() for dataset in datasets),
        "data": data,
        "recipe": settings,
    }


def merge_trees(trees: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One tree with the names of all, each name's parts together; the first of two leaves stays."""
    merged: dict[str, Any] = {}
    for tree in trees:
        for name, below in tree.items():
            if isinstance(merged.get(name), Mapping) and isinstance(below, Mapping):
                merged[name] = merge_trees([merged[name], below])
            elif merged.get(name) is None:
                merged[name] = below
    return merged
