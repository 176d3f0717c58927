"""The steps of `langhops eval --protocol hiou`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from langhops_cli.cli.evaluate_options import Setting
from langhops_cli.cli.evaluate_steps import Model, Task, described, finish, read_record, watch
from langhops_cli.errors import DATA, UserError
from langhops_cli.evaluation.report import SEMANTIC_HIOU, DatasetCard, Report
from langhops_cli.evaluation.semantic.files import FOLDER, MapReader
from langhops_cli.evaluation.semantic.scoring import score_semantic_files
from langhops_cli.evaluation.semantic.splits import ScoredNames, scored_names


def measure_semantic(task: Task) -> None:
    """Measure a model, together with the other ranks."""
    from langhops_cli.evaluation.semantic.runner import predict_semantic

    names, record = scored_names(task.dataset, task.wish.unseen), read_record(task.wish.run)
    model = Model.load(task, task.wish.run)
    folder = task.wish.folder / FOLDER
    predict_semantic(
        model.predictor.model,
        task.dataset,
        folder,
        config=model.predictor.config,
        setting=(task.wish.setting or Setting.ORACLE).value,
        names=names,
        pictures=task.pictures,
        model_name=model.name,
        ranks=task.ranks,
        watch=partial(watch, label="eval") if task.ranks.is_first else None,
    )
    if task.ranks.is_first:
        _score(task, folder, names, record, model.name)


def score_semantic(task: Task) -> None:
    """Score a folder of maps."""
    folder, setting = task.wish.predictions, task.wish.setting
    assert folder is not None, "this is for a folder"
    names = scored_names(task.dataset, task.wish.unseen)
    made = MapReader(folder, names=names.parts, image_ids=task.dataset.image_ids).setting
    if setting is not None and setting != made:
        raise UserError(f"{folder} holds maps of the setting {made}, not {setting}: leave --setting out", code=DATA)
    _score(task, folder, names, None, str(folder))


def _score(task: Task, folder: Path, names: ScoredNames, record: Mapping[str, Any] | None, model_name: str) -> None:
    scores = score_semantic_files(
        folder,
        task.dataset,
        names=names,
        pictures=task.pictures,
        boundary=task.wish.boundary,
        watch=partial(watch, label="score"),
    )
    report = Report(
        protocol=SEMANTIC_HIOU,
        dataset=DatasetCard.of(task.dataset, task.pictures),
        model=model_name,
        sections={SEMANTIC_HIOU: scores},
        settings={"setting": scores.setting, **scores.made_by},
        results=str(folder),
        command=task.command,
    )
    published = scores.ovparts
    shares = {"seen": published.seen, "unseen": published.unseen, "h": published.harmonic}
    finish(task, described(task, report, record, shares=shares, names=names), [folder])
