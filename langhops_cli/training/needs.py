"""What a recipe needs before it can start: its prepared sets, and the checkpoint that it starts from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from langhops_cli.errors import DATA, USAGE, UserError
from langhops_cli.resources import assets_folder
from langhops_cli.training.recipe import Recipe, StageSection, load_recipe
from langhops_cli.training.recipe_files import shipped_recipes

EMBEDDED = "embedded"
"""What `stage.init` calls the model that comes with the package."""
RUNS = Path("runs")
"""Folder of the runs whose recipes are started without --out."""


@dataclass(frozen=True)
class SetState:
    """A prepared set that a recipe reads.

    Args:
        name: of its folder below the data root.
        split: of it that is read.
        missing: what is not there, "data/coco" or "data/coco/val.json"; None where it can be read.
        pictures: of the split, where its report says.
        command: that makes it.
    """

    name: str
    split: str
    missing: str | None
    pictures: int | None
    command: str


def data_root(recipe: Recipe, given: Path | None = None) -> Path:
    """The folder of the prepared sets: the one given, else the recipe's, else $LANGHOPS_DATA, else ./data."""
    return given or Path(recipe.data.root or os.environ.get("LANGHOPS_DATA") or "data")


def set_states(recipe: Recipe, root: Path) -> list[SetState]:
    """Every prepared set that a recipe trains on or measures on, in its order; sets that are streamed are none."""
    asked = [(item.name, item.split) for item in recipe.data.train if item.name is not None]
    return [_state(root, *item) for item in dict.fromkeys([*asked, *((name, "val") for name in recipe.data.val)])]


def require_sets(recipe: Recipe, root: Path) -> None:
    """See that every prepared set of a recipe is there.

    Raises:
        UserError: one is not; the message names all that are not, and the command that makes each.
    """
    lost = {state.name: state for state in set_states(recipe, root) if state.missing is not None}
    if not lost:
        return
    told = "; ".join(f"{state.missing}: {state.command}" for state in lost.values())
    few = "a set is" if len(lost) == 1 else f"{len(lost)} sets are"
    raise UserError(f"{few} not prepared: {told} (--data-root names another folder of prepared sets)", code=DATA)


def find_start(stage: StageSection) -> Path | None:
    """The folder of the checkpoint that training starts from; None for the base models alone.

    Args:
        stage: of a recipe; its `init` is a folder, a Hub id, or "embedded".

    Raises:
        UserError: there must be one and none is named; it is the run of a recipe of the package which has not been made
            yet; or the Hub does not give it.
    """
    source = stage.init
    if source is None:
        if stage.train == "adapters":
            raise UserError("stage.train is adapters, which adapts a trained model: name one with --init", code=USAGE)
        return None
    if source == EMBEDDED and not Path(source).exists():
        from langhops_cli.prediction.predictor import EMBEDDED as FOLDER

        return assets_folder() / FOLDER
    if command := command_of_run(source):
        raise UserError(
            f"{source}, which this starts from, is not there: {command} makes it, or name another checkpoint "
            "with --init",
            code=DATA,
        )
    from langhops_cli.checkpoint.hub import find_checkpoint

    return find_checkpoint(source)


def command_of_run(source: str) -> str | None:
    """The command that makes the run of a recipe of the package where it is not there yet; None for all else."""
    folder = Path(source)
    recipe = shipped_recipes().get(folder.name)
    if recipe is None or folder.parent != RUNS or folder.exists():
        return None
    stage = {"objects": "train-stage1", "parts": "train-stage2"}[load_recipe(recipe).stage.level]
    return f"langhops {stage} recipes/{recipe.name}"


def prepare_command(name: str) -> str:
    """The command that makes a prepared set of this name; of a name like `coco-small`, from the dataset `coco`."""
    from langhops_cli.data.manifests import load_manifest
    from langhops_cli.data.registry import READERS

    dataset = max((reader for reader in READERS if f"{name}-".startswith(f"{reader}-")), key=len, default="coco-parts")
    command = load_manifest(dataset).command.partition(" --name ")[0]
    return command if name == dataset else f"{command} --name {name}"


def _state(root: Path, name: str, split: str) -> SetState:
    from langhops_cli.data.prepare import read_report

    folder = root / name
    missing = None
    if not folder.is_dir():
        missing = str(folder)
    elif not (folder / f"{split}.json").is_file():
        missing = str(folder / f"{split}.json")
    report = read_report(folder) or {}
    pictures = report.get("splits", {}).get(split, {}).get("images")
    return SetState(name, split, missing, pictures, prepare_command(name))
