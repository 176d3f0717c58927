import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from langhops_cli.checkpoint.export import Exported
from langhops_cli.cli.app import app
from langhops_cli.errors import MISMATCH, UserError
from langhops_cli.resources import assets_folder

run = CliRunner()
MODEL = str(assets_folder() / "mini")


def export(*arguments):
    return run.invoke(app, ["export", *map(str, arguments)], prog_name="langhops")


@pytest.fixture
def exporter(monkeypatch):
    """Stands in for torch.export, which takes a minute: keeps what it is asked, writes a word."""
    asked = []

    def write(model, path, *, height, width, batch, about):
        asked.append((height, width, batch, about["checkpoint"]))
        path.write_text("exported")
        return Exported(3e-6, dict(about))

    monkeypatch.setattr("langhops_cli.checkpoint.export.export_vision", write)
    return asked


def test_the_size_is_the_models_largest_unless_given(exporter, tmp_path):
    longest = json.loads(Path(MODEL, "config.json").read_text())["model"]["preprocessing"]["longest"]
    largest = next(size for size in range(64, 4096, 64) if size >= longest)
    result = export(MODEL, tmp_path / "a.pt2")
    assert result.exit_code == 0, result.output
    assert f"a.pt2: 1 x {largest} x {largest} pixels, differs from the model by at most 3.0e-06" in result.stdout
    assert export(MODEL, tmp_path / "b.pt2", "--height", 128, "--width", 64, "--batch", 2).exit_code == 0
    assert exporter == [(largest, largest, 1, "mini"), (128, 64, 2, "mini")]


def test_the_language_model_is_written_beside_it_merged(exporter, tmp_path):
    result = export(MODEL, tmp_path / "a.pt2", "--language-model", tmp_path / "language")
    assert result.exit_code == 0, result.output
    assert "merged, differs from the unmerged one by at most" in result.stdout
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {p.name for p in (tmp_path / "language").iterdir()}


def test_what_differs_is_an_error_of_its_own(monkeypatch, tmp_path):
    def differ(model, path, **options):
        raise UserError(f"{path} was not written", code=MISMATCH)

    monkeypatch.setattr("langhops_cli.checkpoint.export.export_vision", differ)
    assert export(MODEL, tmp_path / "a.pt2").exit_code == 5


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((MODEL, "{tmp}/model.onnx"), 2, "is no name for an exported model; end it in .pt2"),
        ((MODEL, "{tmp}/folder.pt2"), 3, "folder.pt2 is a folder; name a file"),
        ((MODEL, "{tmp}/file/below.pt2"), 3, "file is a file; name a file in a folder"),
        ((MODEL, "/proc/version/a.pt2"), 3, "/proc/version is a file"),
        ((MODEL, "{tmp}/a.pt2", "--language-model", "{tmp}/file"), 2, "is not an empty folder"),
        (("{tmp}/nowhere", "{tmp}/a.pt2"), 3, "nowhere does not exist"),
        ((MODEL, "{tmp}/a.pt2", "--height", "100"), 2, "use multiples of 64, 128 in place of 100"),
    ],
)
def test_what_cannot_be_done_is_said_before_minutes_are_spent(arguments, code, message, tmp_path):
    (tmp_path / "folder.pt2").mkdir()
    (tmp_path / "file").write_text("")
    result = export(*(argument.replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr
    assert not (tmp_path / "a.pt2").exists()


def test_a_place_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    result = export(MODEL, tmp_path / "a.pt2")
    assert result.exit_code == 3
    assert f"{tmp_path} cannot be written to" in result.stderr


def test_a_model_of_objects_has_no_language_model(monkeypatch, tmp_path):
    from dataclasses import replace

    from langhops_cli.checkpoint.hub import LangHOPS

    whole = LangHOPS.from_pretrained(MODEL)
    objects = LangHOPS(whole.model, replace(whole.config, level="objects"), {})
    monkeypatch.setattr(LangHOPS, "from_pretrained", lambda source: objects)
    result = export(MODEL, tmp_path / "a.pt2", "--language-model", tmp_path / "language")
    assert result.exit_code == 2
    assert "has no language model; leave --language-model out" in result.stderr
