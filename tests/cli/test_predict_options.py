"""`langhops predict`: lists, videos, questions, refinement, and options that reach the model."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from langhops_cli.cli import predict_options
from langhops_cli.cli.app import app

from .predicting import VOCABULARY, draw, files


def test_a_list_on_standard_input(run, tmp_path):
    for number, name in enumerate(("imgs/a b.png", "imgs/ü.png", "c.png")):
        draw(tmp_path / name, seed=number)
    result = run("c.png", "-", "--no-overlays", listed="imgs/ü.png\0imgs/a b.png\0imgs/lost.png\0c.png\0".encode())
    assert result.exit_code == 3
    assert "imgs/lost.png does not exist; skipped (1 of 4). Check the path." in result.stderr
    rows = json.loads((tmp_path / "predictions/predictions.json").read_text(encoding="utf-8"))["images"]
    assert [row["file_name"] for row in rows] == ["c.png", "imgs/ü.png", "imgs/a b.png"]
    assert "which is empty" in run("-", listed=b"").stderr


def test_options_reach_the_model_and_the_results(run, tmp_path):
    draw(tmp_path / "a.png", (150, 100))

    def instances(*words):
        result = run("a.png", "--json", "--no-overlays", "--no-gallery", "--overwrite", *words)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)[0]["instances"]

    assert sum(item["level"] == "object" for item in instances()) > 1
    assert sum(item["level"] == "object" for item in instances("--max-objects", "1")) == 1
    assert {item["level"] for item in instances("--level", "object")} == {"object"}
    result = run("a.png", "--level", "part", "--no-propose", "--overwrite", vocab="dog")
    assert (result.exit_code, result.stderr) == (2, "error: --level part: no parts can be found, the names give none\n")
    found = instances("--level", "part")
    owners = {item["parent"] for item in found if item["level"] == "part"}
    assert owners >= {place for place, item in enumerate(found) if item["level"] == "object"}
    assert instances("--tile", "64") != instances()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--language-model", "x"], 2, "--language-model goes with --ask"),
        (["--ask", " "], 2, "--ask is empty"),
        (["--format", "voc"], 2, "'voc' is not one of"),
        (["--tile", "63"], 2, "greater than or equal to 64"),
        (["--gpus", "0"], 2, "greater than or equal to 1"),
    ],
)
def test_what_does_not_go_together_is_told_at_once(run, tmp_path, words, code, message):
    draw(tmp_path / "a.png")
    result = run("a.png", *words)
    assert (result.exit_code, files(tmp_path)) == (code, {"a.png"})
    assert message in result.stderr


def test_the_smallest_window_is_that_of_the_tiles():
    from langhops_cli.prediction import tiles

    assert predict_options.LEAST_TILE == tiles.LEAST_TILE


def test_every_form_of_the_results_is_offered():
    from langhops_cli.prediction.formats import FORMATS

    assert {str(name) for name in predict_options.Format} == {"coco", "jsonl", *FORMATS}


def test_other_processes_are_told_the_same(run, tmp_path):
    """The words for another process say the same again, and leave the processes out."""
    words = [
        "imgs",
        "-",
        "--vocab",
        "dog:head",
        "--vocab",
        "cat",
        "--no-propose",
        "--format",
        "yolo",
        "--format",
        "jsonl",
    ]
    words += ["--tile", "128", "--level", "part", "--json", "--no-gallery", "--out", "x y", "--min-score", "0.0"]
    seen = []

    def told(words):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("langhops_cli.cli.predict._run", lambda wish, vocabulary: seen.append(wish))
            assert CliRunner().invoke(app, words).exit_code == 0
        return seen[-1]

    first = told(["predict", *words, "--gpus", "3"])
    again = told(first.arguments())
    assert first.processes.gpus == 3
    assert replace(again, processes=first.processes) == first


def test_a_question_chooses_among_the_names_once(run, tmp_path, monkeypatch):
    from langhops_cli.hierarchy import ask as asking
    from langhops_cli.vocabulary import parse_vocabulary

    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png", seed=1)
    asked = []

    def answer(question, vocabulary, language_model=None):
        asked.append((question, str(vocabulary), language_model))
        return SimpleNamespace(vocabulary=parse_vocabulary("dog:leg*2"), remarks=["chosen are dog leg"])

    monkeypatch.setattr(asking, "ask", answer)
    words = ("--ask", "what does it walk on?", "--language-model", "small")
    result = run("a.png", *words)
    assert (result.exit_code, "chosen are dog leg" in result.stderr) == (0, True), result.output
    assert asked == [("what does it walk on?", VOCABULARY, "small")]
    content = json.loads((tmp_path / "predictions/predictions.json").read_text(encoding="utf-8"))
    assert {row["name"] for row in content["categories"]} == {"dog", "dog leg"}
    result = run("a.png", "b.png", *words)
    assert (result.exit_code, len(asked)) == (0, 1), result.output
    assert "looked for are dog:leg*2, as an earlier run chose" in result.stderr
    assert "results of another ask" in run("a.png", "--ask", "what does it bark with?").stderr


def test_masks_are_refined_by_a_sam(run, tmp_path):
    from ..prediction.test_refine import small_sam

    draw(tmp_path / "a.png", (150, 100))
    small_sam().save_pretrained(tmp_path / "sam")
    result = run("a.png", "--refine", "sam", "--no-overlays", "--no-gallery")
    assert result.exit_code == 0, result.output
    settings = json.loads((tmp_path / "predictions/run.json").read_text())["settings"]
    assert settings["refine"] == "sam"
    result = run("a.png", "--refine", "lost", "--out", "other")
    assert result.exit_code == 4 and "lost" in result.stderr
    assert not (tmp_path / "other").exists()


@pytest.fixture
def clip(tmp_path):
    pytest.importorskip("av")
    from langhops_cli.prediction.video import write_video

    pixels = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    frames = ((number / 10, Image.fromarray(np.roll(pixels, number, 1))) for number in range(8))
    write_video(tmp_path / "clip.mp4", frames, fps=10)
    return tmp_path / "clip.mp4"


def test_a_video_becomes_frames_with_tracks_and_an_annotated_video(run, tmp_path, clip, asked):
    from langhops_cli.prediction.video import Video

    draw(tmp_path / "a.png")
    result = run("clip.mp4", "a.png", "--every", "3", "--format", "coco", "--format", "labelme")
    assert result.exit_code == 0, result.output
    names = ["clip.mp4#0", "clip.mp4#3", "clip.mp4#6", "a.png"]
    assert asked.batches == [[name] for name in names]
    assert [line for line in result.stdout.splitlines() if line.startswith(("clip", "a.png"))] == names
    assert " #0 0." in result.stdout
    overlays = tmp_path / "predictions/overlays"
    assert files(overlays) == {"clip.mp4", "a.jpg"}
    drawn = list(Video(overlays / "clip.mp4").frames())
    assert [round(seconds, 3) for _, seconds, _ in drawn] == [0, 0.3, 0.6]
    made = (overlays / "clip.mp4").stat().st_mtime_ns
    found = json.loads(run("clip.mp4", "--every", "3", "--json").stdout)
    assert [(item["frame"], item["seconds"]) for item in found] == [(0, 0.0), (3, 0.3), (6, 0.6)]
    assert len(asked.batches) == 4 and (overlays / "clip.mp4").stat().st_mtime_ns == made


def test_a_cut_video_is_told_and_what_came_of_it_stays(run, tmp_path, clip):
    whole = clip.read_bytes()
    clip.write_bytes(whole[:200])
    result = run("clip.mp4")
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1].startswith("error: clip.mp4 ")
    assert not (tmp_path / "predictions").exists()
    draw(tmp_path / "a.png")
    result = run("clip.mp4", "a.png")
    assert result.exit_code == 3
    assert (
        result.stderr.splitlines()[-1] == "error: 1 of 2 pictures and videos not read to the end, the others are done"
    )


def test_without_the_package_for_videos_it_is_said_once(run, tmp_path, monkeypatch):
    draw(tmp_path / "a.png")
    (tmp_path / "clip.mp4").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "av", None)
    result = run("a.png", "clip.mp4")
    assert (result.exit_code, result.stderr) == (4, "error: videos need PyAV: pip install 'langhops[video]'\n")
    assert not (tmp_path / "predictions").exists()
