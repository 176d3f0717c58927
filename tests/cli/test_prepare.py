import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from langhops_cli.cli.app import app
from langhops_cli.cli.prepare import prepare
from langhops_cli.data.index import PreparedDataset
from langhops_cli.errors import UserError

SHAPES = ["shapes", "--train", "3", "--val", "2", "--size", "64"]


def _run(*words: str) -> str:
    result = CliRunner().invoke(prepare, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def _cars(folder: Path) -> Path:
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(folder / "images/1.png")
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "_background_"}, {"id": 2, "name": "back_door"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 2, "segmentation": [[2, 2, 12, 2, 12, 12, 2, 12]]},
            {"id": 2, "image_id": 1, "category_id": 2, "segmentation": [[2, 2]]},
        ],
    }
    (folder / "train.json").write_text(json.dumps(content))
    return folder


def test_your_own_annotations_become_a_set_once(tmp_path: Path) -> None:
    words = ["coco-parts", "--source", str(_cars(tmp_path / "my cars")), "--name", "cars", "--object", "car"]
    words += ["--union", "--data-root", str(tmp_path / "data"), "--json"]
    first, second = json.loads(_run(*words)), json.loads(_run(*words))
    assert (first["written"], second["written"]) == (True, False)
    assert first["instances_by_name"] == {"car": 1, "car back door": 1}
    assert (tmp_path / "data/cars/hierarchy.yaml").read_text() == "car:\n  back door:\n"


def test_the_table_tells_counts_and_what_was_left_out(tmp_path: Path) -> None:
    words = ["coco-parts", "--source", str(_cars(tmp_path / "cars")), "--object", "car", "--union"]
    result = CliRunner().invoke(prepare, [*words, "--data-root", str(tmp_path / "data")], catch_exceptions=False)
    assert "objects made of their parts" in result.output
    assert "left out of train: 1 x polygon of fewer than three points (2)" in result.output
    assert "left out: car background" in result.output
    again = _run(*words, "--data-root", str(tmp_path / "data"))
    assert "nothing to do" in again


def test_a_prepared_set_can_be_edited_and_prepared_from(tmp_path: Path) -> None:
    words = ["--data-root", str(tmp_path / "data"), "--json"]
    first = json.loads(
        _run("coco-parts", "--source", str(_cars(tmp_path / "cars")), "--object", "car", "--union", *words)
    )
    folder = tmp_path / "data/cars"
    second = json.loads(_run("coco-parts", "--source", str(folder), "--name", "again", "--strict", *words))
    assert second["instances_by_name"] == first["instances_by_name"]
    contents = [json.loads((tmp_path / "data" / name / "train.json").read_text()) for name in ("cars", "again")]
    for before, after in zip(contents[0]["annotations"], contents[1]["annotations"], strict=True):
        # Only the category's number changes: the first set left that of an unused name free.
        assert before | {"category_id": 0} == after | {"category_id": 0}
    annotation = contents[0]["annotations"][1] | {"id": 99, "segmentation": [[20, 20, 30, 20, 30, 29]]}
    (folder / "train.json").write_text(
        json.dumps({**contents[0], "annotations": [*contents[0]["annotations"], annotation]})
    )
    with pytest.raises(UserError, match="was changed after") as caught:
        PreparedDataset(folder, "train")
    _, _, advice = str(caught.value).partition("langhops prepare ")
    third = json.loads(_run(*advice.replace("NAME", "edited").split(), *words))
    assert third["instances_by_name"] == {"car back door": 2, "car": 1}


def test_strict_ends_with_code_3_and_writes_nothing(tmp_path: Path) -> None:
    words = ["coco-parts", "--source", str(_cars(tmp_path / "cars")), "--object", "car", "--union", "--strict"]
    result = CliRunner().invoke(app, ["prepare", *words, "--data-root", str(tmp_path / "data")], prog_name="langhops")
    assert result.exit_code == 3
    assert "train: 1 x polygon of fewer than three points (2)" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: cars has faults, and --strict refuses to leave anything")
    assert list((tmp_path / "data").iterdir()) == []


def test_a_broken_file_ends_with_code_3_and_one_line(tmp_path: Path) -> None:
    source = _cars(tmp_path / "cars")
    (source / "train.json").write_text((source / "train.json").read_text()[:-20])
    words = ["prepare", "coco-parts", "--source", str(source), "--data-root", str(tmp_path / "data")]
    result = CliRunner().invoke(app, words, prog_name="langhops")
    assert result.exit_code == 3
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert errors == [result.stderr.splitlines()[-1]]
    assert errors[0].startswith(f"error: {source / 'train.json'} is no JSON")


def test_the_keyboard_stops_it_and_nothing_is_left(tmp_path: Path) -> None:
    # A shell that starts the tests in the background has its children ignore the keyboard.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from langhops_cli.cli.app import main; main()"
    words = ["prepare", "shapes", "--train", "100000", "--size", "64", "--workers", "2"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *words, "--data-root", str(tmp_path / "data")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        while process.poll() is None and not list((tmp_path / "data").glob(".shapes.partial-*/images/train/*.png")):
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the group
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "error: stopped by the keyboard"
    assert "Traceback" not in errors
    assert list((tmp_path / "data").iterdir()) == []


def test_shapes_are_drawn_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGHOPS_DATA", str(tmp_path))
    report = json.loads(_run(*SHAPES, "--json"))
    assert report["splits"]["train"]["images"] == 3
    assert len(list((tmp_path / "shapes/images").rglob("*.png"))) == 5
    assert json.loads(_run(*SHAPES, "--json"))["written"] is False
    assert json.loads(_run(*SHAPES, "--seed", "1", "--json"))["written"] is True


def test_every_dataset_is_listed_and_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGHOPS_DATA", str(tmp_path))
    listed = {row["name"] for row in json.loads(_run("--list", "--json"))}
    assert {"coco-parts", "shapes"} <= listed
    for name in ("coco-parts", "shapes"):
        assert f"langhops prepare {name}" in _run(name, "--describe")
        described = json.loads(_run(name, "--describe", "--json"))
        assert (described["manifest"]["name"], described["prepared"]) == (name, None)


def test_the_manifest_names_the_tree_that_is_drawn() -> None:
    from langhops_cli.data.generated.figures import PARTS

    described = json.loads(_run("shapes", "--describe", "--json"))
    assert described["manifest"]["vocabulary"] == {kind: list(parts) for kind, parts in PARTS.items()}


def test_a_source_is_asked_for() -> None:
    with pytest.raises(UserError, match="--source DIR"):
        CliRunner().invoke(prepare, ["coco-parts"], catch_exceptions=False)


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from langhops_cli.cli.prepare import prepare; "
        "CliRunner().invoke(prepare, ['--help']); CliRunner().invoke(prepare, ['coco-parts', '--describe']); "
        "sys.exit(bool({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
