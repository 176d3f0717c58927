import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from langhops_cli.cli.prepare import prepare
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


def test_shapes_are_drawn_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGHOPS_DATA", str(tmp_path))
    report = json.loads(_run(*SHAPES, "--json"))
    assert report["splits"]["train"]["images"] == 3
    assert len(list((tmp_path / "shapes/images").rglob("*.png"))) == 5
    assert json.loads(_run(*SHAPES, "--json"))["written"] is False
    assert json.loads(_run(*SHAPES, "--seed", "1", "--json"))["written"] is True


def test_every_dataset_is_listed_and_described() -> None:
    listed = {row["name"] for row in json.loads(_run("--list", "--json"))}
    assert {"coco-parts", "shapes"} <= listed
    for name in ("coco-parts", "shapes"):
        assert f"langhops prepare {name}" in _run(name, "--describe")
        assert json.loads(_run(name, "--describe", "--json"))["name"] == name


def test_the_manifest_names_the_tree_that_is_drawn() -> None:
    from langhops_cli.data.figures import PARTS

    described = json.loads(_run("shapes", "--describe", "--json"))
    assert described["vocabulary"] == {kind: list(parts) for kind, parts in PARTS.items()}


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
