"""A language model with its corrections merged in computes what it computed with them beside."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, Gemma2Config, Gemma2Model, LlamaConfig, LlamaModel

from langhops_cli.checkpoint.base_models import load_minilm
from langhops_cli.checkpoint.build import build_model
from langhops_cli.checkpoint.merge import merge_lora, save_merged
from langhops_cli.data.canvas import to_canvas
from langhops_cli.errors import UserError
from langhops_cli.model.configuration import ModelConfig
from langhops_cli.model.lora import add_lora
from langhops_cli.model.structures import VocabularyBatch
from langhops_cli.vocabulary import parse_vocabulary

MINI = ModelConfig.preset("mini")
TINY = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SHARED = {"vocab_size": 50, "num_key_value_heads": 2} | TINY


def trained(language_model):
    """With corrections as training leaves them: large enough to be seen."""
    torch.manual_seed(1)
    corrected = add_lora(language_model).eval()
    for name, parameter in corrected.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return corrected


def states(language_model):
    embeddings = torch.randn(2, 7, language_model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return language_model(inputs_embeds=embeddings.to(language_model.dtype)).last_hidden_state


LANGUAGE_MODELS = [
    pytest.param(lambda: Gemma2Model(Gemma2Config(head_dim=8, **SHARED)), id="gemma2"),
    pytest.param(lambda: LlamaModel(LlamaConfig(**SHARED)), id="llama"),
    pytest.param(lambda: load_minilm(pretrained=False)[0], id="minilm"),
]


@pytest.mark.parametrize("make", LANGUAGE_MODELS)
def test_merged_and_unmerged_agree(make):
    plain = make()
    names = set(plain.state_dict())
    corrected = trained(plain)
    merged = copy.deepcopy(corrected)
    layers = merge_lora(merged)
    assert layers == 2 * merged.config.num_hidden_layers
    assert set(merged.state_dict()) == names
    torch.testing.assert_close(states(merged), states(corrected), rtol=0, atol=1e-5)
    assert merge_lora(merged) == 0


def test_merging_matters():
    corrected = trained(LlamaModel(LlamaConfig(**SHARED)))
    before = states(corrected)
    for name, parameter in corrected.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(parameter)
    assert (states(corrected) - before).abs().max() > 1e-2


def test_the_mini_model_finds_the_same_parts_merged():
    torch.manual_seed(0)
    model = build_model(MINI, pretrained=False).eval()
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    pictures = to_canvas([torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8).numpy()])
    vocabulary = VocabularyBatch.of([parse_vocabulary("dog:head,leg*2")])
    with torch.no_grad():
        before = model(pictures, vocabulary)
        assert merge_lora(model.part_branch.refiner.language_model) == 12
        after = model(pictures, vocabulary)
    for old, new in (
        (before.part_queries.embeds, after.part_queries.embeds),
        (before.parts.final.logits, after.parts.final.logits),
        (before.parts.final.boxes, after.parts.final.boxes),
    ):
        torch.testing.assert_close(new, old, rtol=0, atol=1e-5)


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def language_model(request):
    config = LlamaConfig(**(SHARED | {"vocab_size": 30_522}))
    return trained(LlamaModel(config).to(request.param))


def test_a_merged_folder_is_one_of_transformers(language_model, tmp_path: Path):
    expected = states(language_model)
    save_merged(language_model, tmp_path / "merged", base=MINI.refiner.base)
    loaded = AutoModel.from_pretrained(tmp_path / "merged", dtype=language_model.dtype).eval()
    close = 1e-5 if language_model.dtype == torch.float32 else 0.1
    torch.testing.assert_close(states(loaded), expected, rtol=0, atol=close)
    assert AutoTokenizer.from_pretrained(tmp_path / "merged")("dog")["input_ids"] == [101, 3899, 102]
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is not an empty folder"):
        save_merged(trained(LlamaModel(LlamaConfig(**SHARED))), tmp_path, base=MINI.refiner.base)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_correction_that_is_no_number_is_named():
    corrected = trained(LlamaModel(LlamaConfig(**SHARED)))
    with torch.no_grad():
        corrected.layers[1].self_attn.v_proj.lora_B["default"].weight[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"layers\.1\.self_attn\.v_proj of the language model cannot be merged"):
        merge_lora(corrected)


def test_a_merge_that_computes_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    corrected = trained(LlamaModel(LlamaConfig(**SHARED)))

    def forget(language_model):
        with torch.no_grad():
            language_model.layers[0].self_attn.v_proj.base_layer.weight.mul_(2)

    monkeypatch.setattr("langhops_cli.checkpoint.merge.merge_lora", forget)
    with pytest.raises(UserError, match="was not written: merged, the language model differs by") as caught:
        save_merged(corrected, tmp_path / "merged", base=MINI.refiner.base)
    assert caught.value.code == 5
    assert not list(tmp_path.iterdir())


def test_four_bit_weights_are_not_merged():
    corrected = trained(LlamaModel(LlamaConfig(**SHARED)))
    corrected.is_loaded_in_4bit = True
    with pytest.raises(UserError, match=r"set model\.refiner\.precision to bf16 or fp32"):
        merge_lora(corrected)


def test_minilm_keeps_its_shape(tmp_path: Path):
    config = replace(MINI, decoder=replace(MINI.decoder, dim=32, heads=4, encoder_layers=1, object_layers=1))
    language_model = build_model(config, pretrained=False).part_branch.refiner.language_model
    assert save_merged(language_model, tmp_path / "merged", base=MINI.refiner.base) == 0.0  # fresh ones change nothing
