"""What is kept to go on with a run, and what happens when it is damaged or older than the log."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from langhops_cli.errors import UserError
from langhops_cli.training.interruption import Interruption
from langhops_cli.training.logging import TrainingLog, duration, summary
from langhops_cli.training.recipe import load_recipe
from langhops_cli.training.resume import ResumeState, Save, SaveFailed, settle_recipe

from .tiny import make_recipe


class Writer:
    """Writes a file, or finds the disk full."""

    full = False

    def save(self, state_dict: dict[str, Any], path: str) -> None:
        Path(path).write_text(json.dumps(state_dict)[: 5 if self.full else None])
        if self.full:
            raise OSError(28, "No space left on device")


class Engine:
    """Keeps what DeepSpeed's engine would: a folder a tag, with the client's state."""

    def __init__(self) -> None:
        self.step = 0
        self.checkpoint_engine = Writer()

    def save_checkpoint(self, folder: str, *, tag: str, client_state: dict[str, Any], **_: Any) -> None:
        (Path(folder) / tag).mkdir(exist_ok=True)
        self.checkpoint_engine.save(state_dict=client_state, path=str(Path(folder) / tag / "state.json"))
        self._copy_recovery_script(folder)

    def load_checkpoint(self, folder: str, *, tag: str, **_: Any) -> tuple[str, dict[str, Any]]:
        state = json.loads((Path(folder) / tag / "state.json").read_text())
        self.step = state["step"]
        return folder, state

    def _copy_recovery_script(self, folder: str) -> None:
        (Path(folder) / "zero_to_fp32.py").write_text("")


def saved(folder: Path, *steps: int, keep: int = 1) -> ResumeState:
    state = ResumeState(folder / "resume", keep=keep)
    for step in steps:
        state.save(Engine(), step=step)
    return state


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def picked(state: ResumeState) -> int | None:
    save, _ = state.pick()
    return None if save is None else save.step


def test_the_newest_states_are_kept(tmp_path: Path) -> None:
    assert picked(saved(tmp_path)) is None
    state = saved(tmp_path, 5, 10, 15, keep=2)
    assert names_in(tmp_path / "resume") == ["step_0000010", "step_0000015"]
    save, notes = state.pick()
    assert save is not None and notes == []
    assert (save.step, save.ranks, save.zero) == (15, 1, 0)
    engine = Engine()
    assert state.load(engine, save) == {"step": 15}
    assert engine.step == 15


def test_what_is_saved_beside_the_engine_is_found_again(tmp_path: Path) -> None:
    state = ResumeState(tmp_path / "resume")
    state.save(Engine(), step=5, state={"skipped": 2})
    save, _ = state.pick()
    assert save is not None
    assert state.load(Engine(), save) == {"step": 5, "skipped": 2}


def test_a_save_that_was_cut_off_is_as_if_it_had_not_been(tmp_path: Path) -> None:
    state = saved(tmp_path, 5)
    cut_off = tmp_path / "resume" / ".step_0000010.part"
    cut_off.mkdir()  # killed before it got its name
    (cut_off / "state.json").write_text('{"st')
    assert picked(state) == state.newest == 5
    state.save(Engine(), step=15)
    assert names_in(tmp_path / "resume") == ["step_0000015"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_text('{"st'), "state.json has 4 bytes, not 12"),
        (lambda path: path.write_text(path.read_text().replace("10", "11")), "the contents of state.json have changed"),
        (lambda path: path.unlink(), "state.json is missing"),
        (lambda path: (path.parent / "files.json").write_text("{"), "step_0000010 is damaged"),
        (lambda path: (path.parent / "files.json").unlink(), "files.json is missing"),
    ],
)
def test_the_one_before_takes_the_place_of_a_damaged_save(
    tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    state = saved(tmp_path, 5, 10, keep=2)
    damage(tmp_path / "resume" / "step_0000010" / "state.json")
    save, notes = state.pick()
    assert save is not None and save.step == 5
    assert len(notes) == 1 and said in notes[0]
    saved(tmp_path, 7, keep=1)  # the damaged one does not count as newer
    assert names_in(tmp_path / "resume") == ["step_0000007"]


def test_saves_that_are_all_damaged_say_how_to_go_on(tmp_path: Path) -> None:
    state = saved(tmp_path, 5)
    (tmp_path / "resume" / "step_0000005" / "state.json").write_text("{")
    with pytest.raises(UserError, match=r"step_0000005 is damaged .* --init") as caught:
        state.pick()
    assert caught.value.code == 5


def test_files_that_are_whole_and_do_not_fit_say_how_to_go_on(tmp_path: Path) -> None:
    state = ResumeState(tmp_path / "resume")
    engine = Engine()
    engine.save_checkpoint = lambda folder, tag, **_: (Path(folder) / tag / "state.json").write_text("{}")
    state.save(engine, step=5)
    save, _ = state.pick()
    assert save is not None
    with pytest.raises(UserError, match=r"step_0000005 cannot be gone on with .* --init"):
        state.load(Engine(), save)


def test_a_full_disk_leaves_the_save_before(tmp_path: Path) -> None:
    state, engine = saved(tmp_path, 5), Engine()
    engine.checkpoint_engine.full = True
    with pytest.raises(SaveFailed, match="No space left on device"):
        state.save(engine, step=10)
    assert names_in(tmp_path / "resume") == ["step_0000005"]
    engine.checkpoint_engine.full = False
    state.save(engine, step=15)
    assert picked(state) == 15


def test_a_save_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    state = saved(tmp_path, 5)
    state.save(Engine(), step=5, state={"skipped": 1})
    save, _ = state.pick()
    assert save is not None
    assert state.load(Engine(), save)["skipped"] == 1


def test_only_what_ZeRO_has_spread_is_converted_for_another_number_of_ranks(tmp_path: Path) -> None:  # noqa: N802
    state = ResumeState(tmp_path / "resume", zero=1)
    assert not state.convert(Save(tmp_path, step=5, ranks=1, zero=1))
    assert not state.convert(Save(tmp_path, step=5, ranks=4, zero=0))
    with pytest.raises(UserError, match=r"written by 4 ranks and cannot be converted for 1 .* go on with 4 ranks"):
        state.convert(Save(tmp_path, step=5, ranks=4, zero=1))
    assert not list(tmp_path.glob("resume/.*/*"))


def test_a_run_that_never_saved_takes_another_recipe(tmp_path: Path) -> None:
    path = make_recipe(tmp_path / "tiny.yaml", "objects")
    settle_recipe(load_recipe(path), tmp_path / "run")
    changed = load_recipe(path, ["optimizer.learning_rate=5e-3"])
    settle_recipe(changed, tmp_path / "run")
    assert load_recipe(tmp_path / "run" / "recipe.yaml") == changed
    saved(tmp_path / "run", 1)
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


def test_a_signal_is_a_wish_and_a_later_one_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: taken.append(number))
    try:
        with Interruption() as interruption:
            assert interruption.code == 0
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)  # the scheduler's and the launcher's
            assert interruption.reason(interruption.code) == "SIGTERM"
            assert taken == []
            monkeypatch.setattr(Interruption, "GRACE", 0.0)
            os.kill(os.getpid(), signal.SIGTERM)
            assert taken == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)
        assert len(taken) == 2
    finally:
        signal.signal(signal.SIGTERM, before)


def test_time_that_is_up_is_a_reason() -> None:
    with Interruption(minutes=0.0005) as interruption:
        time.sleep(0.05)
        assert interruption.reason(interruption.code) == "0.0005 minutes are over"
    with Interruption(minutes=60) as interruption:
        assert interruption.code == 0
