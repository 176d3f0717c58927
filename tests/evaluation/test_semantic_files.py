"""What is refused in a folder of maps."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from langhops_cli.errors import UserError
from langhops_cli.evaluation.semantic.scoring import score_semantic_files

from .prepared import SIDE
from .semantic_scene import evaluate, make_set

WHEEL, DOOR, HEAD, NONE = range(4)
"""The scored parts in the order of the hierarchy; the last stands for none."""


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("sets") / "toys")


@pytest.fixture(scope="module")
def written(toys, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    for setting in ("oracle-obj", "pred-all"):
        evaluate(toys, folder / setting, setting=setting)
    return folder


def cut(path):
    path.write_bytes(path.read_bytes()[:60])


def repaint(path, **options):
    """Another map of the same size with one pixel of another label."""
    values = np.asarray(Image.open(path)).copy()
    values[10, 10] = options["label"]
    Image.fromarray(values).save(path)


def record(place, **fields):
    def change(index):
        index["records"][place] |= fields

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index["records"].pop(), "index.json: picture 101, car has no map; nothing was scored"),
        (record(0, image_id=7), "record 0: the set has no picture 7"),
        (record(0, object="cat"), "picture 100, car has no map; picture 100, cat is annotated nowhere in the set"),
        (record(2, instance=0), "picture 101, car, object 0 is annotated nowhere"),
        (record(1, object="car"), "record 1: picture 100, car stands twice"),
        (record(0, file="../../x.png"), "lies outside the folder"),
        (record(0, file="maps/9.png"), r"maps/9.png is missing"),
        (record(0, image_id="100"), "records.0.image_id: input should be a valid integer"),
        (record(0, score=0.5), "records.0.score: extra inputs are not permitted"),
        (lambda index: index.update(names=["car wheel", "car door", "dog tail"]), "the set has no part 'dog tail'"),
        (lambda index: index.update(names=["car wheel"] * 2), "'car wheel' stands twice among its names"),
        (lambda index: index.update(ignore=2), "ignore is 2, which is no label of 8 bits above those of its 3 names"),
        (lambda index: index.update(ignore=300), "ignore is 300, which is no label of 8 bits"),
        (lambda index: index.update(setting="oracle"), "setting: input should be 'oracle-obj' or 'pred-all'"),
        (lambda index: index.update(setting="pred-all"), "with pred-all no object is given"),
        (lambda index: index.update(format=2), "format: input should be 1"),
        (lambda index: index.update(bits=16), "is grey of 8 bit; its labels should be grey of 16 bit"),
        (lambda index: index.pop("records"), "records: field required"),
    ],
)
def test_wrong_indexes(toys, written, tmp_path, change, message):
    folder = tmp_path / "maps of mine"
    shutil.copytree(written / "oracle-obj", folder)
    index = json.loads((folder / "index.json").read_text())
    change(index)
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=message) as error:
        score_semantic_files(folder, toys)
    assert error.value.code == 3
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("setting", "spoil", "message"),
    [
        ("pred-all", cut, r"100-0.png is a broken map of labels"),
        ("pred-all", lambda path: path.unlink(), r"100-0.png is missing"),
        ("pred-all", lambda path: path.write_bytes(b"none"), "no map of labels that can be read"),
        (
            "pred-all",
            lambda path: repaint(path, label=3),
            "holds the label 3: .*index.json has 3 names and 255 for none",
        ),
        ("pred-all", lambda path: Image.new("L", (SIDE, 9)).save(path), "has 64 x 9 pixels, its picture 64 x 64"),
        ("pred-all", lambda path: Image.new("RGB", (SIDE, SIDE)).save(path), "holds colours"),
        ("oracle-obj", lambda path: repaint(path, label=HEAD), "picture 100, car: its map names 'dog head' inside"),
    ],
)
def test_wrong_maps(toys, written, tmp_path, setting, spoil, message):
    folder = tmp_path / "spoilt"
    shutil.copytree(written / setting, folder)
    spoil(folder / "maps" / "100-0.png")
    with pytest.raises(UserError, match=message) as error:
        score_semantic_files(folder, toys)
    assert error.value.code == 3


@pytest.mark.parametrize(
    ("content", "message"), [(None, "does not exist"), ("{", "cannot be read"), ("[]", "mapping|dict")]
)
def test_folders_without_an_index(toys, tmp_path, content, message):
    if content is not None:
        (tmp_path / "index.json").write_text(content)
    with pytest.raises(UserError, match=message):
        score_semantic_files(tmp_path, toys)
