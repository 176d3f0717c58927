"""The steps of `langhops eval`: predict, score, measure what else was asked for, write and print."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from langhops_cli.cli.console import note, out, print_json, progress
from langhops_cli.cli.evaluate_options import Backend, MaxDets, Wish
from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.prepare import prepared_folder, read_report
from langhops_cli.errors import ENVIRONMENT, UserError
from langhops_cli.evaluation.instances.instance_ap import MAX_DETECTIONS
from langhops_cli.evaluation.instances.matches import MATCHES, save_matches
from langhops_cli.evaluation.instances.matching import import_hotcoco
from langhops_cli.evaluation.predictions import ALONE, PREDICTIONS, Ranks
from langhops_cli.evaluation.report import RETENTION, ROBUSTNESS, Report
from langhops_cli.evaluation.scoring import score_results

if TYPE_CHECKING:
    from langhops_cli.evaluation.attention import AttentionReport
    from langhops_cli.evaluation.instances.instance_ap import InstanceAP
    from langhops_cli.evaluation.semantic.splits import ScoredNames
    from langhops_cli.evaluation.vocabulary_change import VocabularyChange
    from langhops_cli.prediction.predictor import Predictor

INITIAL = "initial.json"
"""Results of the checkpoint that is compared with."""


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


def score_file(wish: Wish, command: str) -> None:
    """Score a file of results."""
    task = Task.of(wish, command)
    assert wish.predictions is not None, "this is for a file"
    if wish.is_semantic:
        from langhops_cli.cli.evaluate_semantic import score_semantic

        score_semantic(task)
    else:
        report = task.score(wish.predictions, model_name=str(wish.predictions), settings={}, asked=False)
        finish(task, described(task, report, None, shares=mask_shares(report)), [])


def measure_model(wish: Wish, command: str) -> None:
    """Measure a model, together with the other ranks."""
    from langhops_cli.training.distributed import gather, is_first, rank, world_size

    with _told_in_one_line(silent=not is_first()):
        task = Task.of(wish, command, Ranks(rank(), world_size(), lambda: gather(None)))
        if wish.is_semantic:
            from langhops_cli.cli.evaluate_semantic import measure_semantic

            measure_semantic(task)
        else:
            _measure_ap(task)


def _measure_ap(task: Task) -> None:
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
        finish(task, described(task, report, record, shares=mask_shares(report)), written, looked)


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


def mask_shares(report: Report) -> dict[str, float | None]:
    """Mask AP of objects, of parts and of all names, as it is published."""
    levels = None if report.figures is None else report.figures.mask
    return {} if levels is None else {"obj": levels.obj.ap, "part": levels.part.ap, "all": levels.all.ap}


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
        report.print(out, per_name=wish.per_name)
        if looked is not None:
            out.print(looked.line(), markup=False, soft_wrap=True)
    note("written: " + ", ".join(map(str, files)))


def compare_folders(wish: Wish) -> None:
    """Put finished evaluations side by side."""
    from langhops_cli.evaluation.compare import compare

    def watch_steps(steps: Iterable[int]) -> Iterable[int]:
        numbers = list(steps)
        return progress(numbers, label="compare", total=len(numbers))

    comparison = compare(wish.runs, seed=wish.seed or 0, watch=watch_steps)
    files = comparison.save(wish.folder, html=not wish.no_html)
    if wish.as_json:
        print_json(comparison.to_dict())
    else:
        comparison.print(out)
    note("written: " + ", ".join(map(str, files)))


def watch(places: Iterable[int], total: int, *, label: str) -> Iterable[int]:
    """Show how far it is."""
    return progress(places, label=label, total=total)


@contextmanager
def _told_in_one_line(*, silent: bool) -> Iterator[None]:
    """Turn errors of the machine, memory that runs out or a rank that is gone, into a line for the user."""
    from langhops_cli.training.faults import LOST, NO_MEMORY

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        said = str(error)
        if isinstance(error, MemoryError) or any(text in said for text in NO_MEMORY):
            raise UserError(
                "memory ran out: ask for fewer processes with --gpus, or measure on a larger machine", code=ENVIRONMENT
            ) from error
        if not any(text in said for text in LOST):
            raise
        if silent:
            raise SystemExit(ENVIRONMENT) from None
        raise UserError(
            "another process has ended or does not answer; what it said stands above or in its own output",
            code=ENVIRONMENT,
        ) from None
