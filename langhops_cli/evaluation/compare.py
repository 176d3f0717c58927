"""Finished evaluations side by side, with intervals that say how much of a difference is chance.

Instance AP is drawn again over pictures, the same ones for all runs, so that the interval of a difference is of the
runs on one and the same pictures. Semantic reports keep no figures of single pictures and are shown without intervals.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langhops_cli.checkpoint.files import write_text
from langhops_cli.errors import DATA, UserError
from langhops_cli.evaluation.instances.bootstrap import Array, draw, interval, level_means, sampled_ap
from langhops_cli.evaluation.instances.matches import MATCHES, Kind, Matches, load_matches, mean_precision, tables
from langhops_cli.evaluation.report import FORMAT, INSTANCE_AP, REPORT, SEMANTIC_HIOU
from langhops_cli.evaluation.tables import NOTHING, new_table, percent

if TYPE_CHECKING:
    from rich.console import Console

SAMPLES = 1000
"""Bootstrap samples of an interval."""
COMPARISON = "comparison.json"
_KINDS: tuple[Kind, ...] = ("mask", "box")
_LEVELS = ("obj", "part", "all")
_SCORES, _SETS = ("ovparts", "strict", "boundary"), ("seen", "unseen", "h")
"""Scores of semantic hIoU, the last only where it was asked for, and the sets of names of each."""

Interval = tuple[float, float] | None
Watch = Callable[[Iterable[int]], Iterable[int]]


@dataclass(frozen=True)
class Run:
    """One evaluation.

    Args:
        name: tells it from the others; folder: where it lies; model: what was scored.
        report: its report.json.
    """

    name: str
    folder: str
    model: str
    report: Mapping[str, Any]


@dataclass(frozen=True)
class Value:
    """One figure of one run, shares in 0..1.

    Args:
        value: the figure, None where there is none.
        interval: in which 95 % of the bootstrap samples lie; None where nothing was drawn.
        difference: to the first run, None for that itself; difference_interval: the same of the differences.
    """

    value: float | None
    interval: Interval = None
    difference: float | None = None
    difference_interval: Interval = None

    @property
    def is_clear(self) -> bool:
        """Whether the interval of the difference, in tenths of a point, leaves out 0."""
        if self.difference_interval is None:
            return False
        low, high = (round(100 * limit, 1) for limit in self.difference_interval)
        return not low <= 0 <= high


@dataclass(frozen=True)
class Comparison:
    """Evaluations on one truth, side by side.

    Args:
        protocol: of all of them.
        runs: in the order they were given; differences are to the first.
        values: figure ("mask obj", "ovparts h") -> value of each run.
        samples: bootstrap samples, 0 where nothing was drawn; seed: of them.
    """

    protocol: str
    runs: tuple[Run, ...]
    values: Mapping[str, tuple[Value, ...]]
    samples: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `comparison.json` holds them."""
        dataset = self.runs[0].report["dataset"]
        return {
            "format": FORMAT,
            "protocol": self.protocol,
            "dataset": dict(dataset),
            "runs": [{"name": run.name, "folder": run.folder, "model": run.model} for run in self.runs],
            "bootstrap": {"samples": self.samples, "seed": self.seed, "share": 0.95} if self.samples else None,
            "figures": {key: [asdict(value) for value in row] for key, row in self.values.items()},
            "notes": self.notes(),
        }

    def notes(self) -> list[str]:
        """Return what has to be known to read the figures, one sentence each."""
        first = f"Differences are to {self.runs[0].name}."
        if not self.samples:
            return [first, "Without intervals: semantic reports keep no figures of single pictures."]
        return [
            first,
            f"Range: 95 % of {self.samples:,} bootstrap samples over the pictures, the same samples for all runs; * "
            "marks a difference whose range leaves out 0.",
            "It tells how much hangs on these pictures, not on chance in training.",
        ]

    def rows(self) -> list[list[str]]:
        """Return the lines of a table, heads first: of each figure a row for each run, in percent."""
        lines = [["", "run", "value", "range", "difference", "range"]]
        for key, values in self.values.items():
            for number, (run, value) in enumerate(zip(self.runs, values, strict=True)):
                less = NOTHING if value.difference is None else f"{100 * value.difference:+.1f}"
                mark = " *" if value.is_clear else ""
                title = "" if number else key
                limits = (_range(value.interval, ".1f"), _range(value.difference_interval, "+.1f") + mark)
                lines.append([title, run.name, percent(value.value), limits[0], less, limits[1]])
        return lines

    def print(self, console: Console) -> None:
        """Print the table and what has to be known to read it."""
        from rich.text import Text

        dataset = self.runs[0].report["dataset"]
        title = f"{dataset['name']} {dataset['split']}: {dataset['scored']:,} pictures, {self.protocol} in percent"
        head, *rows = self.rows()
        table = new_table(title, words=head[:2], figures=head[2:])
        for number, row in enumerate(rows, start=1):
            table.add_row(*map(Text, row), end_section=number % len(self.runs) == 0)
        console.print(table)
        for line in self.notes():
            console.print(Text(line, style="dim"), soft_wrap=True)

    def save(self, folder: Path) -> Path:
        """Write `comparison.json`, whole or not at all, and return its path; the folder is made where missing."""
        path = folder / COMPARISON
        write_text(path, json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        return path


def compare(
    folders: Sequence[Path], *, samples: int = SAMPLES, seed: int = 0, watch: Watch | None = None
) -> Comparison:
    """Put finished evaluations of one truth side by side.

    Args:
        folders: of two evaluations or more, each with report.json and, for instance AP, matches.npz.
        samples: bootstrap samples over the pictures, at least 1.
        seed: of the drawing.
        watch: goes through the steps of the drawing and may show how far it is.

    Raises:
        UserError: a folder has no evaluation, or they are of different truths, pictures, protocols or limits.

    Example:
        >>> compare([Path("evaluation/a"), Path("evaluation/b")]).save(Path("evaluation/a-b"))  # doctest: +SKIP
    """
    if len(folders) < 2:
        raise UserError("give two folders of evaluations or more to compare them")
    runs = _named(folders, [_read_report(folder) for folder in folders])
    _refuse_unlike(runs)
    protocol = runs[0].report["protocol"]
    if protocol == SEMANTIC_HIOU:
        return Comparison(protocol, runs, _semantic_values(runs), samples=0, seed=seed)
    matches = [load_matches(Path(run.folder) / MATCHES) for run in runs]
    _refuse_other_truth(runs, matches)
    values = _instance_values(matches, samples, seed, watch or iter)
    return Comparison(protocol, runs, values, samples=samples, seed=seed)


def _read_report(folder: Path) -> dict[str, Any]:
    path = folder / REPORT
    try:
        report = json.loads(path.read_bytes())
        if report["format"] != FORMAT:
            raise UserError(f"{path} is of format {report['format']}, not {FORMAT}; evaluate again.", code=DATA)
        for key in ("protocol", "model", "dataset", "settings", "sections"):
            report[key]
        for key in ("name", "split", "fingerprint", "scored"):
            report["dataset"][key]
        return dict(report)
    except FileNotFoundError:
        raise UserError(_no_report(folder), code=DATA) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no report of an evaluation ({error}); evaluate again.", code=DATA) from None


def _no_report(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} is no folder of an evaluation; give what --out of langhops eval named."
    results = folder / "predictions.json"
    if results.is_file():
        return (
            f"{folder} has results but no {REPORT}; score them first: "
            f"langhops eval --predictions {results} --data NAME --out {folder}"
        )
    return f"{folder} has no {REPORT}; evaluate first: langhops eval RUN --data NAME --out {folder}"


def _named(folders: Sequence[Path], reports: Sequence[Mapping[str, Any]]) -> tuple[Run, ...]:
    """Runs called by their folders' last names, or by the whole paths where those are the same."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    if len(set(names)) < len(names):
        raise UserError(f"{next(name for name in names if names.count(name) > 1)} is given twice")
    return tuple(
        Run(name, str(folder), str(report["model"]), report)
        for name, folder, report in zip(names, folders, reports, strict=True)
    )


def _refuse_unlike(runs: Sequence[Run]) -> None:
    """See that all runs were scored on the same truth and in the same way.

    Raises:
        UserError: one was not; the message says in what.
    """
    first = _setting(runs[0].report)
    for run in runs[1:]:
        for what, value in _setting(run.report).items():
            if value != first[what]:
                raise UserError(
                    f"{runs[0].folder} and {run.folder} cannot be compared: {what} {first[what]} and {value}; evaluate "
                    "them alike.",
                    code=DATA,
                )


def _setting(report: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same, in the order in which it is told."""
    dataset, settings = report["dataset"], report["settings"]
    found = {
        "protocol": report["protocol"],
        "split": dataset["split"],
        "fingerprint of the set": str(dataset["fingerprint"])[:12],
        "number of pictures": dataset["scored"],
    }
    if report["protocol"] == INSTANCE_AP:
        return {**found, "results a picture (--max-dets)": settings.get("max_detections")}
    section = report["sections"].get(SEMANTIC_HIOU, {})
    return {**found, "setting": section.get("setting"), "unseen objects": section.get("unseen_objects")}


def _refuse_other_truth(runs: Sequence[Run], matches: Sequence[Mapping[Kind, Matches]]) -> None:
    """See that the matches are of the same pictures and names.

    Raises:
        UserError: they are not.
    """
    first = matches[0]
    for run, other in zip(runs, matches, strict=True):
        same = other.keys() == first.keys() and all(
            (other[kind].image_ids, other[kind].names, other[kind].max_detections, other[kind].per_picture)
            == (first[kind].image_ids, first[kind].names, first[kind].max_detections, first[kind].per_picture)
            for kind in first
        )
        if not same:
            raise UserError(
                f"{runs[0].folder} and {run.folder} cannot be compared: their {MATCHES} are of different pictures or "
                "names; evaluate them alike.",
                code=DATA,
            )


def _instance_values(
    matches: Sequence[Mapping[Kind, Matches]], samples: int, seed: int, watch: Watch
) -> dict[str, tuple[Value, ...]]:
    """AP of each level by mask and by box, with intervals."""
    kinds = [kind for kind in _KINDS if kind in matches[0]]
    weights = draw(len(matches[0][kinds[0]].image_ids), samples, seed=seed)
    steps = [(kind, number) for kind in kinds for number in range(len(matches))]
    figures: dict[tuple[str, int], dict[str, tuple[float | None, Array]]] = {}
    for step in watch(range(len(steps))):
        kind, number = steps[step]
        figures[kind, number] = _levels(matches[number][kind], weights)
    return {
        f"{kind} {level}": _with_differences([figures[kind, number][level] for number in range(len(matches))])
        for kind in kinds
        for level in _LEVELS
    }


def _levels(matches: Matches, weights: Array) -> dict[str, tuple[float | None, Array]]:
    """AP of each level and its bootstrap samples, (S,)."""
    precision = tables(matches, areas=("all",)).precision
    scores = sampled_ap(matches, weights)
    places = {"obj": matches.places("object"), "part": matches.places("part"), "all": matches.places()}
    return {level: (mean_precision(precision, own), level_means(scores, own)) for level, own in places.items()}


def _with_differences(figures: Sequence[tuple[float | None, Array]]) -> tuple[Value, ...]:
    first, first_samples = figures[0]
    values = [Value(first, interval(first_samples))]
    for value, samples in figures[1:]:
        difference = None if value is None or first is None else value - first
        values.append(Value(value, interval(samples), difference, interval(samples - first_samples)))
    return tuple(values)


def _semantic_values(runs: Sequence[Run]) -> dict[str, tuple[Value, ...]]:
    sections = [run.report["sections"][SEMANTIC_HIOU] for run in runs]
    values = {}
    for score in _SCORES:
        if not all(score in section for section in sections):
            continue
        for key in _SETS:
            first, *others = (section[score][key] for section in sections)
            differences = [None if value is None or first is None else value - first for value in others]
            compared = (Value(value, difference=less) for value, less in zip(others, differences, strict=True))
            values[f"{score} {key}"] = (Value(first), *compared)
    return values


def _range(limits: Interval, form: str) -> str:
    return NOTHING if limits is None else f"[{100 * limits[0]:{form}}, {100 * limits[1]:{form}}]"
