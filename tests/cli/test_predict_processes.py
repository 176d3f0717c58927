"""`langhops predict` in several processes and killed ones: nothing is lost, nothing is done twice.

Each test starts the embedded model in real processes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow
RECORD = "predictions.jsonl"


@pytest.fixture
def work(tmp_path):
    for number in range(9):
        with Image.open(REPOSITORY / "imgs" / "portrait.jpg") as image:
            size = image.width // 3 + 10 * number, image.height // 3
            image.resize(size).save(_made(tmp_path / "imgs") / f"{number}.png")
    return tmp_path


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def start(work: Path, *arguments: object) -> subprocess.Popen[str]:
    # One thread a process, however many there are: sums of floating-point numbers depend on how they are split.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": ""}
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):  # of the tests' own group
        environment.pop(name, None)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), environment.get("PYTHONPATH")]))
    words = ["predict", "imgs", "--vocab", "face:hair,eye*2,nose", "--format", "coco", "--format", "masks"]
    return subprocess.Popen(
        [sys.executable, "-m", "langhops_cli", *words, *map(str, arguments)],
        cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finished(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    stdout, stderr = process.communicate(timeout=600)
    assert process.returncode == code, stderr
    return stdout, stderr


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob(f"*{RECORD}*"))


def test_two_processes_one_and_killed_ones_write_the_same(work):
    (work / "imgs" / "4.png").write_bytes(b"")
    shown, told = finished(start(work, "--out", "one"), code=3)
    assert "imgs/4.png is empty (0 bytes); skipped (1 of 9)" in told
    assert len((work / "one" / RECORD).read_bytes().splitlines()) == 8
    again, told = finished(start(work, "--out", "two", "--gpus", 2), code=3)
    assert "1 of 9 pictures skipped, the others are done" in told
    assert sorted(line for line in shown.splitlines() if line.startswith("imgs")) == [
        line for line in again.splitlines() if line.startswith("imgs")
    ]
    killed = start(work, "--out", "killed", "--gpus", 2)
    while lines(work / "killed") < 3:
        assert killed.poll() is None
        time.sleep(0.05)
    for child in _children(killed.pid):
        os.kill(child, signal.SIGKILL)
    _, told = finished(killed, code=4)
    assert "the same command goes on where it was ended" in told
    done = lines(work / "killed")
    assert 3 <= done < 8
    finished(start(work, "--out", "killed"), code=3)
    wanted = contents(work / "one")
    assert contents(work / "two") == wanted
    assert contents(work / "killed") == wanted
    assert len(json.loads(wanted["predictions.json"])["images"]) == 8


def _children(parent: int) -> list[int]:
    return [int(number) for number in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def test_a_second_run_in_the_same_folder_is_refused(work):
    first = start(work, "--out", "one")
    try:
        while not lines(work / "one"):
            assert first.poll() is None
            time.sleep(0.05)
        first.send_signal(signal.SIGSTOP)
        _, told = finished(start(work, "--out", "one"), code=4)
        assert told == "error: another run writes into one; wait for it, or give another --out\n"
    finally:
        first.send_signal(signal.SIGCONT)
    finished(first)
    assert lines(work / "one") == 9
    shutil.rmtree(work / "one")
