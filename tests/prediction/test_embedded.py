"""The model that comes with the package: small enough to ship, honest about its data, right on a real photograph."""

import json

import numpy as np
import pytest

from langhops_cli.prediction.predictor import Predictor
from langhops_cli.resources import assets_folder


@pytest.fixture(scope="module")
def portrait(repository):
    return Predictor.from_pretrained().predict(
        repository / "imgs" / "portrait.jpg", "face:hair,skin,eye*2,nose; car:wheel"
    )


def middle(mask):
    return np.argwhere(mask).mean(axis=0)


def test_it_is_small_and_in_half_precision():
    weights = assets_folder() / "mini" / "model.safetensors"
    assert weights.stat().st_size <= 40_000_000
    assert json.loads((weights.parent / "config.json").read_text())["dtype"] == "float16"


def test_its_card_names_every_set_with_its_terms_and_figures():
    folder = assets_folder() / "mini"
    card = (folder / "README.md").read_text()
    for name, item in json.loads((folder / "config.json").read_text())["data"].items():
        assert f"data: {name}, {item['pictures']} pictures, {item['license']}" in card
        if item["split"] != "val":  # of COCO it learned from the val pictures themselves
            assert f"| {name}, val |" in card


def test_a_face_and_its_parts_are_where_they_are(portrait):
    """In this picture the head fills the middle, the hair lies above the skin, and there is no car."""
    (face,) = [item for item in portrait if item.level == "object" and item.score > 0.4]
    assert face.name == "face"
    assert face.mask[40:130, 85:185].mean() > 0.9
    parts = {item.name: item for item in portrait if item.level == "part"}
    assert {"hair", "skin"} <= parts.keys()
    assert all(portrait[item.parent].name == "face" for item in parts.values())
    assert middle(parts["hair"].mask)[0] < middle(parts["skin"].mask)[0]
    assert parts["skin"].mask[95:115, 90:175].mean() > 0.5
    assert parts["hair"].mask[20:55, 90:180].mean() > 0.7
