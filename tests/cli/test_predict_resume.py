"""`langhops predict` again in the same folder: goes on, joins, refuses other settings, makes what is new."""

from __future__ import annotations

import json

import pytest

from .predicting import FILES, VOCABULARY, draw, files


def test_an_interrupted_run_goes_on_where_it_was_ended(run, tmp_path, asked):
    names = [f"imgs/{number}.png" for number in range(5)]
    for number, name in enumerate(names):
        draw(tmp_path / name, seed=number)
    assert run("imgs", "--out", "whole").exit_code == 0
    asked.batches.clear()
    asked.stop_at = 3
    result = run("imgs")
    assert result.exit_code == 130
    assert "what is done stays; the same command goes on" in result.stderr
    before = files(tmp_path / "predictions")
    assert before == {"run.json", "predictions.jsonl", *(f"overlays/{number}.jpg" for number in range(3))}
    asked.stop_at = None
    result = run("imgs")
    assert result.exit_code == 0, result.output
    assert asked.batches == [[name] for name in names]
    assert "5 pictures (3 of an earlier run) in predictions/predictions.json" in result.stderr
    for name in files(tmp_path / "whole") | files(tmp_path / "predictions"):
        assert (tmp_path / "predictions" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_what_is_done_is_shown_again_without_the_model(run, tmp_path, monkeypatch):
    from langhops_cli.prediction.predictor import Predictor

    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png", seed=1)
    first = run("a.png", "b.png")
    monkeypatch.setattr(Predictor, "from_pretrained", lambda *_, **__: pytest.fail("the model was loaded"))
    again = run("a.png", "b.png")
    assert (again.exit_code, again.stdout) == (0, first.stdout)
    found = json.loads(run("b.png", "--json").stdout)
    assert [item["picture"] for item in found] == ["b.png"]


def test_further_pictures_join_those_of_earlier_runs(run, tmp_path, asked):
    draw(tmp_path / "b.png")
    draw(tmp_path / "a.png", seed=1)
    run("b.png")
    result = run("a.png", "--batch-size", "3")
    assert asked.batches == [["b.png"], ["a.png"]]
    assert "2 pictures (1 of an earlier run)" in result.stderr
    rows = json.loads((tmp_path / "predictions/predictions.json").read_text(encoding="utf-8"))["images"]
    assert [row["file_name"] for row in rows] == ["b.png", "a.png"]


def test_what_an_earlier_run_made_of_fewer_pictures_does_not_stay(run, tmp_path):
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png", seed=1)
    assert run("a.png").exit_code == 0
    assert run("a.png", "--no-gallery", "--format", "jsonl").exit_code == 0
    assert files(tmp_path / "predictions") == FILES | {"overlays/a.jpg"}
    assert run("b.png", "--no-gallery", "--format", "jsonl").exit_code == 0
    wanted = {"predictions.jsonl", "run.json", "overlays/a.jpg", "overlays/b.jpg"}
    assert files(tmp_path / "predictions") == wanted


def test_other_settings_are_refused_before_the_model_is_loaded(run, tmp_path, monkeypatch):
    from langhops_cli.prediction.predictor import Predictor

    draw(tmp_path / "a.png")
    assert run("a.png").exit_code == 0
    before = {name: (tmp_path / "predictions" / name).read_bytes() for name in files(tmp_path / "predictions")}
    load = Predictor.from_pretrained
    monkeypatch.setattr(Predictor, "from_pretrained", lambda *_, **__: pytest.fail("the model was loaded"))
    for words, vocab, what in (
        (("--level", "object"), VOCABULARY, "level all, not object"),
        ((), "dog:head", "another vocabulary"),
        (("--max-objects", "1"), VOCABULARY, "max objects none, not 1"),
    ):
        result = run("a.png", *words, vocab=vocab)
        assert result.exit_code == 3
        assert f"predictions holds results of {what}: give another --out, or --overwrite" in result.stderr
    assert {name: (tmp_path / "predictions" / name).read_bytes() for name in files(tmp_path / "predictions")} == before
    monkeypatch.setattr(Predictor, "from_pretrained", load)
    assert run("a.png", "--level", "object", "--overwrite", "--no-overlays").exit_code == 0
    rows = json.loads((tmp_path / "predictions/predictions.json").read_text(encoding="utf-8"))["annotations"]
    assert {row["parent_id"] for row in rows} == {None}
    assert not (tmp_path / "predictions/overlays").exists()


def test_formats_can_be_had_later_without_the_model(run, tmp_path, asked):
    for number, name in enumerate(("imgs/a.png", "imgs/b.png")):
        draw(tmp_path / name, seed=number)
    every = [word for name in ("jsonl", "labelme", "yolo", "masks", "geojson") for word in ("--format", name)]
    assert run("imgs", *every, "--out", "at once").exit_code == 0
    wanted = files(tmp_path / "at once")
    assert {"labelme/a.json", "geojson/b.geojson", "run.json", "predictions.jsonl"} <= wanted
    assert "predictions.json" not in wanted
    assert run("imgs", "--out", "later", "--format", "jsonl", "--no-overlays").exit_code == 0
    asked.batches.clear()
    assert run("imgs", "--out", "later", *every).exit_code == 0
    assert asked.batches == []
    assert files(tmp_path / "later") == wanted
    for name in wanted:
        assert (tmp_path / "later" / name).read_bytes() == (tmp_path / "at once" / name).read_bytes(), name


def test_overlays_of_an_earlier_run_are_no_input(run, tmp_path):
    draw(tmp_path / "a.png")
    assert run(".").exit_code == 0
    result = run(".")
    assert result.exit_code == 0
    assert "left out 1 file that an earlier run has written in predictions" in result.stderr
    assert files(tmp_path / "predictions") == FILES | {"overlays/a.jpg"}


def test_an_overlay_never_replaces_an_input(run, tmp_path):
    draw(tmp_path / "a.png")
    assert run("a.png", "--out", "out").exit_code == 0
    original = (tmp_path / "out/overlays/a.jpg").read_bytes()
    assert run("out/overlays/a.jpg", "--out", "out").exit_code == 0
    assert (tmp_path / "out/overlays/a.jpg").read_bytes() == original
    assert (tmp_path / "out/overlays/a-2.jpg").exists()
