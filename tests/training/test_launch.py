"""How the processes of a training come to be, and how those that were started here end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from langhops_cli.errors import UserError
from langhops_cli.training import children
from langhops_cli.training.children import run_children
from langhops_cli.training.launch import Launch, expand_hosts, plan, read_hostfile

from .tiny import make_recipe

REPOSITORY = Path(__file__).parents[2]
TASK = {"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "1234567"}
NODES = {"SLURM_NODELIST": "gpu[07-08]", "SLURM_NNODES": "2", "SLURM_TASKS_PER_NODE": "2(x2)"}
WORDS = ("train-stage2", "ins_part", "data.batch=1")


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("node[003-005,9],other", ["node003", "node004", "node005", "node9", "other"]),
        ("login", ["login"]),
        ("a[8-11]", ["a8", "a9", "a10", "a11"]),
        ("r[1-2]n[01,03].cluster,z", ["r1n01.cluster", "r1n03.cluster", "r2n01.cluster", "r2n03.cluster", "z"]),
    ],
)
def test_lists_of_nodes_are_read_in_their_order(text: str, hosts: list[str]) -> None:
    assert expand_hosts(text) == hosts


@pytest.mark.parametrize("text", ["", "a[1-", "a[x]", "a,,b", "a[]", "a]1["])
def test_what_is_no_list_of_nodes_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="set MASTER_ADDR") as caught:
        expand_hosts(text)
    assert caught.value.code == 4


def test_one_process_is_the_default_and_idle_gpus_are_told_of() -> None:
    assert plan({}) == Launch("alone")
    assert plan({}, gpus=1, seen_gpus=8).note is None
    assert plan({}, seen_gpus=1).note is None
    assert plan({}, seen_gpus=8) == Launch("alone", note="1 of 8 GPUs is used; --gpus 8 uses all")


def test_several_gpus_are_several_children() -> None:
    launch = plan({}, gpus=4, seen_gpus=8, cores=16, arguments=WORDS)
    assert (launch.kind, launch.processes, launch.local, launch.first) == ("children", 4, 4, 0)
    assert launch.command == (sys.executable, "-m", "langhops_cli", *WORDS)
    assert launch.env == {"OMP_NUM_THREADS": "4"}
    assert launch.note is None
    assert plan({"OMP_NUM_THREADS": "3"}, gpus=4, seen_gpus=8, cores=16).env == {}
    assert plan({}, gpus=4, seen_gpus=8, cores=2).env == {"OMP_NUM_THREADS": "1"}


def test_without_a_gpu_the_children_train_on_the_cpu_and_with_too_few_none_does() -> None:
    assert plan({}, gpus=2).note == "torch sees no GPU here: 2 processes work on the CPU"
    with pytest.raises(UserError, match=r"--gpus 4: torch can use 2 here; ask for 2 at most") as caught:
        plan({}, gpus=4, seen_gpus=2)
    assert caught.value.code == 4


def test_a_launcher_that_is_there_has_decided() -> None:
    joined = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
    assert plan(joined, seen_gpus=4) == Launch("joined", 8, 4)
    assert plan(joined | TASK | NODES) == Launch("joined", 8, 4)
    with pytest.raises(UserError, match="leave --gpus out") as caught:
        plan(joined, gpus=2)
    assert caught.value.code == 2


def test_a_task_of_slurm_knows_its_place() -> None:
    launch = plan(TASK | NODES, seen_gpus=2)
    assert (launch.kind, launch.processes, launch.local) == ("joined", 4, 2)
    port = int(launch.env["MASTER_PORT"])
    assert 10_000 <= port < 30_000
    assert launch.env == {
        "RANK": "3",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "4",
        "MASTER_ADDR": "gpu07",
        "MASTER_PORT": str(port),
    }
    assert plan(TASK | NODES | {"SLURM_PROCID": "0"}).env["MASTER_PORT"] == str(port)
    assert plan(TASK | NODES | {"SLURM_JOB_ID": "1234568"}).env["MASTER_PORT"] != str(port)
    given = plan(TASK | NODES | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "12"}).env
    assert (given["MASTER_ADDR"], given["MASTER_PORT"]) == ("10.0.0.1", "12")


def test_a_task_that_sees_its_own_gpu_alone_takes_that() -> None:
    assert plan(TASK | NODES, seen_gpus=1).env["LOCAL_RANK"] == "0"


def test_the_step_counts_and_not_the_job() -> None:
    step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "gpu08", "SLURM_STEP_TASKS_PER_NODE": "2"}
    launch = plan(TASK | NODES | step | {"SLURM_PROCID": "1"})
    assert (launch.processes, launch.env["MASTER_ADDR"]) == (2, "gpu08")
    assert plan(TASK | NODES | {"SLURM_STEP_NUM_TASKS": "1"}).kind == "alone"
    assert plan(TASK | NODES | {"ENVIRONMENT": "BATCH"}).kind == "alone", "the shell of a batch script is no task"


def test_one_task_a_node_starts_the_processes_of_its_node() -> None:
    one = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}
    launch = plan(TASK | NODES | one, gpus=8, seen_gpus=8, cores=32, arguments=WORDS)
    assert (launch.kind, launch.processes, launch.local, launch.first) == ("children", 16, 8, 8)
    assert launch.env["MASTER_ADDR"] == "gpu07"
    assert launch.env["OMP_NUM_THREADS"] == "4"
    with pytest.raises(UserError, match="srun has started 4 processes on 2 nodes: leave --gpus out"):
        plan(TASK | NODES, gpus=2, seen_gpus=2)
    with pytest.raises(UserError, match="leave --nodes and --hostfile out"):
        plan(TASK | NODES, nodes=2)


def test_the_same_command_on_every_machine_makes_one_training() -> None:
    here = {"MASTER_ADDR": "first", "NODE_RANK": "1"}
    launch = plan(here, gpus=8, nodes=2, seen_gpus=8, cores=8, arguments=WORDS)
    assert (launch.kind, launch.processes, launch.local, launch.first) == ("children", 16, 8, 8)
    assert launch.env == {"MASTER_ADDR": "first", "MASTER_PORT": "29500", "OMP_NUM_THREADS": "1"}
    assert plan(here, nodes=2).processes == 2
    with pytest.raises(UserError, match="MASTER_ADDR=FIRST_HOST and NODE_RANK=0, 1"):
        plan({}, nodes=2)
    with pytest.raises(UserError, match="NODE_RANK is 2, and --nodes 2 counts them from 0 to 1"):
        plan(here | {"NODE_RANK": "2"}, nodes=2)


def test_a_host_file_is_for_the_runner_of_deepspeed(tmp_path: Path) -> None:
    """What the runner is told, as it understands it."""
    from deepspeed.launcher.runner import fetch_hostfile, parse_args

    file = tmp_path / "hosts"
    file.write_text("# ours\nworker-0 slots=8\n\nworker-1 slots=4  # smaller\n")
    launch = plan({}, hostfile=file, arguments=WORDS)
    assert (launch.kind, launch.processes) == ("runner", 12)
    assert launch.command[:3] == (sys.executable, "-m", "deepspeed.launcher.runner")
    told = parse_args(launch.command[3:])
    assert fetch_hostfile(told.hostfile) == read_hostfile(file) == {"worker-0": 8, "worker-1": 4}
    assert (told.module, told.user_script, tuple(told.user_args)) == (True, "langhops_cli", WORDS)
    assert (told.no_local_rank, told.force_multi, told.num_nodes, told.num_gpus) == (True, False, -1, -1)

    fewer = plan({}, hostfile=file, gpus=2, nodes=1, arguments=WORDS)
    told = parse_args(fewer.command[3:])
    assert (told.force_multi, told.num_nodes, told.num_gpus, fewer.processes) == (True, 1, 2, 2)
    with pytest.raises(UserError, match="--gpus 8: worker-1 has 4"):
        plan({}, hostfile=file, gpus=8)
    with pytest.raises(UserError, match=r"--nodes 3: .*hosts names 2"):
        plan({}, hostfile=file, nodes=3)


def test_a_host_file_of_this_machine_needs_no_runner(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("localhost slots=2\n")
    assert plan({}, hostfile=file, seen_gpus=2) == plan({}, gpus=2, seen_gpus=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no machine"),
        ("worker-0\n", "line 1: 'worker-0' is not of the form"),
        ("a slots=2\na slots=2\n", "line 2: .* there twice"),
        ("a slots=0\n", "line 1"),
    ],
)
def test_a_host_file_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "hosts"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        read_hostfile(file)
    with pytest.raises(UserError, match="cannot be read"):
        read_hostfile(tmp_path / "missing")


def start(script: str, *, local: int = 2, **changes: Any) -> Launch:
    """Children that run a script with `rank` and `place`, the folder of the test."""
    prelude = "import os, sys, time, signal\nfrom pathlib import Path\nrank = int(os.environ['RANK'])\n"
    place = f"place = Path({str(Path.cwd())!r})\n"
    return Launch(
        "children", local, local, command=(sys.executable, "-c", prelude + place + textwrap.dedent(script)), **changes
    )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that children write to; they find the package from the repository."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_children_know_one_another(place: Path) -> None:
    script = """
        names = ("LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS")
        (place / str(rank)).write_text(" ".join(os.environ[name] for name in names))
    """
    assert run_children(start(script, first=2, env={"OMP_NUM_THREADS": "1"})) == 0
    told = [(place / str(rank)).read_text().split() for rank in (2, 3)]
    assert [words[:4] for words in told] == [["0", "2", "2", "127.0.0.1"], ["1", "2", "2", "127.0.0.1"]]
    assert told[0][4] == told[1][4]
    assert told[0][5] == "1"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


REPORT = """
    from langhops_cli.errors import UserError
    from langhops_cli.training.children import reporting
    with reporting():
