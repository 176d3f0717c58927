"""A look at the model on the way: figures on held-out pictures, whether it is the best so far, a sheet to look at."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from langhops_cli.checkpoint.files import write_text, write_whole
from langhops_cli.data.canvas import to_canvas
from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.sample import Sample
from langhops_cli.data.sampling.mixture import TrainingDataset
from langhops_cli.data.transforms import fit, resize_sample
from langhops_cli.errors import UserError
from langhops_cli.model.configuration import ModelConfig
from langhops_cli.model.structures import VocabularyBatch
from langhops_cli.prediction.comparison import CELL, Comparison, comparison_sheet
from langhops_cli.prediction.postprocess import picture_output, predict_instances
from langhops_cli.prediction.predictor import resize
from langhops_cli.prediction.results import Prediction
from langhops_cli.prediction.sheet import annotated
from langhops_cli.training.logging import TrainingLog
from langhops_cli.training.measuring import LEVELS, measure
from langhops_cli.training.recipe import Recipe

BEST = "best.json"
SHEETS = "sheets"
SEARCH = 20
"""So many pictures in a row are tried for one with something annotated in it."""


class Observer:
    """Evaluates a model in training now and then, always on the same pictures.

    All processes take every look together, so that none waits long enough for another to count as hanging; what the
    first one measures holds for all of them.

    Args:
        recipe: says when, on how many pictures, and which figure is the best's.
        folder: of the run; gets `best.json` and `sheets/`.
        held_out: sets that are not trained on.
        config: of the model.
        training: sets to draw pictures from where nothing is held out.
        writes: whether this process is the one that writes.
        first: steps done before this start; 0 forgets the best of an earlier run in the folder.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        held_out: Sequence[PreparedDataset],
        config: ModelConfig,
        *,
        training: Sequence[TrainingDataset] = (),
        writes: bool = True,
        first: int,
    ) -> None:
        self._section = recipe.logging
        self._steps = recipe.schedule.steps
        self._folder = folder
        self._held_out = held_out
        self._config = config
        self._shown: Sequence[TrainingDataset] = held_out or training
        self._places: list[tuple[int, int]] | None = None
        self._writes = writes
        self._best = _read_best(folder / BEST, self._section.best) if first else None
        self.is_best = False
        """Whether the last look found the best model so far."""

    def due(self, step: int) -> bool:
        """Whether the model is to be looked at after this step: every `evaluate_every` steps, and after the last."""
        every = self._section.evaluate_every
        return every is not None and (step % every == 0 or step == self._steps)

    def look(self, model: nn.Module, step: int, log: TrainingLog) -> dict[str, float] | None:
        """Measure the model, report its figures, draw a sheet, and see whether it is the best so far.

        Neither the model's mode nor any random state is changed. What goes wrong with a picture is said, and does not
        stop the training.

        Args:
            model: whole on this process; a look comes before the save of the same step, so that it is not lost.
            step: done, from 1.
            log: told of what is found.

        Returns:
            Mask AP in percent by "set/level", where there is something to find; None where nothing was measured.
        """
        with log.aside(), undisturbed(model):
            figures, problem = None, None
            try:
                figures = self._measure(model)
            except UserError as error:
                problem = str(error)
            figures, self.is_best = _agreed(figures, self._judge(figures, step))
            if figures is not None:
                log.add_evaluation(step, figures)
            log.say(self._line(step, figures) if problem is None else f"step {step}: not measured: {problem}")
            try:
                self._draw(model, step, figures, log)
            except UserError as error:
                log.say(f"step {step}: no sheet: {error}")
        return figures

    def _measure(self, model: nn.Module) -> dict[str, float] | None:
        if not self._held_out:
            return None
        measured = measure(model, self._held_out, self._config, pictures=self._section.evaluate_pictures)
        return {
            f"{name}/{level}": float(line[level])
            for name, line in measured.items()
            for level in LEVELS
            if line.get(level) is not None
        }

    def _judge(self, figures: Mapping[str, float] | None, step: int) -> bool:
        figure = mean_figure(figures or {}, self._section.best)
        # Beyond the best one, or the best one seen again: the run stopped before it was saved, and is gone on with.
        if figure is None or (self._best is not None and (figure, step) != self._best and figure <= self._best[0]):
            return False
        self._best = figure, step
        if self._writes:
            record = {"level": self._section.best, "figure": figure, "step": step, "evaluation": figures}
            write_text(self._folder / BEST, json.dumps(record, indent=2) + "\n")
        return True

    def _line(self, step: int, figures: Mapping[str, float] | None) -> str:
        if figures is None:
            return f"step {step}: not measured, as no set is held out (data.val)"
        return f"step {step}: {figures_in_words(figures)}{', the best so far' if self.is_best else ''}"

    def _draw(self, model: nn.Module, step: int, figures: Mapping[str, float] | None, log: TrainingLog) -> None:
        if not self._section.sheet or not self._shown:
            return
        if self._places is None:
            self._places = choose_pictures(self._shown, self._section.sheet)
        comparisons = [self._compare(model, self._shown[number], place) for number, place in self._places]
        if not self._writes or not comparisons:
            return
        title = f"step {step}" + (f": {figures_in_words(figures)}" if figures else "")
        sheet = comparison_sheet(comparisons, title=title)
        path = self._folder / SHEETS / f"step_{step:07d}.png"
        write_whole(path, lambda beside: sheet.save(beside, format="PNG"))
        log.image(step, "sheet", sheet)

    def _compare(self, model: nn.Module, dataset: TrainingDataset, place: int) -> Comparison:
        sample = dataset.load(place)
        small = sample.size
        if max(small) > CELL:
            small = fit(sample.size, CELL, CELL)
        found = predict(model, self._config, sample, size=small)
        shown = resize_sample(sample, *small)
        if self._config.level == "objects":
            shown = replace(shown, parts=[])
        return Comparison(f"{dataset.name} {Path(sample.name).name}", shown.image, annotated(shown), found)


