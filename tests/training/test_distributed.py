"""Two ranks on one machine: what they learn is what one would, whatever is spread, stopped, killed or broken.

Each test starts processes, 10 to 20 seconds a start; what takes a minute or more is marked slow.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch

from langhops_cli.checkpoint.folder import load_checkpoint, read_config
from langhops_cli.errors import UserError
from langhops_cli.training.distributed import gather, is_first, largest, mean, shared, together

from . import ranks
from .tiny import make_recipe, make_set


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place to train in: a set whose last picture shows nothing, so that now and then one rank has no parts."""
    make_set(tmp_path / "data" / "cars", pictures=4)
    return tmp_path


def recipe_of(folder: Path, *, steps: int, rate: float = 1e-4) -> None:
    data = {"train": [{"name": "cars"}], "image_size": 64, "batch": 1, "workers": 0}
    schedule = {"steps": steps, "warmup": 1, "decay": "drops"}
    make_recipe(folder / "tiny.yaml", "parts", data=data, optimizer={"learning_rate": rate}, schedule=schedule)


def totals(run: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return {line["step"]: line["losses"]["total"] for line in lines if "losses" in line}


def saves(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "resume").iterdir())


def test_one_rank_agrees_with_itself() -> None:
    assert is_first()
    assert (largest(3), mean([1.0, 2.0]), gather("a"), shared("a"), together(lambda: 7)) == (3, [1, 2], ["a"], "a", 7)

    def fail() -> None:
        raise UserError("no such set", code=3)

    with pytest.raises(UserError, match="no such set"):
        together(fail)


@pytest.mark.parametrize("end", ["pass", "raise SystemExit(3)"])
def test_a_process_leaves_its_groups_before_python_ends(end: str) -> None:
    """Else it ends in SIGABRT instead, now and then, and a run that went well counts as lost."""
    program = f"""
import atexit
from langhops_cli.training.distributed import join_processes
import torch.distributed as dist
atexit.register(lambda: print("joined" if dist.is_initialized() else "left"))
join_processes()
assert dist.is_initialized()
{end}
"""
    # A training in this process has left its own place in a group here, with a port that it still listens at.
    joined = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    env = {name: value for name, value in os.environ.items() if name not in joined}
    env |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0 if end == "pass" else 3, "left\n"), done.stderr


def test_a_rank_that_is_killed_in_a_save_loses_nothing_and_fewer_ranks_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str], prepared: Path
) -> None:
    """It is killed with half a file written; the other one ends in a line, and one alone takes the run to its end."""
    recipe_of(folder, steps=3)
    done = ranks.launch("killed", folder, "2")
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "step 2: another rank of the run has ended or does not answer" in errors[0]
    assert "the save of step 1 is whole: the same command goes on from it" in errors[0]
    assert saves(folder / "run") == [".step_0000002.part", "step_0000001"]

    ranks.run(folder, "run", "distributed.zero=1", "logging.save_every=1")
    assert "going on after step 1 of 3" in capsys.readouterr().err
    assert list(totals(folder / "run")) == [1, 2, 3]
    assert saves(folder / "run") == ["step_0000003"]
    assert load_checkpoint(folder / "run")[1]["step"] == 3


