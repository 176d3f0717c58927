"""Curves of one or several runs as one picture, from their `log.jsonl`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from langhops_cli.checkpoint.files import write_whole
from langhops_cli.errors import DATA, ENVIRONMENT, USAGE, UserError
from langhops_cli.training.sinks import COLUMNS, KINDS, figures_of, read_reports

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVELS = {"objects": "mask AP of objects", "parts": "mask AP of parts", "all": "mask AP of all"}
TITLES = {
    "total": "loss",
    **{kind: f"{kind} loss" for kind in KINDS},
    **LEVELS,
    "learning_rate": "learning rate",
    "gradient_norm": "gradient norm",
}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5d3a9b", "#4d4d4d")
"""Told apart by colour-blind readers too."""
STYLES = ("solid", "dashed", "dotted", "dashdot")
"""Where there are more runs than colours."""
WIDE = 4
"""Panels in a row; the first takes two rows and two columns."""
SMOOTH = 40
"""The smooth line is a mean over about one such share of the longest run, on either side."""


@dataclass(frozen=True)
class Curve:
    """One figure of one run.

    Args:
        steps: (n,), rising.
        values: (n,).
    """

    steps: NDArray[np.float64]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, points: Mapping[int, float]) -> Curve:
        """Make a curve of values by step."""
        steps = sorted(points)
        return cls(np.array(steps, float), np.array([points[step] for step in steps], float))


@dataclass(frozen=True)
class RunCurves:
    """All curves of a run.

    Args:
        name: for the legend.
        curves: by column of `log.csv`: "total", "mask", "learning_rate", "cars/parts".
    """

    name: str
    curves: Mapping[str, Curve]

    def of_sets(self, level: str) -> dict[str, Curve]:
        """Evaluation figures of a level by set."""
        split = ((column.rpartition("/"), curve) for column, curve in self.curves.items() if column not in COLUMNS)
        return {dataset: curve for (dataset, _, last), curve in split if last == level}

    @property
    def length(self) -> float:
        """Its last step."""
        return max(float(curve.steps[-1]) for curve in self.curves.values())

    def has(self, panel: str) -> bool:
        """Whether there is something to draw in a panel of `TITLES`."""
        return bool(self.of_sets(panel)) if panel in LEVELS else panel in self.curves


def plot_runs(folders: Sequence[Path], out: Path) -> None:
    """Draw the curves of runs over one another: loss, its kinds, evaluation figures, learning rate, gradient norm.

    Args:
        folders: of the runs, at least one; each holds a `log.jsonl`.
        out: the picture to write: PNG, or what its suffix says that matplotlib can write (.pdf, .svg).

    Raises:
        UserError: a folder holds no log of a run, matplotlib is not installed, or it cannot write such a file.
    """
    runs = [read_run(folder, name) for folder, name in zip(folders, run_names(folders), strict=True)]
    figure = draw_runs(runs)
    kind = out.suffix[1:].lower() or "png"
    if kind not in figure.canvas.get_supported_filetypes():
        raise UserError(f"{out}: curves cannot be written as .{kind}; give a name that ends in .png", code=USAGE)
    write_whole(out, lambda beside: figure.savefig(beside, format=kind, dpi=130))


def read_run(folder: Path, name: str) -> RunCurves:
    """Read the curves of a run.

    Args:
        folder: of the run.
        name: for the legend.

    Raises:
        UserError: it holds no log, or none with a report in it.
    """
    path = folder / "log.jsonl"
    if not path.is_file():
        raise UserError(f"{folder} holds no log.jsonl; give the folder of a run, such as runs/stage1", code=DATA)
    points: dict[str, dict[int, float]] = {}
    for record in read_reports(path):
        for column, value in figures_of(record).items():
            points.setdefault(column, {})[record["step"]] = value
    if not points:
        raise UserError(f"{path} holds no report yet; a run writes the first after logging.every steps", code=DATA)
    return RunCurves(name, {column: Curve.of(values) for column, values in points.items()})


def run_names(folders: Sequence[Path]) -> list[str]:
    """Short names of folders, all different where the folders are: as much of the end of the paths as that takes."""
    paths = [folder.resolve() for folder in folders]
    names = [path.name for path in paths]
    for length in range(2, max(len(path.parts) for path in paths) + 1):
        if len(set(names)) == len(set(paths)):
            break
        names = ["/".join(path.parts[-length:]) for path in paths]
    return names


def draw_runs(runs: Sequence[RunCurves]) -> Figure:
    """Draw runs, one colour each, a panel for every figure that one of them has.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("curves are drawn with matplotlib: pip install 'langhops[plot]'", code=ENVIRONMENT) from None
    panels = [panel for panel in TITLES if any(run.has(panel) for run in runs)]
    # Evaluation before the kinds of losses: it is what a run is for.
    panels.sort(key=lambda panel: panel in KINDS)
    first, others = panels[0], panels[1:]
    rows = max(2, math.ceil((len(others) + 4) / WIDE))
    figure = Figure(figsize=(4 * WIDE, 2.6 * rows + 0.7), layout="constrained")
    grid = figure.add_gridspec(rows, WIDE)
    places = [(row, column) for row in range(rows) for column in range(WIDE) if row > 1 or column > 1]
    _draw_panel(figure.add_subplot(grid[:2, :2]), first, runs, large=True)
    for panel, (row, column) in zip(others, places, strict=False):
        _draw_panel(figure.add_subplot(grid[row, column]), panel, runs)
    handles = [_line_of(number, f"{run.name}  {run.length:,.0f} steps") for number, run in enumerate(runs)]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(runs), 6), frameon=False, fontsize=12)
    return figure


