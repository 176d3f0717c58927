"""Work shared among processes, its results in order, with only a little of it on the way at any time."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from langhops_cli.errors import ENVIRONMENT, UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 16
"""Items that travel to a process together."""
AHEAD = 4
"""Chunks on the way for each process."""
FEW = 64
"""Items that one process is done with before others have started."""


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """Processes that apply functions to items; a context manager.

    Args:
        number: of processes; below 2 the work is done in this one.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item], *, total: int) -> Iterator[Result]:
        """Apply a function to items, which are taken only as fast as results are.

        Args:
            function: something that can be pickled.
            items: to apply it to.
            total: how many they are; a few are not worth the second that a process needs to start.

        Yields:
            Results in the order of the items.
        """
        if self.number < 2 or (self._pool is None and total <= FEW):
            yield from map(function, items)
            return
        if self._pool is None:
            # Fresh processes instead of copies of this one, whose threads would not be copied with it.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.number, mp_context=context, initializer=_start)
        try:
            yield from self._share(self._pool, function, iter(items))
        except BrokenProcessPool:
            raise UserError(
                "a process that reads pictures was ended from outside, most likely for want of memory; "
                "use fewer with --workers.",
                code=ENVIRONMENT,
            ) from None

    def _share(
        self, pool: ProcessPoolExecutor, function: Callable[[Item], Result], items: Iterator[Item]
    ) -> Iterator[Result]:
        waiting: deque[Future[list[Result]]] = deque()
        while True:
            while len(waiting) < self.number * AHEAD and (chunk := list(islice(items, CHUNK))):
                waiting.append(pool.submit(_apply, function, chunk))
            if not waiting:
                return
            yield from waiting.popleft().result()


def _start() -> None:
    # Ctrl-C goes to the whole group of processes; the first one tells the others to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _apply(function: Callable[[Item], Result], chunk: list[Item]) -> list[Result]:
    return [function(item) for item in chunk]
