"""`langhops train-stage1` and `langhops train-stage2`: train from a recipe, on as many processes as are asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.text import Text
from typer import Argument, Exit, Option

from langhops_cli.cli.console import note, out, print_json, say
from langhops_cli.cli.processes import (
    GpusOption,
    HostfileOption,
    NodesOption,
    Processes,
    hand_over,
    once_a_machine,
    plan_processes,
)
from langhops_cli.errors import USAGE, UserError

if TYPE_CHECKING:
    from langhops_cli.training.launch import Launch
    from langhops_cli.training.preflight import Check
    from langhops_cli.training.recipe import Recipe

RecipeArgument = Annotated[str, Argument(help="A recipe file, or the name of one that comes with langhops.")]
OverridesArgument = Annotated[list[str] | None, Argument(help="Changes to it: section.key=value ...")]
OutOption = Annotated[
    Path | None, Option("--out", help="Folder of the run; runs/NAME OF THE RECIPE when left out. Also goes on there.")
]
RootOption = Annotated[
    Path | None, Option("--data-root", help="Folder of the prepared sets; $LANGHOPS_DATA or ./data when left out.")
]
DryOption = Annotated[bool, Option("--dry-run", help="Check all that it needs, say what it will take, and stop.")]
JsonOption = Annotated[bool, Option("--json", help="Print what --dry-run finds as JSON.")]
TICKS = {"ok": ("✓", "green"), "no": ("✗", "bold red"), "note": ("•", "yellow")}


@dataclass(frozen=True)
class _Wish:
    """What the command line says."""

    command: str
    recipe: str
    overrides: Sequence[str]
    out: Path | None
    init: Path | None
    data_root: Path | None
    processes: Processes
    dry_run: bool
    as_json: bool


@dataclass(frozen=True)
class _Place:
    """Folder of the run, and of the prepared sets."""

    folder: Path
    data_root: Path


def train_stage1(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    out: OutOption = None,
    init: Annotated[Path | None, Option("--init", help="A checkpoint to start from: a folder or Hub id.")] = None,
    data_root: RootOption = None,
    gpus: GpusOption = None,
    nodes: NodesOption = None,
    hostfile: HostfileOption = None,
    dry_run: DryOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model to segment objects.

    The same command again goes on with a run that was stopped, on as many processes as it has then.

    Example: langhops train-stage1 mini_stage1 --out runs/stage1 schedule.steps=2000
    """
    processes = Processes(gpus, nodes, hostfile)
    _train(_Wish("train-stage1", recipe, overrides or [], out, init, data_root, processes, dry_run, as_json))


