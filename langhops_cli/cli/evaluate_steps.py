"""What the steps of `langhops eval` share: a task, a model at work on it, the report that is written and printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from langhops_cli.cli.console import note, out, print_json, progress
from langhops_cli.cli.evaluate_options import Backend, MaxDets, Wish
from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.prepare import prepared_folder, read_report
from langhops_cli.evaluation.instances.instance_ap import MAX_DETECTIONS
from langhops_cli.evaluation.instances.matches import MATCHES, save_matches
from langhops_cli.evaluation.instances.matching import import_hotcoco
from langhops_cli.evaluation.predictions import ALONE, Ranks
from langhops_cli.evaluation.report import Report
from langhops_cli.evaluation.scoring import score_results
from langhops_cli.evaluation.tables import print_report

if TYPE_CHECKING:
    from langhops_cli.evaluation.attention import AttentionReport
    from langhops_cli.evaluation.instances.instance_ap import InstanceAP
    from langhops_cli.evaluation.semantic.splits import ScoredNames
    from langhops_cli.evaluation.vocabulary_change import VocabularyChange
    from langhops_cli.prediction.predictor import Predictor


@dataclass(frozen=True)
class Task:
    """What is to be measured.

    Args:
        wish: what the command line says.
        dataset: the prepared set; pictures: places of those that are used.
        command: the command line, for the report.
        ranks: the processes that do it.
    """

    wish: Wish
    dataset: PreparedDataset
    pictures: Sequence[int]
    command: str
    ranks: Ranks = ALONE

    @classmethod
    def of(cls, wish: Wish, command: str, ranks: Ranks = ALONE) -> Self:
        """Open the set; what is missing is told before anything is predicted."""
        assert wish.data is not None, "checked with the options"
        if wish.backend is Backend.HOTCOCO:
            import_hotcoco()
        dataset = PreparedDataset(prepared_folder(wish.data_root, wish.data), wish.split or "val")
        return cls(wish, dataset, range(min(wish.limit or len(dataset), len(dataset))), command, ranks)

    def score(self, path: Path, *, model_name: str, settings: Mapping[str, Any], asked: bool) -> Report:
        """Score a file of results; arguments as in `score_results`."""
        return score_results(
            path,
            self.dataset,
            pictures=self.pictures,
            max_detections=int(self.wish.max_dets or MaxDets.USUAL),
            backend=(self.wish.backend or Backend.PYCOCOTOOLS).value,
            model_name=model_name,
            settings=settings,
            command=self.command,
            asked=asked,
        )


@dataclass(frozen=True)
class Model:
    """A model at work on a task.

    Args:
        task: what it is measured on.
        predictor: the model.
        name: what the report calls it.
        label: of its progress.
    """

    task: Task
    predictor: Predictor
    name: str
    label: str = "eval"

    @classmethod
    def load(cls, task: Task, checkpoint: Path | None, *, label: str = "eval") -> Self:
        """Load a checkpoint; every rank to its own device."""
        from langhops_cli.prediction.predictor import Predictor
        from langhops_cli.training.distributed import device

        place = str(device()) if task.ranks.count > 1 else task.wish.device or "auto"
        predictor = Predictor.from_pretrained(checkpoint, device=place)
        if task.ranks.is_first and task.dataset.vocabulary.part_classes and not predictor.finds_parts:
            note("this model was trained on objects only: parts are not looked for and count as missed")
        return cls(task, predictor, "embedded" if checkpoint is None else str(checkpoint), label)

    @property
    def limits(self) -> dict[str, int]:
        """Results of a picture that are scored, as published where nothing else is asked for."""
        from langhops_cli.evaluation.runner import published_limits

        objects, parts = published_limits(self.task.dataset)
        wish = self.task.wish
        return {"max_objects": wish.max_objects or objects, "max_parts": wish.max_parts or parts}

    def predict(self, change: VocabularyChange | None, path: Path) -> None:
        """Write the model's results into a file, together with the other ranks."""
        from langhops_cli.evaluation.runner import predict_to_file

        label = self.label if change is None else change.label
        predict_to_file(
            self.predictor.model,
            self.task.dataset,
            path,
            config=self.predictor.config,
            pictures=self.task.pictures,
            vocabulary=change,
            ranks=self.task.ranks,
            watch=partial(watch, label=label) if self.task.ranks.is_first else None,
            **self.limits,
        )

    def score(self, path: Path) -> Report | None:
        """Score what `predict` wrote; the first rank does it for all."""
        if not self.task.ranks.is_first:
            return None
        from langhops_cli.evaluation.runner import prediction_settings

        settings = prediction_settings(self.predictor.config, **self.limits)
        return self.task.score(path, model_name=self.name, settings=settings, asked=True)

    def figures(self, path: Path) -> InstanceAP | None:
        """The instance AP of what `predict` wrote; on the first rank only."""
        report = self.score(path)
        return None if report is None else report.figures

    def attention(self) -> AttentionReport:
        """How much of the queries' attention falls on their own object."""
        from langhops_cli.evaluation.attention import measure_attention

        return measure_attention(
            self.predictor.model,
            self.task.dataset,
            config=self.predictor.config,
            pictures=self.task.pictures,
            model_name=self.name,
            command=self.task.command,
            watch=partial(watch, label="attention"),
        )


