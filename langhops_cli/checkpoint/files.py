"""Files that are there whole or not at all: written beside, flushed to the disk, then renamed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path` and put it in its place in one step.

    A crash at any moment leaves the old file or the new one.

    Args:
        path: the file to make or replace; its folder is made.
        write: given the path to write to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.touch()
        usual = stat.S_IMODE(beside.stat().st_mode)
        write(beside)
        beside.chmod(usual)  # safetensors makes files that only their owner can read, which a shared run is not for
        flush(beside)
        os.replace(beside, path)
        flush(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, UTF-8."""
    write_whole(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill beside the one that is wanted, put in its place when that is done, gone when it fails.

    Args:
        folder: the one that is wanted; missing or empty. The folder above it is made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as place:
        beside = Path(place) / folder.name
        beside.mkdir()
        yield beside
        os.replace(beside, folder)


def flush(path: Path) -> None:
    """Have a file or a folder written to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
