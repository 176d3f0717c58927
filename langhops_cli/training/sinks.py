"""Where the figures of a run go: two files always, TensorBoard and Weights & Biases where the recipe asks for them."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import numpy as np

from langhops_cli.checkpoint.files import write_text
from langhops_cli.errors import ENVIRONMENT, UserError

if TYPE_CHECKING:
    from PIL.Image import Image

    from langhops_cli.training.recipe import LoggingSection, Recipe

KINDS = ("class", "mask", "dice", "box", "giou", "dense", "distillation")
"""Kinds of losses in the order of the paper; each is summed over the layers."""
COLUMNS = (
    "step",
    "total",
    *KINDS,
    "learning_rate",
    "gradient_norm",
    "seconds_per_step",
    "pictures_per_second",
    "memory_mib",
)
"""What every `log.csv` begins with; evaluation figures, "cars/parts", have columns behind these."""


class Sink(Protocol):
    """Somewhere that takes the reports of a run."""

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Take a report: `losses` by name with `learning_rate` and more, or `evaluation` by set and level."""

    def image(self, step: int, name: str, picture: Image) -> None:
        """Take a picture, RGB; files leave it, as it is a file of its own."""

    def close(self) -> None:
        """Write what is held back."""


class JsonLines:
    """`log.jsonl`: every report as it came, on a line.

    Args:
        path: the file; what was reported after step `first` is taken out of it, as those steps are done again.
        first: steps done before this start.
    """

    def __init__(self, path: Path, *, first: int) -> None:
        write_text(path, "".join(f"{json.dumps(record)}\n" for record in read_reports(path) if record["step"] <= first))
        self._file: IO[str] = path.open("a", encoding="utf-8")

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Write a line; what is not finite becomes null, since JSON has no word for it."""
        self._file.write(json.dumps({"step": step, **_finite(values)}) + "\n")
        self._file.flush()

    def image(self, step: int, name: str, picture: Image) -> None:
        """Leave it."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Table:
    """`log.csv`: one row a report, for spreadsheets and pandas.

    Args:
        path: the file; rows after step `first` are taken out of it, columns that it lacks are added.
        first: steps done before this start.
    """

    def __init__(self, path: Path, *, first: int) -> None:
        self._path = path
        columns, rows = _read_table(path)
        self._columns = [*COLUMNS, *(name for name in columns if name not in COLUMNS)]
        self._rewrite([row for row in rows if _number(row["step"]) <= first])

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Write a row; a figure that no column is for gets one, which writes the file anew."""
        row = {"step": str(step)} | {name: f"{value:.6g}" for name, value in figures_of(values).items()}
        new = [name for name in row if name not in self._columns]
        if new:
            self._columns += new
            self._rewrite(_read_table(self._path)[1])
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(self._lines([row]))

    def image(self, step: int, name: str, picture: Image) -> None:
        """Leave it."""

    def close(self) -> None:
        """Every row is written already."""

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        write_text(self._path, self._lines([dict(zip(self._columns, self._columns, strict=True)), *rows]))

    def _lines(self, rows: list[dict[str, str]]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, self._columns, restval="", lineterminator="\n").writerows(rows)
        return text.getvalue()


class TensorBoard:
    """Curves and sheets in `RUN/tensorboard`.

    Args:
        folder: for the event files; what they hold after step `first` is shown no more.
        first: steps done before this start.

    Raises:
        UserError: the package is not installed.
    """

    def __init__(self, folder: Path, *, first: int) -> None:
        module = _package("torch.utils.tensorboard", "tensorboard")
        self._writer = module.SummaryWriter(str(folder), purge_step=first + 1)

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Add a point to every curve."""
        for name, value in figures_of(values).items():
            self._writer.add_scalar(_tag(name), value, step)

    def image(self, step: int, name: str, picture: Image) -> None:
        """Add a picture."""
        self._writer.add_image(name, np.asarray(picture), step, dataformats="HWC")

    def close(self) -> None:
        """Write what is held back."""
        self._writer.close()


