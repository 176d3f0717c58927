"""From a recipe to the configuration of its model."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from langhops_cli.checkpoint.folder import read_tensors
from langhops_cli.errors import UserError
from langhops_cli.model.configuration import LANGUAGE_MODELS, BaseModelConfig, ModelConfig, PreprocessingConfig
from langhops_cli.resources import assets_folder, recipes_folder
from langhops_cli.training.recipe import load_recipe
from langhops_cli.training.setup import build_stage, model_config

MINI = recipes_folder() / "mini_stage2.yaml"


def configuration(*overrides: str) -> ModelConfig:
    return model_config(load_recipe(MINI, overrides))


@pytest.mark.parametrize("preset", ["mini", "paper"])
@pytest.mark.parametrize("name", [*LANGUAGE_MODELS, "SmolLM2-135M"])
def test_one_key_changes_the_language_model_and_what_goes_with_it(name: str, preset: str) -> None:
    config = configuration(f"model.preset={preset}", f"model.refiner.base={name}")
    multimodal = name == "paligemma2-3b"
    assert config.refiner.base == BaseModelConfig(**LANGUAGE_MODELS[name.lower()]["base"])
    assert (config.refiner.softcap, config.refiner.image_size) == ((50.0, 448) if multimodal else (None, None))
    others = ModelConfig.preset(preset)
    assert replace(config, refiner=others.refiner) == replace(others, refiner=others.refiner)
    assert config.refiner.prompt == others.refiner.prompt


def test_the_preset_is_what_its_own_name_gives() -> None:
    for preset, name in (("mini", "minilm"), ("paper", "paligemma2-3b")):
        named = configuration(f"model.preset={preset}", f"model.refiner.base={name}")
        assert named == ModelConfig.preset(preset)


def test_a_key_beside_the_name_wins() -> None:
    config = configuration("model.preset=paper", "model.refiner.base=paligemma2-3b", "model.refiner.softcap=null")
    assert config.refiner.softcap is None
    assert config.refiner.image_size == 448


def test_any_other_language_model_is_spelled_out() -> None:
    config = configuration("model.refiner.base.kind=language", "model.refiner.base.source=owner/name")
    assert config.refiner.base == BaseModelConfig("language", "owner/name")


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(
        UserError, match=r"'gpt' is no language model with a name; known are minilm, smollm2-135m"
    ) as caught:
        configuration("model.refiner.base=gpt")
    assert caught.value.code == 2


def test_a_precision_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.refiner\.precision = '8bit'"):
        configuration("model.refiner.precision=8bit")


def test_the_model_of_a_checkpoint_is_a_preset(tmp_path: Path) -> None:
    """Whatever a checkpoint is, training goes on with it; the stage decides about the part branch."""
    stored = replace(
        ModelConfig.preset("mini"), level="objects", part_scoring="open", preprocessing=PreprocessingConfig(64, 96)
    )
    (tmp_path / "config.json").write_text(json.dumps({"model": stored.to_dict()}))
    recipe = load_recipe(MINI, ["model.preset=init", "model.hierarchy.num_kept=3"])
    expected = replace(stored, level="parts", hierarchy=replace(stored.hierarchy, num_kept=3))
    assert model_config(recipe, tmp_path) == expected
    with pytest.raises(UserError, match="give one with --init"):
        model_config(recipe)


def test_stage_1_takes_the_object_half_of_a_whole_checkpoint() -> None:
    embedded = assets_folder() / "mini"
    recipe = load_recipe(recipes_folder() / "mini_stage1.yaml")
    model, said = build_stage(recipe, model_config(recipe), embedded)
    assert model.part_branch is None
    assert re.search(r"the part branch of .*mini is left out \(\d+ tensors\)", said[0])
    saved = read_tensors(embedded)
    name = "object_decoder.norm.weight"
    assert torch.equal(model.state_dict()[name], saved[name].float())
