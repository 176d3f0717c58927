"""Whether a folder holds what a manifest expects, and what to tell the user where it does not."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path

from langhops_cli.data.manifests import Manifest

Entry = list[str]
"""Patterns of which one is enough."""


def missing(manifest: Manifest, folder: Path) -> list[str]:
    """What a folder lacks of the layout that a dataset is expected in.

    Args:
        manifest: its `tree` says how the layout is written.
        folder: the source folder.

    Returns:
        Patterns that nothing in the folder fits, "images/val/*.jpg"; of several layouts those of the one that the
        folder comes closest to.
    """
    return min(
        ([told for entry in layout for told in _unfound(entry, folder)] for layout in _layouts(manifest.tree)),
        key=len,
    )


def instructions(manifest: Manifest, folder: Path | None = None) -> str:
    """Say where a dataset is had, how it must lie, what is missing and what to type then.

    Args:
        manifest: of the dataset.
        folder: the source folder, where one was given.

    Returns:
        Several lines; none if the folder lacks nothing.
    """
    lacking: list[str] = []
    if folder is not None:
        lacking = missing(manifest, folder) if folder.is_dir() else [f"the folder {folder} itself"]
        if not lacking:
            return ""
    place = str(folder) if folder is not None else "DIR"
    rows = [("source", manifest.source)]
    if manifest.form is not None:
        rows.append(("form", f"{manifest.form} has to be filled in first"))
    rows.append(("licence", manifest.licence))
    rows += _block(f"below {place}", manifest.tree)
    rows += _block("missing", lacking)
    command = re.sub(r"\bDIR\b", lambda _: shlex.quote(place) if folder is not None else "DIR", manifest.command)
    rows.append(("then", f"{command} --download" if manifest.files else command))
    width = max(len(title) for title, _ in rows)
    return "\n".join([f"{manifest.title}", *(f"  {title:{width}}  {text}".rstrip() for title, text in rows)])


def _block(title: str, lines: Sequence[str]) -> list[tuple[str, str]]:
    return [(title if number == 0 else "", line) for number, line in enumerate(lines)]


def _layouts(tree: Sequence[str]) -> list[list[Entry]]:
    """The layouts that the lines of a tree describe, at least one."""
    common: list[Entry] = []
    layouts: list[list[Entry]] = []
    entry: Entry = []
    for line in tree:
        words = line.split()
        if not words or line[0].isspace():
            continue
        if line.rstrip().endswith(":"):
            layouts.append([])
        elif words[0] == "or" and len(words) > 1:
            entry.append(words[1])
        else:
            entry = [words[0]]
            if len(words) == 1 or words[1].strip("(),;:") != "optional":
                (layouts[-1] if layouts else common).append(entry)
    return [common + layout for layout in layouts] or [common]


def _unfound(entry: Entry, folder: Path) -> list[str]:
    """What of an entry is missing: nothing as soon as one of its patterns is there in full."""
    lacks = [[one for one in _expand(pattern) if not _found(one, folder)] for pattern in entry]
    if not all(lacks):
        return []
    if len(lacks) == 1:
        return [" or ".join(_choices(_plain(one))) for one in lacks[0]]
    return [" or ".join(map(_plain, entry))]


def _plain(pattern: str) -> str:
    """A pattern without what may be left out of it."""
    return re.sub(r"\{\|[^{}]*\}", "", pattern)


def _expand(pattern: str) -> list[str]:
    """A pattern for each way through its {a,b}."""
    pieces = re.split(r"\{([^{}|]*,[^{}|]*)\}", pattern)
    options = [piece.split(",") if number % 2 else [piece] for number, piece in enumerate(pieces)]
    return ["".join(choice) for choice in product(*options)]


def _choices(pattern: str) -> list[str]:
    """A pattern for each way through its {a|b}."""
    pieces = re.split(r"\{([^{}]*\|[^{}]*)\}", pattern)
    options = [piece.split("|") if number % 2 else [piece] for number, piece in enumerate(pieces)]
    return ["".join(choice) for choice in product(*options)]


def _found(pattern: str, folder: Path) -> bool:
    return any(_fits(choice.rstrip("/").split("/"), folder, choice.endswith("/")) for choice in _choices(pattern))


def _fits(names: Sequence[str], folder: Path, is_folder: bool) -> bool:
    """Whether a path below a folder fits; only as much of it is listed as that takes."""
    first, rest = names[0], names[1:]
    if first == "...":
        return next(_listed(folder, "*"), None) is not None
    if "*" not in first and "<" not in first:
        below = folder / first
        return _fits(rest, below, is_folder) if rest else (below.is_dir() if is_folder else below.exists())
    for name in _listed(folder, first):
        below = folder / name
        if _fits(rest, below, is_folder) if rest else (below.is_dir() or not is_folder):
            return True
    return False


def _listed(folder: Path, pattern: str) -> Iterator[str]:
    """The names in a folder that fit, without hidden ones."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and _compiled(pattern).fullmatch(entry.name):
                    yield entry.name
    except (FileNotFoundError, NotADirectoryError):
        return


@lru_cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(
        "".join(
            ".*" if number % 2 else re.escape(piece) for number, piece in enumerate(re.split(r"(\*|<[^<>]*>)", pattern))
        )
    )
