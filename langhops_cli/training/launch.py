"""How many processes work together and who starts them: what is there decides, the options only where nothing is."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Literal

from langhops_cli.errors import ENVIRONMENT, TRAINING, USAGE, UserError

JOINED = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
"""What torchrun and DeepSpeed's runner tell each process that they start."""
PORT = 29_500
"""Where processes of several machines meet if MASTER_PORT says nothing else; torch's own default."""


@dataclass(frozen=True)
class Work:
    """What messages say of work that several processes do.

    Args:
        relief: what makes it need less memory.
        again: how to go on after a fault.
        stopped: that it was stopped by a signal.
        code: exit code where a process is ended from outside.
    """

    relief: str = "lower data.batch or data.workers"
    again: str = "run the same command again to go on from the last save"
    stopped: str = "stopped before it could save; the same command goes on from the last save, if there is one"
    code: int = TRAINING


TRAINING_RUN = Work()


@dataclass(frozen=True)
class Launch:
    """How the processes of a command come to be.

    Args:
        kind: "alone" and "joined": this process works, as the only one or as one of several that something else has
            started; "children": this one starts `local` others and waits; "runner": DeepSpeed's runner takes its place.
        processes: that work together, on all machines.
        local: of them on this machine, where that is known, and the number of the first one.
        env: what this process, or every child, gets into its environment.
        command: of a child, or of the runner.
        note: a line for the user.
    """

    kind: Literal["alone", "joined", "children", "runner"]
    processes: int = 1
    local: int = 1
    first: int = 0
    env: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    note: str | None = None


def plan(
    environment: Mapping[str, str],
    *,
    gpus: int | None = None,
    nodes: int | None = None,
    hostfile: Path | None = None,
    seen_gpus: int = 0,
    cores: int = 1,
    arguments: Sequence[str] = (),
) -> Launch:
    """Decide how the processes of a command come to be.

    Args:
        environment: of this process.
        gpus: processes for each machine, as asked for; one when left out.
        nodes: machines, as asked for; one, or all of the host file, when left out.
        hostfile: lists machines with their GPUs, "worker-0 slots=8" a line.
        seen_gpus: that torch can use on this machine.
        cores: that this process may use.
        arguments: of the command line, without the ones above: "train-stage2", "recipe.yaml", ...

    Raises:
        UserError: there are fewer GPUs than asked for, or the options do not go with what started this process.
    """
    asked = [name for name, value in (("--gpus", gpus), ("--nodes", nodes), ("--hostfile", hostfile)) if value]
    if all(name in environment for name in JOINED):
        if asked:
            raise UserError(f"the processes were started by a launcher already: leave {asked[0]} out", code=USAGE)
        count = int(environment["WORLD_SIZE"])
        return Launch("joined", count, int(environment.get("LOCAL_WORLD_SIZE", count)))
    command = (sys.executable, "-m", "langhops_cli", *arguments)
    if _slurm_tasks(environment) > 1:
        return _in_slurm(environment, gpus, nodes, hostfile, seen_gpus, cores, command)
    if hostfile is not None:
        hosts = _chosen_hosts(hostfile, gpus, nodes)
        if list(hosts) not in (["localhost"], ["127.0.0.1"]):
            return _by_runner(hostfile, hosts, gpus, nodes, arguments)
        gpus, nodes = gpus or next(iter(hosts.values())), None
    local = gpus or 1
    _check_gpus(local, seen_gpus)
    if nodes is not None and nodes > 1:
        return _on_several(environment, nodes, local, cores, command)
    if local > 1:
        note = None if seen_gpus else f"torch sees no GPU here: {local} processes work on the CPU"
        return Launch("children", local, local, env=_child_env(environment, local, cores), command=command, note=note)
    idle = seen_gpus > 1 and gpus is None
    return Launch("alone", note=f"1 of {seen_gpus} GPUs is used; --gpus {seen_gpus} uses all" if idle else None)


