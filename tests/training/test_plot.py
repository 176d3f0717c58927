"""Curves of runs as a picture: what is read, what is drawn, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from langhops_cli.errors import UserError
from langhops_cli.training.plot import Curve, draw_runs, mean_curve, plot_runs, read_run, run_names, smoothed


def write_run(folder: Path, *, steps: int = 40, evaluated: tuple[str, ...] = (), end: str = "") -> Path:
    """A run whose loss goes from 100 down, with a peak on the way; each set gains 2 AP a step."""
    folder.mkdir(parents=True)
    records: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        total = 1000.0 if step == 20 else 100.0 / step
        losses = {"total": total, "objects/final/mask": total / 2, "parts/final/mask": total / 4}
        records.append({"step": step, "losses": losses, "learning_rate": 1e-4, "gradient_norm": 2.0, "time": 1.0})
        if step % 10 == 0 and evaluated:
            figures = {f"{name}/parts": 2.0 * step * place for place, name in enumerate(evaluated, 1)}
            records.append({"step": step, "evaluation": figures})
    text = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "log.jsonl").write_text(text + end, encoding="utf-8")
    return folder


def test_a_log_is_read_up_to_the_line_that_is_cut_off(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", evaluated=("cars", "faces"), end='{"step": 41, "losses": {"tot'), "run")
    assert set(run.curves) == {"total", "mask", "learning_rate", "gradient_norm", "cars/parts", "faces/parts"}
    assert run.curves["total"].steps.tolist() == list(range(1, 41))
    assert run.curves["mask"].values[1] == 37.5
    assert run.of_sets("parts")["faces"].values.tolist() == [40.0, 80.0, 120.0, 160.0]
    assert run.of_sets("objects") == {}
    assert run.has("parts") and not run.has("all")
    assert run.length == 40


@pytest.mark.parametrize(
    ("content", "message"), [(None, "holds no log.jsonl; give the folder of a run"), ("", "holds no report yet")]
)
def test_a_folder_without_a_log_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    whole, empty = write_run(tmp_path / "whole"), tmp_path / "empty"
    empty.mkdir()
    if content is not None:
        (empty / "log.jsonl").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        plot_runs([whole, empty], tmp_path / "curves.png")
    assert str(empty) in str(caught.value)
    assert caught.value.code == 3
    assert not (tmp_path / "curves.png").exists()


def test_runs_of_one_name_are_told_apart_by_the_folders_above() -> None:
    assert run_names([Path("runs/joint"), Path("runs/detached")]) == ["joint", "detached"]
    assert run_names([Path("a/seed0/run"), Path("b/seed0/run")]) == ["a/seed0/run", "b/seed0/run"]
    assert run_names([Path("a/run"), Path("a/run")]) == ["run", "run"]


def test_the_mean_is_over_the_steps_that_all_sets_have() -> None:
    one, two = Curve.of({2: 1.0, 4: 3.0, 6: 9.0}), Curve.of({4: 5.0, 2: 2.0})
    mean = mean_curve([one, two])
    assert (mean.steps.tolist(), mean.values.tolist()) == ([2.0, 4.0], [1.5, 4.0])
    apart = mean_curve([Curve.of({1: 1.0}), Curve.of({2: 3.0})])
    assert (apart.steps.tolist(), apart.values.tolist()) == ([1.0, 2.0], [1.0, 3.0])


def test_smoothing_takes_noise_away_and_no_level() -> None:
    steps = range(20, 4020, 20)
    level = smoothed(Curve.of(dict.fromkeys(steps, 3.0)), 100)
    np.testing.assert_allclose(level, 3.0)
    noise = np.random.default_rng(0).normal(size=len(steps))
    noisy = Curve.of({step: 5 + value for step, value in zip(steps, noise, strict=True)})
    smooth = smoothed(noisy, 100)
    assert smooth.std() < 0.4 * noise.std()
    assert abs(smooth.mean() - noisy.values.mean()) < 0.1
    np.testing.assert_allclose(smoothed(Curve.of({7: 2.0}), 100), [2.0])
    few = smoothed(Curve.of({1: 0.0, 2: 1.0}), 1e9)  # no wider than a share of the curve itself
    assert 0 <= few[0] < few[1] <= 1


def test_matplotlib_that_is_missing_is_named_with_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"pip install 'langhops\[plot\]'") as caught:
        plot_runs([write_run(tmp_path / "run")], tmp_path / "curves.png")
    assert caught.value.code == 4


def test_every_figure_has_a_panel_and_every_run_a_colour(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folders = [
        write_run(tmp_path / "joint", evaluated=("cars", "faces")),
        write_run(tmp_path / "detached", steps=20),
    ]
    figure = draw_runs([read_run(folder, folder.name) for folder in folders])
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert list(panels) == ["loss", "mask AP of parts, mean of 2 sets", "learning rate", "gradient norm", "mask loss"]
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["joint  40 steps", "detached  20 steps"]
    colours = [line.get_color() for line in legend.get_lines()]
    assert len(set(colours)) == 2
    loss = panels["loss"]
    assert [line.get_color() for line in loss.get_lines()] == [colours[0]] * 2 + [colours[1]] * 2
    raw, smooth = loss.get_lines()[:2]
    assert raw.get_alpha() < 0.5 and smooth.get_alpha() is None
    means = [line for line in panels["mask AP of parts, mean of 2 sets"].get_lines() if line.get_alpha() is None]
    assert [line.get_ydata().tolist() for line in means] == [[30.0, 60.0, 90.0, 120.0]]
    assert any(text.get_text() == "120.0" for text in panels["mask AP of parts, mean of 2 sets"].texts)
    assert loss.get_ylim()[1] < 1000  # a single peak does not flatten the rest


def test_a_picture_is_written_as_its_name_says(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folders = [write_run(tmp_path / f"run{number}", steps=number) for number in (1, 2, 12)]
    plot_runs(folders, tmp_path / "new" / "curves.png")
    with Image.open(tmp_path / "new" / "curves.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 1500
    plot_runs(folders[:1], tmp_path / "curves")
    with Image.open(tmp_path / "curves") as picture:
        assert picture.format == "PNG"
    plot_runs(folders[:1], tmp_path / "curves.pdf")
    assert (tmp_path / "curves.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(UserError, match=r"cannot be written as \.docx") as caught:
        plot_runs(folders[:1], tmp_path / "curves.docx")
    assert caught.value.code == 2
