"""A run under way: its steps, its saves, and what it does about those that fail."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from langhops_cli.checkpoint.folder import read_config, save_checkpoint
from langhops_cli.errors import TRAINING, UserError
from langhops_cli.model.configuration import ModelConfig
from langhops_cli.model.criterion import Criterion
from langhops_cli.model.matcher import NonFiniteCost
from langhops_cli.training.distributed import (
    device,
    end_all,
    gather,
    is_first,
    largest,
    mean,
    rank,
    shared,
    world_size,
)
from langhops_cli.training.engine import gathered
from langhops_cli.training.faults import Fault, not_finite, write_bundle
from langhops_cli.training.gradients import take_step
from langhops_cli.training.logging import TrainingLog
from langhops_cli.training.measuring import in_words, measure
from langhops_cli.training.observing import Observer
from langhops_cli.training.optimizer import rate_factor
from langhops_cli.training.recipe import Recipe
from langhops_cli.training.resume import ResumeState, SaveFailed, agree, first_line
from langhops_cli.training.watchdog import Watchdog

if TYPE_CHECKING:
    from langhops_cli.data.collate import Batch
    from langhops_cli.data.index import PreparedDataset

FAILURES = 3
"""So many saves in a row that cannot be written end a run."""


@dataclass(frozen=True)
class Step:
    """What a step did: its losses by name with `total`, mean over batches and ranks, and the norm of its gradient."""

    losses: dict[str, float]
    gradient_norm: float | None


@dataclass(frozen=True)
class _Scored:
    """One batch of one rank on its way: what was said of it, its losses, as far as there are any, and what is wrong."""

    batch: Batch
    seed: int
    output: object = None
    total: Tensor | None = None
    values: dict[str, float] | None = None
    problem: str | None = None


@dataclass
class Run:
    """A run under way: the engine and all that its steps and saves need."""

    recipe: Recipe
    folder: Path
    config: ModelConfig
    metadata: dict[str, Any]
    engine: Any
    groups: list[tuple[float, float]]
    """Full learning rate and weight decay of each group of the optimizer."""
    criterion: Criterion
    resume: ResumeState
    watchdog: Watchdog
    log: TrainingLog
    skipped: int = 0
    failures: int = 0

    def step(self, batches: Iterator[Batch], number: int) -> Step | None:
        """Train on as many batches as the recipe accumulates.

        Args:
            batches: where the next ones come from, on any device.
            number: of the step, from 0; learning rate and random numbers follow from it.

        Returns:
            What it did; None where every batch was left out, so that nothing was learned.

        Raises:
            UserError: a loss is not finite, and no more batches may be left out; the message names the pictures.
        """
        for group, (rate, decay) in zip(self.engine.optimizer.param_groups, self.groups, strict=True):
            group["lr"] = rate * self.factor(number)
            group["weight_decay"] = decay  # a converted save of ZeRO 3 brings that of the first group for all
        sums: dict[str, float] = defaultdict(float)
        taken = 0
        for turn in range(self.recipe.data.accumulate):
            self.watchdog.at(number + 1, ())
            batch = next(batches)
            self.watchdog.at(number + 1, [item.name for item in batch.targets])
            scored = self._score(batch, number * self.recipe.data.accumulate + turn)
            if largest(scored.problem is not None):
                self._leave_out(scored, number)
                del scored
                continue
            assert scored.values is not None
            self.engine.backward(scored.total)
            taken += 1
            for name, value in scored.values.items():
                sums[name] += value
            del scored  # the next batch needs the room of its predictions
        if not taken:
            return None
        norm = take_step(self.engine)
        means = mean([value / taken for value in sums.values()])
        return Step(dict(zip(sums, means, strict=True)), norm)

    def factor(self, number: int) -> float:
        """Share of the learning rate at a step."""
        schedule = self.recipe.schedule
        return rate_factor(
            number, steps=schedule.steps, warmup=schedule.warmup, decay=schedule.decay, drops=schedule.drops
        )

    def look(self, observer: Observer, done: int) -> None:
        """Have the model looked at after `done` steps, and keep it in `RUN/best` where it is the best so far."""
        model, problem = self.engine.module, None
        with self.watchdog.paused():
            with gathered(self.engine):
                figures = observer.look(model, done, self.log)
                if observer.is_best and is_first():
                    problem = self._write_checkpoint(self.folder / "best", {"step": done, "evaluation": figures})
            gather(None)  # the first rank may be busy for longer than the others
        if problem is not None:
            self.log.say(f"the best checkpoint so far, of step {done}, could not be written ({problem})")

    def save(self, done: int, *, last: bool = False) -> bool:
        """Write the checkpoint and the state to go on from, after `done` steps. All ranks take part.

        Args:
            done: steps.
            last: the run ends with it.

        Returns:
            Whether it could be written; the save before it stays.

        Raises:
            UserError: it could not, and the run ends, or this was the third time in a row.
        """
        with self.log.aside():
            try:
                self._write(done)
            except SaveFailed as error:
                self.failures += 1
                before = self.resume.newest
                kept = "nothing is saved yet" if before is None else f"the save of step {before} is whole"
                what = f"step {done} cannot be saved in {self.folder} ({error}); {kept}"
                if last or self.failures >= FAILURES:
                    end_all(UserError(f"{what}; make room and run the same command again to go on", code=TRAINING))
                self.log.say(f"{what}, and the run goes on: make room")
                return False
        self.failures = 0
        return True

    def finish(self, held_out: Sequence[PreparedDataset]) -> None:
        """Measure the finished model, unless that was done before, and write the figures into its checkpoint."""
        if not held_out or not shared(is_first() and "measured" not in read_config(self.folder)):
            return
        model, figures = self.engine.module, {}
        with gathered(self.engine):
            if is_first():
                figures = measure(model, held_out, self.config, pictures=self.recipe.data.val_pictures)
                metadata = self.metadata | {"step": self.recipe.schedule.steps, "measured": figures}
                save_checkpoint(model, self.folder, config=self.config, metadata=metadata)
        gather(None)
        for name, line in figures.items():
            self.log.say(f"{name}: {in_words(line)}")

    def _score(self, batch: Batch, turn: int) -> _Scored:
        """Losses of a batch, the `turn`-th of this rank, with random numbers that are its own."""
        seed = 1_000_003 * self.recipe.seed + turn * world_size() + rank()
        torch.manual_seed(seed)
        where = device()
        pictures, vocabulary = batch.pictures.to(where), batch.vocabulary.to(where)
        targets = [item.to(where) for item in batch.targets]
        output = self.engine(pictures, vocabulary, targets)
        text = self.engine.module.text_encoder
        distillation = text.distillation_loss() if text.trainable else None
        scored = _Scored(batch, seed, output)
        try:
            losses = self.criterion(output, targets, pictures, vocabulary, distillation=distillation)
        except NonFiniteCost as error:
            return replace(scored, problem=str(error))
        values = dict(zip(losses, torch.stack(list(losses.values())).detach().tolist(), strict=True))
        return replace(scored, total=losses["total"], values=values, problem=not_finite(values))

    def _leave_out(self, scored: _Scored, number: int) -> None:
        """Pass over a batch whose loss is not finite on some rank, or stop if there were too many."""
        fault = None
        if scored.problem is not None:
            fault = Fault(scored.problem, tuple(item.name for item in scored.batch.targets), rank())
        faults = [item for item in gather(fault) if item is not None]
        what = f"step {number + 1}: {'; '.join(map(str, faults))}"
        self.skipped += 1
        allowed = self.recipe.optimizer.skip_nonfinite
        if self.skipped <= allowed:
            self.log.say(f"{what}; left out, {self.skipped} of {allowed} that may be")
            return
        folder = self.folder / "debug" / f"step_{number + 1}"
        if fault is not None:
            with suppress(OSError):  # the line below says the most of it
                write_bundle(
                    folder,
                    fault,
                    recipe=self.recipe,
                    step=number + 1,
                    seed=scored.seed,
                    batch=scored.batch,
                    losses=scored.values or {},
                    output=scored.output,
                    model=self.engine.module,
                )
        gather(None)  # all is written when the first rank ends
        remedy = "start again" if self.resume.newest is None else f"start from --init {self.folder} and a new --out,"
        end_all(
            UserError(
                f"{what}; {remedy} with a lower optimizer.learning_rate, or take the pictures out, or set "
                f"optimizer.skip_nonfinite (now {allowed}); {folder} holds what was found",
                code=TRAINING,
            )
        )

    def _write(self, done: int) -> None:
        model, problem = self.engine.module, None
        with gathered(self.engine, model.saved_names()):
            if is_first():
                problem = self._write_checkpoint(self.folder, {"step": done})
        agree(problem)
        self.resume.save(self.engine, step=done, state={"skipped": self.skipped})

    def _write_checkpoint(self, folder: Path, facts: dict[str, Any]) -> str | None:
        """Write the model, whole on this rank, with `facts` beside what is known of the run; say what went wrong."""
        try:
            save_checkpoint(self.engine.module, folder, config=self.config, metadata=self.metadata | facts)
        except (OSError, SafetensorError) as error:
            return first_line(error)
        return None
