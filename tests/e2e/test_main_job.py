"""The main job through the real command line: prepare, train both stages, eval, predict, one after the other."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

STEPS = 4
TINY = [
    "data.train=[{name: shapes}]",
    "data.val=[]",
    "data.image_size=128",
    "data.workers=0",
    f"schedule.steps={STEPS}",
    "schedule.warmup=1",
    "logging.every=1",
    f"logging.save_every={STEPS}",
]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("job")


def langhops(work: Path, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "langhops_cli", *map(str, arguments)]
    path = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        command,
        cwd=work,
        env={**os.environ, "LANGHOPS_DATA": str(work / "data"), "PYTHONPATH": os.pathsep.join(path), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def files(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def check_parents(content):
    """Every part belongs to an instance of its object in the same picture, and no object to anything."""
    rows = {row["id"]: row for row in content["annotations"]}
    category = {row["id"]: row for row in content["categories"]}
    for row in rows.values():
        parent = row["parent_id"]
        if category[row["category_id"]]["parent_id"] is None:
            assert parent is None
        else:
            assert rows[parent]["category_id"] == category[row["category_id"]]["parent_id"]
            assert rows[parent]["image_id"] == row["image_id"]


@pytest.fixture(scope="module")
def shapes(work):
    langhops(work, "prepare", "shapes", "--train", 6, "--val", 3, "--size", 128, "--seed", 1)
    return work / "data" / "shapes"


@pytest.fixture(scope="module")
def stage1(work, shapes):
    langhops(work, "train-stage1", "mini_stage1", "--out", "runs/stage1", *TINY)
    return work / "runs" / "stage1"


@pytest.fixture(scope="module")
def stage2(work, stage1):
    langhops(work, "train-stage2", "mini_stage2", "--init", stage1, "--out", "runs/stage2", *TINY)
    return work / "runs" / "stage2"


@pytest.fixture(scope="module")
def evaluation(work, stage2):
    done = langhops(work, "eval", stage2, "--data", "shapes", "--out", "scores", "--device", "cpu", "--json")
    return work / "scores", json.loads(done.stdout)


def test_prepare_writes_a_set_and_the_second_time_nothing(work, shapes):
    assert {"train.json", "val.json", "hierarchy.yaml", "report.json"} <= {path.name for path in shapes.iterdir()}
    train, val = read(shapes / "train.json"), read(shapes / "val.json")
    assert (len(train["images"]), len(val["images"])) == (6, 3)
    assert any(row["parent_id"] for row in train["annotations"])
    before = files(shapes)
    langhops(work, "prepare", "shapes", "--train", 6, "--val", 3, "--size", 128, "--seed", 1)
    assert files(shapes) == before


def test_stage_1_leaves_a_checkpoint_of_objects(stage1):
    assert {"config.json", "model.safetensors", "README.md", "log.jsonl"} <= {path.name for path in stage1.iterdir()}
    config = read(stage1 / "config.json")
    assert (config["model"]["level"], config["step"]) == ("objects", STEPS)
    assert "shapes" in config["data"]


def test_stage_2_starts_from_it_and_leaves_a_checkpoint_of_parts(stage1, stage2):
    config = read(stage2 / "config.json")
    assert (config["model"]["level"], config["step"]) == ("parts", STEPS)
    assert (stage2 / "model.safetensors").stat().st_size > (stage1 / "model.safetensors").stat().st_size
    for folder in (stage1, stage2):
        rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        losses = [row["losses"]["total"] for row in rows if "losses" in row]
        assert len(losses) == STEPS
        assert all(math.isfinite(loss) for loss in losses)


def test_eval_measures_objects_parts_and_all(evaluation, shapes):
    folder, report = evaluation
    assert report == read(folder / "report.json")
    assert (report["dataset"]["name"], report["dataset"]["scored"]) == ("shapes", 3)
    figures = report["sections"]["instance AP"]
    for level in ("obj", "part", "all"):
        assert figures["mask"][level]["instances"] > 0
        assert 0 <= figures["mask"][level]["ap"] <= 1
    results = read(folder / "predictions.json")
    assert results  # of a model of four steps: whether some are parts is chance
    assert {row["image_id"] for row in results} <= {row["id"] for row in read(shapes / "val.json")["images"]}


def test_eval_of_the_embedded_model_finds_parts(work, shapes):
    langhops(work, "eval", "--data", "shapes", "--out", "embedded-eval", "--device", "cpu")
    parents = {row["id"]: row["parent_id"] for row in read(shapes / "val.json")["categories"]}
    results = read(work / "embedded-eval" / "predictions.json")
    assert {parents[row["category_id"]] is None for row in results} == {True, False}


def test_eval_scores_the_saved_results_again_without_a_model(work, evaluation):
    folder, report = evaluation
    done = langhops(work, "eval", "--predictions", folder / "predictions.json", "--data", "shapes", "--out", "again")
    again = read(work / "again" / "report.json")
    assert again["sections"] == report["sections"]
    assert "mask part" in done.stdout
    done = langhops(work, "eval", "--compare", folder, work / "again", "--out", "both", "--json")
    assert {row["difference"] for row in (values[1] for values in json.loads(done.stdout)["figures"].values())} <= {
        0,
        None,
    }


def test_eval_measures_parts_pixel_by_pixel(work, stage2):
    arguments = ("eval", stage2, "--data", "shapes", "--protocol", "hiou", "--out", "hiou", "--device", "cpu", "--json")
    section = json.loads(langhops(work, *arguments).stdout)["sections"]["semantic hIoU"]
    assert section["records"] > 0
    assert 0 <= section["strict"]["all"] <= 1


def test_predict_writes_masks_with_parents_and_overlays(work, stage2, shapes):
    pictures = work / "imgs"
    pictures.mkdir()
    for number, path in enumerate(sorted(shapes.rglob("*.png"))[:2]):
        Image.open(path).save(pictures / f"{number}.png")
    (pictures / "broken.png").write_bytes(b"")
    vocabulary = f"@{shapes / 'hierarchy.yaml'}"
    arguments = ("predict", pictures, "--vocab", vocabulary, "--checkpoint", stage2, "--out", "found")
    done = langhops(work, *arguments, "--min-score", 0.001, "--device", "cpu", code=3)
    assert "broken.png is empty" in done.stderr
    content = read(work / "found" / "predictions.json")
    assert sorted(Path(row["file_name"]).name for row in content["images"]) == ["0.png", "1.png"]
    assert sorted(path.name for path in (work / "found" / "overlays").iterdir()) == ["0.jpg", "1.jpg"]
    check_parents(content)  # a model of three steps may find nothing: what it finds has to hang together


def test_predict_finds_objects_and_parts_with_the_embedded_model(work, repository):
    vocabulary = "face:hair,skin,eye*2,nose"
    arguments = ("predict", repository / "imgs" / "portrait.jpg", "--vocab", vocabulary, "--out", "embedded")
    done = langhops(work, *arguments, "--device", "cpu")
    assert "└── face" in done.stdout
    content = read(work / "embedded" / "predictions.json")
    levels = {row["parent_id"] is None for row in content["annotations"]}
    assert levels == {True, False}
    check_parents(content)


def test_a_wrong_step_in_the_chain_is_one_line(work, stage1):
    done = langhops(work, "eval", work / "nowhere", "--data", "shapes", code=3)
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    done = langhops(work, "train-stage2", "mini_stage1", "--init", stage1, "--out", "runs/wrong", code=2)
    assert "train-stage1" in done.stderr
    assert not (work / "runs" / "wrong").exists()