def _line_of(number: int, name: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=name, linewidth=2.5, **_look(number))


def _look(number: int) -> dict[str, Any]:
    style = STYLES[number // len(COLOURS) % len(STYLES)]
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": style}


def _draw_panel(axes: Axes, panel: str, runs: Sequence[RunCurves], *, large: bool = False) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    sets = len({dataset for run in runs for dataset in run.of_sets(panel)})
    title = f"{TITLES[panel]}, mean of {sets} sets" if sets > 1 else TITLES[panel]
    axes.set_title(title, loc="left", fontsize=12 if large else 10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, colors="#444444", length=3)
    axes.xaxis.set_major_locator(MaxNLocator(6 if large else 4, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    longest = max(run.length for run in runs)
    axes.set_xlim(0, 1.03 * longest)
    if large:
        axes.set_xlabel("step", fontsize=10)
    reach = longest / SMOOTH
    drawn = [_draw_run(axes, panel, run, _look(number), reach) for number, run in enumerate(runs) if run.has(panel)]
    if panel in LEVELS or panel == "learning_rate":
        axes.set_ylim(bottom=0, top=None if any(raw.any() for raw, _ in drawn) else 1)
        if sets > 1 and len(runs) == 1:
            _name_sets(axes, runs[0].of_sets(panel))
    else:
        _limit(axes, drawn)


def _draw_run(
    axes: Axes, panel: str, run: RunCurves, look: Mapping[str, Any], reach: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw one run into a panel, and return the values of the raw line and of the smooth one."""
    if panel in LEVELS:
        sets = run.of_sets(panel)
        mean = mean_curve(list(sets.values()))
        for curve in sets.values():
            axes.plot(curve.steps, curve.values, linewidth=0.9, alpha=0.35, **look)
        axes.plot(mean.steps, mean.values, linewidth=2, marker="o", markersize=3.5, **look)
        _name_best(axes, mean, colour=look["color"])
        return mean.values, mean.values
    curve = run.curves[panel]
    if panel == "learning_rate":
        axes.plot(curve.steps, curve.values, linewidth=1.6, **look)
        return curve.values, curve.values
    smooth = smoothed(curve, reach)
    axes.plot(curve.steps, curve.values, linewidth=0.8, alpha=0.28, **look)
    axes.plot(curve.steps, smooth, linewidth=2, **look)
    return curve.values, smooth


def _name_best(axes: Axes, curve: Curve, *, colour: str) -> None:
    from matplotlib.patheffects import withStroke

    best = int(curve.values.argmax())
    axes.annotate(
        f"{curve.values[best]:.1f}",
        (curve.steps[best], curve.values[best]),
        xytext=(0, 6),
        textcoords="offset points",
        ha="center",
        fontsize=9,
        color=colour,
        path_effects=[withStroke(linewidth=3, foreground="white")],
        zorder=5,
    )


def _name_sets(axes: Axes, sets: Mapping[str, Curve]) -> None:
    for name, curve in sets.items():
        at = curve.steps[-1], curve.values[-1]
        axes.annotate(name, at, xytext=(0, 2), textcoords="offset points", ha="right", fontsize=7, color="#666666")


def _limit(axes: Axes, drawn: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> None:
    """Let the first steps and single peaks run out of the panel, so that the rest is seen; take logarithms of much."""
    low = min(float(np.percentile(raw, 1)) for raw, _ in drawn)
    high = max(max(float(np.percentile(raw, 97)), float(smooth[len(smooth) // 20 :].max())) for raw, smooth in drawn)
    if low > 0 and high > 30 * low:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.2, high * 1.2)
        return
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    axes.set_ylim(low - margin, high + margin)


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Mean over the sets at the steps that all have; at those of any where they share none."""
    shared = set.intersection(*(set(curve.steps.tolist()) for curve in curves))
    by_step: dict[int, list[float]] = {}
    for curve in curves:
        for step, value in zip(curve.steps.tolist(), curve.values.tolist(), strict=True):
            if step in shared or not shared:
                by_step.setdefault(int(step), []).append(value)
    return Curve.of({step: math.fsum(values) / len(values) for step, values in by_step.items()})


def smoothed(curve: Curve, reach: float) -> NDArray[np.float64]:
    """A line without its noise: a bell-shaped mean around each point, over the points that are there at the ends.

    Args:
        curve: its points are taken for evenly spaced.
        reach: width of the bell (its sigma) in steps; no more than an eighth of the curve.

    Returns:
        (n,).
    """
    count = len(curve.values)
    spacing = max(1.0, float(curve.steps[-1] - curve.steps[0]) / max(1, count - 1))
    sigma = min(reach / spacing, count / 8)
    half = min(math.ceil(3 * sigma), count - 1)
    bell = np.exp(-0.5 * (np.arange(-half, half + 1) / max(sigma, 1e-9)) ** 2)
    weight = np.convolve(np.ones(count), bell)[half : half + count]
    return np.convolve(curve.values, bell)[half : half + count] / weight