def expand_hosts(text: str) -> list[str]:
    """The hosts of a SLURM node list, in its order.

    Args:
        text: "node[003-005,9],other" for node003, node004, node005, node9 and other.

    Raises:
        UserError: it is no such list.
    """
    items = re.findall(r"(?:[^,\[\]]|\[[^\[\]]*\])+", text)
    if not items or ",".join(items) != text:
        raise _unreadable(text)
    return [host for item in items for host in _expand(item, text)]


def _expand(item: str, text: str) -> list[str]:
    """One entry of a list, with any number of brackets."""
    plain = re.split(r"\[[^\]]*\]", item)
    choices = [
        [number for part in found.split(",") for number in _range(part, text)]
        for found in re.findall(r"\[([^\]]*)\]", item)
    ]
    return [
        "".join([plain[0], *(a + b for a, b in zip(chosen, plain[1:], strict=True))]) for chosen in product(*choices)
    ]


def _range(part: str, text: str) -> list[str]:
    ends = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
    if ends is None:
        raise _unreadable(text)
    first, last = ends[1], ends[2] or ends[1]
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def _unreadable(text: str) -> UserError:
    return UserError(
        f"SLURM's list of nodes, {text!r}, cannot be read: set MASTER_ADDR to the first of them", code=ENVIRONMENT
    )


def read_hostfile(path: Path) -> dict[str, int]:
    """The machines of a host file, with the GPUs of each.

    Raises:
        UserError: it cannot be read, or a line is not of the form "worker-0 slots=8".
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: the host file cannot be read ({error})", code=USAGE) from None
    hosts: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        found = re.fullmatch(r"(\S+)\s+slots=([1-9]\d*)", entry)
        if found is None or found[1] in hosts:
            raise UserError(f"{path}, line {number}: {entry!r} is not of the form 'worker-0 slots=8', or there twice")
        hosts[found[1]] = int(found[2])
    if not hosts:
        raise UserError(f"{path} names no machine; a line is 'worker-0 slots=8'", code=USAGE)
    return hosts


def _slurm_tasks(environment: Mapping[str, str]) -> int:
    """Processes that srun has started with this one; 0 where it has not.

    The shell of a batch script knows the tasks of its job as well, but it is none of them.
    """
    if "SLURM_PROCID" not in environment or "SLURM_LOCALID" not in environment:
        return 0
    if "SLURM_STEP_NUM_TASKS" in environment:
        return int(environment["SLURM_STEP_NUM_TASKS"])
    return 0 if environment.get("ENVIRONMENT") == "BATCH" else int(environment.get("SLURM_NTASKS", "0"))


def _in_slurm(
    environment: Mapping[str, str],
    gpus: int | None,
    nodes: int | None,
    hostfile: Path | None,
    seen_gpus: int,
    cores: int,
    command: tuple[str, ...],
) -> Launch:
    """This process is one of a SLURM step: it works itself or, as the only one of its node, starts others there."""
    tasks, place = _slurm_tasks(environment), int(environment["SLURM_PROCID"])
    if hostfile is not None or nodes not in (None, tasks):
        raise UserError("srun has started the processes already: leave --nodes and --hostfile out", code=USAGE)
    meeting = _slurm_meeting(environment)
    if gpus is not None:
        machines = int(environment.get("SLURM_STEP_NUM_NODES") or environment.get("SLURM_NNODES") or "0")
        if machines != tasks:
            raise UserError(
                f"srun has started {tasks} processes on {machines} nodes: leave --gpus out, or start one on each node",
                code=USAGE,
            )
        _check_gpus(gpus, seen_gpus)
        env = meeting | _child_env(environment, gpus, cores)
        return Launch("children", tasks * gpus, gpus, place * gpus, env, command)
    local = int(environment["SLURM_LOCALID"])
    # Where SLURM shows each task its own GPU alone, that is number 0 to it.
    device = local % seen_gpus if seen_gpus else local
    env = meeting | {"RANK": str(place), "WORLD_SIZE": str(tasks), "LOCAL_RANK": str(device)}
    return Launch("joined", tasks, _tasks_of_node(environment, tasks), env=env)


def _slurm_meeting(environment: Mapping[str, str]) -> dict[str, str]:
    """Where the processes of a SLURM step meet: on its first node, at a port that follows from its number."""
    address = environment.get("MASTER_ADDR")
    if address is None:
        lists = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
        address = expand_hosts(next((environment[name] for name in lists if environment.get(name)), ""))[0]
    job = int(environment.get("SLURM_JOB_ID") or environment.get("SLURM_JOBID") or "0")
    step = int(environment.get("SLURM_STEP_ID") or "0")
    port = 10_000 + (job * 7 + step) % 20_000  # below the ports that the system gives away
    return {"MASTER_ADDR": address, "MASTER_PORT": environment.get("MASTER_PORT", str(port))}


def _tasks_of_node(environment: Mapping[str, str], tasks: int) -> int:
    """Tasks on the first node, of "4(x2),3"."""
    text = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE") or ""
    found = re.match(r"\d+", text)
    return int(found[0]) if found else tasks


def _chosen_hosts(hostfile: Path, gpus: int | None, nodes: int | None) -> dict[str, int]:
    """The first `nodes` machines of a host file, all when left out; each has as many GPUs as are asked for."""
    hosts = read_hostfile(hostfile)
    if nodes is not None and nodes > len(hosts):
        raise UserError(f"--nodes {nodes}: {hostfile} names {len(hosts)}", code=USAGE)
    chosen = dict(list(hosts.items())[:nodes])
    for host, slots in chosen.items():
        if gpus is not None and gpus > slots:
            raise UserError(f"--gpus {gpus}: {host} has {slots} in {hostfile}", code=ENVIRONMENT)
    return chosen


def _by_runner(
    hostfile: Path, hosts: Mapping[str, int], gpus: int | None, nodes: int | None, arguments: Sequence[str]
) -> Launch:
    """DeepSpeed's runner starts the processes by ssh."""
    options = ["--hostfile", str(hostfile), "--no_local_rank", "--log_level", "warning"]
    options += ["--num_nodes", str(nodes)] if nodes is not None else []
    options += ["--num_gpus", str(gpus)] if gpus is not None else []
    options += ["--force_multi"] if len(hosts) == 1 else []  # else it would take a single machine for this one
    command = (sys.executable, "-m", "deepspeed.launcher.runner", *options, "--module", "langhops_cli", *arguments)
    each = [gpus or slots for slots in hosts.values()]
    return Launch("runner", sum(each), each[0], command=command)


