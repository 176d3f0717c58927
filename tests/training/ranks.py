"""What several ranks do in a test: started by torchrun as `python -m tests.training.ranks SCENARIO FOLDER ...`.

A scenario trains through the command's own function, and may break something on the way that a test cannot break from
outside, such as a disk or a loss.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

REPOSITORY = Path(__file__).parents[2]


def launch(scenario: str, *words: str | Path, ranks: int = 2, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Let as many ranks play a scenario, to its end."""
    process = begin(scenario, *words, ranks=ranks)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.terminate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def begin(scenario: str, *words: str | Path, ranks: int = 2) -> subprocess.Popen[str]:
    """Start as many ranks."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--standalone"]
    command += ["--no-python", sys.executable, "-m", "tests.training.ranks", scenario, *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": ""}
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):  # of the tests' own group
        environment.pop(name, None)
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def rank() -> int:
    return int(os.environ["RANK"])


def run(folder: Path, name: str, *overrides: str) -> None:
    """Train as `FOLDER/tiny.yaml` says, in `FOLDER/name`."""
    from langhops_cli.training.loop import train
    from langhops_cli.training.recipe import load_recipe

    recipe = load_recipe(folder / "tiny.yaml", overrides)
    train(recipe, folder=folder / name, data_root=folder / "data")


def zero(folder: Path, *stages: str) -> None:
    """The same run once for every ZeRO stage."""
    for stage in stages:
        run(folder, f"zero{stage}", f"distributed.zero={stage}")


def resume(folder: Path, steps: str, *stages: str) -> None:
    """Runs up to `steps`; what they find when they begin is saved once more, in `again`."""
    from langhops_cli.training.resume import ResumeState

    load = ResumeState.load

    def load_and_save(self: ResumeState, engine: Any, *given: Any, **named: Any) -> dict[str, Any]:
        state = load(self, engine, *given, **named)
        again = ResumeState(self._folder.parent / "again", zero=engine.zero_optimization_stage(), keep=9)
        again.save(engine, step=state["step"])
        return state

    with patch.object(ResumeState, "load", load_and_save):
        for stage in stages:
            settings = (f"distributed.zero={stage}", f"schedule.steps={steps}", "logging.keep=9")
            run(folder, f"zero{stage}", *settings)


@contextmanager
def poisoned(*turns: int, on: int = 1) -> Iterator[None]:
    """Losses that are no number on one rank, at the given calls, from 0."""
    import torch

    from langhops_cli.model.criterion import Criterion

    forward, calls = Criterion.forward, iter(range(10**6))

    def spoil(self: Criterion, *given: Any, **named: Any) -> dict[str, torch.Tensor]:
        losses = forward(self, *given, **named)
        if next(calls) in turns and rank() == on:
            losses["objects/final/mask"] = losses["objects/final/mask"] * float("nan")
        return losses

    with patch.object(Criterion, "forward", spoil):
        yield


def skip(folder: Path, *stages: str) -> None:
    """A batch of rank 1 is no good, alone and as one of two that make a step; at last one too many."""
    for stage in stages:
        with poisoned(1):
            run(folder, f"plain{stage}", f"distributed.zero={stage}", "optimizer.skip_nonfinite=1")
        with poisoned(1, 4, 5):
            settings = (f"distributed.zero={stage}", "data.accumulate=2", "optimizer.skip_nonfinite=3")
            run(folder, f"accumulated{stage}", *settings)
    with poisoned(1, 2):
        run(folder, "stopped", "optimizer.skip_nonfinite=1")


def disk(folder: Path, *full: str) -> None:
    """The disk of rank 1 is full at the given saves, from 0."""
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

    save, calls = TorchCheckpointEngine.save, iter(range(10**6))

    def save_or_not(self: TorchCheckpointEngine, *given: Any, **named: Any) -> None:
        if rank() == 1 and str(next(calls)) in full:
            raise OSError(28, "No space left on device")
        save(self, *given, **named)

    with patch.object(TorchCheckpointEngine, "save", save_or_not):
        run(folder, "run", "distributed.zero=1", "logging.save_every=1", "logging.keep=2")


def killed(folder: Path, step: str) -> None:
    """Rank 1 is killed in the middle of writing the save of a step."""
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

    save = TorchCheckpointEngine.save

    def save_half(self: TorchCheckpointEngine, state_dict: Any, path: str) -> None:
        save(self, state_dict, path)
        if rank() == 1 and f"{int(step):07d}" in path:
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), 9)

    with patch.object(TorchCheckpointEngine, "save", save_half):
        run(folder, "run", "distributed.zero=1", "logging.save_every=1")


def hang(folder: Path) -> None:
    """Rank 1 does not come back from its third step."""
    from langhops_cli.training.run import Run

    score = Run._score

    def score_or_sleep(self: Run, batch: Any, turn: int) -> Any:
        if rank() == 1 and turn == 2:
            time.sleep(600)
        return score(self, batch, turn)

    with patch.object(Run, "_score", score_or_sleep):
        run(folder, "run", "logging.save_every=1", "distributed.hang_minutes=0.1")


def stopped(folder: Path) -> None:
    """A run whose steps take their time, so that a signal finds it at work."""
    from langhops_cli.training.run import Run

    score = Run._score

    def score_slowly(self: Run, batch: Any, turn: int) -> Any:
        time.sleep(0.5)
        return score(self, batch, turn)

    with patch.object(Run, "_score", score_slowly):
        run(folder, "run", "distributed.zero=2")


def gone_on(folder: Path) -> None:
    """A run that was stopped, to its end, and the same without a stop."""
    run(folder, "run", "distributed.zero=2")
    run(folder, "whole", "distributed.zero=2")


def look(folder: Path) -> None:
    """Spread by ZeRO 3, a model is measured on the way and at the end, and goes on as one that is not."""
    run(folder, "unseen", "distributed.zero=3")
    seen = ("logging.evaluate_every=2", "logging.evaluate_pictures=2", "data.val=[cars]", "data.val_pictures=2")
    run(folder, "seen", "distributed.zero=3", *seen)


def settings(folder: Path, *stages: str) -> None:
    """What costs memory or time in another way, and should change nothing."""
    for stage in stages:
        run(folder, f"kept{stage}", f"distributed.zero={stage}")
        run(folder, f"recomputed{stage}", f"distributed.zero={stage}", "distributed.checkpoint_activations=true")
        where = "parameters" if stage == "3" else "optimizer"
        run(folder, f"offloaded{stage}", f"distributed.zero={stage}", f"distributed.offload={where}")


SCENARIOS = {item.__name__: item for item in (zero, resume, skip, disk, killed, hang, stopped, gone_on, look, settings)}

if __name__ == "__main__":
    from langhops_cli.cli.console import print_error
    from langhops_cli.errors import UserError
    from langhops_cli.training.distributed import prepare_environment

    prepare_environment()
    try:
        SCENARIOS[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
    except UserError as error:
        print_error(str(error))
        sys.exit(error.code)
