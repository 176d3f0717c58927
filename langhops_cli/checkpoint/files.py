"""Files that are there whole or not at all: written beside, flushed to the disk, then renamed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self, TextIO


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path` and put it in its place in one step.

    A crash at any moment leaves the old file or the new one.

    Args:
        path: the file to make or replace; its folder is made.
        write: given the path to write to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _beside(path)
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


class WholeText:
    """A text file, UTF-8, written bit by bit in a with block, beside its place, and moved there at the end.

    After an exception or an interruption nothing is left, and an older file stays as it was. A subclass says what
    stands first and last, and writes the rest.

    Args:
        path: the file to make or replace; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._beside = _beside(path)
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        self._file = self._beside.open("w", encoding="utf-8", newline="\n")
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        file = self.file
        try:
            with file:
                if kind is None:
                    self._end()
                    file.flush()
                    os.fsync(file.fileno())
            if kind is None:
                os.replace(self._beside, self.path)
        finally:
            self._file = None
            self._beside.unlink(missing_ok=True)

    @property
    def file(self) -> TextIO:
        """The open file.

        Raises:
            ValueError: it is not open.
        """
        if self._file is None:
            raise ValueError(f"{self.path} is not open; use the writer in a with statement")
        return self._file

    def _begin(self) -> None:
        """Write what stands first."""

    def _end(self) -> None:
        """Write what stands last."""


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


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
