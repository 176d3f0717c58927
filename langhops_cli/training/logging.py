"""What a run says while it goes: one JSON line a report for programs, one line or a bar for people."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from langhops_cli.checkpoint.files import write_text

# What stands on the terminal line: sums over the layers of one kind of loss, in this order.
SHOWN = ("class", "mask", "dice", "box", "giou", "dense", "distillation")


class TrainingLog:
    """Means over the steps since the last report, to `log.jsonl` and to the terminal.

    Args:
        path: the JSONL file; a run that is gone on with appends.
        steps: of the whole run.
        first: the step that this start begins with, from 0.
        every: steps between two reports.
    """

    def __init__(self, path: Path, *, steps: int, first: int, every: int) -> None:
        self._path = path
        self._steps = steps
        self._first = first
        self._every = every
        self._sums: dict[str, float] = defaultdict(float)
        self._count = 0
        self._started = self._reported = time.monotonic()
        self._console = Console(stderr=True)
        self._file: IO[str] | None = None
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        self._forget()
        self._file = self._path.open("a", encoding="utf-8")
        if self._console.is_terminal:
            columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(20), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=self._console)
            self._bar.add_task("", total=self._steps, completed=self._first)
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._file is not None:
            self._file.close()

    def say(self, text: str) -> None:
        """Write a line of words, above the bar where there is one."""
        console = self._bar.console if self._bar is not None else self._console
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    def add(self, step: int, losses: Mapping[str, float], *, learning_rate: float, **more: float | None) -> None:
        """Count one step in, and report when enough have come together.

        Args:
            step: just done, from 1.
            losses: by name, with `total`.
            learning_rate: of the step.
            more: further figures of this step; None is left out.
        """
        for name, value in losses.items():
            self._sums[name] += value
        self._count += 1
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step)
        if self._count < self._every and step != self._steps:
            return
        now = time.monotonic()
        means = {name: value / self._count for name, value in self._sums.items()}
        pace = (now - self._reported) / self._count
        memory = peak_memory()
        record: dict[str, Any] = {"step": step, "losses": means, "learning_rate": learning_rate}
        record |= {name: value for name, value in more.items() if value is not None}
        record |= {"seconds_per_step": round(pace, 4), "memory_mib": memory, "time": round(time.time(), 1)}
        assert self._file is not None
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        self._show(step, means, learning_rate, pace, memory, now)
        self._sums.clear()
        self._count = 0
        self._reported = now

    def _forget(self) -> None:
        """Take out what a start that was killed reported after its last save: those steps are done again."""
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.is_file() else []
        write_text(self._path, "".join(f"{line}\n" for line in lines if _step_of(line) <= self._first))

    def _show(self, step: int, means: Mapping[str, float], rate: float, pace: float, memory: int, now: float) -> None:
        mean_pace = (now - self._started) / max(1, step - self._first)
        left = duration(mean_pace * (self._steps - step))
        parts = " ".join(f"{name} {value:.3g}" for name, value in summary(means).items())
        text = f"loss {means['total']:.3f} ({parts}) lr {rate:.2e} {pace:.2f} s/step {memory} MiB, {left} left"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=text)
        else:
            self.say(f"step {step}/{self._steps} {text}")


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # cut off in the middle


def summary(losses: Mapping[str, float]) -> dict[str, float]:
    """Sum the losses of all layers by kind ("mask", "dice", ...), those that are there."""
    sums: dict[str, float] = {}
    for kind in SHOWN:
        values = [value for name, value in losses.items() if name != "total" and kind in name]
        if values:
            sums[kind] = math.fsum(values)
    return sums


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
