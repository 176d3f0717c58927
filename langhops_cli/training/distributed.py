"""The processes (ranks) of a run: how they find one another, agree, and wait for the first of them."""

from __future__ import annotations

import atexit
import logging
import os
import socket
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from langhops_cli.errors import UserError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
MARGIN = timedelta(minutes=2)
"""How much longer than the watchdog the collectives of the training wait, so that it speaks first."""
PATIENCE = timedelta(days=7)
"""How long the ranks wait for the first one while it measures or saves; a rank that dies is noticed at once."""
_control: list[Any] = []  # the group in which the ranks agree, once they are several: on the CPU, and patient


def prepare_environment() -> None:
    """Set what has to be set before torch is imported; what the user has set stays."""
    # Idle threads that spin slow a machine 15 times down as soon as anything else uses a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def join_processes(*, hang_minutes: float = 30.0) -> None:
    """Take part in the process group: the launcher's, or a group of one.

    DeepSpeed looks for MPI when RANK and its fellows are missing, and asks a second time for a group that exists.

    Args:
        hang_minutes: after which a rank that waits for another one counts as hanging.
    """
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(device())
    else:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if "RANK" not in os.environ:
        alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
        os.environ.update(alone, MASTER_PORT=str(free_port()))
    _quiet()
    import deepspeed

    # The shared-memory kernels compile for most of a minute at first use; gloo does without.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    _quiet()
    if not deepspeed.comm.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        deepspeed.init_distributed(backend, verbose=False, timeout=timedelta(minutes=hang_minutes) + MARGIN)
        atexit.register(_leave)
    if world_size() > 1 and not _control:
        _control.append(torch.distributed.new_group(backend="gloo", timeout=PATIENCE))


def _leave() -> None:
    """Leave the groups on the CPU while the interpreter is whole.

    Their threads still hold tensors, and now and then the end of Python turns that into an abort. A group of NCCL
    stays, as the ranks would have to leave it together and one that failed is alone.
    """
    import torch

    if not torch.distributed.is_initialized():
        return
    if torch.distributed.get_backend() == "gloo":
        torch.distributed.destroy_process_group()
    elif _control:
        torch.distributed.destroy_process_group(_control[0])
    _control.clear()


def device() -> torch.device:
    """Where this process computes."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the one that writes what all share."""
    return rank() == 0


def largest(value: int) -> int:
    """The largest of the values that the ranks bring; all of them have to ask."""
    if world_size() == 1:
        return value
    import torch

    agreed = torch.tensor(value)
    torch.distributed.all_reduce(agreed, torch.distributed.ReduceOp.MAX, group=_control[0])
    return int(agreed)


def mean(values: Sequence[float]) -> list[float]:
    """The mean over the ranks of each of as many numbers on every rank; all of them have to ask."""
    if world_size() == 1:
        return list(values)
    import torch

    sums = torch.tensor(values, dtype=torch.float64)
    torch.distributed.all_reduce(sums, group=_control[0])
    return (sums / world_size()).tolist()


def gather(value: T) -> list[T]:
    """What every rank brings, in their order; all of them have to ask. It is also a barrier."""
    if world_size() == 1:
        return [value]
    import torch

    found: list[Any] = [None] * world_size()
    torch.distributed.all_gather_object(found, value, group=_control[0])
    return found


def shared(value: T) -> T:
    """What the first rank brings; all of them have to ask, and wait for it."""
    if world_size() == 1:
        return value
    import torch

    box: list[Any] = [value]
    torch.distributed.broadcast_object_list(box, src=0, group=_control[0])
    return box[0]


def together(work: Callable[[], T]) -> T:
    """Let every rank do its work; where one of them cannot, all end.

    Returns:
        What this rank's work returns.

    Raises:
        UserError: this is the first rank that has one; the others exit with its code, without a word.
    """
    result, problem = None, None
    try:
        result = work()
    except UserError as error:
        problem = error
    codes = gather(None if problem is None else problem.code)
    failed = next((number for number, code in enumerate(codes) if code is not None), None)
    if failed is None:
        return result  # type: ignore[return-value]
    if failed == rank() and problem is not None:
        raise problem
    raise SystemExit(codes[failed])


def end_all(error: UserError) -> NoReturn:
    """End every rank with an error that all of them have met; only the first says it."""
    raise error if is_first() else SystemExit(error.code)


def free_port() -> int:
    """A port of this machine that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _quiet() -> None:
    """Keep DeepSpeed's progress notes off the terminal; its warnings and errors stay."""
    os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "warning")
    for name in ("DeepSpeed", "deepspeed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="deepspeed")
    # what DeepSpeed calls by its old name is no business of the user
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
