"""The full-size model on the meta device: the shapes of the reference, without any of its weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from langhops_cli.checkpoint.build import build_model
from langhops_cli.checkpoint.skeleton import architecture, build_skeleton
from langhops_cli.data.canvas import to_canvas
from langhops_cli.errors import UserError
from langhops_cli.model.configuration import BaseModelConfig, ModelConfig
from langhops_cli.model.langhops import LangHOPSModel
from langhops_cli.model.structures import VocabularyBatch
from langhops_cli.vocabulary import parse_vocabulary

MINI = ModelConfig.preset("mini")


@pytest.fixture(scope="module")
def paper() -> LangHOPSModel:
    return build_skeleton(ModelConfig.preset("paper"))


@pytest.mark.parametrize(
    ("part", "millions"),
    [
        ("backbone", 195.2),
        ("pixel_decoder", 12.63),
        ("object_decoder", 14.57),
        ("part_branch.decoder", 14.57),
        ("text_encoder.encoder", 63.17),
        ("part_branch.refiner.image_tower", 415.98),
        ("part_branch.refiner.language_model", 2618.74),
    ],
)
def test_the_full_size_model_has_as_many_parameters_as_the_reference(paper, part, millions):
    count = sum(parameter.numel() for parameter in paper.get_submodule(part).parameters())
    decimals = len(str(millions).partition(".")[2])
    assert round(count / 1e6, decimals) == millions


def test_it_takes_no_memory_and_trains_what_the_paper_trains(paper):
    assert {parameter.device.type for parameter in paper.parameters()} == {"meta"}
    trained = {name for name, parameter in paper.named_parameters() if parameter.requires_grad}
    corrections = {name for name in trained if ".language_model." in name}
    assert len(corrections) == 104
    assert all(".lora_" in name for name in corrections)
    assert not any("image_tower" in name or "teacher" in name for name in trained)


def test_a_checkpoint_of_the_full_size_model_stays_small(paper):
    state = paper.state_dict()
    size = sum(state[name].numel() * 4 for name in paper.saved_names())
    assert size < 1.5e9


def test_its_weights_fit_into_ten_gigabytes(paper):
    assert sum(item.numel() * item.element_size() for item in [*paper.parameters(), *paper.buffers()]) < 8e9


@pytest.mark.parametrize(("precision", "dtype"), [("auto", torch.bfloat16), ("fp32", torch.float32)])
def test_the_language_model_is_built_in_its_precision(precision, dtype):
    paper = ModelConfig.preset("paper")
    refiner = build_skeleton(replace(paper, refiner=replace(paper.refiner, precision=precision))).part_branch.refiner
    for frozen in (refiner.language_model, refiner.image_tower):
        assert {parameter.dtype for name, parameter in frozen.named_parameters() if "lora_" not in name} == {dtype}
    assert refiner.output[0].weight.dtype == torch.float32


def test_a_skeleton_with_numbers_has_the_shapes_of_the_model_and_runs():
    skeleton, model = build_skeleton(MINI, device="cpu").eval(), build_model(MINI)
    ours, theirs = skeleton.state_dict(), model.state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in theirs.items()}
    name = "part_branch.refiner.language_model.encoder.layer.0.intermediate.dense.weight"
    assert not torch.equal(ours[name], theirs[name])
    pictures = to_canvas([torch.zeros(64, 64, 3, dtype=torch.uint8).numpy()])
    with torch.no_grad():
        output = skeleton(pictures, VocabularyBatch.of([parse_vocabulary("dog:head")]))
    assert output.parts.final.masks.isfinite().all()


def test_a_folder_is_read_for_its_shapes(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": 24}')
    assert architecture(str(tmp_path))["hidden_size"] == 24


def test_a_base_model_without_known_shapes_is_named():
    config = replace(MINI, refiner=replace(MINI.refiner, base=BaseModelConfig("language", "nobody/nothing")))
    with pytest.raises(UserError, match=r"shapes of nobody/nothing are not known; known are .*SmolLM2-135M"):
        build_skeleton(config, device="cpu")