@pytest.mark.slow
def test_losses_are_the_same_whatever_ZeRO_spreads(folder: Path) -> None:  # noqa: N802
    recipe_of(folder, steps=20)
    done = ranks.launch("zero", folder, "0", "1", "2", "3", timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    plain = totals(folder / "zero0")
    assert len(plain) == 20
    for stage in (1, 2, 3):
        assert totals(folder / f"zero{stage}") == pytest.approx(plain, rel=1e-5), stage
    trained = {stage: load_checkpoint(folder / f"zero{stage}")[0].state_dict() for stage in (0, 3)}
    for name, tensor in trained[0].items():  # a biggest step of Adam's is what a gradient of nothing may come to
        assert torch.allclose(tensor.float(), trained[3][name].float(), atol=2 * 20 * 1e-4), name


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_ranks(folder: Path) -> None:
    """From 2 ranks to 1 to 2: what is loaded is what was saved, and all stages go the same way."""
    recipe_of(folder, steps=2)
    for steps, number in ((2, 2), (3, 1), (4, 2)):
        done = ranks.launch("resume", folder, str(steps), "0", "1", "2", "3", ranks=number, timeout=1200)
        assert done.returncode == 0, done.stderr[-3000:]
    plain = totals(folder / "zero0")
    assert list(plain) == [1, 2, 3, 4]
    for stage in (1, 2, 3):
        run = folder / f"zero{stage}"
        assert totals(run) == pytest.approx(plain, rel=1e-5), stage
        for step in ("step_0000002", "step_0000003"):
            before, after = (converted(run / place / step, folder) for place in ("resume", "again"))
            assert before.keys() == after.keys()
            assert sum("exp_avg_sq" in name for name in before) > 100
            assert all(torch.equal(before[name], after[name]) for name in before), (stage, step)
        assert not (run / "resume" / ".converted").exists()


def converted(save: Path, scratch: Path) -> dict[str, torch.Tensor]:
    """Weights and optimizer state of a save by parameter, whatever number of ranks wrote it."""
    from deepspeed.checkpoint.ds_to_universal import main

    target = scratch / f"converted_{len(list(scratch.iterdir()))}"
    target.mkdir()
    how = Namespace(input_folder=str(save), output_folder=str(target / "state"), num_extract_workers=1)
    vars(how).update(num_merge_workers=1, keep_temp_folder=False, strict=True, inject_missing_state=True)
    (target / "state").mkdir()
    with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
        main(how)
    found = {}
    for path in (target / "state" / "zero").glob("*/*.pt"):
        value = torch.load(path, weights_only=False)
        found[f"{path.parent.name}/{path.stem}"] = value["param"] if isinstance(value, dict) else torch.as_tensor(value)
    return found


@pytest.mark.slow
def test_a_signal_to_the_launcher_saves_and_the_run_goes_on_exactly(folder: Path) -> None:
    recipe_of(folder, steps=40)
    process = ranks.begin("stopped", folder)
    log = folder / "run" / "log.jsonl"
    until = time.monotonic() + 120
    while not (log.is_file() and len(totals(folder / "run")) > 1):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=100)
    step = max(totals(folder / "run"))
    assert f"stopped after step {step} of 40 (SIGTERM); run the same command again to go on" in said
    assert said.count("run the same command again") == 1
    assert saves(folder / "run") == [f"step_{step:07d}"]
    assert read_config(folder / "run")["step"] == step

    recipe_of(folder, steps=step + 3)
    done = ranks.launch("gone_on", folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"going on after step {step} of" in done.stderr
    assert totals(folder / "run") == totals(folder / "whole")


@pytest.mark.slow
def test_a_batch_that_is_no_good_on_one_rank_is_left_out_on_all(folder: Path) -> None:
    recipe_of(folder, steps=4)
    done = ranks.launch("skip", folder, "0", "3", timeout=600)
    assert done.returncode != 0
    for name, left in (("plain", [1, 3, 4]), ("accumulated", [1, 2, 4])):
        plain, spread = (totals(folder / f"{name}{stage}") for stage in (0, 3))
        assert list(plain) == left  # in one of two batches the other one was learned from
        assert spread == pytest.approx(plain, rel=1e-5)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert line.startswith("error: step 3: the loss objects/final/mask is nan; the batch was ")
    (report,) = (folder / "stopped" / "debug" / "step_3").glob("report_*.json")
    assert report.name == "report_rank1.json"  # the rank that met it
    assert json.loads(report.read_text())["pictures"][0] in line


@pytest.mark.slow
def test_what_saves_memory_changes_no_loss(folder: Path) -> None:
    recipe_of(folder, steps=3)
    done = ranks.launch("settings", folder, "1", "3", timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    for stage in (1, 3):
        kept = totals(folder / f"kept{stage}")
        assert totals(folder / f"recomputed{stage}") == pytest.approx(kept, rel=1e-6)
        assert totals(folder / f"offloaded{stage}") == pytest.approx(kept, rel=1e-6)


@pytest.mark.slow
def test_a_model_that_is_spread_is_measured_and_goes_on(folder: Path) -> None:
    recipe_of(folder, steps=3)
    done = ranks.launch("look", folder, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert totals(folder / "seen") == totals(folder / "unseen")
    assert "step 2: mask AP cars" in done.stderr
    assert load_checkpoint(folder / "seen" / "best")[1]["step"] == 2
    assert read_config(folder / "seen")["measured"]["cars"]["pictures"] == 2


@pytest.mark.slow
def test_a_full_disk_of_one_rank_is_said_and_the_run_goes_on(folder: Path) -> None:
    recipe_of(folder, steps=4)
    done = ranks.launch("disk", folder, "1")
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stderr.splitlines() if "cannot be saved" in line]
    assert line.startswith(f"step 2 cannot be saved in {folder / 'run'} (No space left on device); the save of step 1")
    assert saves(folder / "run") == ["step_0000003", "step_0000004"]


@pytest.mark.slow
def test_saves_that_fail_three_times_end_the_run(folder: Path) -> None:
    recipe_of(folder, steps=9)
    done = ranks.launch("disk", folder, "1", "2", "3")
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "step 4 cannot be saved" in line and "the save of step 1 is whole" in line
    assert saves(folder / "run") == ["step_0000001"]


@pytest.mark.slow
def test_a_rank_that_hangs_ends_all_and_each_says_where_it_was(folder: Path) -> None:
    recipe_of(folder, steps=9)
    done = ranks.launch("hang", folder)
    assert done.returncode != 0
    hanging, waiting = ((folder / "run" / "hang" / f"rank{number}.txt").read_text() for number in (1, 0))
    assert hanging.startswith("rank 1, step 3, 0.1 minutes without a batch; its pictures: ")
    assert "score_or_sleep" in hanging
    assert waiting.startswith("rank 0, step 3,")
    assert "all_reduce" in waiting
    assert saves(folder / "run") == ["step_0000002"]