class WeightsAndBiases:
    """Curves and sheets on Weights & Biases, or in `RUN/wandb` where `WANDB_MODE` is offline.

    A run that is gone on with stays one run there; its id is kept in `RUN/wandb_id`.

    Args:
        project: to which the run belongs.
        folder: of the run, whose name it gets.
        settings: of the run, as it is to be shown there.

    Raises:
        UserError: the package is not installed, or it cannot start, such as without a login.
    """

    def __init__(self, project: str, folder: Path, settings: Mapping[str, Any]) -> None:
        self._wandb = _package("wandb", "wandb")
        kept = folder / "wandb_id"
        if not kept.is_file():
            write_text(kept, uuid4().hex[:12] + "\n")
        name = kept.read_text(encoding="utf-8").strip()
        try:
            self._run = self._wandb.init(
                project=project,
                name=folder.resolve().name,
                id=name,
                resume="allow",
                dir=str(folder),
                config=dict(settings),
            )
        except self._wandb.Error as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"logging.wandb: {reason}; run `wandb login`, set WANDB_MODE=offline, or leave logging.wandb out",
                code=ENVIRONMENT,
            ) from None
        # Steps as a figure of their own: a run that goes on from an earlier save reports some steps a second time,
        # which W&B's own count of steps would refuse.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Add a point to every curve."""
        self._run.log({"step": step} | {_tag(name): value for name, value in figures_of(values).items()})

    def image(self, step: int, name: str, picture: Image) -> None:
        """Add a picture."""
        self._run.log({"step": step, name: self._wandb.Image(picture)})

    def close(self) -> None:
        """Send what is held back."""
        self._run.finish()


def check_sinks(section: LoggingSection) -> None:
    """See that the packages of what the recipe asks for are there.

    Raises:
        UserError: one is not; the message says how to install it.
    """
    if section.tensorboard:
        _package("torch.utils.tensorboard", "tensorboard")
    if section.wandb is not None:
        _package("wandb", "wandb")


def asked_sinks(recipe: Recipe, folder: Path, *, first: int) -> list[Sink]:
    """What a run reports to beside its two files.

    Args:
        recipe: says which.
        folder: of the run.
        first: steps done before this start.

    Raises:
        UserError: a package is not installed, or W&B cannot start.
    """
    sinks: list[Sink] = []
    if recipe.logging.tensorboard:
        sinks.append(TensorBoard(folder / "tensorboard", first=first))
    if recipe.logging.wandb is not None:
        sinks.append(WeightsAndBiases(recipe.logging.wandb, folder, recipe.to_dict()))
    return sinks


def figures_of(values: Mapping[str, Any]) -> dict[str, float]:
    """A report as single figures by column: the losses summed by kind, evaluation figures as "cars/parts".

    Args:
        values: as `Sink.add` takes them; what is None or not finite is left out, and so is what no column is for.
    """
    losses = values.get("losses", {})
    figures = {"total": losses["total"]} if "total" in losses else {}
    figures |= summary(losses)
    figures |= {name: values[name] for name in COLUMNS if name != "step" and values.get(name) is not None}
    figures |= {name: value for name, value in values.get("evaluation", {}).items() if value is not None}
    return {name: float(value) for name, value in figures.items() if math.isfinite(value)}


def summary(losses: Mapping[str, float]) -> dict[str, float]:
    """Sum the losses of all layers by kind ("mask", "dice", ...), those that are there."""
    sums: dict[str, float] = {}
    for kind in KINDS:
        values = [value for name, value in losses.items() if name != "total" and kind in name]
        if values:
            sums[kind] = math.fsum(values)
    return sums


def read_reports(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a `log.jsonl` in their order; one that is cut off, as a crash leaves it, is passed over.

    Args:
        path: the file; where it is missing there are none.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            yield record


def _read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and the rows of a CSV file; a row that is cut off is passed over."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    whole = text[: text.rfind("\n") + 1]
    columns, *rows = list(csv.reader(io.StringIO(whole))) or [[]]
    if "step" not in columns:
        return [], []
    return columns, [dict(zip(columns, row, strict=True)) for row in rows if len(row) == len(columns)]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.inf


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(below) for name, below in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tag(column: str) -> str:
    """Name of a curve, below the group that it is shown in."""
    if column == "total" or column in KINDS:
        return f"loss/{column}"
    return f"evaluation/{column}" if column not in COLUMNS else f"run/{column}"


def _package(module: str, name: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise UserError(
            f"logging.{name} needs the package {name}: pip install 'langhops[{name}]', or leave logging.{name} out",
            code=ENVIRONMENT,
        ) from None