def read_record(checkpoint: Path | None) -> Mapping[str, Any]:
    """What a checkpoint says of itself and of its training."""
    from langhops_cli.checkpoint.folder import read_config
    from langhops_cli.prediction.predictor import checkpoint_folder

    return read_config(checkpoint_folder(checkpoint))


def described(
    task: Task,
    report: Report,
    record: Mapping[str, Any] | None,
    *,
    shares: Mapping[str, float | None],
    names: ScoredNames | None = None,
) -> Report:
    """A report with what the model saw of the set in training, and with what was published for the same setting.

    Args:
        task: what was measured.
        report: the figures.
        record: what the model's checkpoint says of itself; None for a file of results.
        shares: the figures by the names that published ones have.
        names: what was scored, for semantic hIoU.
    """
    from langhops_cli.evaluation.published import beside
    from langhops_cli.evaluation.semantic.splits import setting_of

    published = beside(
        task.dataset.root,
        task.dataset.split,
        shares,
        scored=report.dataset.scored,
        protocol=report.protocol,
        setting=report.settings.get("setting"),
        trained_on=None if record is None else trained_kinds(record, task.dataset.root.parent),
        max_detections=report.settings.get("max_detections", MAX_DETECTIONS),
        benchmark=None if names is None else names.benchmark,
    )
    label = None if record is None else setting_of(record, task.dataset, names)
    return replace(report, label=label, published=published)


def trained_kinds(record: Mapping[str, Any], data_root: Path) -> list[str] | None:
    """The kinds of the sets that a checkpoint was trained on, None where it does not say.

    A set that is not there any more is taken to be of the kind that its name says.
    """
    data = record.get("data")
    if not isinstance(data, Mapping):
        return None
    return [str((read_report(data_root / name) or {}).get("kind", name)) for name in data]


def finish(task: Task, report: Report, written: Sequence[Path], looked: AttentionReport | None = None) -> None:
    """Write the report with what belongs to it, and print it.

    Args:
        task: what was measured.
        report: the figures.
        written: files that were written already.
        looked: what was measured of the attention.
    """
    from langhops_cli.evaluation.html import PAGE, write_html

    wish, files = task.wish, [*written]
    for name in (MATCHES, PAGE):  # of an earlier evaluation in this folder
        (wish.folder / name).unlink(missing_ok=True)
    if report.figures is not None:
        files.append(wish.folder / MATCHES)
        save_matches(files[-1], report.figures.matches)
    files.append(report.save(wish.folder))
    if not wish.no_html:
        files.append(write_html(wish.folder, report, task.dataset))
    if looked is not None:
        files.append(looked.save(wish.folder))
    if wish.as_json:
        print_json(report.to_dict() | ({} if looked is None else {"attention": looked.to_dict()}))
    else:
        print_report(report, out, per_name=wish.per_name)
        if looked is not None:
            out.print(looked.line(), markup=False, soft_wrap=True)
    note("written: " + ", ".join(map(str, files)))


def watch(places: Iterable[int], total: int, *, label: str) -> Iterable[int]:
    """Show how far it is."""
    return progress(places, label=label, total=total)
