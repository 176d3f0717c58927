"""What can be known before a training starts: whether what it needs is there, and what it will take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from langhops_cli.checkpoint.access import BaseModel, State, ask_hub, find_shipped
from langhops_cli.checkpoint.folder import WEIGHTS, fill_model, read_config
from langhops_cli.checkpoint.precision import loading_options
from langhops_cli.checkpoint.shapes import read_shapes
from langhops_cli.checkpoint.skeleton import ARCHITECTURES, build_skeleton
from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.sampling.mixture import MixedSet, TrainingDataset
from langhops_cli.errors import DATA, ENVIRONMENT, UserError
from langhops_cli.model.configuration import BaseModelConfig, ModelConfig
from langhops_cli.training import costs
from langhops_cli.training.memory import count_parameters
from langhops_cli.training.needs import set_states
from langhops_cli.training.prospect import Found, Prospect
from langhops_cli.training.recipe import Recipe, TrainSet
from langhops_cli.training.resume import ResumeState, check_same_recipe
from langhops_cli.training.setup import in_part_branch, open_set, tensors_of_stage
from langhops_cli.training.sinks import check_sinks
from langhops_cli.training.trainable import set_trainable

HERE: dict[State, str] = {
    "installed": "here",
    "cached": "in the Hub's cache",
    "reachable": "is fetched from the Hub at the start",
}
NOT_HERE: dict[State, str] = {
    "missing": "not installed",
    "gated": "its licence is not accepted",
    "refused": "the Hub refuses it",
    "unreachable": "not here, and the Hub does not answer",
    "offline": "not here, and HF_HUB_OFFLINE is set",
    "unknown": "not here, and the Hub cannot be asked",
}


@dataclass(frozen=True)
class Check(Found):
    """One thing that was looked at: what was found, under a number from 1 and a title of a word or two."""

    number: int = 0
    title: str = ""


def check(
    recipe: Recipe,
    *,
    config: ModelConfig,
    folder: Path,
    data_root: Path,
    init: Path | None,
    problem: UserError | None = None,
    processes: int = 1,
    local: int = 1,
) -> list[Check]:
    """Look at all that a training needs; nothing is written, downloaded or loaded into memory.

    Args:
        recipe: checked.
        config: of its model.
        folder: of the run; it need not exist.
        data_root: folder of the prepared sets.
        init: checkpoint to start from; None for the base models alone.
        problem: why the checkpoint that is asked for cannot be had, if so.
        processes: that train together; local: of them on this machine.

    Returns:
        The checks, numbered from 1.
    """
    plan = Prospect(recipe, config, folder, data_root, init, problem, processes, local)
    plan.saved = ResumeState(folder / "resume").newest or 0
    bases = _wanted_bases(plan)
    wait = ask_hub([base for base in bases if not _is_here(base)])
    looks: tuple[tuple[str, Callable[[], Found]], ...] = (
        ("recipe", lambda: _recipe(plan)),
        ("data", lambda: _data(plan)),
        ("checkpoint", lambda: _checkpoint(plan)),
        ("base models", lambda: _base_models(plan, bases, wait)),
        ("disk", lambda: costs.disk(plan)),
        ("memory", lambda: costs.memory(plan)),  # uses the model up
        ("batch", lambda: costs.batch(plan)),
        ("parameters", lambda: costs.parameters(plan)),
        ("steps", lambda: costs.steps(plan)),
        ("time", lambda: costs.time(plan)),
    )
    checks = []
    for number, (title, look) in enumerate(looks, 1):
        try:
            found = look()
        except UserError as error:
            found = Found("no", str(error), code=error.code)
        checks.append(Check(found.state, found.text, found.details, found.code, number, title))
    return checks


def _recipe(plan: Prospect) -> Found:
    """The model can be built, and what the recipe asks for is installed."""
    recipe = plan.recipe
    check_sinks(recipe.logging)
    check_same_recipe(recipe, plan.folder)
    try:
        plan.model = build_skeleton(_with_kept_shapes(plan.config))
    except UserError as error:
        if error.code != ENVIRONMENT:
            raise
        plan.why_unknown = str(error)
    else:
        set_trainable(plan.model, recipe.stage.train)
        plan.counts = count_parameters(plan.model)
    what = "objects and their parts" if plan.config.level == "parts" else "objects"
    few = ", adapters only" if recipe.stage.train == "adapters" else ""
    bases = f"{plan.config.backbone.kind}, {plan.config.text.base.kind}"
    if plan.config.level == "parts":
        bases += f", {plan.config.refiner.base.kind if plan.config.refiner.kind == 'mllm' else 'Q-Former'}"
    return Found(
        "ok", f"stage {2 if plan.config.level == 'parts' else 1}, {what}{few}; {recipe.model.preset} ({bases})"
    )


def _with_kept_shapes(config: ModelConfig) -> ModelConfig:
    """Let the shapes of a language model come from its copy in the Hub's cache, where they are not known anyway."""
    base = config.refiner.base
    if base.kind != "language" or base.source in ARCHITECTURES or Path(base.source).exists():
        return config
    from huggingface_hub import try_to_load_from_cache

    kept = try_to_load_from_cache(base.source, "config.json", revision=base.revision)
    if not isinstance(kept, str):
        return config
    return replace(config, refiner=replace(config.refiner, base=replace(base, source=str(Path(kept).parent))))


