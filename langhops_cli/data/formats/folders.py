"""What readers of folders full of small files share: pictures listed in order, their annotation files, odd files."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from langhops_cli.data.pictures import SUFFIXES
from langhops_cli.data.records import Drops
from langhops_cli.errors import DATA, UserError

LARGEST = 1 << 26
"""Bytes that the annotation file of a single picture may have."""
_ORPHAN = "annotation file without a picture"


@dataclass(frozen=True)
class Survey:
    """What a folder of pictures holds.

    Args:
        pictures: how many there are.
        bare: how many of them have no annotation file; first: the path of the first one of these.
    """

    pictures: int
    bare: int
    first: str


def walk(root: Path, suffixes: Collection[str], drops: Drops | None = None) -> Iterator[tuple[str, list[str]]]:
    """Go through a folder and all below it, one at a time, so that millions of files do not matter.

    Links are followed, each folder is entered once. Hidden files, such as the `._*` files of macOS, are left out.

    Args:
        root: the folder.
        suffixes: endings of the files that are wanted, lower case with the dot.
        drops: gets the wanted files that are hidden or cannot be named, when given.

    Yields:
        The path of a folder below the root, with "/" between names and "" for the root, and its files, sorted.

    Raises:
        UserError: the root is no folder that may be read.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [("", False)]
    while waiting:
        below, hidden = waiting.pop()
        folder = root / below
        try:
            state = folder.stat()
            if (state.st_dev, state.st_ino) in seen:
                continue
            seen.add((state.st_dev, state.st_ino))
            files, folders = _scan(folder, suffixes)
        except OSError as error:
            if not below:
                raise UserError(f"{root} is no folder that can be read: {error.strerror}.", code=DATA) from None
            if drops is not None:
                drops.add("folder that cannot be read", below)
            continue
        prefix = f"{below}/" if below else ""
        for name in reversed(folders):
            within = hidden or name.startswith(".") or not is_text(name)
            if not within or drops is not None:  # hidden folders are entered only to count what is in them
                waiting.append((prefix + name, within))
        good = []
        for name in files:
            fault = _fault(prefix + name, hidden)
            if fault is None:
                good.append(name)
            elif drops is not None:
                drops.add(fault, prefix + name if is_text(prefix + name) else ascii(prefix + name))
        if good:
            yield below, good


def _scan(folder: Path, suffixes: Collection[str]) -> tuple[list[str], list[str]]:
    files, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                folders.append(entry.name)
            # A link that leads nowhere is kept: a picture that is missing should be told.
            elif os.path.splitext(entry.name)[1].lower() in suffixes and (entry.is_file() or entry.is_symlink()):
                files.append(entry.name)
    return sorted(files), sorted(folders)


def _fault(path: str, hidden: bool) -> str | None:
    name = path.rpartition("/")[2]
    if not is_text(path):
        return "file name that is no UTF-8"
    if name.startswith("._"):
        return "macOS ._ file, no picture"
    return "hidden file" if hidden or name.startswith(".") else None


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8, which names from JSON and from disk need not."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name


def list_files(root: Path, suffixes: Collection[str]) -> Iterator[str]:
    """Paths of all files of these endings below a folder, in order, with "/" between names."""
    for below, names in walk(root, suffixes):
        yield from (f"{below}/{name}" if below else name for name in names)


def survey(
    pictures: Path,
    annotations_of: Callable[[Path], Path],
    suffix: str,
    drops: Drops,
    *,
    annotations: Path | None = None,
    known: Collection[str] = (),
) -> Survey:
    """Count pictures and match them with the files that annotate them, which have the same name but for its ending.

    Args:
        pictures: the folder of the pictures, searched through.
        annotations_of: from a folder of pictures to that of their annotations.
        suffix: how annotation files end.
        drops: gets hidden files and annotation files without a picture.
        annotations: also look through this folder for annotations whose whole folder has no pictures.
        known: files with this ending that annotate nothing.
    """
    total, bare, first = 0, 0, ""
    seen = set()
    for below, names in walk(pictures, SUFFIXES, drops):
        folder = annotations_of(pictures / below)
        seen.add(str(folder))
        stems = {os.path.splitext(name)[0] for name in names}
        found = _files(folder, suffix, known)
        lone = [name for name in names if os.path.splitext(name)[0] not in found]
        total, bare = total + len(names), bare + len(lone)
        if lone and not first:
            first = f"{below}/{lone[0]}" if below else lone[0]
        if orphans := sorted(found - stems):
            drops.add(_ORPHAN, *(str(folder / f"{stem}{suffix}") for stem in orphans))
    if annotations is not None and annotations.is_dir():
        for below, names in walk(annotations, {suffix}):
            if str(annotations / below) not in seen and (lone := [name for name in names if name not in known]):
                drops.add(_ORPHAN, *(str(annotations / below / name) for name in lone))
    return Survey(total, bare, first)


def _files(folder: Path, suffix: str, known: Collection[str]) -> set[str]:
    """Names of the annotation files of a folder, without their ending."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except OSError:
        return set()
    return {
        stem
        for stem, ending in map(os.path.splitext, names)
        if ending == suffix and not stem.startswith(".") and stem + ending not in known and is_text(stem)
    }


def check_file(path: Path, largest: int = LARGEST) -> None:
    """See that a file can be read safely.

    Raises:
        UserError: it is missing, no plain file, or larger than this many bytes.
    """
    try:
        state = path.stat()
    except (OSError, ValueError):
        raise UserError(f"{path} does not exist or may not be read.", code=DATA) from None
    if not stat.S_ISREG(state.st_mode):
        raise UserError(f"{path} is no file.", code=DATA)
    if state.st_size > largest:
        raise UserError(f"{path} has {state.st_size:,} bytes, more than the {largest:,} it may have.", code=DATA)
