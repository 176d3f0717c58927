"""`report.html`: an evaluation to look at, as one file that loads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from langhops_cli.checkpoint.files import write_text
from langhops_cli.evaluation.confusion import ConfusionFigures
from langhops_cli.evaluation.html import sections
from langhops_cli.evaluation.html.elements import Markup, element, page, section
from langhops_cli.evaluation.html.pictures import show_pictures
from langhops_cli.evaluation.pictures import PictureFigures

if TYPE_CHECKING:
    from langhops_cli.data.index import PreparedDataset
    from langhops_cli.evaluation.instances.matches import Kind
    from langhops_cli.evaluation.report import Report

PAGE = "report.html"


def write_html(folder: Path, report: Report, dataset: PreparedDataset) -> Path:
    """Write a report as a page, whole or not at all.

    Args:
        folder: made where missing.
        report: what was measured; a section of `NameConfusion` and one of `PictureQuality` are shown as a matrix and
            as pictures, every other one by its own table.
        dataset: the prepared set, which has the pictures.

    Returns:
        The page's path.

    Raises:
        UserError: a picture that is shown cannot be read.
    """
    path = folder / PAGE
    write_text(path, to_html(report, dataset))
    return path


def to_html(report: Report, dataset: PreparedDataset) -> str:
    """The page of a report; arguments as in `write_html`."""
    card = report.dataset
    title = f"{card.name} {card.split}: {report.protocol}"
    count = f"{card.scored:,} picture" + ("" if card.scored == 1 else "s")
    lead = ", ".join([report.model, count, *([report.label] if report.label else [])])
    content: list[Markup] = [element("header", element("h1", title), element("p", lead, class_="lead"))]
    content.append(sections.notes(report.own_notes()))
    if report.figures is not None:
        content += _instance_ap(report)
    else:
        content.append(sections.published(report.published))
    for name, told in report.sections.items():
        address = name.replace(" ", "-")
        if isinstance(told, ConfusionFigures):
            content.append(sections.confusion(told))
        elif isinstance(told, PictureFigures):
            shown = show_pictures(told, dataset)
            if shown:
                content.append(section("Pictures", *_paragraphs(told.notes()), shown, name=address))
        else:
            content.append(sections.plain(name[:1].upper() + name[1:], told, name=address))
    content.append(sections.about(report))
    return page(title, *content)


def _instance_ap(report: Report) -> list[Markup]:
    figures = report.figures
    assert figures is not None
    kind: Kind = "mask" if figures.mask is not None else "box"
    return [
        sections.headline(figures),
        sections.published(report.published),
        sections.precision_recall(figures.matches[kind], figures.main),
        sections.sizes(figures.main, kind),
        sections.names(figures),
    ]


def _paragraphs(lines: list[str]) -> list[Markup]:
    return [element("p", line, class_="note") for line in lines]
