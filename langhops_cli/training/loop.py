"""The training loop, the same for both stages, on one process or on many ranks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langhops_cli.checkpoint.folder import CONFIG
from langhops_cli.model.configuration import ModelConfig
from langhops_cli.model.criterion import Criterion
from langhops_cli.training.activations import checkpoint_activations
from langhops_cli.training.distributed import (
    end_all,
    is_first,
    join_processes,
    largest,
    rank,
    shared,
    together,
    world_size,
)
from langhops_cli.training.engine import build_engine
from langhops_cli.training.faults import RankLost, in_one_line
from langhops_cli.training.interruption import Interruption
from langhops_cli.training.logging import TrainingLog, open_log
from langhops_cli.training.observing import Observer
from langhops_cli.training.optimizer import build_optimizer, parameter_groups
from langhops_cli.training.recipe import Recipe
from langhops_cli.training.resume import ResumeState, Save, settle_recipe
from langhops_cli.training.run import Run
from langhops_cli.training.setup import batches, build_stage, model_config, open_datasets, run_metadata
from langhops_cli.training.watchdog import Watchdog

if TYPE_CHECKING:
    from langhops_cli.data.collate import Batch


def train(recipe: Recipe, *, folder: Path, data_root: Path, init: Path | None = None) -> int:
    """Train as a recipe says, or go on with a run that was stopped.

    Args:
        recipe: checked.
        folder: of the run, which all ranks see; holds the newest checkpoint, `recipe.yaml`, `log.jsonl` and `resume/`.
        data_root: folder of the prepared sets.
        init: checkpoint to start from; None for the base models alone.

    Returns:
        Steps done in all.

    Raises:
        UserError: a data set, the checkpoint or the run's folder does not fit, or the training cannot go on. Of an
            error that all ranks meet the first one tells, and the others exit.
    """
    join_processes(hang_minutes=recipe.distributed.hang_minutes)
    config = together(lambda: model_config(recipe, init))
    datasets, held_out = together(lambda: open_datasets(recipe, data_root))
    together(lambda: settle_recipe(recipe, folder) if is_first() else None)
    resume = ResumeState(folder / "resume", keep=recipe.logging.keep, zero=recipe.distributed.zero)
    save, notes = shared(together(lambda: resume.pick() if is_first() else (None, [])))
    done, steps = (0 if save is None else save.step), recipe.schedule.steps
    watchdog = Watchdog(folder / "hang", minutes=recipe.distributed.hang_minutes, rank=rank())
    with (
        Interruption(minutes=recipe.schedule.minutes) as interruption,
        open_log(recipe, folder, first=done, writes=is_first(), processes=world_size()) as log,
        _told_in_one_line(recipe, resume, watchdog, done),
    ):
        for note in notes:
            log.say(note)
        metadata = run_metadata(recipe, config, datasets)
        run = start(recipe, folder, config, metadata, resume, watchdog, log, init=init, save=save)
        if done:
            log.say(f"going on after step {done} of {steps}")
        observer = Observer(recipe, folder, held_out, config, training=datasets, writes=is_first(), first=done)
        loader = batches(recipe, config, datasets, first=done)
        with watchdog:
            done = repeat(run, loader, done=done, interruption=interruption, observer=observer)
        if done >= steps:
            run.finish(held_out)
    return done


def repeat(run: Run, loader: Iterable[Batch], *, done: int, interruption: Interruption, observer: Observer) -> int:
    """Take steps until the recipe's last one, or until a rank is asked to stop; save on the way and at the end.

    Args:
        run: filled from its newest save.
        loader: batches from step `done` on, as many a step as the recipe accumulates.
        done: steps done before.
        interruption: asked between two steps.
        observer: looks at the model on the way.

    Returns:
        Steps done in all.
    """
    steps, log = run.recipe.schedule.steps, run.log
    saved, code, coming = done, 0, iter(loader)
    for number in range(done, steps):
        step = run.step(coming, number)
        done = number + 1
        if step is not None:
            rate = run.recipe.optimizer.learning_rate * run.factor(number)
            log.add(done, step.losses, learning_rate=rate, gradient_norm=step.gradient_norm)
        code = largest(interruption.code)
        if done < steps and code:
            break
        if observer.due(done):
            run.look(observer, done)
        if done % run.recipe.logging.save_every == 0 and run.save(done):
            saved = done
    if saved < done:
        run.save(done, last=True)
    if done < steps:
        why = interruption.reason(code)
        log.say(f"stopped after step {done} of {steps} ({why}); run the same command again to go on")
    else:
        log.say(f"done: {steps} steps, checkpoint in {run.folder}")
    return done


def start(
    recipe: Recipe,
    folder: Path,
    config: ModelConfig,
    metadata: dict[str, Any],
    resume: ResumeState,
    watchdog: Watchdog,
    log: TrainingLog,
    *,
    init: Path | None,
    save: Save | None,
) -> Run:
    """Build the model of the recipe's stage and an engine around it, filled from a save where there is one.

    Args:
        recipe: of the run; config: of its model; metadata: what its checkpoints say of themselves.
        folder: of the run, whose own checkpoint takes the place of `init` once there is a save.
        resume, watchdog, log: of the run.
        init: checkpoint to start from; None for the base models alone.
        save: whole; None to start.
    """
    own = save is not None and (folder / CONFIG).is_file()
    model, said = build_stage(recipe, config, folder if own else init)
    for line in said:
        log.say(line)
    if recipe.distributed.checkpoint_activations:
        checkpoint_activations(model)
    settings = recipe.optimizer
    groups = parameter_groups(
        model,
        learning_rate=settings.learning_rate,
        backbone_multiplier=settings.backbone_multiplier,
        lora_multiplier=settings.lora_multiplier,
        weight_decay=settings.weight_decay,
    )
    rates = [(float(group["lr"]), float(group["weight_decay"])) for group in groups]
    converted = save is not None and resume.convert(save)
    engine = build_engine(model, build_optimizer(groups), recipe, from_universal=converted)
    engine.train()
    run = Run(recipe, folder, config, metadata, engine, rates, build_criterion(recipe, config), resume, watchdog, log)
    if save is not None:
        run.skipped = resume.load(engine, save, converted=converted).get("skipped", 0)
    return run


def build_criterion(recipe: Recipe, config: ModelConfig) -> Criterion:
    """The loss of a recipe."""
    loss = recipe.loss
    return Criterion(
        class_weight=loss.class_weight,
        mask_weight=loss.mask_weight,
        dice_weight=loss.dice_weight,
        box_weight=loss.box_weight,
        giou_weight=loss.giou_weight,
        dense_weight=loss.dense_weight,
        distillation_weight=loss.distillation_weight,
        parent_aware=loss.parent_aware_matching,
        tied=config.part_scoring == "tied",
    )


@contextmanager
def _told_in_one_line(recipe: Recipe, resume: ResumeState, watchdog: Watchdog, done: int) -> Iterator[None]:
    """Turn errors of the machine, such as memory that runs out or a rank that is gone, into a line for the user."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        told = in_one_line(error, recipe=recipe, step=max(done + 1, watchdog.step), saved=resume.newest)
        if told is None:
            raise
        if isinstance(told, RankLost):
            end_all(told)
        raise told from error
