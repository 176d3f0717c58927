"""What is kept to go on with a run, and what happens when it is damaged or older than the log."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from langhops_cli.errors import UserError
from langhops_cli.training.interruption import Interruption
from langhops_cli.training.logging import TrainingLog, duration, summary
from langhops_cli.training.recipe import load_recipe
from langhops_cli.training.resume import ResumeState, settle_recipe

from .tiny import make_recipe


class Engine:
    """Keeps what DeepSpeed's engine would: a folder a tag, with the client's state."""

    def __init__(self) -> None:
        self.step = 0

    def save_checkpoint(self, folder: str, *, tag: str, client_state: dict[str, Any], **_: Any) -> None:
        (Path(folder) / tag).mkdir()
        (Path(folder) / tag / "state.json").write_text(json.dumps(client_state))
        (Path(folder) / "zero_to_fp32.py").write_text("")

    def load_checkpoint(self, folder: str, *, tag: str, **_: Any) -> tuple[str, dict[str, Any]]:
        state = json.loads((Path(folder) / tag / "state.json").read_text())
        self.step = state["step"]
        return folder, state


def test_only_the_newest_state_is_kept(tmp_path: Path) -> None:
    state, engine = ResumeState(tmp_path / "resume"), Engine()
    assert state.load(engine) == 0
    state.save(engine, step=5)
    state.save(engine, step=10)
    assert sorted(path.name for path in (tmp_path / "resume").iterdir()) == ["newest", "step_0000010"]
    assert state.load(engine) == engine.step == 10


def test_a_save_that_was_cut_off_is_as_if_it_had_not_been(tmp_path: Path) -> None:
    state, engine = ResumeState(tmp_path / "resume"), Engine()
    state.save(engine, step=5)
    (tmp_path / "resume" / "step_0000010").mkdir()  # killed before `newest` was put in its place
    assert state.load(engine) == 5


def test_a_damaged_state_says_how_to_go_on(tmp_path: Path) -> None:
    state, engine = ResumeState(tmp_path / "resume"), Engine()
    state.save(engine, step=5)
    (tmp_path / "resume" / "step_0000005" / "state.json").write_text("{")
    with pytest.raises(UserError, match=r"step_0000005 cannot be gone on with .* --init") as caught:
        state.load(engine)
    assert caught.value.code == 5


def test_a_run_that_never_saved_takes_another_recipe(tmp_path: Path) -> None:
    path = make_recipe(tmp_path / "tiny.yaml", "objects")
    settle_recipe(load_recipe(path), tmp_path / "run")
    changed = load_recipe(path, ["optimizer.learning_rate=5e-3"])
    settle_recipe(changed, tmp_path / "run")
    assert load_recipe(tmp_path / "run" / "recipe.yaml") == changed
    ResumeState(tmp_path / "run" / "resume").save(Engine(), step=1)
    settle_recipe(load_recipe(path, ["optimizer.learning_rate=5e-3", "schedule.steps=9"]), tmp_path / "run")
    with pytest.raises(UserError, match=r"optimizer\.learning_rate = 0\.005, not 0\.001"):
        settle_recipe(load_recipe(path), tmp_path / "run")


def test_the_log_forgets_what_was_reported_after_the_last_save(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with TrainingLog(path, steps=4, first=0, every=2) as log:
        for step, loss in enumerate([4.0, 2.0, 1.0, 1.0], 1):
            log.add(step, {"total": loss, "objects/final/mask": loss / 2}, learning_rate=0.1, gradient_norm=None)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["step"] for record in records] == [2, 4]
    assert records[0]["losses"] == {"total": 3.0, "objects/final/mask": 1.5}
    assert "gradient_norm" not in records[0]
    with path.open("a") as file:
        file.write('{"step": 5, "los')
    with TrainingLog(path, steps=4, first=2, every=1) as log:
        log.add(3, {"total": 9.0}, learning_rate=0.1)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [2, 3]


def test_losses_are_summed_by_kind() -> None:
    losses = {"objects/final/mask": 1.0, "parts/auxiliary0/mask": 2.0, "denoising/final/box": 4.0, "total": 7.0}
    assert summary(losses) == {"mask": 3.0, "box": 4.0}


@pytest.mark.parametrize(("seconds", "text"), [(44.6, "45 s"), (720, "12 min"), (11_100, "3 h 05 min")])
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_signal_is_a_wish_and_the_second_one_is_not_ours() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interruption() as interruption:
        assert interruption.reason is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.reason == "SIGTERM"
        assert signal.getsignal(signal.SIGTERM) == before


def test_time_that_is_up_is_a_reason() -> None:
    with Interruption(minutes=0.0005) as interruption:
        time.sleep(0.05)
        assert interruption.reason == "0.0005 minutes are over"
    with Interruption(minutes=60) as interruption:
        assert interruption.reason is None