def _data(plan: Prospect) -> Found:
    """Every set can be read; what is missing is told with the command that makes it."""
    recipe, root = plan.recipe, plan.data_root
    states = {(state.name, state.split): state for state in set_states(recipe, root)}
    lines: list[str] = []
    lost: dict[str, int] = {}  # what is wrong, with its exit code

    def look(
        name: str | None, split: str, read: Callable[[], TrainingDataset], use: str = ""
    ) -> TrainingDataset | None:
        state = states.get((str(name), split))
        if state is not None and state.missing is not None:
            lost[f"{state.missing} is not prepared: {state.command}"] = DATA
            return None
        try:
            dataset = read()
            lines.append(f"{dataset.name}{use}: {_contents(dataset)}")
        except UserError as error:
            lost[str(error).rstrip(".")] = error.code
            return None
        return dataset

    def mixed(item: TrainSet) -> TrainingDataset:
        return MixedSet(open_set(item, root), item.ratio, tuple(item.absent), item.repeat_threshold).dataset

    plan.sets = [look(item.name, item.split, partial(mixed, item)) for item in recipe.data.train]
    for name in recipe.data.val:
        look(name, "val", partial(PreparedDataset, root / name, "val"), ", to measure on")
    if lost:
        text = f"{'; '.join(lost)} (--data-root names another folder of prepared sets)"
        return Found("no", text, tuple(lines), next(iter(lost.values())))
    total = sum(len(dataset) for dataset in plan.sets if dataset is not None)
    few = f"{len(plan.sets)} sets" if len(plan.sets) > 1 else "a set"
    return Found("ok", f"{few} with {total:,} pictures", tuple(lines))


def _contents(dataset: TrainingDataset) -> str:
    """How much a set holds.

    Raises:
        UserError: it holds no picture, or its pictures are not where they were.
    """
    if not len(dataset):
        raise UserError(f"{dataset.name} holds no picture; take it out of the recipe", code=DATA)
    if isinstance(dataset, PreparedDataset) and not dataset.image_path(0).is_file():
        raise UserError(
            f"{dataset.image_path(0)} is gone, a picture of {dataset.name}; prepare the set again", code=DATA
        )
    counts = (len(dataset), len(dataset.vocabulary.object_names), len(dataset.vocabulary.part_classes))
    words = zip(counts, ("picture", "object", "part"), strict=True)
    return ", ".join(f"{count:,} {word}{'s' * (count != 1)}" for count, word in words)


def _checkpoint(plan: Prospect) -> Found:
    """The checkpoint that the weights come from has the tensors that the model wants."""
    if plan.problem is not None and not plan.saved:
        raise plan.problem
    start = plan.folder if plan.saved else plan.init
    if start is None:
        part = plan.config.level == "parts"
        return Found("note" if part else "ok", "none: the base models alone" + ", objects and parts at once" * part)
    record = read_config(start)
    step = f", after step {record['step']:,}" if isinstance(record.get("step"), int) else ""
    stage = 1 if record["model"].get("level") == "objects" else 2
    what = f"{start}: stage {stage}{step}"
    if plan.saved:
        what = f"{plan.folder / 'resume'}: goes on after step {plan.saved:,} of {plan.recipe.schedule.steps:,}"
    tensors, left_out = tensors_of_stage(read_shapes(start), plan.config.level)
    if plan.model is None:
        return Found("note", f"{what}; whether it fits is seen when its base models are there")
    missing = fill_model(plan.model, tensors, source=start / WEIGHTS, may_miss=in_part_branch)
    new = f", {left_out} of its part branch are left out" if left_out else ""
    new += f", {len(missing)} tensors of the part branch start new" if missing else ""
    if missing and plan.recipe.stage.init_part_decoder == "objects":
        new += " (its decoder as the object decoder)"
    return Found("ok", f"{what}; {len(tensors)} tensors fit{new}")


def _wanted_bases(plan: Prospect) -> list[BaseModelConfig]:
    """The base models that will be loaded: a checkpoint brings the backbone, and never a frozen one."""
    config = plan.config
    bases = [config.text.base]
    if plan.init is None and plan.problem is None and not plan.saved:
        bases.insert(0, config.backbone)
    if config.level == "parts" and config.refiner.kind == "mllm":
        bases.append(config.refiner.base)
    return list({base.source: base for base in bases}.values())


def _is_here(base: BaseModelConfig) -> bool:
    return base.source.startswith("package:") or Path(base.source).is_dir()


def _base_models(plan: Prospect, bases: Sequence[BaseModelConfig], wait: Callable[[], tuple[BaseModel, ...]]) -> Found:
    """Every base model is here, or the Hub gives it."""
    if plan.config.refiner.precision == "4bit" and plan.config.refiner.base in bases:
        loading_options("4bit")  # refuses where there is no GPU for it, or no package
    found = [
        find_shipped(base.source) if base.source.startswith("package:") else BaseModel(base.source, "installed")
        for base in bases
        if _is_here(base)
    ]
    found += wait()
    lines: list[str] = []
    lost: list[str] = []
    for base in found:
        name = base.source.removeprefix("package:")
        if base.there:
            lines.append(f"{name}: {HERE[base.state]}")
            continue
        lines.append(f"{name}: {NOT_HERE[base.state]}" + f"; {base.remedy}" * bool(base.remedy))
        if base.state != "unknown":
            lost.append(name if lost else lines[-1])
    if lost:
        others = f" (likewise {', '.join(lost[1:])})" if len(lost) > 1 else ""
        way = "or choose an open one (model.refiner.base), or a recipe of the mini model"
        return Found("no", f"{lost[0]}{others}; {way}", tuple(lines) if len(lines) > 1 else (), ENVIRONMENT)
    names = ", ".join(base.source.removeprefix("package:") for base in found)
    if all(base.state == "installed" for base in found):
        return Found("ok", f"{names}: here")
    return Found("ok" if all(base.there for base in found) else "note", names, tuple(lines))