def _on_several(environment: Mapping[str, str], nodes: int, local: int, cores: int, command: tuple[str, ...]) -> Launch:
    """The same command is started on every machine; the environment says where they meet and which one this is."""
    if not environment.get("MASTER_ADDR") or not environment.get("NODE_RANK", "").isdigit():
        raise UserError(
            f"--nodes {nodes}: start it with srun, or name the machines with --hostfile, or start the same command on "
            "each of them with MASTER_ADDR=FIRST_HOST and NODE_RANK=0, 1, ... set",
            code=USAGE,
        )
    place = int(environment["NODE_RANK"])
    if place >= nodes:
        raise UserError(f"NODE_RANK is {place}, and --nodes {nodes} counts them from 0 to {nodes - 1}", code=USAGE)
    meeting = {"MASTER_ADDR": environment["MASTER_ADDR"], "MASTER_PORT": environment.get("MASTER_PORT", str(PORT))}
    env = meeting | _child_env(environment, local, cores)
    return Launch("children", nodes * local, local, place * local, env, command)


def _check_gpus(wanted: int, seen: int) -> None:
    if 0 < seen < wanted:
        raise UserError(f"--gpus {wanted}: torch can use {seen} here; ask for {seen} at most", code=ENVIRONMENT)


def _child_env(environment: Mapping[str, str], local: int, cores: int) -> dict[str, str]:
    """Each child has its share of the cores: torch would give all of them to each."""
    return {} if "OMP_NUM_THREADS" in environment else {"OMP_NUM_THREADS": str(max(1, cores // local))}
