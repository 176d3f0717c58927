"""The parts of the page: each takes what was measured and gives a section, or nothing where there is nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from langhops_cli.evaluation.confusion import ConfusionFigures, LevelConfusion
from langhops_cli.evaluation.html.elements import Markup, details, element, joined, section, table
from langhops_cli.evaluation.html.plots import Series, curves, grouped_bars, small_bar
from langhops_cli.evaluation.instances.matches import RECALLS, Matches, tables
from langhops_cli.evaluation.tables import NOTHING, percent

if TYPE_CHECKING:
    from langhops_cli.evaluation.instances.instance_ap import InstanceAP, Levels
    from langhops_cli.evaluation.report import Report, Section

LARGEST = 15
"""Names that a confusion matrix shows, and confusions that its list does."""
_SHADES = 5
_LEVELS = (("obj", "objects", "object"), ("part", "parts", "part"), ("all", "all", "all"))
"""Levels of the figures: their key, title and colour."""


def headline(figures: InstanceAP) -> Markup:
    """AP and recall of objects, parts and all names, by mask and by box."""
    limit = figures.max_detections
    head = (
        "",
        "names",
        "instances",
        "AP",
        "AP50",
        "AP75",
        "small",
        "medium",
        "large",
        "R@1",
        "R@10",
        f"R@{limit}",
        "R50",
    )
    rows: list[Sequence[Any]] = []
    for kind, levels in (("mask", figures.mask), ("box", figures.box)):
        for key, title, _ in _LEVELS if levels is not None else ():
            own = getattr(levels, key)
            shares = (own.ap, own.ap50, own.ap75, own.small, own.medium, own.large)
            recalls = (own.recall1, own.recall10, own.recall_max, own.recall50)
            cells = [percent(share) for share in (*shares, *recalls)]
            rows.append(
                (
                    f"{title}, {kind}",
                    f"{own.names:,}",
                    f"{own.instances:,}",
                    element("td", cells[0], class_="figure strong"),
                    *cells[1:],
                )
            )
    unit = "all names of a picture together" if figures.per_picture else "a name in a picture"
    caption = (
        f"In percent. AP is the mean over IoU 0.50 to 0.95; small, medium and large are below 32 x 32 pixels, below "
        f"96 x 96 and above. R@n: mean recall with n results of {unit}; R50: share of the instances found at IoU 0.5."
    )
    return section("Average precision", table(head, rows, caption=caption), name="figures")


def published(told: Mapping[str, Any] | None) -> Markup:
    """Published figures of the same set, split, protocol and setting, with ours less theirs."""
    if told is None:
        return Markup()
    if not told["rows"]:
        return section("Published figures", element("p", told["reason"]), name="published")
    keys = told["figures"]
    rows = []
    for row in sorted(told["rows"], key=lambda row: not row["same_training"]):
        figures = [_pair(row["published"][key], row["difference"][key]) for key in keys]
        cells = [cell for pair in figures for cell in pair]
        rows.append((row["method"], row["trained_on"] + (" (as this model)" if row["same_training"] else ""), *cells))
    head = ["method", "trained on", *(title for key in keys for title in (key, "ours less it"))]
    sources = sorted({row["source"] for row in told["rows"]})
    caption = f"{told['dataset']}, in percent; sources: {'; '.join(sources)}"
    note = element("p", told["reason"], class_="note") if told["reason"] else Markup()
    return section("Published figures", note, table(head, rows, caption=caption, words=2), name="published")


def _pair(value: float | None, difference: float | None) -> tuple[Markup, Markup]:
    given = element("td", NOTHING if value is None else _printed(value), class_="figure")
    sign = "" if not difference else " up" if difference > 0 else " down"
    return given, element("td", NOTHING if difference is None else f"{difference:+.1f}", class_=f"figure{sign}")


def _printed(value: float) -> str:
    """A published figure with the one or two decimals that it has."""
    return f"{value:.2f}".removesuffix("0")


def precision_recall(matches: Matches, levels: Levels) -> Markup:
    """Curves at IoU 0.5 and the mean over all overlaps, of objects, parts and all names."""
    precision = tables(matches, areas=("all",)).precision[..., 0]
    lines: dict[str, list[tuple[Series, Any]]] = {"half": [], "mean": []}
    rows = []
    for (key, title, kind), places in zip(
        _LEVELS, (matches.places("object"), matches.places("part"), matches.places()), strict=True
    ):
        scores = getattr(levels, key)
        own = precision[:, :, places]
        own = own[:, :, (own > -1).all((0, 1))]
        if not own.size:
            continue
        for plot, line, value in (("half", own[0].mean(-1), scores.ap50), ("mean", own.mean((0, 2)), scores.ap)):
            lines[plot].append((Series(title, kind, value), line))
            at = "IoU 0.50" if plot == "half" else "mean IoU"
            rows.append((f"{title}, {at}", *(percent(float(line[place])) for place in range(0, len(RECALLS), 10))))
    if not rows:
        return Markup()
    plots = element(
        "div",
        curves("IoU 0.50", RECALLS, lines["half"], name="curve-half"),
        curves("Mean over IoU 0.50 to 0.95", RECALLS, lines["mean"], name="curve-mean"),
        class_="row",
    )
    told = table(
        ("recall", *(f"{share:.1f}" for share in RECALLS[::10])), rows, caption="Precision in percent at each recall"
    )
    note = element(
        "p",
        f"Compared by {matches.kind}; a curve is the mean over names, the figure beside its name the mean precision.",
        class_="note",
    )
    return section("Precision and recall", note, plots, details("The curves as a table", told), name="curves")


def sizes(levels: Levels, kind: str) -> Markup:
    """AP of small, medium and large instances."""
    keys = ("small", "medium", "large")
    bars = [
        (Series(title, colour, None), [getattr(getattr(levels, key), size) for size in keys])
        for key, title, colour in _LEVELS
    ]
    groups = ("small: below 32 x 32 pixels", "medium: below 96 x 96", "large: 96 x 96 and above")
    rows = [(series.title, *map(percent, values)) for series, values in bars]
    told = details("The bars as a table", table(("AP", *keys), rows, caption="AP by size, in percent"))
    return section(
        "Sizes", grouped_bars(f"AP by {kind}, in percent", groups, bars, name="sizes-plot"), told, name="sizes"
    )


def names(figures: InstanceAP) -> Markup:
    """Every name with its figures, to be sorted."""
    head = ("name", "level", "instances", "results", "AP", "", "AP50", "box AP", "box AP50")
    rows = []
    by_mask = figures.mask is not None
    for row in sorted(figures.per_name, key=lambda row: -((row.mask_ap if by_mask else row.box_ap) or 0.0)):
        main, half = (row.mask_ap, row.mask_ap50) if by_mask else (row.box_ap, row.box_ap50)
        bar = small_bar(main, kind=row.level)
        rows.append(
            (
                row.name,
                row.level,
                f"{row.instances:,}",
                f"{row.results:,}",
                percent(main),
                bar,
                percent(half),
                percent(row.box_ap),
                percent(row.box_ap50),
            )
        )
    caption = f"In percent, by {'mask' if by_mask else 'box'} where nothing else is said; a press on a title sorts"
    body = table(head, rows, caption=caption, words=2, sortable=True, tall=True)
    return section("Names", body, name="names")


def confusion(figures: ConfusionFigures) -> Markup:
    """Which names are taken for which."""
    parts = [
        _confused(title, level)
        for title, level in (("Objects", figures.objects), ("Parts", figures.parts))
        if level.annotated or level.nothing_there
    ]
    return section("Names that are taken for others", _notes(figures.notes()[:1]), *parts, name="confusion")


def _confused(title: str, level: LevelConfusion) -> Markup:
    counts = (
        f"{level.annotated.total():,} instances: {level.right:,} found under their name, {level.wrong:,} under "
        f"another, {level.missed:,} missed. {level.nothing_there.total():,} results where nothing is annotated, "
        f"{level.repeated:,} repeat an instance that was found, {level.set_aside:,} set aside."
    )
    wrong = level.confusions()
    rows = [
        (true, said, f"{count:,}", percent(count / level.annotated[true]))
        for true, said, count in wrong[:LARGEST]
    ]  # fmt: skip
    listed = table(
        ("annotated", "found as", "times", "of the annotated, %"), rows, words=2,
        caption=f"Largest confusions, {len(rows):,} of {len(wrong):,}",
    ) if rows else element("p", "No instance was found under a wrong name.")  # fmt: skip
    matrix = [_matrix(level)] if len(level.annotated) > 1 else []
    return joined([element("h3", title), element("p", counts), listed, *matrix])


def _matrix(level: LevelConfusion) -> Markup:
    """Counts of the names with the most mistakes; a row is an annotated name, a column what it was found as."""
    mistakes = {name: level.annotated[name] - level.pairs[name, name] for name in level.annotated}
    chosen = sorted(mistakes, key=lambda name: (-mistakes[name], name))[:LARGEST]
    chosen.sort()
    said = list(chosen)
    head: list[Any] = ["annotated"]
    head += [element("span", name, class_="turned") for name in (*said, "other names", "missed")]
    rows = []
    for name in chosen:
        total = level.annotated[name]
        found = [level.pairs[name, other] for other in said]
        all_found = sum(count for (true, _), count in level.pairs.items() if true == name)
        counts = [*found, all_found - sum(found), total - all_found]
        rows.append(
            (
                name,
                *(
                    _shaded(count, total, own=other == name)
                    for count, other in zip(counts, (*said, "", ""), strict=True)
                ),
            )
        )
    nothing = [level.nothing_there[other] for other in said]
    rest = level.nothing_there.total() - sum(nothing)
    largest = max(*nothing, rest, 1) if nothing else 1
    rows.append(("nothing is annotated", *(_shaded(count, largest) for count in (*nothing, rest)), element("td", "")))
    of = "all names" if len(chosen) == len(level.annotated) else f"the {len(chosen)} names with the most mistakes"
    caption = f"Instances of {of}: rows are annotated, columns found; darker is a larger share of the row"
    return table(head, rows, caption=caption, class_="matrix")


def _shaded(count: int, total: int, *, own: bool = False) -> Markup:
    shade = int(np.ceil(_SHADES * count / total)) if total else 0
    return element("td", f"{count:,}", class_=f"figure s{shade}" + (" own" if own else ""))


def plain(title: str, told: Section, *, name: str) -> Markup:
    """A section of a report as its own table says it."""
    head, *rows = told.rows()
    body = table(head, rows, caption="")
    extra: list[Markup] = []
    name_rows = getattr(told, "name_rows", None)
    if name_rows is not None:
        name_head, *names_ = name_rows()
        told_by = "Each name, in percent; a press on a title sorts"
        extra.append(table(name_head, names_, caption=told_by, words=2, sortable=True, tall=True))
    return section(title, body, _notes(told.notes()), *extra, name=name)


def about(report: Report) -> Markup:
    """What was measured, on what and how, so that it can be repeated."""
    told = report.to_dict()
    dataset = told["dataset"]
    facts = {
        "model": told["model"],
        "protocol": told["protocol"],
        "results": told["results"] or "in memory",
        "set": f"{dataset['name']}, {dataset['split']}",
        "annotations": dataset["annotations"],
        "pictures": f"{dataset['scored']:,} of {dataset['pictures']:,}",
        "fingerprint of the set": dataset["fingerprint"],
        "hash of the names": dataset["names_hash"],
        **{key.replace("_", " "): _value(value) for key, value in told["settings"].items()},
        **{f"version of {key}": value for key, value in told["versions"].items()},
    }
    pairs = [piece for key, value in facts.items() for piece in (element("dt", key), element("dd", value))]
    command = element("pre", told["command"]) if told["command"] else Markup()
    return section("How it was measured", command, element("dl", *pairs), name="about")


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def notes(lines: Sequence[str]) -> Markup:
    """What has to be known to read the figures."""
    return _notes(lines)


def _notes(lines: Sequence[str]) -> Markup:
    return element("ul", *(element("li", line) for line in lines), class_="notes") if lines else Markup()