def predict(model: nn.Module, config: ModelConfig, sample: Sample, *, size: tuple[int, int]) -> Prediction:
    """What a model finds in a picture of the names that were looked for in it.

    Args:
        model: in evaluation mode, on any device.
        config: what it was built from.
        sample: the picture and its names.
        size: height and width of the masks in pixels.
    """
    device = next(model.parameters()).device
    resized = resize(sample.image, config.preprocessing)
    canvas = to_canvas([resized], tower_size=config.refiner.image_size if config.level == "parts" else None)
    table = VocabularyBatch.of([sample.vocabulary], queries_per_part=config.hierarchy.queries_per_part)
    # Not inference mode: what the model remembers of names must stay usable in training.
    with torch.no_grad():
        output = model(canvas.to(device), table.to(device))
        counts = len(sample.vocabulary.object_names), len(sample.vocabulary.part_classes)
        height, width = resized.shape[:2]
        return predict_instances(
            picture_output(output, 0, names=counts, size=(height, width), original=size),
            sample.vocabulary,
            picture_name=sample.name,
            min_score=config.min_score,
            part_scoring=config.part_scoring,
        )


def choose_pictures(datasets: Sequence[TrainingDataset], count: int) -> list[tuple[int, int]]:
    """Choose pictures with something in them, evenly from all sets and evenly within each; always the same.

    Args:
        datasets: at least one.
        count: of pictures; fewer where the sets hold no more.

    Returns:
        Number of the set and place in it, set by set.
    """
    shares = [0] * len(datasets)
    while sum(shares) < min(count, sum(map(len, datasets))):
        # The set with the fewest, of those that have more; a small set leaves its turn to the others.
        free = [number for number, dataset in enumerate(datasets) if shares[number] < len(dataset)]
        shares[min(free, key=lambda number: shares[number])] += 1
    return [
        (number, place)
        for number, (dataset, share) in enumerate(zip(datasets, shares, strict=True))
        for place in _spread(dataset, share)
    ]


def _spread(dataset: TrainingDataset, share: int) -> list[int]:
    taken: set[int] = set()
    for turn in range(share):
        begin = round(turn * len(dataset) / share)
        tried = [(begin + more) % len(dataset) for more in range(len(dataset))]
        free = [place for place in tried if place not in taken][:SEARCH]
        taken.add(next((place for place in free if dataset.load(place).objects), free[0]))
    return sorted(taken)


def mean_figure(figures: Mapping[str, float], level: str) -> float | None:
    """Mean of a level's figures over the sets; None where no set has one."""
    values = [value for name, value in figures.items() if name.rpartition("/")[2] == level]
    return math.fsum(values) / len(values) if values else None


def figures_in_words(figures: Mapping[str, float]) -> str:
    """Figures as a line: "mask AP faces objects 61.0 parts 22.3, cars objects 40.1"."""
    sets: dict[str, list[str]] = {}
    for name, value in figures.items():
        dataset, _, level = name.rpartition("/")
        if level != "all":
            sets.setdefault(dataset, []).append(f"{level} {value:.1f}")
    return "mask AP " + (", ".join(f"{name} {' '.join(words)}" for name, words in sets.items()) or "unknown")


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """While it lasts, a model is in evaluation mode; afterwards its mode and all random states are as before."""
    training, python, numpy = model.training, random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        model.eval()
        try:
            yield
        finally:
            model.train(training)
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def _agreed(figures: dict[str, float] | None, best: bool) -> tuple[dict[str, float] | None, bool]:
    """What the first process measured, on all of them: they must agree on what is saved."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return figures, best
    said: list[Any] = [figures, best]
    torch.distributed.broadcast_object_list(said, src=0)
    return said[0], bool(said[1])


def _read_best(path: Path, level: str) -> tuple[float, int] | None:
    """Figure and step of the best look so far; None where there is none, or it was judged by another level."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return (float(record["figure"]), int(record["step"])) if record["level"] == level else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