def train_stage2(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    out: OutOption = None,
    init: Annotated[Path | None, Option("--init", help="The run of stage 1, or another checkpoint.")] = None,
    data_root: RootOption = None,
    gpus: GpusOption = None,
    nodes: NodesOption = None,
    hostfile: HostfileOption = None,
    dry_run: DryOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model to segment objects and their parts, from a checkpoint of stage 1.

    The same command again goes on with a run that was stopped, on as many processes as it has then.

    Example: langhops train-stage2 mini_stage2 --init runs/stage1 --out runs/stage2 --gpus 4
    """
    processes = Processes(gpus, nodes, hostfile)
    _train(_Wish("train-stage2", recipe, overrides or [], out, init, data_root, processes, dry_run, as_json))


def _train(wish: _Wish) -> None:
    from langhops_cli.training.children import is_child, reporting

    if wish.as_json and not wish.dry_run:
        raise UserError("--json is for what --dry-run finds: give both, or neither", code=USAGE)
    with reporting():
        with once_a_machine():
            path, recipe = _read_recipe(wish)
            from langhops_cli.training.distributed import is_first, join_processes, prepare_environment, together
            from langhops_cli.training.needs import RUNS, data_root

            prepare_environment()
            place = _Place(wish.out or RUNS / path.stem, data_root(recipe, wish.data_root))
            launch = _plan(wish, place)
        if launch.kind == "joined":
            os.environ.update(launch.env)
            join_processes(hang_minutes=recipe.distributed.hang_minutes)
        init, checks = together(lambda: _look(recipe, place, launch, skip=is_child()))
        if wish.dry_run:
            raise Exit(_print_checks(checks, launch, silent=not is_first(), as_json=wish.as_json))
        together(lambda: _refuse(checks, silent=not is_first()))
        _start(recipe, place, launch, init)


def _read_recipe(wish: _Wish) -> tuple[Path, Recipe]:
    """The recipe, if it is one of the command's stage; a mistake in it is told before torch is loaded."""
    from langhops_cli.training.recipe import find_recipe, load_recipe

    path = find_recipe(wish.recipe)
    recipe = load_recipe(path, wish.overrides)
    command = {"objects": "train-stage1", "parts": "train-stage2"}[recipe.stage.level]
    if wish.command != command:
        raise UserError(f"{path} has stage.level {recipe.stage.level}; use langhops {command} with it")
    if wish.init is not None:
        recipe.stage.init = str(wish.init)
    return path, recipe


def _plan(wish: _Wish, place: _Place) -> Launch:
    arguments = [wish.command, wish.recipe, *wish.overrides, "--out", str(place.folder)]
    arguments += ["--data-root", str(place.data_root.absolute())]
    arguments += [] if wish.init is None else ["--init", str(wish.init)]
    return plan_processes(wish.processes, arguments)


def _look(recipe: Recipe, place: _Place, launch: Launch, *, skip: bool) -> tuple[Path | None, list[Check]]:
    """Find the checkpoint to start from and check all that is needed, unless this process's parent has.

    Raises:
        UserError: the model cannot be made as the recipe says.
    """
    from langhops_cli.training.needs import find_start

    init, problem = None, None
    try:
        init = find_start(recipe.stage)
    except UserError as error:
        problem = error
    if skip:
        return init, []
    from langhops_cli.training.preflight import check
    from langhops_cli.training.setup import model_config

    try:
        config = model_config(recipe, init)
    except UserError as error:
        raise problem or error from None
    return init, check(
        recipe,
        config=config,
        folder=place.folder,
        data_root=place.data_root,
        init=init,
        problem=problem,
        processes=launch.processes,
        local=launch.local,
    )


def _refuse(checks: Sequence[Check], *, silent: bool) -> None:
    """Say in a line what was checked.

    Raises:
        UserError: checks fail; the message tells of all that do.
    """
    failed = [item for item in checks if item.state == "no"]
    if len(failed) == 1:
        raise UserError(failed[0].text, code=failed[0].code)
    if failed:
        lines = "".join(f"\n  {item.title}: {item.text}" for item in failed)
        raise UserError(f"{len(failed)} of {len(checks)} checks fail{lines}", code=failed[0].code)
    told = [item.text for item in checks if item.title in ("data", "memory")]
    if told and not silent:
        note(f"checked: {'; '.join(told)}")


def _print_checks(checks: Sequence[Check], launch: Launch, *, silent: bool, as_json: bool) -> int:
    """Print what was found, and return the exit code."""
    failed = [item for item in checks if item.state == "no"]
    code = failed[0].code if failed else 0
    if silent:
        return code
    if as_json:
        print_json({"fine": not failed, "processes": launch.processes, "checks": [asdict(item) for item in checks]})
        return code
    wide = out.encoding.lower().startswith("utf")
    for item in checks:
        tick, style = TICKS[item.state]
        mark = tick if wide else f"{item.state:<4}"
        out.print(Text.assemble(f"{item.number:>2} ", (mark, style), f" {item.title:<11}  {item.text}"), soft_wrap=True)
        for line in item.details:
            say(f"{'':{17 + len(mark)}}{line}")
    if launch.note is not None:
        say(launch.note)
    few = f"{len(failed)} of {len(checks)} checks fail" if failed else "all is fine: leave --dry-run out to start"
    say(few)
    return code


def _start(recipe: Recipe, place: _Place, launch: Launch, init: Path | None) -> None:
    """Train in this process, or have others do so."""
    from langhops_cli.training.launch import TRAINING_RUN

    if hand_over(launch, TRAINING_RUN):
        return
    from langhops_cli.training.loop import train

    train(recipe, folder=place.folder, data_root=place.data_root, init=init)
