"""How many processes a command takes: the options of those that may take several, and who starts them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Exit, Option

from langhops_cli.cli.console import note, print_error
from langhops_cli.errors import ENVIRONMENT, UserError

if TYPE_CHECKING:
    from langhops_cli.training.launch import Launch, Work

GpusOption = Annotated[
    int | None,
    Option(
        "--gpus",
        min=1,
        help="Processes on each machine, one a GPU, or on the CPU where there is none; 1 when left out.",
    ),
]
NodesOption = Annotated[
    int | None,
    Option(
        "--nodes",
        min=1,
        help="Machines. Run the same command on each with MASTER_ADDR=FIRST_HOST and NODE_RANK=0, 1, ... set, or give "
        "--hostfile. Under srun, torchrun or deepspeed leave it out: they have started the processes.",
    ),
]
HostfileOption = Annotated[
    Path | None,
    Option("--hostfile", help="Machines to start it on by ssh (DeepSpeed's runner, pdsh): 'worker-0 slots=8' a line."),
]


@dataclass(frozen=True)
class Processes:
    """What the command line says of processes."""

    gpus: int | None = None
    nodes: int | None = None
    hostfile: Path | None = None

    @property
    def asked(self) -> str | None:
        """The first of the options that was given."""
        given = (("--gpus", self.gpus), ("--nodes", self.nodes), ("--hostfile", self.hostfile))
        return next((name for name, value in given if value is not None), None)


@contextmanager
def once_a_machine() -> Iterator[None]:
    """What is wrong for one process of a machine is wrong for all of them; only its first one says so."""
    try:
        yield
    except UserError as error:
        if os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) == "0":
            raise
        raise SystemExit(error.code) from None


@contextmanager
def machine_errors(*, memory: str, lost: str) -> Iterator[None]:
    """Turn errors of the machine, memory that runs out or a rank that is gone, into a line for the user.

    Args:
        memory: what to do when memory ran out.
        lost: what to know when another process has ended; of those that are left the first one says it.
    """
    from langhops_cli.training.distributed import is_first
    from langhops_cli.training.faults import LOST, NO_MEMORY

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        said = str(error)
        if isinstance(error, MemoryError) or any(text in said for text in NO_MEMORY):
            raise UserError(f"memory ran out: {memory}", code=ENVIRONMENT) from error
        if not any(text in said for text in LOST):
            raise
        if not is_first():
            raise SystemExit(ENVIRONMENT) from None
        raise UserError(f"another process has ended or does not answer; {lost}", code=ENVIRONMENT) from None


def take_part(processes: Processes, arguments: Sequence[str], work: Work, *, device: str | None) -> bool:
    """Join the processes of a command, or have others do its work.

    Args:
        processes: as asked for.
        arguments: of the command line, without those of `processes`.
        work: what they do, for messages.
        device: as asked for, if so; with "cpu" no process sees a GPU.

    Returns:
        Whether there is work for this process; otherwise others have done it.

    Raises:
        UserError, Exit: as `plan_processes` and `hand_over`.
    """
    from langhops_cli.training.distributed import join_processes, prepare_environment

    if device == "cpu" and (processes.asked is not None or "RANK" in os.environ):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # else the processes would meet on GPUs
    with once_a_machine():
        prepare_environment()
        launch = plan_processes(processes, arguments)
    if hand_over(launch, work):
        return False
    if launch.kind == "joined":
        os.environ.update(launch.env)
        join_processes()
    return True


def plan_processes(processes: Processes, arguments: Sequence[str]) -> Launch:
    """Decide how the processes of a command come to be.

    Args:
        processes: as asked for.
        arguments: of the command line, without those of `processes`: "train-stage2", "recipe.yaml", ...

    Raises:
        UserError: there are fewer GPUs than asked for, or the options do not go with what started this process.
    """
    import torch

    from langhops_cli.checkpoint.hardware import count_cores
    from langhops_cli.training.launch import plan

    return plan(
        os.environ,
        gpus=processes.gpus,
        nodes=processes.nodes,
        hostfile=processes.hostfile,
        seen_gpus=torch.cuda.device_count(),
        cores=count_cores(),
        arguments=[*arguments, *(["--debug"] if "--debug" in sys.argv else [])],
    )


def hand_over(launch: Launch, work: Work) -> bool:
    """Have other processes do the work of this command, where that is planned.

    Args:
        launch: of this command.
        work: what they do, for messages.

    Returns:
        Whether they have; otherwise it is this process's.

    Raises:
        UserError: one of them failed, or what is to start them is not installed.
        Exit: a signal ended them.
    """
    if launch.note is not None:
        note(launch.note)
    if launch.kind == "children":
        from langhops_cli.training.children import run_children

        if code := run_children(launch, work):
            print_error(work.stopped)
            raise Exit(code)
        return True
    if launch.kind == "runner":
        if shutil.which("pdsh") is None:
            raise UserError(
                "--hostfile starts processes by pdsh, which is not installed: install it (apt install pdsh), or run "
                "the same command on every machine with --nodes",
                code=ENVIRONMENT,
            )
        sys.stdout.flush()
        os.execve(launch.command[0], launch.command, {**os.environ, **launch.env})
    return False
