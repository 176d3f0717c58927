"""What a run writes about itself: its two files, the line on the terminal, and the services that it may report to."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from langhops_cli.errors import UserError
from langhops_cli.training import logging
from langhops_cli.training.logging import TrainingLog, open_log
from langhops_cli.training.recipe import load_recipe
from langhops_cli.training.sinks import COLUMNS, TensorBoard, figures_of

from .tiny import make_recipe

LOSSES = {"total": 6.0, "objects/final/mask": 1.0, "parts/final/mask": 2.0, "objects/final/box": 3.0}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def steps_of(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text(encoding="utf-8").splitlines()]


def report(path: Path, *, first: int, last: int, sets: tuple[str, ...] = (), **more: Any) -> None:
    """A run that reports every step, and evaluates after the last."""
    with TrainingLog(path, steps=100, first=first, every=1, **more) as log:
        for step in range(first + 1, last + 1):
            log.add(step, LOSSES, learning_rate=0.1, gradient_norm=2.5)
        if sets:
            log.add_evaluation(last, {f"{name}/parts": 20.0 + last for name in sets})


def test_a_row_has_the_losses_by_kind_and_evaluation_figures_in_columns_of_their_own(tmp_path: Path) -> None:
    report(tmp_path / "log.jsonl", first=0, last=2, sets=("cars",), pictures=4)
    assert (tmp_path / "log.csv").read_text().splitlines()[0] == ",".join([*COLUMNS, "cars/parts"])
    first, second, looked = rows_of(tmp_path / "log.csv")
    assert (first["step"], first["total"], first["mask"], first["box"], first["dice"]) == ("1", "6", "3", "3", "")
    assert (second["learning_rate"], second["gradient_norm"]) == ("0.1", "2.5")
    assert int(second["memory_mib"]) > 0
    assert second["cars/parts"] == ""
    assert (looked["step"], looked["total"], looked["cars/parts"]) == ("2", "", "22")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 2]
    assert lines[0]["losses"] == LOSSES
    assert lines[2]["evaluation"] == {"cars/parts": 22.0}


def test_a_run_that_goes_on_forgets_later_rows_and_keeps_its_columns(tmp_path: Path) -> None:
    path, table = tmp_path / "log.jsonl", tmp_path / "log.csv"
    report(path, first=0, last=4, sets=("cars",))
    report(path, first=4, last=5)
    for file in (path, table):
        with file.open("a") as end:
            end.write('{"step": 6, "los' if file == path else "6,6.0,,")
    report(path, first=3, last=4, sets=("cars", "faces"))
    assert [int(row["step"]) for row in rows_of(table)] == steps_of(path) == [1, 2, 3, 4, 4]
    last = rows_of(table)[-1]
    assert [last["cars/parts"], last["faces/parts"]] == ["24", "24"]
    assert list(last) == [*COLUMNS, "cars/parts", "faces/parts"]


def test_a_table_of_an_older_version_gets_the_columns_that_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,total,old/figure\n1,7.5,3\nbroken\n")
    report(tmp_path / "log.jsonl", first=1, last=2)
    first, second = rows_of(tmp_path / "log.csv")
    assert list(first) == [*COLUMNS, "old/figure"]
    assert (first["total"], first["old/figure"], second["total"], second["old/figure"]) == ("7.5", "3", "6", "")


def test_what_is_not_finite_is_null_in_json_and_missing_in_a_table(tmp_path: Path) -> None:
    with TrainingLog(tmp_path / "log.jsonl", steps=1, first=0, every=1) as log:
        log.add(1, {"total": 1.0}, learning_rate=0.1, gradient_norm=math.inf)
    line = (tmp_path / "log.jsonl").read_text()
    assert json.loads(line, parse_constant=pytest.fail)["gradient_norm"] is None
    assert rows_of(tmp_path / "log.csv")[0]["gradient_norm"] == ""
    assert "gradient_norm" not in figures_of({"losses": {}, "gradient_norm": math.nan})


def test_only_one_process_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingLog(tmp_path / "log.jsonl", steps=2, first=0, every=1, writes=False) as log:
        log.say("a word")
        log.add(1, LOSSES, learning_rate=0.1)
        log.add_evaluation(1, {"cars/parts": 1.0})
        log.image(1, "sheet", Image.new("RGB", (2, 2)))
        with log.aside():
            pass
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""


class Clock:
    """Time that goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


