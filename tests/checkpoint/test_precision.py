"""In which numbers frozen weights are held, and why 4 bits may not be had."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import transformers

from langhops_cli.checkpoint.build import build_model
from langhops_cli.checkpoint.precision import loading_options
from langhops_cli.errors import UserError
from langhops_cli.model.configuration import BaseModelConfig, ModelConfig

MINI = ModelConfig.preset("mini")


def with_precision(precision, base=MINI.refiner.base):
    return replace(MINI, refiner=replace(MINI.refiner, base=base, precision=precision))


@pytest.fixture
def llama(tmp_path):
    """A small language model in a folder, stored in half precision."""
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.LlamaConfig(vocab_size=30_522, num_key_value_heads=2, **size)
    transformers.LlamaModel(config).bfloat16().save_pretrained(tmp_path)
    from langhops_cli.checkpoint.base_models import MINILM, load_tokenizer

    load_tokenizer(MINILM).save_pretrained(tmp_path)
    return BaseModelConfig("language", str(tmp_path))


@pytest.mark.parametrize(
    ("precision", "dtype"), [("auto", torch.float32), ("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_frozen_weights_arrive_in_their_precision(llama, precision, dtype):
    language_model = build_model(with_precision(precision, llama), pretrained=False).part_branch.refiner.language_model
    assert {p.dtype for name, p in language_model.named_parameters() if "lora_" not in name} == {dtype}


def test_four_bits_want_a_gpu(llama, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"precision is 4bit, which needs a GPU.*set it to bf16 or fp32") as caught:
        build_model(with_precision("4bit", llama), pretrained=False)
    assert caught.value.code == 4
    assert "\n" not in str(caught.value)


def test_four_bits_want_bitsandbytes(llama, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'langhops\[4bit\]'") as caught:
        loading_options("4bit")
    assert caught.value.code == 4


def test_four_bits_are_asked_for_as_normal_floats_on_the_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: SimpleNamespace())
    monkeypatch.setattr(transformers.BitsAndBytesConfig, "post_init", lambda self: None)  # it asks for the package
    options = loading_options("4bit")
    assert options["device_map"] == {"": 0}
    assert options["quantization_config"].load_in_4bit
    assert options["quantization_config"].bnb_4bit_quant_type == "nf4"


def test_minilm_has_one_precision():
    with pytest.raises(UserError, match="MiniLM runs in fp32 only"):
        build_model(with_precision("bf16"), pretrained=False)
