"""A run that hangs says where, and ends: a GPU that waits for ever costs as much as one that works."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from langhops_cli.errors import TRAINING

GRACE = 60.0
"""Most seconds that a rank which has spoken lives on: its end would end those that wait for it before they speak."""


class Watchdog:
    """Ends this process when it has not begun another batch, nor come to its end, for too long.

    What all its threads are doing, and which pictures it was at, goes to `RUN/hang/rankN.txt` and to the terminal.
    Every rank has its own; they wait for one another, so that all speak when one of them hangs.

    Args:
        folder: `RUN/hang`; made when there is something to write.
        minutes: how long is too long.
        rank: number of this process.
    """

    def __init__(self, folder: Path, *, minutes: float, rank: int) -> None:
        self._path = folder / f"rank{rank}.txt"
        self._minutes = minutes
        self._rank = rank
        self.step = 0
        """The step that is under way, from 1; 0 before the first."""
        self._pictures: tuple[str, ...] = ()
        self._since = time.monotonic()
        self._paused = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._since = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def at(self, step: int, pictures: Sequence[str]) -> None:
        """A batch begins: of which step, from 1, and of which pictures; none while it is waited for."""
        self.step, self._pictures = step, tuple(pictures)
        self._since = time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While it lasts, nothing is too long: a measurement, for which the other ranks wait."""
        self._paused += 1
        try:
            yield
        finally:
            self._paused -= 1
            self._since = time.monotonic()

    def _watch(self) -> None:
        limit = 60 * self._minutes
        while not self._over.wait(min(limit / 4, 10.0)):
            if not self._paused and time.monotonic() - self._since > limit:
                self._bark()

    def _bark(self) -> None:
        where = f"step {self.step}" if self.step else "the first batch"
        pictures = ", ".join(self._pictures) or "none, it is still read"
        head = f"rank {self._rank}, {where}, {self._minutes:g} minutes without a batch; its pictures: {pictures}\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("w", encoding="utf-8") as file:
                file.write(head)
                file.flush()
                faulthandler.dump_traceback(file)
        except OSError:
            pass  # a disk that is gone may be why it hangs; the terminal still hears of it
        error = sys.__stderr__
        if error is not None:
            error.write(head)
            error.flush()
            faulthandler.dump_traceback(error)
            error.write(
                f"error: {where}: rank {self._rank} hangs, or waits for one that does; what it was at is in "
                f"{self._path}; run the same command again to go on from the last save, with a larger "
                "distributed.hang_minutes if it was only slow\n"
            )
            error.flush()
        time.sleep(min(30 * self._minutes, GRACE))
        os._exit(TRAINING)