def run_by_clock(log: TrainingLog, clock: Clock) -> None:
    """Two steps of 2 s each, with 60 s between them in which something else is done."""
    with log:
        clock.now += 2
        log.add(1, LOSSES, learning_rate=2e-4, gradient_norm=3.21)
        with log.aside():
            clock.now += 60
        clock.now += 2
        log.add(2, LOSSES, learning_rate=1e-4, gradient_norm=None)


def test_the_line_says_losses_rates_memory_and_how_long_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    monkeypatch.setattr(logging, "time", clock)
    monkeypatch.setattr(logging, "peak_memory", lambda: 1234)
    run_by_clock(TrainingLog(tmp_path / "log.jsonl", steps=12, first=0, every=1, pictures=6), clock)
    first, second = capsys.readouterr().err.splitlines()
    assert first == (
        "step 1/12 loss 6.000 (mask 3 box 3) lr 2.00e-04 gradient 3.21 2.00 s/step 3 pictures/s 1234 MiB, 22 s left"
    )
    # What was done aside slows no step down, but the run takes longer for it.
    assert second.endswith("lr 1.00e-04 2.00 s/step 3 pictures/s 1234 MiB, 5 min left")
    assert [row["pictures_per_second"] for row in rows_of(tmp_path / "log.csv")] == ["3", "3"]


def test_a_terminal_gets_two_lines_that_stay_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, screen = Clock(), io.StringIO()
    monkeypatch.setattr(logging, "time", clock)
    monkeypatch.setattr(logging, "peak_memory", lambda: 1234)
    monkeypatch.setattr(logging, "Console", lambda **_: Console(file=screen, force_terminal=True, width=80))
    log = TrainingLog(tmp_path / "log.jsonl", steps=12, first=0, every=1, pictures=6)
    run_by_clock(log, clock)
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(log._lines())
    first, second = (line.rstrip() for line in console.export_text().splitlines())
    assert first.startswith("step 2/12 ")
    assert first.endswith(" 2.00 s/step 3 pictures/s 1234 MiB, 5 min left")
    assert second == "loss 6.000 (mask 3 box 3) lr 1.00e-04"
    assert "step 2/12" in screen.getvalue()


class Recorder:
    """A sink that remembers, or that cannot be written."""

    def __init__(self, *, full: bool = False) -> None:
        self.full = full
        self.seen: list[tuple[Any, ...]] = []

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        self._take(step, *figures_of(values))

    def image(self, step: int, name: str, picture: Image.Image) -> None:
        self._take(step, name, picture.size)

    def close(self) -> None:
        self._take("closed")

    def _take(self, *what: Any) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.seen.append(what)


def test_a_sink_that_cannot_be_written_is_said_once_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, whole = Recorder(full=True), Recorder()
    with TrainingLog(tmp_path / "log.jsonl", steps=9, first=0, every=1, sinks=[broken, whole]) as log:
        log.add(1, {"total": 1.0}, learning_rate=0.1)
        log.add_evaluation(1, {"cars/all": 4.0})
        log.image(1, "sheet", Image.new("RGB", (3, 2)))
    assert whole.seen[0][:3] == (1, "total", "learning_rate")
    assert whole.seen[1:] == [(1, "cars/all"), (1, "sheet", (3, 2)), ("closed",)]
    said = capsys.readouterr().err
    assert said.count("Recorder cannot be written ([Errno 28] No space left on device); the run goes on") == 1


@pytest.mark.parametrize(
    ("key", "module", "name"),
    [("tensorboard=true", "torch.utils.tensorboard", "tensorboard"), ("wandb=parts", "wandb", "wandb")],
)
def test_a_package_that_is_missing_is_named_with_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, module: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    recipe = load_recipe(make_recipe(tmp_path / "tiny.yaml", "objects"), [f"logging.{key}"])
    for writes in (True, False):
        with pytest.raises(UserError, match=rf"pip install 'langhops\[{name}\]'") as caught:
            open_log(recipe, tmp_path / "run", first=0, writes=writes)
        assert caught.value.code == 4
    assert not (tmp_path / "run").exists()


