"""Stopping in good order: a signal, or the end of the time that a run was given."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

TIME = 1
"""Stands for the end of the time among the numbers of signals."""


class Interruption:
    """Turns SIGTERM and SIGINT into a wish to stop that the loop reads between two steps.

    A second signal acts as it would without us, so that a run that hangs can be ended. What comes within `GRACE` of
    the first one is the same wish: a scheduler and a launcher often both pass it on.

    Args:
        minutes: after which the wish arises by itself; None for never.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)
    GRACE = 2.0

    def __init__(self, *, minutes: float | None = None) -> None:
        self._deadline = None if minutes is None else time.monotonic() + 60 * minutes
        self._minutes = minutes
        self._signal: int | None = None
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in self.SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._restore()

    @property
    def code(self) -> int:
        """Why this rank is to stop now, as a number that the ranks can compare: 0 while it is not."""
        if self._signal is not None:
            return self._signal
        return TIME if self._deadline is not None and time.monotonic() >= self._deadline else 0

    def reason(self, code: int) -> str:
        """What a code says, in words; it may be another rank's."""
        return f"{self._minutes:g} minutes are over" if code == TIME else signal.Signals(code).name

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._signal is None:
            self._signal, self._since = number, now
        elif now - self._since >= self.GRACE:
            self._restore()
            os.kill(os.getpid(), number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
