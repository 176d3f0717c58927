"""What an evaluation says: a table for people, `report.json` for programs, `predictions.json` to score again."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata as packages
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langhops_cli.checkpoint.files import write_text, write_whole
from langhops_cli.evaluation.instance_ap import InstanceAP, Levels, NameScores

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

REPORT = "report.json"
PREDICTIONS = "predictions.json"
FORMAT = 1
VERSIONS = ("langhops", "torch", "transformers", "pycocotools", "numpy")
NOTHING = "-"
"""Stands in a table where nothing could be measured."""


@dataclass(frozen=True)
class DatasetCard:
    """What was scored on.

    Args:
        name: of the prepared set; split: "train" or "val".
        annotations: its annotation file.
        fingerprint: SHA-256 over the set, so that two reports on different truths are never compared unnoticed.
        pictures: how many pictures it has.
        scored: how many of them, the first ones or a choice, were scored.
    """

    name: str
    split: str
    annotations: str
    fingerprint: str
    pictures: int
    scored: int


@dataclass(frozen=True)
class Report:
    """An evaluation with all that is needed to read and to repeat it.

    Args:
        figures: the measured values, shares in 0..1.
        dataset: what was scored on.
        model: the checkpoint or the results file that was scored.
        settings: how it was predicted and scored.
        predictions: the COCO results themselves; not part of `report.json`.
        command: the command line, empty when called from Python.
        not_asked: names with ground truth that the model was not asked for; all of theirs count as missed.
    """

    figures: InstanceAP
    dataset: DatasetCard
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    predictions: Sequence[Mapping[str, Any]] = ()
    command: str = ""
    not_asked: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `report.json` holds them."""
        return {
            "format": FORMAT,
            "protocol": "instance AP",
            "dataset": vars(self.dataset),
            "model": self.model,
            "settings": dict(self.settings),
            "figures": self.figures.to_dict(),
            "notes": self.notes(),
            "versions": versions(),
            "command": self.command,
        }

    def save(self, folder: Path, *, with_predictions: bool = True) -> list[Path]:
        """Write `report.json` and, unless they came from a file, `predictions.json`, each whole or not at all.

        Args:
            folder: made where missing.
            with_predictions: whether to write the results too.

        Returns:
            The files that were written.
        """
        written = []
        if with_predictions:
            written.append(folder / PREDICTIONS)
            write_whole(written[-1], self._write_predictions)
        written.append(folder / REPORT)
        write_text(written[-1], json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        return written

    def _write_predictions(self, path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:  # one result a line: the text never stands in memory as a whole
            file.write("[")
            for number, row in enumerate(self.predictions):
                file.write((",\n" if number else "\n") + json.dumps(row, ensure_ascii=False, allow_nan=False))
            file.write("\n]\n")

    def notes(self) -> list[str]:
        """Return what has to be known to read the figures, one sentence each."""
        figures, lines = self.figures, []
        if self.dataset.scored < self.dataset.pictures:
            lines.append(
                f"A quick look: {self.dataset.scored:,} of {self.dataset.pictures:,} pictures; truth and results of "
                "the others are left out."
            )
        if not figures.exhaustive:
            lines.append(
                "The truth is not exhaustive: results of a name that is not annotated in their picture count neither "
                f"as right nor as wrong ({figures.set_aside:,} set aside). Recall tells more here than AP."
            )
        if figures.without_truth:
            lines.append(f"{figures.without_truth:,} results of names that are annotated nowhere are in no figure.")
        if self.not_asked:
            names = ", ".join(self.not_asked[:5]) + (" ..." if len(self.not_asked) > 5 else "")
            lines.append(
                f"{len(self.not_asked):,} annotated names are not in the set's hierarchy.yaml: the model was not asked "
                f"for them and misses them ({names})."
            )
        if figures.mask is None:
            lines.append("The truth has instances without a mask: box figures only.")
        return lines

    def print(self, console: Console, *, per_name: bool = False) -> None:
        """Print the table of objects, parts and all, what has to be known, and on request every name.

        Args:
            console: where to.
            per_name: whether to add the table of names.
        """
        from rich.text import Text

        console.print(self._table())
        for line in self.notes():
            console.print(Text(line, style="dim"), soft_wrap=True)
        if per_name:
            console.print(_name_table(self.figures.per_name))

    def _table(self) -> Table:
        count = f"{self.dataset.scored:,} picture" + ("" if self.dataset.scored == 1 else "s")
        title = f"{self.dataset.name} {self.dataset.split}: {count}, AP in percent"
        columns = ("names", "instances", "AP", "AP50", "AP75", "small", "medium", "large", "R50")
        table = _new_table(title, words=("",), figures=columns)
        for kind, levels in (("mask", self.figures.mask), ("box", self.figures.box)):
            if levels is not None:
                _add_levels(table, kind, levels)
        table.caption = "R50: share of the annotated instances that were found at IoU 0.5"
        return table


def versions() -> dict[str, str]:
    """Return the versions of what the figures depend on."""
    found = {"python": platform.python_version()}
    for name in VERSIONS:
        try:
            found[name] = packages.version(name)
        except packages.PackageNotFoundError:
            continue
    return found


def percent(share: float | None) -> str:
    """Return a share in 0..1 as percent with one decimal, "-" for none."""
    return NOTHING if share is None else f"{100 * share:.1f}"


def _add_levels(table: Table, kind: str, levels: Levels) -> None:
    rows = (("obj", levels.obj), ("part", levels.part), ("all", levels.all))
    for level, scores in rows:
        shares = (scores.ap, scores.ap50, scores.ap75, scores.small, scores.medium, scores.large, scores.recall50)
        counts = (f"{scores.names:,}", f"{scores.instances:,}")
        table.add_row(f"{kind} {level}", *counts, *map(percent, shares), end_section=level == "all")


def _name_table(rows: Sequence[NameScores]) -> Table:
    from rich.text import Text

    columns = ("instances", "results", "AP", "AP50", "box AP", "box AP50")
    table = _new_table("Each name, AP in percent", words=("name", "level"), figures=columns)
    for row in rows:
        counts = (f"{row.instances:,}", f"{row.results:,}")
        shares = (row.mask_ap, row.mask_ap50, row.box_ap, row.box_ap50)
        # As text: a name with brackets is no markup.
        table.add_row(Text(row.name), row.level, *counts, *map(percent, shares))
    return table


def _new_table(title: str, *, words: Sequence[str], figures: Sequence[str]) -> Table:
    """A table without vertical lines, so that it fits 80 columns; figures stand to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title, style="bold"),
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in words:
        table.add_column(name, justify="left", no_wrap=name != "name")
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    return table