class FakeWandb(ModuleType):
    """As much of W&B as a run uses; every call is kept."""

    class Error(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("wandb")
        self.started: list[dict[str, Any]] = []
        self.metrics: list[tuple[str, str | None]] = []
        self.logged: list[dict[str, Any]] = []
        self.finished = 0
        self.offers = True

    def init(self, **settings: Any) -> Any:
        if not self.offers:
            raise self.Error("api_key not configured (no-tty). call wandb.login(key=[your_api_key])\nmore")
        self.started.append(settings)
        return SimpleNamespace(define_metric=self.define_metric, log=self.logged.append, finish=self.finish)

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.metrics.append((name, step_metric))

    def finish(self) -> None:
        self.finished += 1

    def Image(self, picture: Image.Image) -> tuple[int, int]:  # noqa: N802
        return picture.size


def test_wandb_is_told_everything_and_a_run_that_goes_on_stays_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    recipe = load_recipe(make_recipe(tmp_path / "tiny.yaml", "objects"), ["logging.wandb=parts"])
    folder = tmp_path / "run"
    for first in (0, 1):
        with open_log(recipe, folder, first=first, writes=True, processes=2) as log:
            log.add(first + 1, LOSSES, learning_rate=0.1)
            log.add_evaluation(first + 1, {"cars/parts": 3.0})
            log.image(first + 1, "sheet", Image.new("RGB", (5, 4)))
    assert fake.finished == 2
    begun, again = fake.started
    assert begun == again
    assert (begun["project"], begun["name"], begun["resume"], begun["dir"]) == ("parts", "run", "allow", str(folder))
    assert begun["config"]["optimizer"]["learning_rate"] == 1e-3
    assert ("*", "step") in fake.metrics
    losses, figures, picture = fake.logged[:3]
    assert (losses["step"], losses["loss/total"], losses["loss/mask"], losses["run/learning_rate"]) == (
        1,
        6.0,
        3.0,
        0.1,
    )
    assert losses["run/pictures_per_second"] > 0
    assert figures == {"step": 1, "evaluation/cars/parts": 3.0}
    assert picture == {"step": 1, "sheet": (5, 4)}
    assert [entry["step"] for entry in fake.logged] == [1, 1, 1, 2, 2, 2]


def test_wandb_that_does_not_start_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb()
    fake.offers = False
    monkeypatch.setitem(sys.modules, "wandb", fake)
    recipe = load_recipe(make_recipe(tmp_path / "tiny.yaml", "objects"), ["logging.wandb=parts"])
    with pytest.raises(UserError, match=r"api_key not configured.*set WANDB_MODE=offline") as caught:
        open_log(recipe, tmp_path / "run", first=0, writes=True)
    assert caught.value.code == 4
    assert "\n" not in str(caught.value)


def test_tensorboard_gets_curves_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            calls.append((folder, purge_step))

        def add_scalar(self, tag: str, value: float, step: int) -> None:
            calls.append((tag, value, step))

        def add_image(self, tag: str, picture: np.ndarray, step: int, dataformats: str) -> None:
            calls.append((tag, picture.shape, step, dataformats))

        def close(self) -> None:
            calls.append(("closed",))

    fake = ModuleType("torch.utils.tensorboard")
    monkeypatch.setattr(fake, "SummaryWriter", Writer, raising=False)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    recipe = load_recipe(make_recipe(tmp_path / "tiny.yaml", "objects"), ["logging.tensorboard=true"])
    with open_log(recipe, tmp_path / "run", first=6, writes=True) as log:
        log.add(7, LOSSES, learning_rate=0.1)
        log.add_evaluation(7, {"cars/parts": 3.0})
        log.image(7, "sheet", Image.new("RGB", (5, 4)))
    assert calls[0] == (str(tmp_path / "run" / "tensorboard"), 7)
    assert {("loss/mask", 3.0, 7), ("run/learning_rate", 0.1, 7), ("evaluation/cars/parts", 3.0, 7)} <= set(calls)
    assert calls[-2:] == [("sheet", (4, 5, 3), 7, "HWC"), ("closed",)]


def test_tensorboard_itself_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, value in ((0, 5.0), (1, 7.0)):  # the second start does step 2 again
        sink = TensorBoard(tmp_path, first=first)
        for step in range(first + 1, 3):
            sink.add(step, {"losses": {"total": value}})
        sink.image(2, "sheet", Image.new("RGB", (5, 4), "red"))
        sink.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss/total")] == [(1, 5.0), (2, 7.0)]
    assert [(event.width, event.height) for event in events.Images("sheet")][-1] == (5, 4)
