"""Stopping in good order: a signal, or the end of the time that a run was given."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self


class Interruption:
    """Turns SIGTERM and SIGINT into a wish to stop that the loop reads between two steps.

    A second signal acts as it would without us, so that a run that hangs can be ended.

    Args:
        minutes: after which the wish arises by itself; None for never.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, *, minutes: float | None = None) -> None:
        self._deadline = None if minutes is None else time.monotonic() + 60 * minutes
        self._minutes = minutes
        self._signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in self.SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._restore()

    @property
    def reason(self) -> str | None:
        """Why the run is to stop now; None while it is not."""
        if self._signal is not None:
            return signal.Signals(self._signal).name
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return f"{self._minutes:g} minutes are over"
        return None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
