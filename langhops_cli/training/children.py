"""Several processes of a command on this machine: started, told of signals, waited for, and heard when one fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

from langhops_cli.errors import DATA, UserError
from langhops_cli.training.distributed import free_port
from langhops_cli.training.launch import TRAINING_RUN, Launch, Work

FAULTS = "LANGHOPS_FAULTS"
"""Names the folder in which a child leaves what went wrong, for its parent to tell."""
PATIENCE = 20.0
"""Seconds that the others get to end by themselves once one has failed; they may wait for it for ever."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass
class Child:
    """One process: its number among all that work together, and how it ended."""

    number: int
    process: subprocess.Popen[bytes]
    ended: int | None = None  # 0, its exit code, or minus the signal that ended it
    given_up: bool = False


@dataclass(frozen=True)
class Fault:
    """What a child left before it ended."""

    number: int
    message: str
    code: int
    expected: bool
    when: float


def run_children(launch: Launch, work: Work = TRAINING_RUN) -> int:
    """Start the processes of a launch and wait until all have ended; SIGTERM and SIGINT are passed on to them.

    Args:
        launch: of the kind "children".
        work: what they do, for messages.

    Returns:
        0; or 128 + the number of a signal that ended them before they could save.

    Raises:
        UserError: one of them failed; its message and its exit code, once for all of them.
    """
    children: list[Child] = []
    asked: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        for child in children:
            if child.process.poll() is None:
                child.process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in SIGNALS} if _is_main() else {}
    with TemporaryDirectory(prefix="langhops-") as place:
        try:
            common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), **launch.env, FAULTS: place}
            children.extend(_start(launch, local, common) for local in range(launch.local))
            if asked:  # while they were started
                forward(asked.pop(), None)
            _wait(children)
        finally:
            for child in children:
                _kill(child)
            for number, handler in before.items():
                signal.signal(number, handler)
        return _outcome(children, _faults(Path(place)), asked, work)


@contextmanager
def reporting() -> Iterator[None]:
    """In a child, leave an error to the parent and end with its code; anywhere else, do nothing.

    A child whose parent is gone stops as if it were asked to: nobody else would ever end it.
    """
    place = os.environ.get(FAULTS)
    if place is None:
        yield
        return
    threading.Thread(target=_follow, args=(os.getppid(),), name="parent", daemon=True).start()
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        message, code = _in_words(error)
        fault = {"message": message, "code": code, "expected": isinstance(error, UserError), "when": time.time()}
        (Path(place) / f"{os.environ['RANK']}.json").write_text(json.dumps(fault), encoding="utf-8")
        raise SystemExit(code) from None


def is_child() -> bool:
    """Whether this process was started by `run_children`."""
    return FAULTS in os.environ


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


def _start(launch: Launch, local: int, common: dict[str, str]) -> Child:
    number = launch.first + local
    place = {"RANK": number, "LOCAL_RANK": local, "WORLD_SIZE": launch.processes, "LOCAL_WORLD_SIZE": launch.local}
    env = os.environ | common | {name: str(value) for name, value in place.items()}
    # A group of its own: Ctrl-C reaches all of the terminal's group, and the child would hear of it twice.
    return Child(number, subprocess.Popen(launch.command, env=env, process_group=0))


def _wait(children: list[Child]) -> None:
    """Until all have ended; those that do not once another has failed are not waited for."""
    deadline = None
    while alive := [child for child in children if child.ended is None]:
        for child in alive:
            child.ended = child.process.poll()
            if child.ended and deadline is None:
                deadline = time.monotonic() + PATIENCE
        if deadline is not None and time.monotonic() > deadline:
            for child in children:
                child.given_up = child.ended is None
            return
        time.sleep(0.1)


def _kill(child: Child) -> None:
    """End a process and those that read pictures for it."""
    if child.process.poll() is None:
        os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()


def _outcome(children: list[Child], faults: list[Fault], asked: list[int], work: Work) -> int:
    bad = [child for child in children if child.ended or child.given_up]
    if not bad:
        return 0
    stopped = next((number for number in asked if any(child.ended in (-number, 128 + number) for child in bad)), None)
    if stopped is not None and not faults:
        return 128 + stopped
    lost = next((child for child in bad if child.ended is not None and child.ended < 0), None)
    if lost is not None and lost.ended is not None:
        name = signal.Signals(-lost.ended).name
        full = f" (a machine whose memory is full does that: {work.relief})" * (name == "SIGKILL")
        raise UserError(f"process {lost.number} was ended by {name}{full}; {work.again}", code=work.code)
    if not faults:
        return next((child.ended for child in bad if child.ended), work.code)  # they have said why themselves
    first = min(faults, key=lambda fault: (not fault.expected, fault.when))
    others = first.number > 0 and (len(faults) == 1 or any(fault.message != first.message for fault in faults))
    raise UserError(f"process {first.number}: {first.message}" if others else first.message, code=first.code)


def _faults(place: Path) -> list[Fault]:
    return [
        Fault(number=int(path.stem), **json.loads(path.read_text(encoding="utf-8"))) for path in place.glob("*.json")
    ]


def _in_words(error: Exception) -> tuple[str, int]:
    if isinstance(error, UserError):
        return str(error), error.code
    if isinstance(error, OSError) and error.strerror:
        return (f"{error.filename}: {error.strerror}" if error.filename else error.strerror), DATA
    first: Any = (str(error).splitlines() or [""])[0]
    return f"unexpected {type(error).__name__}: {first}; run it again with --debug to see where", 1


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)
