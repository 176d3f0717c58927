"""`comparison.html`: evaluations side by side, as one file that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from langhops_cli.checkpoint.files import write_text
from langhops_cli.evaluation.html.elements import Markup, element, page, section, table
from langhops_cli.evaluation.html.plots import intervals
from langhops_cli.evaluation.html.sections import notes
from langhops_cli.evaluation.tables import percent

if TYPE_CHECKING:
    from langhops_cli.evaluation.compare import Comparison


COMPARISON_PAGE = "comparison.html"


def write_comparison(folder: Path, comparison: Comparison) -> Path:
    """Write a comparison as a page, whole or not at all, and return its path; the folder is made where missing."""
    path = folder / COMPARISON_PAGE
    write_text(path, _to_html(comparison))
    return path


def _to_html(comparison: Comparison) -> str:
    dataset = comparison.runs[0].report["dataset"]
    title = f"{dataset['name']} {dataset['split']}: {comparison.protocol}, {len(comparison.runs)} runs"
    lead = f"{dataset['scored']:,} of {dataset['pictures']:,} pictures"
    head, *rows = comparison.rows()
    keys = [key for key in comparison.values for _ in comparison.runs]
    # A figure is named once for the eye, and in every row for who hears the table.
    cells = [[row[0] or element("span", key, class_="unseen"), *row[1:]] for key, row in zip(keys, rows, strict=True)]
    return page(
        title,
        element("header", element("h1", title), element("p", lead, class_="lead")),
        section(
            "Figures",
            table(head, cells, caption="In percent", words=2, class_="groups"),
            notes(comparison.notes()),
            name="figures",
        ),
        *_plots(comparison),
        _about(comparison),
    )


def _plots(comparison: Comparison) -> Sequence[Markup]:
    """A plot of each figure's differences to the first run, where intervals are known."""
    others = comparison.runs[1:]
    lines = [
        (f"{key}: {run.name}", value.difference, value.difference_interval)
        for key, values in comparison.values.items()
        for run, value in zip(others, values[1:], strict=True)
        if value.difference is not None and value.difference_interval is not None
    ]
    if not lines:
        return ()
    title = f"Difference to {comparison.runs[0].name} in points, with 95 % of the bootstrap samples"
    return (section("Differences", intervals(title, lines, name="differences-plot"), name="differences"),)


def _about(comparison: Comparison) -> Markup:
    told = comparison.to_dict()
    runs = [
        (run.name, run.model, run.folder, run.report.get("label") or "-", run.report.get("command") or "-")
        for run in comparison.runs
    ]
    drawn = told["bootstrap"]
    facts = {
        "set": f"{told['dataset']['name']}, {told['dataset']['split']}",
        "fingerprint of the set": told["dataset"]["fingerprint"],
        "bootstrap": f"{drawn['samples']:,} samples, seed {drawn['seed']}, {percent(drawn['share'])} %"
        if drawn
        else "-",
    }
    pairs = [piece for key, value in facts.items() for piece in (element("dt", key), element("dd", value))]
    body = table(("run", "model", "folder", "label", "command"), runs, caption="", words=5)
    return section("What was compared", body, element("dl", *pairs), name="about")
