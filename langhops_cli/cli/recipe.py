"""`langhops recipe`: the recipes that come with the package, and what a recipe of one's own would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option, Typer

from langhops_cli.cli.console import note, out, print_json, say
from langhops_cli.errors import DATA, USAGE, UserError

if TYPE_CHECKING:
    from langhops_cli.training.recipe import Recipe

NameArgument = Annotated[str, Argument(help="Name of a recipe that comes with langhops, or a file.")]
OverridesArgument = Annotated[list[str] | None, Argument(help="Changes to it: section.key=value ...")]
JsonOption = Annotated[bool, Option("--json", help="Print the result as JSON.")]

recipe = Typer(help="List, show, copy and check training recipes; plot runs.", rich_markup_mode=None)


@recipe.command("list")
def list_recipes(as_json: JsonOption = False) -> None:
    """List the recipes that come with langhops: what each reproduces, and what it needs.

    Example: langhops recipe list
    """
    from langhops_cli.training.recipe_files import describe, shipped_recipes

    rows = [{"name": name, **describe(path)} for name, path in shipped_recipes().items()]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        say(row["name"])
        say(f"  reproduces  {row.get('reproduces') or row['about']}")
        say(f"  needs       {row.get('needs', 'not said')}")


@recipe.command("show")
def show(name: NameArgument, overrides: OverridesArgument = None) -> None:
    """Print a recipe: the file as it is, or, where it builds on another or is changed, with every key resolved.

    Example: langhops recipe show ablation_qformer data.batch=1
    """
    from langhops_cli.training.recipe import find_recipe, load_recipe
    from langhops_cli.training.recipe_files import BASE, read_head, read_yaml

    path = find_recipe(name)
    resolved = load_recipe(path, overrides or [])
    if overrides:
        text = resolved.to_yaml()
    elif BASE in read_yaml(path):
        text = read_head(path) + resolved.to_yaml()
    else:
        text = path.read_text(encoding="utf-8")
    out.print(text.rstrip("\n"), markup=False, emoji=False, soft_wrap=True)


@recipe.command("copy")
def copy(name: NameArgument, file: Annotated[Path, Argument(help="The file to write; it must not exist.")]) -> None:
    """Copy a recipe with its comments to a file of your own, to change it there.

    Example: langhops recipe copy finetune my_recipe.yaml
    """
    from langhops_cli import __version__
    from langhops_cli.training.recipe import find_recipe, load_recipe
    from langhops_cli.training.recipe_files import BASE, read_yaml, shipped_recipes

    path = find_recipe(name)
    load_recipe(path)
    base = read_yaml(path).get(BASE)
    if base is not None and base not in shipped_recipes():
        raise UserError(
            f"{path} builds on the file {base} beside it, which a copy elsewhere would not find", code=USAGE
        )
    if file.suffix not in (".yaml", ".yml"):
        raise UserError(f"{file} is no name for a recipe; let it end in .yaml", code=USAGE)
    file.parent.mkdir(parents=True, exist_ok=True)
    source = f"recipe {path.stem} of langhops {__version__}" if path in shipped_recipes().values() else str(path)
    try:
        with file.open("x", encoding="utf-8") as target:
            target.write(f"# Copied from {source}.\n#\n{path.read_text(encoding='utf-8')}")
    except FileExistsError:
        raise UserError(f"{file} is there already and is not overwritten; give another name", code=USAGE) from None
    note(f"written: {file}; langhops recipe check {file} says what it would train")


@recipe.command("check")
def check(
    name: NameArgument,
    overrides: OverridesArgument = None,
    data_root: Annotated[
        Path | None, Option("--data-root", help="Folder of the prepared sets; $LANGHOPS_DATA or ./data when left out.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a recipe would train, and whether what it needs is there. The exit code is 2 if it is faulty.

    Example: langhops recipe check ins_part data.batch=1 data.accumulate=4
    """
    from langhops_cli.training.needs import data_root as choose_root
    from langhops_cli.training.recipe import find_recipe, load_recipe

    path = find_recipe(name)
    settings = load_recipe(path, overrides or [])
    told = {"recipe": str(path), **_summary(settings, choose_root(settings, data_root))}
    if as_json:
        print_json(told)
        return
    say(f"{path}: stage {2 if settings.stage.level == 'parts' else 1}, {_aim(settings)}")
    say(f"  model     {told['model']}")
    if told["start"] is not None:
        say(f"  start     {told['start']}")
    for item in told["sets"]:
        ratio = "" if item["ratio"] is None else f", ratio {item['ratio']:g}"
        say(f"  {item['use']:<8}  {item['name']}/{item['split']}{ratio}: {item['state']}")
    say(f"  batch     {told['batch']}")
    say(f"  steps     {told['steps']}")


