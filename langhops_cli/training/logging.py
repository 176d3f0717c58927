"""What a run says while it goes: figures for programs, one line or a bar for people."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as Grid
from rich.text import Text

from langhops_cli.training.sinks import JsonLines, Sink, Table, asked_sinks, check_sinks, summary

if TYPE_CHECKING:
    from PIL.Image import Image

    from langhops_cli.training.recipe import Recipe


class TrainingLog:
    """Means over the steps since the last report, to `log.jsonl`, `log.csv`, further sinks, and the terminal.

    A sink that cannot be written, such as on a full disk, is said once and does not stop the run.

    Args:
        path: the JSONL file, beside which the CSV file lies; a run that is gone on with appends.
        steps: of the whole run.
        first: the step that this start begins with, from 0.
        every: steps between two reports.
        pictures: that all processes together see in a step; None where it is not known, and no rate is said.
        writes: whether this process is the one that writes; all others keep silent.
        sinks: further ones; the log closes them.
    """

    def __init__(
        self,
        path: Path,
        *,
        steps: int,
        first: int,
        every: int,
        pictures: int | None = None,
        writes: bool = True,
        sinks: Sequence[Sink] = (),
    ) -> None:
        self._path = path
        self._steps = steps
        self._first = first
        self._every = every
        self._pictures = pictures
        self._writes = writes
        self._sinks = list(sinks)
        self._broken: set[int] = set()
        self._sums: dict[str, float] = defaultdict(float)
        self._count = 0
        self._started = self._reported = time.monotonic()
        self._console = Console(stderr=True)
        self._bar: Live | None = None
        self._step = first
        self._rate, self._loss = "", ""

    def __enter__(self) -> Self:
        if not self._writes:
            return self
        table = Table(self._path.with_suffix(".csv"), first=self._first)
        self._sinks[:0] = [JsonLines(self._path, first=self._first), table]
        if self._console.is_terminal:
            self._bar = Live(console=self._console, get_renderable=self._lines)
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._tell(lambda sink: sink.close())

    def say(self, text: str) -> None:
        """Write a line of words, above the bar where there is one."""
        if self._writes:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def add(self, step: int, losses: Mapping[str, float], *, learning_rate: float, **more: float | None) -> None:
        """Count one step in, and report when enough have come together.

        Args:
            step: just done, from 1.
            losses: by name, with `total`.
            learning_rate: of the step.
            more: further figures of this step, such as `gradient_norm`; None is left out.
        """
        if not self._writes:
            return
        for name, value in losses.items():
            self._sums[name] += value
        self._count += 1
        self._step = step
        if self._count < self._every and step != self._steps:
            return
        now = time.monotonic()
        pace = (now - self._reported) / self._count
        record: dict[str, Any] = {
            "losses": {name: value / self._count for name, value in self._sums.items()},
            "learning_rate": learning_rate,
            **{name: value for name, value in more.items() if value is not None},
            "seconds_per_step": round(pace, 4),
            "memory_mib": peak_memory(),
            "time": round(time.time(), 1),
        }
        if self._pictures is not None and pace > 0:
            record["pictures_per_second"] = round(self._pictures / pace, 4)
        self._tell(lambda sink: sink.add(step, record))
        self._show(step, record, now)
        self._sums.clear()
        self._count = 0
        self._reported = now

    def add_evaluation(self, step: int, figures: Mapping[str, float]) -> None:
        """Report what the model reaches after a step.

        Args:
            step: from 1.
            figures: by "set/level", mask AP in percent.
        """
        self._tell(lambda sink: sink.add(step, {"evaluation": dict(figures), "time": round(time.time(), 1)}))

    def image(self, step: int, name: str, picture: Image) -> None:
        """Hand a picture, RGB, to the sinks that show pictures."""
        self._tell(lambda sink: sink.image(step, name, picture))

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While it lasts, time counts for no step: what is measured or saved on the way is not the steps' pace."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self._reported += time.monotonic() - begun

    def _tell(self, what: Callable[[Sink], None]) -> None:
        for number, sink in enumerate(self._sinks):
            try:
                what(sink)
            except OSError as error:
                if number not in self._broken:
                    self.say(f"{type(sink).__name__} cannot be written ({error}); the run goes on without")
                self._broken.add(number)

    def _show(self, step: int, record: Mapping[str, Any], now: float) -> None:
        mean_pace = (now - self._started) / max(1, step - self._first)
        losses = record["losses"]
        parts = " ".join(f"{name} {value:.3g}" for name, value in summary(losses).items())
        norm = f" gradient {record['gradient_norm']:.3g}" if "gradient_norm" in record else ""
        self._loss = f"loss {losses['total']:.3f} ({parts}) lr {record['learning_rate']:.2e}{norm}"
        rate = f"{record['seconds_per_step']:.2f} s/step"
        if "pictures_per_second" in record:
            rate += f" {record['pictures_per_second']:.3g} pictures/s"
        left = duration(mean_pace * (self._steps - step))
        self._rate = f"{rate} {record['memory_mib']} MiB, {left} left"
        if self._bar is None:
            self.say(f"step {step}/{self._steps} {self._loss} {self._rate}")

    def _lines(self) -> Group:
        """What stands on a terminal: how far, how fast and for how long; below it the newest losses."""
        first = Grid.grid(padding=(0, 1))
        bar = ProgressBar(total=self._steps, completed=self._step, width=12)
        first.add_row(Text(f"step {self._step}/{self._steps}"), bar, Text(self._rate))
        return Group(first, Text(self._loss))


def open_log(recipe: Recipe, folder: Path, *, first: int, writes: bool, processes: int = 1) -> TrainingLog:
    """The log of a run, with all that its recipe reports to.

    Args:
        recipe: of the run.
        folder: of the run.
        first: steps done before this start.
        writes: whether this process is the one that writes.
        processes: that train together.

    Raises:
        UserError: a package that the recipe asks for is not installed, or W&B cannot start.
    """
    check_sinks(recipe.logging)  # on every process, so that none waits for one that has stopped
    return TrainingLog(
        folder / "log.jsonl",
        steps=recipe.schedule.steps,
        first=first,
        every=recipe.logging.every,
        pictures=recipe.data.batch * recipe.data.accumulate * processes,
        writes=writes,
        sinks=asked_sinks(recipe, folder, first=first) if writes else (),
    )


def duration(seconds: float) -> str:
    """A length of time for people: "45 s", "12 min", "3 h 05 min"."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def peak_memory() -> int:
    """Peak memory of this process in MiB: the GPU's where there is one, else the machine's."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() >> 20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> 20 if sys.platform == "darwin" else peak >> 10
