"""What the commands share in speaking to a person: two consoles, trees, progress, results as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from langhops_cli.data.fetching.fetch import TrackBytes

Item = TypeVar("Item")

out = Console(highlight=False)
"""Results: standard output."""
err = Console(stderr=True, highlight=False)
"""Everything else, progress and errors: standard error, so that results can be piped."""
LONG = 2.0
"""Seconds after which a rate says something."""


@dataclass(frozen=True)
class Branch:
    """A line of a tree with the lines below it."""

    label: str
    branches: tuple[Branch, ...] = ()


def say(text: str) -> None:
    """Print one line of a result, as it is."""
    out.print(Text(text), soft_wrap=True)


def note(text: str) -> None:
    """Print one line about what is going on, beside the results."""
    err.print(Text(text), soft_wrap=True)


def print_error(message: str) -> None:
    """Print what went wrong, in one line that starts with "error:"."""
    err.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)


def print_json(data: Any) -> None:
    """Print a result as JSON for other programs."""
    out.print(Text(json.dumps(data, ensure_ascii=False, indent=2)), soft_wrap=True)


def print_tree(root: Branch) -> None:
    """Print a tree with guide lines; long labels are not broken, so that another program can read them."""
    wide = out.encoding.lower().startswith("utf")
    fork, last, through = ("├── ", "└── ", "│   ") if wide else ("|-- ", "`-- ", "|   ")

    def grow(branches: Sequence[Branch], indent: str) -> None:
        for number, branch in enumerate(branches, 1):
            final = number == len(branches)
            out.print(Text.assemble((indent + (last if final else fork), "dim"), branch.label), soft_wrap=True)
            grow(branch.branches, indent + ("    " if final else through))

    say(root.label)
    grow(root.branches, "")


def progress(items: Iterable[Item], *, label: str, total: int) -> Iterator[Item]:
    """Go through items and show how far it is: a bar with a rate on a terminal, at most ten plain lines elsewhere.

    Args:
        items: what to go through.
        label: what is done, "prepare".
        total: how many items there are.
    """
    if err.is_terminal:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            Task,
            TextColumn,
            TimeRemainingColumn,
        )

        class Rate(ProgressColumn):
            def render(self, task: Task) -> Text:
                speed = task.finished_speed or task.speed
                return Text("" if speed is None else f"{_rate(speed)}/s")

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
        with Progress(*columns, console=err, transient=True) as bar:
            yield from bar.track(items, total=total, description=label)
        return
    start = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        if number * 10 // total > (number - 1) * 10 // total:
            seconds = time.monotonic() - start
            rate = f", {_rate(number / seconds)}/s" if seconds > LONG else ""
            note(f"{label} {number}/{total}{rate}")


def _rate(speed: float) -> str:
    return f"{speed:.0f}" if speed >= 10 else f"{speed:.1f}"


@contextmanager
def byte_progress() -> Iterator[TrackBytes]:
    """Show how far downloads are: bars on a terminal, a plain line for each tenth elsewhere.

    Yields:
        A function that is told what is done, how many bytes of it there are, and how many there will be if known.
    """
    if not err.is_terminal:
        tenths: dict[str, int] = {}

        def tell(label: str, done: int, total: int | None) -> None:
            tenth = done * 10 // total if total else 0
            if tenth > tenths.get(label, 0):
                note(f"{label}: {done / 1e6:,.0f} of {(total or done) / 1e6:,.0f} MB")
            tenths[label] = tenth

        yield tell
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def show(label: str, done: int, total: int | None) -> None:
            if label not in tasks:
                tasks[label] = bar.add_task(label, total=total)
            bar.update(tasks[label], completed=done, total=total)

        yield show
