"""What this process may use of the machine: cores, memory, disk and GPUs, with the limits that a container sets."""

from __future__ import annotations

import math
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path("/")
NO_CUDA = "none: this build of torch has no CUDA"


@dataclass(frozen=True)
class Gpu:
    """A GPU that torch can use."""

    name: str
    memory_bytes: int
    bf16: bool


@dataclass(frozen=True)
class Hardware:
    """What there is; None where it cannot be known. `why_no_gpu` says more where torch finds none."""

    cores: int
    memory_bytes: int | None
    free_memory_bytes: int | None
    cache: str | None
    free_disk_bytes: int | None
    gpus: tuple[Gpu, ...] = ()
    mps: bool = False
    why_no_gpu: str = ""


def read_hardware(*, torch: Any | None, cache: Path | None) -> Hardware:
    """Look at this machine.

    Args:
        torch: the module, or None where it cannot be imported; GPUs are unknown then.
        cache: folder that downloads go to; it need not exist yet.
    """
    total, free = read_memory()
    gpus, why = ((), "unknown without torch") if torch is None else read_gpus(torch)
    return Hardware(
        cores=count_cores(),
        memory_bytes=total,
        free_memory_bytes=free,
        cache=None if cache is None else str(cache),
        free_disk_bytes=None if cache is None else free_disk(cache),
        gpus=gpus,
        mps=torch is not None and torch.backends.mps.is_available(),
        why_no_gpu=why,
    )


def count_cores(root: Path = ROOT) -> int:
    """Count the cores that this process may use: those it is bound to, fewer where a container allows less time."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = []
    for folder in _control_groups(root, "cpu"):
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota is None or period is None:
            both = [*_text(folder / "cpu.max").split(), "", ""]
            quota, period = _whole(both[0]), _whole(both[1])
        if quota is not None and quota > 0 and period:
            shares.append(math.ceil(quota / period))
    return min([bound, *shares])


def read_memory(root: Path = ROOT) -> tuple[int | None, int | None]:
    """Read the host memory that this process may have, and how much of it is free.

    Args:
        root: of the file system.

    Returns:
        Both in bytes, within the limit of a container; None for what the system does not tell.
    """
    lines = dict(line.split(":", 1) for line in _text(root / "proc/meminfo").splitlines() if ":" in line)
    kilobytes = {name: int(lines[name].split()[0]) for name in ("MemTotal", "MemAvailable") if name in lines}
    total, free = (kilobytes[name] * 1024 if name in kilobytes else None for name in ("MemTotal", "MemAvailable"))
    if total is None:
        return _pages(), None
    for folder in _control_groups(root, "memory"):
        limit = _first_number(folder, "memory.max", "memory.limit_in_bytes")
        if limit is None:
            continue
        total = min(total, limit)
        used = _first_number(folder, "memory.current", "memory.usage_in_bytes")
        if used is not None and free is not None:
            free = min(free, max(0, limit - (used - _reclaimable(folder))))
    return total, free


def free_disk(folder: Path) -> int | None:
    """Return the free bytes where a folder lies, or will lie; None where the system does not tell."""
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        return shutil.disk_usage(there).free
    except (OSError, StopIteration):
        return None


def read_gpus(torch: Any) -> tuple[tuple[Gpu, ...], str]:
    """Ask torch for the GPUs it can use.

    Args:
        torch: the module.

    Returns:
        The GPUs; and where there are none, why, as far as torch knows.
    """
    with warnings.catch_warnings(record=True) as caught:  # torch only warns of a driver that does not fit
        warnings.simplefilter("always")
        try:
            if torch.cuda.is_available():
                found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
                rocm = bool(torch.version.hip)
                return tuple(Gpu(p.name, p.total_memory, rocm or p.major >= 8) for p in found), ""
        except (RuntimeError, AssertionError) as error:
            return (), f"torch cannot use it: {_sentence(error)}"
    if torch.version.cuda is None and torch.version.hip is None:
        return (), NO_CUDA
    return (), next((f"torch finds none: {_sentence(warning.message)}" for warning in caught), "torch finds none")


def _sentence(problem: object) -> str:
    """The first sentence of what torch says."""
    return " ".join(str(problem).split()).partition(". ")[0].rstrip(".") or type(problem).__name__


def _control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the groups that limit this process, its own first, of both versions of Linux's control groups.

    Inside a container the own group may be listed by a path of the host that is not to be seen; the last folder, the
    top of what is to be seen, holds the container's limit then.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        top = root / "sys/fs/cgroup"
        if controllers:
            if controller not in controllers.split(","):
                continue
            top /= controller
        folder = top.joinpath(*(name for name in path.split("/") if name not in ("", "..")))
        while folder != top:
            yield folder
            folder = folder.parent
        yield top


def _reclaimable(folder: Path) -> int:
    """Bytes of files that the system has read and gives up at once when memory is wanted."""
    fields = dict(line.split(maxsplit=1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
    return int(fields.get("total_inactive_file", fields.get("inactive_file", "0")))


def _first_number(folder: Path, *names: str) -> int | None:
    return next((number for name in names if (number := _number(folder / name)) is not None), None)


def _number(path: Path) -> int | None:
    return _whole(_text(path).strip())


def _whole(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _pages() -> int | None:
    """All memory in bytes where there is no /proc, as on macOS."""
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    return pages * size if pages > 0 and size > 0 else None
