"""The record of a job: one line a picture that is done, kept through any end, by one process or by several."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from langhops_cli.checkpoint.files import write_whole
from langhops_cli.errors import DATA, UserError
from langhops_cli.prediction.results import Prediction, json_text

RECORD = "predictions.jsonl"


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the line of a picture is, and what it says besides the prediction.

    Args:
        start, end: bytes of the line in the file.
        stem: of the names of the files that were made of the picture.
        source: path of the picture, or of the video that it is a frame of.
        frame: number of the frame; None for a picture.
    """

    start: int
    end: int
    stem: str
    source: str
    frame: int | None


class Record:
    """The pictures that are done, in `predictions.jsonl` of a folder.

    A line is what `Prediction.to_json` writes with one more entry, "file", the stem of the names of the picture's
    files. With several processes each appends to a file of its own, which the first one adds to the record at the
    start and at the end, so that the next run may have another number of processes.

    Args:
        folder: of the record; it exists.
        rank: number of this process, from 0.
        count: of all processes.

    Attributes:
        entries: of the lines that were there when they were last read, by picture; empty before.
    """

    def __init__(self, folder: Path, *, rank: int = 0, count: int = 1) -> None:
        self.path = folder / RECORD
        self.entries: dict[str, Entry] = {}
        self._own = self.path if count == 1 else _share(self.path, rank)
        self._file: BinaryIO | None = None

    def collect(self) -> None:
        """Read what is there, add the files of several processes to it, and cut off lines that were torn by a crash.

        Only for the first process, before any process appends or after all have done so.

        Raises:
            UserError: a line that is not the last one is damaged.
        """
        shares = sorted(self.path.parent.glob(f".{RECORD}.*.share"))
        if not (shares or self.path.exists()):
            self.entries = {}
            return
        with self.path.open("ab+") as file:
            self.entries = _mend(file, self.path)
            for share in shares:
                with share.open("rb+") as more:
                    for picture, entry in _mend(more, share).items():
                        if picture not in self.entries:
                            start = file.seek(0, os.SEEK_END)
                            file.write(_line(more, entry))
                            self.entries[picture] = _moved(entry, start)
            file.flush()
            os.fsync(file.fileno())
        for share in shares:
            share.unlink()

    def __enter__(self) -> Self:
        self._file = self._own.open("ab")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        self._file.close()
        self._file = None
        if not self._own.stat().st_size:
            self._own.unlink()

    def append(self, done: Sequence[tuple[str, Prediction]]) -> None:
        """Add the lines of pictures and have them written to the disk.

        Args:
            done: the stem of each picture's files, and its prediction.

        Raises:
            ValueError: the record is not open; use it in a with statement.
        """
        if self._file is None:
            raise ValueError(f"{self._own} is not open; use the record in a with statement")
        lines = [f'{{"file": {json_text(stem)}, {found.to_json().removeprefix("{")}\n' for stem, found in done]
        self._file.write("".join(lines).encode("utf-8"))
        self._file.flush()
        os.fsync(self._file.fileno())

    def arrange(self, key: Callable[[str, Entry], Any]) -> None:
        """Bring the lines into an order, if they are not; the old file stays until the new one is whole.

        Args:
            key: by which they are sorted, of a picture and its entry; equal ones keep their order.
        """
        wanted = sorted(self.entries.items(), key=lambda item: key(*item))
        positions = [entry.start for _, entry in wanted]
        size = sum(entry.end - entry.start for _, entry in wanted)
        if not wanted or (positions == sorted(positions) and size == self.path.stat().st_size):
            return

        def write(beside: Path) -> None:
            with self.path.open("rb") as old, beside.open("wb") as new:
                for _, entry in wanted:
                    new.write(_line(old, entry))

        write_whole(self.path, write)
        start = 0
        moved = {}
        for picture, entry in wanted:
            moved[picture] = _moved(entry, start)
            start = moved[picture].end
        self.entries = moved

    def read(self, pictures: Sequence[str] | None = None) -> Iterator[tuple[str, Prediction]]:
        """Go through the record, one picture in memory at a time.

        Args:
            pictures: only these, in this order; all in the order of the file when left out.

        Yields:
            The stem of a picture's files, and its prediction.

        Raises:
            UserError: a line is damaged.
        """
        if not self.entries:
            return
        with self.path.open("rb") as file:
            for picture in self.entries if pictures is None else pictures:
                entry = self.entries[picture]
                try:
                    yield entry.stem, Prediction.from_json(_line(file, entry).decode("utf-8"))
                except ValueError as error:
                    raise UserError(
                        f"{self.path}: the line of {picture} is damaged ({error}); take that line out and run again",
                        code=DATA,
                    ) from None

    def remove(self) -> None:
        """Remove the record with what several processes have left of it."""
        for path in (self.path, *self.path.parent.glob(f".{RECORD}.*.share")):
            path.unlink(missing_ok=True)
        self.entries = {}


def _share(path: Path, rank: int) -> Path:
    return path.with_name(f".{path.name}.{rank + 1}.share")


def _line(file: BinaryIO, entry: Entry) -> bytes:
    file.seek(entry.start)
    return file.read(entry.end - entry.start)


def _moved(entry: Entry, start: int) -> Entry:
    return Entry(start, start + entry.end - entry.start, entry.stem, entry.source, entry.frame)


def _mend(file: BinaryIO, path: Path) -> dict[str, Entry]:
    """Read the entries of a record and cut its last line off if that is torn; a picture counts once."""
    entries: dict[str, Entry] = {}
    start = 0
    file.seek(0)
    for number, line in enumerate(file, 1):
        entry = _entry(line, start) if line.endswith(b"\n") else None
        if entry is None:
            if file.read(1):
                raise UserError(f"{path}, line {number} is damaged; take it out and run again", code=DATA)
            file.truncate(start)
            break
        entries.setdefault(*entry)
        start += len(line)
    return entries


def _entry(line: bytes, start: int) -> tuple[str, Entry] | None:
    """Picture and entry of a line; None if it is damaged."""
    try:
        data = json.loads(line)
        picture, frame = str(data["picture"]), data.get("frame")
        source = picture if frame is None else picture.rpartition("#")[0]
        return picture, Entry(start, start + len(line), str(data["file"]), source, frame)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
