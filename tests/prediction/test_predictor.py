"""The predictor around a tiny model with random weights: sizes, kinds of pictures, caches, faults."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from langhops_cli.checkpoint.build import build_model
from langhops_cli.checkpoint.folder import save_checkpoint
from langhops_cli.errors import UserError
from langhops_cli.model.configuration import ModelConfig, PreprocessingConfig
from langhops_cli.prediction.predictor import Predictor, choose_device, choose_dtype, resize
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


def test_the_three_steps_make_a_prediction_in_any_thread(predictor):
    images = [picture(120, 90, seed) for seed in range(4)]
    whole = predictor.predict_batch(images, VOCABULARY, min_score=0.0, names=list("abcd"), max_objects=2)
    with ThreadPoolExecutor(4) as threads:
        prepared = list(threads.map(lambda image, name: predictor.prepare(image, name=name), images, "abcd"))
        answers = predictor.forward(prepared, VOCABULARY)
        found = list(threads.map(lambda answer: predictor.finish(answer, min_score=0.0, max_objects=2), answers))
    assert found == whole
    assert [item.picture for item in found] == list("abcd")
    assert prepared[0].original == (90, 120)
    assert predictor.forward([], VOCABULARY) == []


@pytest.mark.parametrize(("vocabulary", "level"), [(VOCABULARY, "object"), ("dog; car", "all")])
def test_no_time_goes_into_parts_that_are_not_wanted(predictor, monkeypatch, vocabulary, level):
    expected = [item for item in predictor.predict(picture(120, 90), vocabulary, min_score=0.0) if not item.parent]
    monkeypatch.setattr(predictor.model.part_branch, "forward", lambda *_, **__: pytest.fail("looked for parts"))
    found = predictor.predict(picture(120, 90), vocabulary, min_score=0.0, level=level)
    assert [item.rle for item in found] == [item.rle for item in expected if item.level == "object"]


def test_parts_come_with_their_objects_alone(predictor):
    found = predictor.predict(picture(120, 90), VOCABULARY, min_score=0.0, level="part")
    assert {item.level for item in found} == {"object", "part"}
    assert all(found.children(index) for index in found.children(None))


DEEP = "dog:head*2(ear*2(tip)),tail; car:door(handle)"


def test_parts_of_parts_hang_from_the_part_above_them_or_the_object(predictor):
    found = predictor.predict(picture(120, 90), DEEP, min_score=0.0)
    assert {len(item.path) for item in found} >= {1, 2, 3}
    for item in found:
        if item.parent is not None:
            assert found[item.parent].path in (item.path[:-1], item.path[:1])
    assert any(len(found[item.parent].path) == 2 for item in found if len(item.path) == 3)


def test_open_scoring_asks_for_all_parts_once(predictor, monkeypatch):
    """Which part a query found is then known at the end only, so there is nothing to look deeper into."""
    runs = []
    forward = predictor.model.part_branch.forward
    monkeypatch.setattr(
        predictor.model.part_branch, "forward", lambda *given, **named: runs.append(1) or forward(*given, **named)
    )
    predictor.predict(picture(120, 90), DEEP, part_scoring="open")
    assert len(runs) == 1
    predictor.predict(picture(120, 90), DEEP, part_scoring="tied")
    assert len(runs) == 4


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_finds_the_same(checkpoint, predictor, dtype):
    """Objects are cut off by score: their order may turn where two are as likely. Weights stay as they are."""
    half = Predictor.from_pretrained(checkpoint, dtype=dtype)
    assert half.dtype == getattr(torch, dtype)
    assert {item.dtype for item in half.model.parameters() if item.is_floating_point()} == {torch.float32}
    images = [picture(120, 90)]
    (full,), (reduced,) = (
        one.forward([one.prepare(image) for image in images], VOCABULARY) for one in (predictor, half)
    )
    assert reduced.output.objects.logits.dtype == torch.float32
    shift = (full.output.kept_logits - reduced.output.kept_logits).abs().max()
    assert 0 < shift < 0.05
    assert all(item.score <= 1 for item in half.finish(reduced, min_score=0.0))


def test_precision_follows_the_device(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert choose_dtype("auto", cpu) == torch.float32
    assert choose_dtype("bfloat16", cpu) == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert choose_dtype("auto", gpu) == torch.bfloat16
    assert choose_dtype("float32", gpu) == torch.float32
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 0))
    assert choose_dtype("auto", gpu) == torch.float32
    assert choose_dtype("float16", gpu) == torch.float16
    with pytest.raises(UserError, match="--dtype float16") as caught:
        choose_dtype("bfloat16", gpu)
    assert caught.value.code == 4
    with pytest.raises(UserError, match="--dtype int8") as caught:
        choose_dtype("int8", cpu)
    assert caught.value.code == 2
