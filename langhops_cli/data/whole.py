"""A folder that appears whole or not at all, whatever happens while it is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_beside(folder: Path) -> Iterator[Path]:
    """Give an empty folder to write in, which takes the place of `folder` at the end, or vanishes after a fault."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(folder)
    partial = folder.parent / f".{folder.name}.partial-{os.getpid()}"
    partial.mkdir()
    try:
        yield partial
        old = folder.parent / f".{folder.name}.old-{os.getpid()}"
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _clear_leftovers(folder: Path) -> None:
    """Remove what a killed run left, and put back a set that it had moved aside but not replaced."""
    for kind in ("old", "partial"):
        for left in folder.parent.glob(f".{folder.name}.{kind}-*"):
            if _runs(left.name.rpartition("-")[2]):
                continue
            if kind == "old" and not folder.exists():
                left.rename(folder)
            else:
                shutil.rmtree(left, ignore_errors=True)


def _runs(process: str) -> bool:
    """Whether another process of this number is alive."""
    if not process.isdigit() or int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
