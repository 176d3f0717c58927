"""`langhops eval`: a results file or a model on a prepared set, and every mistake in one line."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from typer import Typer
from typer.testing import CliRunner

from langhops_cli.cli.app import Commands
from langhops_cli.cli.evaluate import evaluate
from langhops_cli.prediction.predictor import Predictor

from ..evaluation.prepared import CONFIG, Reader, make_set

application = Typer(cls=Commands, rich_markup_mode=None, pretty_exceptions_enable=False)
application.command("eval")(evaluate)
application.callback()(lambda: None)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_set(folder / "toys")
    return folder


@pytest.fixture
def embedded(monkeypatch):
    """A stand-in for loading; says what was asked for."""
    asked = []

    def load(checkpoint=None, *, device="cpu"):
        asked.append((checkpoint, device))
        return SimpleNamespace(model=Reader(), config=CONFIG, finds_parts=len(asked) < 2)

    monkeypatch.setattr(Predictor, "from_pretrained", load)
    return asked


def invoke(*arguments):
    return CliRunner().invoke(application, ["eval", *map(str, arguments)], prog_name="langhops")


def test_a_model_is_scored_and_report_and_results_are_written(root, embedded, tmp_path):
    done = invoke("--data", "toys", "--data-root", root, "--out", tmp_path / "out", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert embedded == [(None, "cpu")]
    assert "toys val: 3 pictures" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["predictions.json", "report.json"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["figures"]["mask"]["all"]["ap"] == pytest.approx(1.0)
    assert report["model"] == "embedded"


def test_the_saved_results_score_the_same_without_a_model(root, embedded, tmp_path):
    invoke("--data", "toys", "--data-root", root, "--out", tmp_path / "a")
    done = invoke(
        "--data", "toys", "--data-root", root, "--predictions", tmp_path / "a" / "predictions.json",
        "--out", tmp_path / "b", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert len(embedded) == 1
    first = json.loads((tmp_path / "a" / "report.json").read_text())
    again = json.loads(done.stdout)
    assert again["figures"] == first["figures"]
    assert again == json.loads((tmp_path / "b" / "report.json").read_text())
    assert not (tmp_path / "b" / "predictions.json").exists()


def test_the_report_goes_to_a_folder_named_after_the_set(root, embedded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert invoke("--data", "toys", "--data-root", root).exit_code == 0
    assert (tmp_path / "evaluation" / "toys-val" / "report.json").is_file()


def test_a_quick_look_takes_the_first_pictures(root, embedded, tmp_path):
    done = invoke("--data", "toys", "--data-root", root, "--out", tmp_path, "--limit", 2, "--per-name")
    assert "toys val: 2 pictures" in done.stdout
    assert "A quick look: 2 of 3 pictures" in done.stdout
    assert "car wheel" in done.stdout
    results = json.loads((tmp_path / "predictions.json").read_text())
    assert {row["image_id"] for row in results} == {100, 101}


def test_a_model_of_objects_only_is_told(root, embedded, tmp_path):
    invoke("--data", "toys", "--data-root", root, "--out", tmp_path)
    done = invoke(tmp_path, "--data", "toys", "--data-root", root, "--out", tmp_path)
    assert embedded[1] == (tmp_path, "auto")
    assert "trained on objects only" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--data", "toys", "--data-root", "{root}", "--split", "test"], 3, "has no split 'test' (it has: val)"),
        (["--data", "cars", "--data-root", "{root}"], 3, "cars does not exist; make it with `langhops prepare`"),
        (["--data", "../toys", "--data-root", "{root}"], 2, "'../toys' cannot name a prepared set"),
        (
            ["run", "--data", "toys", "--predictions", "p.json"],
            2,
            "give a model (run) or --predictions p.json, not both",
        ),
        (
            ["--data", "toys", "--data-root", "{root}", "--predictions", "{tmp}/none.json"],
            3,
            "none.json does not exist",
        ),
        (["--data", "toys", "--data-root", "{root}", "--predictions", "{tmp}/cut.json"], 3, "cut.json is cut off"),
        (
            ["--data", "toys", "--data-root", "{root}", "--predictions", "{tmp}/wrong.json"],
            3,
            "wrong.json: 1 of 1 entries are wrong, nothing was scored: entry 0: image_id 5 is not in the ground truth",
        ),
        (["--data", "toys", "--data-root", "{root}", "--out", "{tmp}/cut.json"], 3, "cut.json is a file; give --out"),
        (["{tmp}/norun", "--data", "toys", "--data-root", "{root}"], 3, "norun does not exist"),
        (["--data", "toys", "--limit", "0"], 2, "limit"),
        ([], 2, "--data"),
    ],
)
def test_mistakes_are_one_line_with_a_code(arguments, code, message, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cut.json").write_text('[{"image_id"')
    wrong = {"image_id": 5, "category_id": 7, "score": 1, "segmentation": {"size": [64, 64], "counts": "0"}}
    (tmp_path / "wrong.json").write_text(json.dumps([wrong]))
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    done = invoke(*(argument.format(root=root, tmp=tmp_path) for argument in arguments))
    assert done.exit_code == code
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
