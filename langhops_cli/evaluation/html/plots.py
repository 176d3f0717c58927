"""Plots as inline SVG: precision-recall curves, grouped bars and the small bars of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from langhops_cli.evaluation.html.elements import Markup, element
from langhops_cli.evaluation.tables import percent

Array = NDArray[Any]
_WIDTH, _HEIGHT = 420, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 40
_BAR, _LINE = 18, 36
"""Heights of a row of bars and of a line with a range."""


@dataclass(frozen=True)
class Series:
    """One line or one group of bars.

    Args:
        title: what it is; kind: "object", "part" or "all", which chooses its colour and its dashes.
        value: AP, 0..1, that stands beside the title.
    """

    title: str
    kind: str
    value: float | None


def curves(title: str, recall: Array, lines: Sequence[tuple[Series, Array]], *, name: str) -> Markup:
    """Precision-recall curves.

    Args:
        title: of the plot.
        recall: (R,), 0..1.
        lines: precision of each, (R,), 0..1.
        name: that is used once on the page.
    """
    inside = [*_axes("recall", "precision")]
    inside += [
        element(
            "path", d="M" + "L".join(f"{_x(r):.1f} {_y(p):.1f}" for r, p in zip(recall, precision, strict=True)),
            class_=series.kind,
        )
        for series, precision in lines
    ]  # fmt: skip
    told = "; ".join(f"{series.title}: mean precision {percent(series.value)} percent" for series, _ in lines)
    plot = _svg(_HEIGHT, inside, title=title, description=told, name=name)
    return element("figure", element("figcaption", title), plot, _legend([series for series, _ in lines]))


def grouped_bars(
    title: str, groups: Sequence[str], bars: Sequence[tuple[Series, Sequence[float | None]]], *, name: str
) -> Markup:
    """Horizontal bars from 0 to 100 percent, a group for each of some ranges.

    Args:
        title: of the plot.
        groups: what the groups are.
        bars: for each kind of bar its value in each group, 0..1; None where there is none.
        name: that is used once on the page.
    """
    block = len(bars) * _BAR + 22
    height = len(groups) * block + 30
    inside = [_line(_x(tick / 5), 4, _x(tick / 5), height - 26, "grid") for tick in range(6)]
    inside += [_text(_x(tick / 5), height - 10, f"{20 * tick}", anchor="middle") for tick in range(6)]
    for place, group in enumerate(groups):
        top = place * block + 8
        inside.append(_text(_LEFT, top + 9, group, class_="series"))
        for row, (series, values) in enumerate(bars):
            y = top + 16 + row * _BAR
            value = values[place]
            inside.append(
                element("rect", x=_LEFT, y=y, width=_x(value or 0) - _LEFT, height=_BAR - 6, class_=series.kind)
            )
            inside.append(_text(_x(value or 0) + 5, y + 10, percent(value), class_="value"))
    told = "; ".join(
        f"{group}: " + ", ".join(f"{series.title} {percent(values[place])}" for series, values in bars)
        for place, group in enumerate(groups)
    )
    plot = _svg(height, inside, title=title, description=told, name=name)
    return element("figure", element("figcaption", title), plot, _legend([series for series, _ in bars], squares=True))


def intervals(title: str, lines: Sequence[tuple[str, float, tuple[float, float]]], *, name: str) -> Markup:
    """Differences with their ranges, a line each, about a line at 0.

    Args:
        title: of the plot.
        lines: what it is, the difference and the range it lies in, shares.
        name: that is used once on the page.
    """
    most = max(max(abs(edge) for edge in (value, *limits)) for _, value, limits in lines) or 1.0
    height = len(lines) * _LINE + 30

    def across(share: float) -> float:
        return _x((share / most + 1) / 2)

    inside = [_line(across(0), 4, across(0), height - 26, "axis")]
    for tick in (-1, -0.5, 0, 0.5, 1):
        inside.append(_line(across(tick * most), 4, across(tick * most), height - 26, "grid"))
        inside.append(_text(across(tick * most), height - 10, f"{100 * tick * most:+.1f}", anchor="middle"))
    for place, (told, value, (low, high)) in enumerate(lines):
        top = place * _LINE + 14
        inside.append(_text(_LEFT, top, told, class_="series"))
        inside.append(element("path", d=f"M{across(low):.1f} {top + 12}H{across(high):.1f}", class_="range"))
        inside.append(element("circle", cx=across(value), cy=top + 12, r=4, class_="point"))
    said = "; ".join(
        f"{told} {100 * v:+.1f}, from {100 * low:+.1f} to {100 * high:+.1f}" for told, v, (low, high) in lines
    )
    plot = _svg(height, inside, title=title, description=said, name=name)
    return element("figure", element("figcaption", title), plot)


def small_bar(share: float | None, *, kind: str) -> Markup:
    """A cell of a table with a bar from 0 to 1; the figure itself stands in a cell of its own."""
    parts = [element("rect", width=100, height=10, class_="back")]
    if share is not None:
        parts.append(element("rect", width=round(100 * share, 2), height=10, class_=kind))
    drawing = element("svg", *parts, viewBox="0 0 100 10", preserveAspectRatio="none", aria_hidden="true")
    return element("td", drawing, class_="bar")


def _axes(across: str, up: str) -> list[Markup]:
    found = []
    for tick in range(6):
        share = tick / 5
        found.append(_line(_x(share), _y(0), _x(share), _y(1), "grid"))
        found.append(_line(_x(0), _y(share), _x(1), _y(share), "grid"))
        found.append(_text(_x(share), _y(0) + 16, f"{share:.1f}", anchor="middle"))
        found.append(_text(_x(0) - 7, _y(share) + 4, f"{share:.1f}", anchor="end"))
    found.append(_line(_x(0), _y(0), _x(1), _y(0), "axis"))
    found.append(_line(_x(0), _y(0), _x(0), _y(1), "axis"))
    found.append(_text(_x(0.5), _HEIGHT - 6, across, anchor="middle"))
    middle = _y(0.5)
    found.append(_text(11, middle, up, anchor="middle", transform=f"rotate(-90 11 {middle:.0f})"))
    return found


def _legend(series: Sequence[Series], *, squares: bool = False) -> Markup:
    """What the colours and the dashes mean, with the value of each."""
    width, inside = 140, []
    for place, item in enumerate(series):
        left = _LEFT + place * width
        if squares:
            inside.append(element("rect", x=left, y=4, width=12, height=12, class_=item.kind))
        else:
            inside.append(element("path", d=f"M{left} 10h26", class_=item.kind))
        value = "" if item.value is None else f" {percent(item.value)}"
        inside.append(_text(left + (18 if squares else 32), 14, item.title + value, class_="series"))
    return element("svg", *inside, viewBox=f"0 0 {_WIDTH + 40} 20", aria_hidden="true")


def _svg(height: int, inside: Sequence[Markup], *, title: str, description: str, name: str) -> Markup:
    return element(
        "svg",
        element("title", title, id=f"{name}-title"),
        element("desc", description, id=f"{name}-desc"),
        *inside,
        viewBox=f"0 0 {_WIDTH + 40} {height}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def _text(
    x: float, y: float, text: str, *, anchor: str | None = None, class_: str | None = None, transform: str | None = None
) -> Markup:
    return element("text", text, x=x, y=y, text_anchor=anchor, class_=class_, transform=transform)