"""


def test_what_one_child_says_is_said_once_with_its_code(place: Path) -> None:
    with pytest.raises(UserError) as caught:
        run_children(start(REPORT + "        raise UserError('the disk is full', code=5)"))
    assert (str(caught.value), caught.value.code) == ("the disk is full", 5)
    with pytest.raises(UserError) as caught:
        run_children(start(REPORT + "        if rank == 1: raise UserError('no picture', code=3)"))
    assert (str(caught.value), caught.value.code) == ("process 1: no picture", 3)


def test_an_error_of_ours_comes_after_one_that_says_what_to_do(place: Path) -> None:
    script = """
        if rank == 0: raise KeyError("x")
        time.sleep(0.5)
        raise UserError("no picture", code=3)
    """
    with pytest.raises(UserError, match=r"^process 1: no picture$"):
        run_children(start(REPORT + textwrap.indent(textwrap.dedent(script), " " * 8)))
    with pytest.raises(UserError, match=r"^unexpected KeyError: 'x'; run it again with --debug") as caught:
        run_children(start(REPORT + "        raise KeyError('x')", local=1))
    assert caught.value.code == 1


def test_one_that_is_killed_takes_the_others_along(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "PATIENCE", 0.3)
    script = """
        (place / str(rank)).write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL) if rank == 1 else time.sleep(600)
    """
    with pytest.raises(UserError, match=r"process 1 was ended by SIGKILL \(a machine whose memory is full") as caught:
        run_children(start(script))
    assert caught.value.code == 5
    with pytest.raises(ProcessLookupError):
        os.kill(int((place / "0").read_text()), 0)


def test_a_child_that_has_spoken_itself_only_gives_its_code(place: Path) -> None:
    assert run_children(start("sys.exit(4 if rank == 0 else 0)")) == 4


def signal_when(files: list[Path], number: int) -> None:
    """Send this process a signal as soon as all of the files are there."""

    def wait() -> None:
        deadline = time.monotonic() + 60
        while not all(file.exists() for file in files) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    threading.Thread(target=wait, daemon=True).start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_once_and_waited_for(place: Path, number: int) -> None:
    script = """
        heard = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: heard.append(number))
        (place / f"{rank}.ready").touch()
        while not heard: time.sleep(0.05)
        time.sleep(0.5)
        (place / f"{rank}.heard").write_text(repr([int(number) for number in heard]))
    """
    signal_when([place / "0.ready", place / "1.ready"], number)
    assert run_children(start(script)) == 0
    assert [(place / f"{rank}.heard").read_text() for rank in (0, 1)] == [f"[{int(number)}]"] * 2


def test_children_that_could_not_save_end_with_the_code_of_the_signal(place: Path) -> None:
    signal_when([place / "0.ready", place / "1.ready"], signal.SIGTERM)
    script = "(place / f'{rank}.ready').touch(); time.sleep(600)"
    assert run_children(start(script)) == 128 + signal.SIGTERM


def test_children_whose_parent_is_killed_stop_in_good_order(place: Path) -> None:
    child = textwrap.dedent("""
        import os, signal, time
        from pathlib import Path
        from langhops_cli.training.children import reporting
        heard = []
        signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
        with reporting():
            Path("ready").touch()
            while not heard: time.sleep(0.05)
            Path("saved").touch()
    """)
    parent = f"""
