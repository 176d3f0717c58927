"""`langhops predict` with a tiny model of random weights: what it writes, prints and refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from PIL import Image
from pycocotools.coco import COCO

from langhops_cli.cli.predict_show import skipped_message

from .predicting import FILES, draw, files


def test_folder_gives_coco_overlays_and_trees(run, tmp_path):
    draw(tmp_path / "imgs/a.png", seed=1)
    draw(tmp_path / "imgs/deep/ü b.jpg", (30, 80), seed=2)
    before = files(tmp_path / "imgs")
    result = run("imgs")
    assert result.exit_code == 0, result.output
    assert files(tmp_path / "predictions") == FILES | {"overlays/a.jpg", "overlays/ü b.jpg"}
    assert files(tmp_path / "imgs") == before
    coco = COCO(str(tmp_path / "predictions/predictions.json"))
    assert [row["file_name"] for row in coco.dataset["images"]] == ["imgs/a.png", "imgs/deep/ü b.jpg"]
    assert {row["name"] for row in coco.dataset["categories"]} == {"dog", "猫", "dog head", "dog leg", "猫 ear"}
    assert coco.anns
    for row in coco.anns.values():
        assert coco.annToMask(row).sum() == row["area"]
        if row["parent_id"] is not None:
            parent = coco.anns[row["parent_id"]]
            assert parent["image_id"] == row["image_id"]
            assert coco.cats[row["category_id"]]["parent_id"] == parent["category_id"]
    lines = result.stdout.splitlines()
    assert lines[0] == "imgs/a.png"
    assert any(line.startswith(("├── dog 0.", "└── dog 0.", "├── 猫 0.", "└── 猫 0.")) for line in lines)
    assert any("── head 0." in line or "── ear 0." in line for line in lines)
    with Image.open(tmp_path / "predictions/overlays/a.jpg") as overlay:
        assert overlay.format == "JPEG"


def test_json_and_no_overlays(run, tmp_path):
    draw(tmp_path / "a.png")
    result = run("a.png", "--json", "--no-overlays", "--no-gallery", "--out", "here/there")
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)
    assert (found["picture"], found["width"], found["height"], found["overlay"]) == ("a.png", 60, 40, None)
    assert {item["level"] for item in found["instances"]} == {"object", "part"}
    assert files(tmp_path / "here/there") == FILES - {"index.html"}


def test_names_without_parts_get_likely_ones_unless_told_not_to(run, tmp_path):
    draw(tmp_path / "a.png")

    def looked_for(*words, vocab):
        result = run("a.png", "--no-overlays", "--no-gallery", "--overwrite", *words, vocab=vocab)
        assert result.exit_code == 0, result.output
        rows = json.loads((tmp_path / "predictions/predictions.json").read_text(encoding="utf-8"))["categories"]
        return {row["name"] for row in rows}, result.stderr

    names, said = looked_for(vocab="dog; car")
    assert {"dog", "dog head", "dog tail", "car", "car wheel"} <= names
    assert "no parts were named; looked for are dog:" in said
    names, said = looked_for("--no-propose", vocab="dog; car")
    assert names == {"dog", "car"} and "looked for are" not in said
    names, said = looked_for(vocab="dog:head; car")  # an object beside others with parts is meant as a whole
    assert names == {"dog", "dog head", "car"} and "looked for are" not in said


def test_nothing_found_is_said(run, tmp_path):
    draw(tmp_path / "a.png")
    result = run("a.png", "--min-score", "1")
    assert result.exit_code == 0, result.output
    assert "a.png: nothing found" in result.stdout
    assert json.loads((tmp_path / "predictions/predictions.json").read_text(encoding="utf-8"))["annotations"] == []


@pytest.mark.parametrize("kind", ["zero", "cut", "text"])
def test_bad_picture_in_a_folder_is_named_and_the_others_are_done(run, tmp_path, kind):
    whole = draw(tmp_path / "imgs/b.jpg", (200, 200)).read_bytes()
    content = {"zero": b"", "cut": whole[: len(whole) // 2], "text": b"no picture at all"}[kind]
    (tmp_path / "imgs/a.jpg").write_bytes(content)
    draw(tmp_path / "imgs/c.jpg")
    result = run("imgs")
    assert result.exit_code == 3
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert errors[0].startswith("error: imgs/a.jpg ")
    assert "; skipped (1 of 3)." in errors[0]
    assert errors[1] == "error: 1 of 3 pictures skipped, the others are done"
    assert files(tmp_path / "predictions") == FILES | {"overlays/b.jpg", "overlays/c.jpg"}
    rows = json.loads((tmp_path / "predictions/predictions.json").read_text(encoding="utf-8"))["images"]
    assert [row["file_name"] for row in rows] == ["imgs/b.jpg", "imgs/c.jpg"]


def test_only_picture_is_bad(run, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    result = run("a.jpg")
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1] == "error: a.jpg is empty (0 bytes); take it out or give a whole file."
    assert files(tmp_path) == {"a.jpg"}
    assert not (tmp_path / "predictions").exists()


def test_all_pictures_are_bad(run, tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions/predictions.json").write_text("older")
    result = run("a.jpg", "b.jpg")
    assert result.exit_code == 3
    assert "none of 2 pictures could be read" in result.stderr
    assert files(tmp_path / "predictions") == {"predictions.json"}
    assert (tmp_path / "predictions/predictions.json").read_text() == "older"


@pytest.mark.parametrize(
    ("size", "suffix", "mode"),
    [((1, 1), "png", "RGB"), ((8000, 50), "jpg", "RGB"), ((30, 20), "jpg", "CMYK"), ((30, 20), "png", "P")],
)
def test_unusual_pictures(run, tmp_path, size, suffix, mode):
    Image.new("RGB", size, (200, 30, 30)).convert(mode).save(tmp_path / f"a.{suffix}")
    result = run(f"a.{suffix}")
    assert result.exit_code == 0, result.output
    (row,) = json.loads((tmp_path / "predictions/predictions.json").read_text(encoding="utf-8"))["images"]
    assert (row["width"], row["height"]) == size


def test_rotated_picture_is_predicted_upright(run, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(tmp_path / "a.jpg", (60, 40), exif=exif)
    assert run("a.jpg").exit_code == 0
    (row,) = json.loads((tmp_path / "predictions/predictions.json").read_text(encoding="utf-8"))["images"]
    assert (row["width"], row["height"]) == (40, 60)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.jpg"], "gone.jpg does not exist"),
        (["empty"], "empty holds no picture"),
        (["*.tif"], "no picture matches *.tif"),
        (["a.png", "--out", "a.png"], "a.png is a file; give --out a folder"),
        (["a.png", "--out", "a.png/deeper"], "a.png is a file; give --out a folder"),
    ],
)
def test_wrong_paths_end_before_the_model_is_loaded(run, tmp_path, words, message, monkeypatch):
    from langhops_cli.prediction.predictor import Predictor

    monkeypatch.setattr(Predictor, "from_pretrained", lambda *_, **__: pytest.fail("the model was loaded"))
    draw(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    result = run(*words)
    assert result.exit_code == 3
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr
    assert files(tmp_path) == {"a.png"}


def test_corrupt_checkpoints(run, checkpoint, tmp_path):
    draw(tmp_path / "a.png")
    assert "does not exist" in run("a.png", model=tmp_path / "gone").stderr
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[:1000])
    result = run("a.png", model=broken)
    assert result.exit_code == 3
    assert "broken/model.safetensors" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    (broken / "config.json").write_text("{")
    assert "config.json" in run("a.png", model=broken).stderr
    assert not (tmp_path / "predictions").exists()


def test_vocabulary_mistakes_end_before_torch_is_loaded(repository):
    code = (
        "import sys\n"
        "from langhops_cli.cli.app import app\n"
        "try:\n"
        "    app(['predict', 'gone.jpg', '--vocab', 'dog:head,,leg'])\n"
        "except SystemExit as end:\n"
        "    print(end.code, 'torch' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=repository, check=True)
    assert result.stdout.split() == ["2", "False"]
    assert "empty part name" in result.stderr


def test_too_many_parts_are_told(run, tmp_path):
    draw(tmp_path / "a.png")
    result = run("a.png", vocab="dog:leg*4,ear*3,tail,head")
    assert result.exit_code == 0
    assert "dog has 9 parts to look for, this model takes 8 at a time" in result.stderr


@pytest.mark.parametrize(
    ("message", "skipped"),
    [
        (
            "a.jpg is cut off after 12 bytes; take it out or give a whole file.",
            "a.jpg is cut off after 12 bytes; skipped (1 of 40). Take it out or give a whole file.",
        ),
        ("a is a folder, not a picture.", "a is a folder, not a picture; skipped (1 of 40)."),
    ],
)
def test_message_of_a_skipped_picture(message, skipped):
    assert skipped_message(message, 1, 40) == skipped