@recipe.command("schema")
def schema() -> None:
    """Print the JSON Schema of a recipe, to be kept as a file for editors that complete and check YAML by one.

    Example: langhops recipe schema
    """
    from langhops_cli.training.recipe_schema import recipe_schema

    print_json(recipe_schema())


@recipe.command("plot")
def plot(
    runs: Annotated[list[Path], Argument(metavar="RUN...", help="Folders of runs, drawn over one another.")],
    picture: Annotated[Path, Option("--out", help="The PNG to write.")] = Path("curves.png"),
) -> None:
    """Draw the losses, rates and figures of one or several runs over their steps.

    Example: langhops recipe plot runs/stage1 runs/stage2 --out curves.png
    """
    for run in runs:
        if not run.is_dir():
            raise UserError(f"{run} is no folder; give the folders of runs", code=DATA)
    from langhops_cli.training.plot import plot_runs

    plot_runs(runs, picture)
    note(f"written: {picture}")


def _aim(settings: Recipe) -> str:
    few = ", adapters only" if settings.stage.train == "adapters" else ""
    return ("objects and their parts" if settings.stage.level == "parts" else "objects") + few


def _summary(settings: Recipe, root: Path) -> dict[str, Any]:
    """What would be trained, in words.

    Raises:
        UserError: the model cannot be made as the recipe says.
    """
    data, schedule = settings.data, settings.schedule
    pictures = data.batch * data.accumulate
    start, where = _start(settings)
    return {
        "model": _model(settings, start),
        "start": where,
        "sets": _sets(settings, root),
        "batch": f"{pictures} a step on each process ({data.batch} at once), {data.image_size} px",
        "steps": f"{schedule.steps:,}, learning rate {settings.optimizer.learning_rate:g}"
        f", {schedule.steps * pictures:,} pictures in all on each process",
    }


def _start(settings: Recipe) -> tuple[Path | None, str | None]:
    """The checkpoint that training starts from where it is here, and what there is to say of it; asks no network."""
    from langhops_cli.checkpoint.hub import is_local
    from langhops_cli.training.needs import EMBEDDED, command_of_run, find_start

    source = settings.stage.init
    if source is None:
        needed = settings.stage.train == "adapters" or settings.model.preset == "init"
        return None, "a checkpoint, to be named with --init" if needed else None
    if source == EMBEDDED or Path(source).exists():
        return find_start(settings.stage), source
    if command := command_of_run(source):
        return None, f"{source} is not there yet: {command}"
    return None, f"{source} is not there" if is_local(Path(source)) else f"{source}, on the Hub"


def _model(settings: Recipe, start: Path | None) -> str:
    """The model in words.

    Raises:
        UserError: it cannot be made as the recipe says.
    """
    from langhops_cli.training.setup import model_config

    if settings.model.preset == "init" and start is None:
        return "that of the checkpoint which it starts from"
    config = model_config(settings, start)
    refiner = config.refiner
    words = [f"{settings.model.preset}: {config.backbone.kind}", f"{config.text.base.kind} for names"]
    words.append(f"{config.decoder.num_queries} object queries")
    if config.level == "parts":
        learned = config.hierarchy.source == "learned"
        words.append(f"{config.hierarchy.learned_queries} learned part queries" if learned else "hierarchy of parts")
        words.append(f"refined by {refiner.base.kind if refiner.kind == 'mllm' else 'a Q-Former'}")
        words += ["detached from the objects"] if config.hierarchy.detach_object_queries else []
    return ", ".join(words)


def _sets(settings: Recipe, root: Path) -> list[dict[str, Any]]:
    from langhops_cli.training.needs import set_states

    states = {(state.name, state.split): state for state in set_states(settings, root)}
    uses: list[tuple[str, str | None, str, float | None]] = [
        ("train", item.name or item.stream, item.split, item.ratio) for item in settings.data.train
    ]
    uses += [("measure", name, "val", None) for name in settings.data.val]
    rows = []
    for use, name, split, ratio in uses:
        state = states.get((str(name), split))
        if state is None:
            told = "streamed"
        elif state.missing is not None:
            told = f"not prepared: {state.command}"
        else:
            told = "prepared" if state.pictures is None else f"prepared, {state.pictures:,} pictures"
        rows.append({"use": use, "name": name, "split": split, "ratio": ratio, "state": told})
    return rows