import sys
from langhops_cli.training.children import run_children
from langhops_cli.training.launch import Launch
run_children(Launch("children", command=(sys.executable, "-c", {child!r})))
"""
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=place)
    wait_for(place / "ready")
    process.kill()
    process.wait()
    wait_for(place / "saved")


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline, file
        time.sleep(0.05)


def test_two_processes_train_until_their_parent_is_asked_to_stop(place: Path, prepared: Path) -> None:
    recipe = make_recipe(place / "tiny.yaml", "objects")
    words = ["train-stage1", str(recipe), "schedule.steps=100000", "--out", "run", "--data-root", str(prepared)]
    command = [sys.executable, "-m", "langhops_cli", *words, "--gpus", "2"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    with (place / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=place, env=environment, stderr=said)
    try:
        deadline = time.monotonic() + 300
        while "step 3/100000" not in (place / "said").read_text():
            assert process.poll() is None and time.monotonic() < deadline, (place / "said").read_text()
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0, (place / "said").read_text()
    finally:
        process.kill()
    text = (place / "said").read_text()
    assert "torch sees no GPU here: 2 processes work on the CPU\n" in text
    stopped = re.search(r"stopped after step (\d+) of 100000 \(SIGTERM\); run the same command again", text)
    assert stopped is not None, text
    assert text.count("checked: ") == text.count("stopped after") == 1
    assert [path.name for path in (place / "run" / "resume").iterdir()] == [f"step_{int(stopped[1]):07d}"]
