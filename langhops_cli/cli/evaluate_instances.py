"""The steps of `langhops eval` for instance AP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langhops_cli.cli.evaluate_steps import Model, Task, described, finish, read_record
from langhops_cli.evaluation.predictions import PREDICTIONS
from langhops_cli.evaluation.report import RETENTION, ROBUSTNESS, Report

if TYPE_CHECKING:
    from langhops_cli.evaluation.attention import AttentionReport

INITIAL = "initial.json"
"""Results of the checkpoint that is compared with."""


def measure_ap(task: Task) -> None:
    """Measure a model, together with the other ranks."""
    record = read_record(task.wish.run)
    held_out = _held_out(task, record)
    report, looked = _measure_run(task)
    initial = task.wish.folder / INITIAL
    if task.wish.initial is not None:
        from langhops_cli.evaluation.retention import measure_retention

        model = Model.load(task, task.wish.initial, label="initial")
        model.predict(None, initial)
        before = model.figures(initial)
        if before is not None and report is not None and report.figures is not None:
            kept = measure_retention(report.figures, before, task.dataset.vocabulary, held_out)
            report = replace(report, sections={**report.sections, RETENTION: kept})
    if report is not None:
        written = [task.wish.folder / PREDICTIONS, *([initial] if task.wish.initial is not None else [])]
        finish(task, described(task, report, record, shares=_mask_shares(report)), written, looked)


def _measure_run(task: Task) -> tuple[Report | None, AttentionReport | None]:
    """Measure the model itself, which is out of memory afterwards; on the first rank there is a report."""
    wish, path = task.wish, task.wish.folder / PREDICTIONS
    model = Model.load(task, wish.run)
    model.predict(None, path)
    report = model.score(path)
    if wish.robustness:
        from langhops_cli.evaluation.robustness import measure_robustness

        figures = None if report is None else report.figures
        names = task.dataset.vocabulary
        found = measure_robustness(
            model.predict, model.figures, names, wish.folder, figures=figures, seed=wish.seed or 0
        )
        if report is not None and found is not None:
            report = replace(report, sections={**report.sections, ROBUSTNESS: found})
    return report, model.attention() if wish.attention and task.ranks.is_first else None


def _held_out(task: Task, record: Mapping[str, Any]) -> tuple[str, ...]:
    """The names on which two checkpoints are compared; a mistake in them is told before anything is predicted."""
    if task.wish.initial is None:
        return ()
    from langhops_cli.evaluation.retention import held_out_names

    given = [name.strip() for name in (task.wish.held_out or "").split(",") if name.strip()]
    return held_out_names(task.dataset.vocabulary, record, given)


def score_ap(task: Task) -> None:
    """Score a file of results."""
    path = task.wish.predictions
    assert path is not None, "this is for a file"
    report = task.score(path, model_name=str(path), settings={}, asked=False)
    finish(task, described(task, report, None, shares=_mask_shares(report)), [])


def _mask_shares(report: Report) -> dict[str, float | None]:
    """Mask AP of objects, of parts and of all names, as it is published."""
    levels = None if report.figures is None else report.figures.mask
    return {} if levels is None else {"obj": levels.obj.ap, "part": levels.part.ap, "all": levels.all.ap}
