"""The commands that train, up to the training itself: what they refuse, what a dry run says, who starts processes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from langhops_cli.cli import console, train
from langhops_cli.cli.app import app
from langhops_cli.training import children
from langhops_cli.training.distributed import together
from langhops_cli.training.launch import Launch
from langhops_cli.training.preflight import Check
from tests.training.tiny import make_recipe, make_set

FINE = [
    Check("ok", "stage 1, objects", number=1, title="recipe"),
    Check("ok", "a set with 4 pictures", ("cars/train: 4 pictures",), number=2, title="data"),
    Check("note", "about 2 GB of 3 GB", number=6, title="memory"),
]
BROKEN = [*FINE, Check("no", "no room", code=4, number=5, title="disk")]


@pytest.fixture(autouse=True)
def no_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of the tests may be one of a group already, and must not look like it."""
    for name in [name for name in os.environ if name in ("RANK", "LOCAL_RANK", "WORLD_SIZE") or name[:6] == "SLURM_"]:
        monkeypatch.delenv(name)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return make_recipe(tmp_path / "tiny.yaml", "objects")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would be started where all is fine; nothing is."""
    seen: list[Any] = []
    monkeypatch.setattr("langhops_cli.training.preflight.check", lambda *given, **named: FINE)
    monkeypatch.setattr("langhops_cli.training.loop.train", lambda *given, **named: seen.append(named))
    monkeypatch.setattr("langhops_cli.training.children.run_children", lambda launch, work: seen.append(launch) or 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr(os, "execve", lambda *given: seen.append(given))
    return seen


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, words)), prog_name="langhops")


def test_a_dry_run_looks_at_everything_and_stops(tmp_path: Path, recipe: Path) -> None:
    make_set(tmp_path / "data" / "cars", pictures=2)
    words = ("train-stage1", recipe, "--out", tmp_path / "run", "--data-root", tmp_path / "data", "--dry-run")
    result = run(*words)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    numbered = [line for line in lines if line[:2].strip().isdigit()]
    assert [line.split()[0] for line in numbered] == [str(number) for number in range(1, 11)]
    assert "                  cars/train: 2 pictures, 2 objects, 1 part" in lines
    assert lines[-1] == "all is fine: leave --dry-run out to start"

    told = json.loads(run(*words, "--json").stdout)
    assert (told["fine"], told["processes"], len(told["checks"])) == (True, 1, 10)
    assert told["checks"][1]["title"] == "data"
    assert not (tmp_path / "run").exists()

    lost = run(*words[:-2], tmp_path / "nowhere", "--dry-run", "--gpus", "2")
    assert lost.exit_code in (3, 4)  # 4 where the machine has a single GPU


def test_what_fails_gives_the_exit_code(recipe: Path, started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    more = [*BROKEN, Check("no", "no licence", code=2, number=7, title="base models")]
    monkeypatch.setattr("langhops_cli.training.preflight.check", lambda *given, **named: more)
    result = run("train-stage1", recipe, "--dry-run")
    assert result.exit_code == 4
    assert result.stdout.endswith("2 of 5 checks fail\n")
    assert json.loads(run("train-stage1", recipe, "--dry-run", "--json").stdout)["fine"] is False

    result = run("train-stage1", recipe)
    assert result.exit_code == 4
    assert result.stderr == "error: 2 of 5 checks fail\n  disk: no room\n  base models: no licence\n"
    monkeypatch.setattr("langhops_cli.training.preflight.check", lambda *given, **named: BROKEN)
    assert run("train-stage1", recipe).stderr == "error: no room\n"
    assert started == []


@pytest.mark.parametrize(("encoding", "marks"), [("utf-8", "✓✓•✗"), ("ascii", ["ok  ", "ok  ", "note", "no  "])])
def test_ticks_where_the_terminal_has_them(monkeypatch: pytest.MonkeyPatch, encoding: str, marks: Any) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    printer = Console(file=file, color_system=None, highlight=False, width=200)
    monkeypatch.setattr(train, "out", printer)
    monkeypatch.setattr(console, "out", printer)
    assert train._print_checks(BROKEN, Launch("alone"), silent=False, as_json=False) == 4
    file.seek(0)
    assert file.read().splitlines() == [
        f" 1 {marks[0]} recipe       stage 1, objects",
        f" 2 {marks[1]} data         a set with 4 pictures",
        f"{'':{17 + len(marks[0])}}cars/train: 4 pictures",
        f" 6 {marks[2]} memory       about 2 GB of 3 GB",
        f" 5 {marks[3]} disk         no room",
        "1 of 4 checks fail",
    ]


def test_what_was_checked_is_said_in_a_line_before_the_start(recipe: Path, started: list[Any]) -> None:
    result = run("train-stage1", recipe, "--out", "there")
    assert result.exit_code == 0, result.output
    assert result.stderr == "checked: a set with 4 pictures; about 2 GB of 3 GB\n"
    assert started == [{"folder": Path("there"), "data_root": Path("data"), "init": None}]


def test_children_get_the_same_words_without_those_that_started_them(
    tmp_path: Path, recipe: Path, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("data.batch=1", "--out", "there", "--gpus", "3")
    result = run("train-stage1", recipe, *words)
    assert result.exit_code == 0, result.output
    assert result.stderr.endswith("torch sees no GPU here: 3 processes work on the CPU\n")
    (launch,) = started
    assert (launch.kind, launch.processes) == ("children", 3)
    same = ("train-stage1", str(recipe), "data.batch=1", "--out", "there", "--data-root", str(tmp_path / "data"))
    assert launch.command == (sys.executable, "-m", "langhops_cli", *same)

    monkeypatch.setattr("langhops_cli.training.children.run_children", lambda launch, work: 143)
    stopped = run("train-stage1", recipe, *words)
    assert stopped.exit_code == 143
    assert "stopped before it could save" in stopped.stderr


def test_a_child_does_not_check_what_its_parent_has(
    tmp_path: Path, recipe: Path, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langhops_cli.training.preflight.check", lambda *given, **named: BROKEN)
    monkeypatch.setenv(children.FAULTS, str(tmp_path))
    result = run("train-stage1", recipe)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert len(started) == 1


def test_more_gpus_than_there_are_and_those_that_are_idle(
    recipe: Path, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    result = run("train-stage1", recipe, "--gpus", "4")
    assert result.exit_code == 4
    assert result.stderr == "error: --gpus 4: torch can use 2 here; ask for 2 at most\n"
    assert started == []
    assert run("train-stage1", recipe).stderr.endswith("1 of 2 GPUs is used; --gpus 2 uses all\n")


def test_a_host_file_hands_over_to_the_runner(
    tmp_path: Path, recipe: Path, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "hosts"
    file.write_text("a slots=2\nb slots=2\n")
    monkeypatch.setattr("shutil.which", lambda name: None)
    missing = run("train-stage1", recipe, "--hostfile", file)
    assert missing.exit_code == 4
    assert "by pdsh, which is not installed" in missing.stderr
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert run("train-stage1", recipe, "--hostfile", file).exit_code == 0
    program, command, _ = started[0]
    assert program == sys.executable
    assert command[:3] == (sys.executable, "-m", "deepspeed.launcher.runner")


def test_a_process_of_a_launcher_joins_the_others_before_it_looks(
    recipe: Path, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr("langhops_cli.training.distributed.join_processes", lambda **named: order.append("join"))
    monkeypatch.setattr(
        "langhops_cli.training.distributed.together", lambda work: order.append("look") or together(work)
    )
    monkeypatch.setattr("langhops_cli.training.distributed.gather", lambda value: [value])
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    result = run("train-stage1", recipe)
    assert result.exit_code == 0, result.output
    assert order == ["join", "look", "look"]
    assert result.stderr == "", "only the first rank speaks"
    wrong = run("train-stage1", recipe, "data.batches=3")
    assert (wrong.exit_code, wrong.stderr) == (2, ""), "the first process of the machine says it"
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert "unknown key data.batches; did you mean data.batch?" in run("train-stage1", recipe, "data.batches=3").stderr


def test_words_that_do_not_go_together_are_refused(recipe: Path, started: list[Any]) -> None:
    assert run("train-stage1", recipe, "--json").exit_code == 2
    assert run("train-stage1", recipe, "--gpus", "0").exit_code == 2
    other = run("train-stage2", recipe)
    assert (other.exit_code, started) == (2, [])
    assert "use langhops train-stage1 with it" in other.stderr
    alone = run("train-stage1", recipe, "--nodes", "2")
    assert "start it with srun, or name the machines with --hostfile" in alone.stderr


def test_a_recipe_that_is_wrong_is_refused_before_anything_heavy_is_loaded(recipe: Path) -> None:
    code = (
        "import sys; from langhops_cli.cli.app import app\n"
        f"try: app(['train-stage1', {str(recipe)!r}, 'data.batches=3', '--dry-run'], prog_name='langhops')\n"
        "except SystemExit as end: print(end.code, {'torch', 'transformers', 'deepspeed'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 set()\n"
    assert "did you mean data.batch?" in done.stderr


def test_a_checkpoint_that_is_not_there_is_told_with_all_else(tmp_path: Path, recipe: Path) -> None:
    result = run("train-stage1", recipe, "--init", tmp_path / "none", "--data-root", tmp_path, "--dry-run", "--json")
    assert result.exit_code == 3
    checks = {item["title"]: item for item in json.loads(result.stdout)["checks"]}
    assert checks["data"]["state"] == checks["checkpoint"]["state"] == "no"
    assert "none does not exist" in checks["checkpoint"]["text"]
    needs = run("train-stage1", recipe, "model.preset=init", "--dry-run")
    assert needs.exit_code == 2
    assert "give one with --init" in needs.stderr
