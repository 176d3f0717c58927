"""The training loop, the same for both stages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from langhops_cli.checkpoint.folder import read_config, save_checkpoint
from langhops_cli.errors import TRAINING, UserError
from langhops_cli.model.configuration import ModelConfig
from langhops_cli.model.criterion import Criterion
from langhops_cli.model.matcher import NonFiniteCost
from langhops_cli.training.distributed import build_engine, device, gathered, is_first, join_processes
from langhops_cli.training.interruption import Interruption
from langhops_cli.training.logging import TrainingLog
from langhops_cli.training.measuring import in_words, measure
from langhops_cli.training.optimizer import build_optimizer, parameter_groups, rate_factor
from langhops_cli.training.recipe import Recipe
from langhops_cli.training.resume import ResumeState, settle_recipe
from langhops_cli.training.setup import batches, build_stage, model_config, open_datasets, run_metadata

if TYPE_CHECKING:
    from langhops_cli.data.collate import Batch
    from langhops_cli.data.index import PreparedDataset


@dataclass
class Run:
    """A run under way: the engine and all that its steps and saves need."""

    recipe: Recipe
    folder: Path
    config: ModelConfig
    metadata: dict[str, Any]
    engine: Any
    rates: list[float]
    criterion: Criterion
    resume: ResumeState

    def step(self, batch: Batch, number: int) -> dict[str, float]:
        """Train on one batch.

        Args:
            batch: on any device.
            number: of the step, from 0; learning rate and random numbers follow from it.

        Returns:
            The losses by name, with `total`.

        Raises:
            UserError: the loss is not finite; the message names the pictures.
        """
        torch.manual_seed(1_000_003 * self.recipe.seed + number)
        for group, rate in zip(self.engine.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.factor(number)
        where = device()
        pictures, vocabulary = batch.pictures.to(where), batch.vocabulary.to(where)
        targets = [item.to(where) for item in batch.targets]
        output = self.engine(pictures, vocabulary, targets)
        text = self.engine.module.text_encoder
        distillation = text.distillation_loss() if text.trainable else None
        try:
            losses = self.criterion(output, targets, pictures, vocabulary, distillation=distillation)
        except NonFiniteCost as error:
            raise self._diverged(str(error), batch, number) from error
        values = dict(zip(losses, torch.stack(list(losses.values())).detach().tolist(), strict=True))
        guilty = [name for name, value in values.items() if not math.isfinite(value)]
        if guilty:
            raise self._diverged(f"the loss {guilty[0]} is {values[guilty[0]]}", batch, number)
        self.engine.backward(losses["total"])
        self.engine.step()
        return values

    def factor(self, number: int) -> float:
        """Share of the learning rate at a step."""
        schedule = self.recipe.schedule
        return rate_factor(
            number, steps=schedule.steps, warmup=schedule.warmup, decay=schedule.decay, drops=schedule.drops
        )

    def save(self, done: int) -> None:
        """Write the checkpoint and the state to go on from, after `done` steps."""
        model = self.engine.module
        with gathered(model):
            if is_first():
                save_checkpoint(model, self.folder, config=self.config, metadata=self.metadata | {"step": done})
        self.resume.save(self.engine, step=done)

    def finish(self, held_out: Sequence[PreparedDataset], log: TrainingLog) -> None:
        """Measure the finished model, unless that was done before, and write the figures into its checkpoint."""
        if not held_out or "measured" in read_config(self.folder):
            return
        model = self.engine.module
        with gathered(model):
            figures = measure(model, held_out, self.config, pictures=self.recipe.data.val_pictures)
            if is_first():
                metadata = self.metadata | {"step": self.recipe.schedule.steps, "measured": figures}
                save_checkpoint(model, self.folder, config=self.config, metadata=metadata)
        for name, line in figures.items():
            log.say(f"{name}: {in_words(line)}")

    def _diverged(self, what: str, batch: Batch, number: int) -> UserError:
        pictures = ", ".join(item.name for item in batch.targets)
        saved = self.resume.tag is not None
        remedy = f"start from the last save by --init {self.folder} and a new --out," if saved else "start again"
        return UserError(
            f"step {number + 1}: {what}; the batch was {pictures}; {remedy} with a lower optimizer.learning_rate, "
            "or take the pictures out",
            code=TRAINING,
        )


def train(recipe: Recipe, *, folder: Path, data_root: Path, init: Path | None = None) -> int:
    """Train as a recipe says, or go on with a run that was stopped.

    Args:
        recipe: checked.
        folder: of the run; holds the newest checkpoint, `recipe.yaml`, `log.jsonl` and `resume/`.
        data_root: folder of the prepared sets.
        init: checkpoint to start from; None for the base models alone.

    Returns:
        Steps done in all.

    Raises:
        UserError: a data set, the checkpoint or the run's folder does not fit; or the loss is not finite.
    """
    config = model_config(recipe, init)
    datasets, held_out = open_datasets(recipe, data_root)
    settle_recipe(recipe, folder)
    join_processes()
    resume = ResumeState(folder / "resume")
    init = init if resume.tag is None else None  # what was saved since then takes its place
    metadata = run_metadata(recipe, config, datasets)
    run, said = start(recipe, folder=folder, config=config, metadata=metadata, init=init, resume=resume)
    done = resume.load(run.engine)
    steps, every = recipe.schedule.steps, recipe.logging.every
    with (
        Interruption(minutes=recipe.schedule.minutes) as interruption,
        TrainingLog(folder / "log.jsonl", steps=steps, first=done, every=every) as log,
    ):
        for line in said:
            log.say(line)
        if done:
            log.say(f"going on after step {done} of {steps}")
        loader = batches(recipe, config, datasets, first=done)
        done = repeat(run, loader, done=done, interruption=interruption, log=log)
        if done >= steps:
            run.finish(held_out, log)
    return done


def repeat(run: Run, loader: Iterable[Batch], *, done: int, interruption: Interruption, log: TrainingLog) -> int:
    """Take steps until the recipe's last one, or until the run is asked to stop; save on the way and at the end.

    Args:
        run: filled from its newest state.
        loader: batches from step `done` on.
        done: steps done before.
        interruption: asked between two steps.
        log: told of every step.

    Returns:
        Steps done in all.
    """
    steps = run.recipe.schedule.steps
    saved = done
    for number, batch in zip(range(done, steps), loader, strict=False):
        losses = run.step(batch, number)
        done = number + 1
        norm = run.engine.get_global_grad_norm()
        rate = run.recipe.optimizer.learning_rate * run.factor(number)
        log.add(done, losses, learning_rate=rate, gradient_norm=None if norm is None else float(norm))
        if done < steps and interruption.reason is not None:
            break
        if done % run.recipe.logging.save_every == 0:
            run.save(done)
            saved = done
    if saved < done:
        run.save(done)
    if done < steps:
        log.say(f"stopped after step {done} of {steps} ({interruption.reason}); run the same command again to go on")
    else:
        log.say(f"done: {steps} steps, checkpoint in {run.folder}")
    return done


def start(
    recipe: Recipe,
    *,
    folder: Path,
    config: ModelConfig,
    metadata: dict[str, Any],
    init: Path | None,
    resume: ResumeState,
) -> tuple[Run, list[str]]:
    """Build the model of the recipe's stage and an engine around it.

    Returns:
        The run, and lines that say what it starts from.
    """
    model, said = build_stage(recipe, config, init)
    settings = recipe.optimizer
    groups = parameter_groups(
        model,
        learning_rate=settings.learning_rate,
        backbone_multiplier=settings.backbone_multiplier,
        lora_multiplier=settings.lora_multiplier,
        weight_decay=settings.weight_decay,
    )
    rates = [float(group["lr"]) for group in groups]
    engine = build_engine(
        model,
        build_optimizer(groups),
        zero=recipe.distributed.zero,
        precision=recipe.distributed.precision,
        batch=recipe.data.batch,
        clip_norm=settings.clip_norm,
    )
    engine.train()
    loss = recipe.loss
    criterion = Criterion(
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
    return Run(recipe, folder, config, metadata, engine, rates, criterion, resume), said
