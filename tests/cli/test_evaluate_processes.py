"""`langhops eval --gpus 2`: two processes on the CPU write what one writes, and end together where one fails.

Each test starts the embedded model in real processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from ..evaluation.prepared import make_set

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "langhops_cli")


@pytest.fixture
def root(tmp_path):
    make_set(tmp_path / "data" / "toys")
    return tmp_path


def langhops(root: Path, *arguments: object, start: tuple[str, ...] = ("-m", "langhops_cli")):
    # One thread a process, however many there are: sums of floating-point numbers depend on how they are split.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": ""}
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):  # of the tests' own group
        environment.pop(name, None)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), environment.get("PYTHONPATH")]))
    command = [sys.executable, *start, "eval", "--data", "toys", "--data-root", "data", *map(str, arguments)]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=600, check=False)


def files(folder: Path) -> dict[str, bytes]:
    """What an evaluation wrote, without what names its folder or its command."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    report = json.loads(found["report.json"])
    return found | {"report.json": json.dumps({**report, "results": "", "command": ""}).encode()}


@pytest.mark.parametrize("protocol", ["ap", "hiou"])
def test_two_processes_write_what_one_writes(root, protocol):
    words = ("--protocol", protocol, "--no-html")
    for start, more, name in (
        (("-m", "langhops_cli"), (), "one"),
        (("-m", "langhops_cli"), ("--gpus", 2), "two"),
        (TORCHRUN, (), "torchrun"),
    ):
        done = langhops(root, *words, *more, "--out", name, start=start)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("toys val: 3 pictures") == 1, "only the first process speaks"
    one = files(root / "one")
    assert len(json.loads(one["predictions.json" if protocol == "ap" else "semantic/index.json"])) > 0
    assert files(root / "two") == one
    assert files(root / "torchrun") == one


def test_a_process_that_fails_ends_all_with_one_line_and_leaves_nothing(root):
    Image.new("RGB", (64, 10)).save(root / "data" / "toys" / "pictures" / "1.png")  # of the second one's share
    done = langhops(root, "--gpus", 2, "--out", "two")
    assert done.returncode == 3
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "process 1: " in errors[0]
    assert "1.png has 64 x 10 pixels, its annotation 64 x 64" in errors[0]
    assert "Traceback" not in done.stderr
    assert list((root / "two").iterdir()) == []
