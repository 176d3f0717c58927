"""What the commands share in speaking to a person: two consoles, trees, progress, results as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rich.console import Console
from rich.text import Text

Item = TypeVar("Item")

out = Console(highlight=False)
"""Results: standard output."""
err = Console(stderr=True, highlight=False)
"""Everything else, progress and errors: standard error, so that results can be piped."""


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
    """Go through items and show how far it is: a bar on a terminal, at most ten plain lines elsewhere.

    Args:
        items: what to go through.
        label: what is done, "prepare".
        total: how many items there are.
    """
    if err.is_terminal:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=err, transient=True) as bar:
            yield from bar.track(items, total=total, description=label)
        return
    for number, item in enumerate(items, 1):
        yield item
        if number * 10 // total > (number - 1) * 10 // total:
            note(f"{label} {number}/{total}")
