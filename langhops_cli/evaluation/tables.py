"""The tables of an evaluation in a terminal, 80 columns wide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from langhops_cli.evaluation.instances.instance_ap import MAX_DETECTIONS, InstanceAP, Levels, NameScores
from langhops_cli.evaluation.report import PICTURES, NamedSection, Report, Section

NOTHING = "-"
"""Stands in a table where nothing could be measured."""


def print_report(report: Report, console: Console, *, per_name: bool = False) -> None:
    """Print the tables of a report, and below them what has to be known to read them.

    Args:
        report: what was measured.
        console: where to.
        per_name: whether to add the table of names.
    """
    if report.figures is not None:
        console.print(_figures_table(report, report.figures))
    for line in published_lines(report.published):
        console.print(Text(line), soft_wrap=True)
    _print_notes(report.own_notes(), console)
    for name, section in report.sections.items():
        if name != PICTURES:  # which are to be looked at
            title = heading(report, name) if name == report.protocol else f"{name[:1].upper()}{name[1:]}"
            console.print(section_table(title, section))
            _print_notes(section.notes(), console)
        if per_name and isinstance(section, NamedSection):
            console.print(_table("Each name, IoU in percent", section.name_rows(), words=2))
    if per_name and report.figures is not None:
        console.print(_name_table(report.figures.per_name))


def _print_notes(lines: Sequence[str], console: Console) -> None:
    for line in lines:
        console.print(Text(line, style="dim"), soft_wrap=True)


def published_lines(published: Mapping[str, Any] | None) -> list[str]:
    """What was published for the same setting, a line each; of systems trained alike where there are any.

    Args:
        published: as `published.beside` has it, or None.
    """
    rows = [] if published is None else published["rows"]
    alike = [row for row in rows if row["same_training"]]
    return [_published_line(row) for row in alike or rows]


def _published_line(row: Mapping[str, Any]) -> str:
    figures, differences = (
        " / ".join(NOTHING if value is None else f"{value:{form}}" for value in row[key].values())
        for key, form in (("published", ".1f"), ("difference", "+.1f"))
    )
    names = " / ".join(row["published"])
    return f"published {row['method']} ({row['trained_on']}): {names} {figures}, difference {differences}"


def heading(report: Report, what: str) -> str:
    """A table's title: "cars val: 50 pictures, zero-shot, AP in percent"."""
    count = f"{report.dataset.scored:,} picture" + ("" if report.dataset.scored == 1 else "s")
    label = "" if report.label is None else f"{report.label}, "
    return f"{report.dataset.name} {report.dataset.split}: {count}, {label}{what}"


def section_table(title: str, section: Section) -> Table:
    """A section as a table; the first column holds words, the others figures."""
    return _table(title, section.rows())


def _table(title: str, lines: Sequence[Sequence[str]], *, words: int = 1) -> Table:
    head, *rows = lines
    table = new_table(title, words=head[:words], figures=head[words:])
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def percent(share: float | None) -> str:
    """Return a share in 0..1 as percent with one decimal, "-" for none."""
    return NOTHING if share is None else f"{100 * share:.1f}"


def _figures_table(report: Report, figures: InstanceAP) -> Table:
    limit = figures.max_detections
    more = "" if limit == MAX_DETECTIONS else f", maxDets {limit}"
    columns = ("names", "instances", "AP", "AP50", "AP75", "small", "medium", "large", "R50")
    table = new_table(heading(report, f"AP in percent{more}"), words=("",), figures=columns)
    for kind, levels in (("mask", figures.mask), ("box", figures.box)):
        if levels is not None:
            _add_levels(table, kind, levels)
    table.caption = "R50: share of the annotated instances that were found at IoU 0.5"
    return table


def _add_levels(table: Table, kind: str, levels: Levels) -> None:
    rows = (("obj", levels.obj), ("part", levels.part), ("all", levels.all))
    for level, scores in rows:
        shares = (scores.ap, scores.ap50, scores.ap75, scores.small, scores.medium, scores.large, scores.recall50)
        counts = (f"{scores.names:,}", f"{scores.instances:,}")
        table.add_row(f"{kind} {level}", *counts, *map(percent, shares), end_section=level == "all")


def _name_table(rows: Sequence[NameScores]) -> Table:
    columns = ("instances", "results", "AP", "AP50", "box AP", "box AP50")
    table = new_table("Each name, AP in percent", words=("name", "level"), figures=columns)
    for row in rows:
        counts = (f"{row.instances:,}", f"{row.results:,}")
        shares = (row.mask_ap, row.mask_ap50, row.box_ap, row.box_ap50)
        # As text: a name with brackets is no markup.
        table.add_row(Text(row.name), row.level, *counts, *map(percent, shares))
    return table


def new_table(title: str, *, words: Sequence[str], figures: Sequence[str]) -> Table:
    """A table without vertical lines, so that it fits 80 columns; figures stand to the right."""
    table = Table(
        title=Text(title, style="bold", no_wrap=True, overflow="ignore"),  # it may be wider than the table
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in words:
        table.add_column(Text(name), justify="left", no_wrap=name not in ("", "name"))
    for name in figures:
        table.add_column(Text(name), justify="right", no_wrap=True)
    return table
