"""`langhops train-stage1` and `langhops train-stage2`: train from a recipe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from langhops_cli.errors import UserError

RecipeArgument = Annotated[str, Argument(help="A recipe file, or the name of one that comes with langhops.")]
OverridesArgument = Annotated[list[str] | None, Argument(help="Changes to it: section.key=value ...")]
OutOption = Annotated[
    Path | None, Option("--out", help="Folder of the run; runs/NAME OF THE RECIPE when left out. Also goes on there.")
]
RootOption = Annotated[
    Path | None, Option("--data-root", help="Folder of the prepared sets; $LANGHOPS_DATA or ./data when left out.")
]


def train_stage1(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    out: OutOption = None,
    init: Annotated[Path | None, Option("--init", help="A checkpoint to start from: a folder or Hub id.")] = None,
    data_root: RootOption = None,
) -> None:
    """Train a model to segment objects.

    The same command again goes on with a run that was stopped.

    Example: langhops train-stage1 mini_stage1 --out runs/stage1 schedule.steps=2000
    """
    _train("objects", recipe, overrides or [], out=out, init=init, data_root=data_root)


def train_stage2(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    out: OutOption = None,
    init: Annotated[Path | None, Option("--init", help="The run of stage 1, or another checkpoint.")] = None,
    data_root: RootOption = None,
) -> None:
    """Train a model to segment objects and their parts, from a checkpoint of stage 1.

    The same command again goes on with a run that was stopped.

    Example: langhops train-stage2 mini_stage2 --init runs/stage1 --out runs/stage2
    """
    _train("parts", recipe, overrides or [], out=out, init=init, data_root=data_root)


def _train(
    level: str, recipe: str, overrides: list[str], *, out: Path | None, init: Path | None, data_root: Path | None
) -> None:
    from langhops_cli.training.recipe import find_recipe, load_recipe

    path = find_recipe(recipe)
    settings = load_recipe(path, overrides)
    if settings.stage.level != level:
        command = {"objects": "train-stage1", "parts": "train-stage2"}[settings.stage.level]
        raise UserError(f"{path} has stage.level {settings.stage.level}; use langhops {command} with it")
    if init is not None:
        settings.stage.init = str(init)
    root = data_root or Path(settings.data.root or os.environ.get("LANGHOPS_DATA", "data"))

    from langhops_cli.training.distributed import prepare_environment

    prepare_environment()
    from langhops_cli.checkpoint.hub import find_checkpoint
    from langhops_cli.training.loop import train

    start = None if settings.stage.init is None else find_checkpoint(settings.stage.init)
    train(settings, folder=out or Path("runs") / path.stem, data_root=root, init=start)
