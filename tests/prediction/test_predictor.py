"""The predictor around a tiny model with random weights: sizes, kinds of pictures, caches, faults."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from langhops_cli.checkpoint.build import build_model
from langhops_cli.checkpoint.folder import save_checkpoint
from langhops_cli.errors import UserError
from langhops_cli.model.configuration import ModelConfig, PreprocessingConfig
from langhops_cli.prediction.predictor import Predictor, choose_device, resize
from langhops_cli.vocabulary import ObjectNode, PartNode, Vocabulary, parse_vocabulary

VOCABULARY = "dog:head(ear),leg*4; car:wheel"


def tiny_config() -> ModelConfig:
    mini = ModelConfig.preset("mini")
    decoder = replace(
        mini.decoder, dim=32, feedforward=32, heads=4, encoder_layers=1, object_layers=1, part_layers=1, num_queries=12
    )
    preprocessing = PreprocessingConfig(shortest=64, longest=128)
    hierarchy = replace(mini.hierarchy, num_kept=3)
    return replace(mini, decoder=decoder, hierarchy=hierarchy, preprocessing=preprocessing)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoint")
    config = tiny_config()
    save_checkpoint(build_model(config, pretrained=False), folder, config=config, metadata={})
    return folder


@pytest.fixture(scope="module")
def predictor(checkpoint):
    return Predictor.from_pretrained(checkpoint)


def picture(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (8000, 50), (3, 700), (97, 61), (640, 480)])
def test_any_size_gives_masks_of_that_size(predictor, size):
    prediction = predictor.predict(picture(*size), VOCABULARY, min_score=0.0)
    assert prediction.size == (size[1], size[0])
    assert all(item.mask.shape == (size[1], size[0]) for item in prediction)


def test_finds_objects_and_parts_with_the_vocabularys_names(predictor):
    prediction = predictor.predict(picture(120, 90), VOCABULARY, min_score=0.0)
    levels = {item.level for item in prediction}
    assert levels == {"object", "part"}
    names = {item.path for item in prediction}
    assert names <= {
        ("dog",), ("car",), ("dog", "head"), ("dog", "head", "ear"), ("dog", "leg"), ("car", "wheel")
    }  # fmt: skip
    for item in prediction:
        if item.parent is not None:
            assert prediction[item.parent].path[0] == item.path[0]


def test_paths_pictures_and_arrays_give_the_same(predictor, tmp_path):
    image = picture(120, 90)
    path = tmp_path / "p.png"
    image.save(path)
    given = [image, np.asarray(image), path, str(path)]
    results = [predictor.predict(item, VOCABULARY, min_score=0.0) for item in given]
    for result in results[1:]:
        assert result.instances == results[0].instances
    assert results[2].picture == str(path)
    assert results[0].picture == ""
    assert predictor.predict(image, VOCABULARY, name="mine").picture == "mine"


def test_batch_gives_what_single_pictures_give(predictor):
    """Padding beside a larger picture moves scores by rounding only."""
    images = [picture(120, 90, 1), picture(64, 200, 2)]
    together = predictor.predict_batch(images, VOCABULARY, min_score=0.0)
    for image, both in zip(images, together, strict=True):
        alone = predictor.predict(image, VOCABULARY, min_score=0.0)
        objects = [[item for item in result if item.level == "object"] for result in (alone, both)]
        assert [item.path for item in objects[0]] == [item.path for item in objects[1]]
        assert [item.score for item in objects[0]] == pytest.approx([item.score for item in objects[1]], abs=1e-3)
    assert predictor.predict_batch([], VOCABULARY) == []


def test_order_of_objects_does_not_matter(predictor):
    image = picture(120, 90)
    one = predictor.predict(image, "dog; car; tree", min_score=0.0)
    other = predictor.predict(image, "tree; dog; car", min_score=0.0)
    assert [item.path for item in one] == [item.path for item in other]
    assert [item.score for item in one] == pytest.approx([item.score for item in other], abs=1e-5)


def test_vocabulary_of_two_thousand_names(predictor, monkeypatch):
    """All but the text encoder, whose time for so many names is its own tests' matter."""
    monkeypatch.setattr(predictor.model.text_encoder, "forward", lambda texts: torch.randn(len(texts), 32))
    vocabulary = Vocabulary(
        tuple(ObjectNode(f"thing {n}", tuple(PartNode(f"part {m}") for m in range(9))) for n in range(200))
    )
    assert len(vocabulary.object_names) + len(vocabulary.part_classes) == 2000
    prediction = predictor.predict(picture(64, 64), vocabulary, min_score=0.0)
    assert any(item.level == "part" for item in prediction)


def test_names_are_embedded_once(predictor, monkeypatch):
    image = picture(64, 64)
    predictor.predict(image, "zebra:mane")
    monkeypatch.setattr(
        predictor.model.text_encoder, "tokens", lambda texts: pytest.fail(f"embedded {texts} once more")
    )
    predictor.predict(image, parse_vocabulary("zebra:mane"))


def test_checkpoint_of_stage_one_finds_objects_only(tmp_path):
    config = replace(tiny_config(), level="objects")
    save_checkpoint(build_model(config, pretrained=False), tmp_path, config=config, metadata={})
    predictor = Predictor.from_pretrained(tmp_path)
    assert not predictor.finds_parts
    prediction = predictor.predict(picture(64, 64), VOCABULARY, min_score=0.0)
    assert {item.level for item in prediction} == {"object"}


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((640, 480), (341, 256)),  # (w, h): shortest edge
        ((1200, 300), (512, 128)),  # longest edge
        ((1, 1), (256, 256)),
        ((8000, 50), (512, 32)),  # never thinner than a cell of the coarser maps
        ((50, 8000), (32, 512)),
    ],
)
def test_size_that_the_model_sees(size, seen):
    array = resize(picture(*size), PreprocessingConfig(shortest=256, longest=512))
    assert (array.shape[1], array.shape[0]) == seen


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4, 3), dtype=np.float32), np.zeros((4, 4, 4), dtype=np.uint8), np.zeros((0, 4, 3), dtype=np.uint8)],
)
def test_arrays_of_another_kind(predictor, array):
    with pytest.raises(ValueError, match="image array"):
        predictor.predict(array, "dog")


def test_grey_arrays(predictor):
    assert predictor.predict(np.zeros((40, 50), dtype=np.uint8), "dog").size == (40, 50)


def test_score_out_of_range(predictor):
    with pytest.raises(ValueError, match="min_score"):
        predictor.predict(picture(8, 8), "dog", min_score=2)


@pytest.mark.parametrize(("name", "code"), [("nonsense", 2), ("cuda:99", 4)])
def test_devices_that_are_not_there(name, code):
    with pytest.raises(UserError, match="--device") as caught:
        choose_device(name)
    assert caught.value.code == code


def test_folder_without_a_checkpoint(tmp_path):
    with pytest.raises(UserError, match=r"config\.json"):
        Predictor.from_pretrained(tmp_path)


def test_a_checkpoint_brings_its_own_threshold(predictor):
    image = picture(120, 90)
    scores = sorted(
        item.score for item in predictor.predict(image, VOCABULARY, min_score=0.0) if item.level == "object"
    )
    limit = scores[-1] - 1e-6
    own = Predictor(model=predictor.model, config=replace(predictor.config, min_score=limit))
    found = own.predict(image, VOCABULARY)
    assert [item.score for item in found] == [scores[-1]]
    assert [item.score for item in found] == [
        item.score for item in predictor.predict(image, VOCABULARY, min_score=limit)
    ]
