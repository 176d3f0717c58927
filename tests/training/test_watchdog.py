"""A process that does not come on says where it is, and ends."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from langhops_cli.training.watchdog import Watchdog

STUCK = """
import sys, time
from pathlib import Path
from langhops_cli.training.watchdog import Watchdog

def stand_still():
    time.sleep(60)

with Watchdog(Path(sys.argv[1]), minutes=0.005, rank=3) as watchdog:
    watchdog.at(7, ["cat.png", "dog.png"])
    stand_still()
"""


def test_a_process_that_hangs_writes_where_and_at_which_pictures(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STUCK, str(tmp_path / "hang")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 5
    written = (tmp_path / "hang" / "rank3.txt").read_text()
    for text in (written, done.stderr):
        assert "rank 3, step 7, 0.005 minutes without a batch; its pictures: cat.png, dog.png" in text
        assert "stand_still" in text  # the main thread's stack
        assert "_bark" in text  # and every other one's
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: step 7: rank 3 hangs, or waits for one that does; what it was at is in")
    assert str(tmp_path / "hang" / "rank3.txt") in last
    assert "distributed.hang_minutes" in last


def test_a_place_that_cannot_be_written_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-c", STUCK, str(tmp_path / "file" / "hang")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 5
    assert "stand_still" in done.stderr


def test_one_that_comes_on_or_is_paused_is_left_alone(tmp_path: Path) -> None:
    with Watchdog(tmp_path / "hang", minutes=0.02, rank=0) as watchdog:  # would end the tests
        for step in range(1, 5):
            watchdog.at(step, ["cat.png"])
            time.sleep(0.5)
        assert watchdog.step == 4
        with watchdog.paused():
            time.sleep(2)
    assert not (tmp_path / "hang").exists()
