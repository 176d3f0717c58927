"""Text encoder and language model against the golden tensors, padding of the batch included."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close

from langhops_cli.checkpoint.base_models import build_random
from langhops_cli.model.mllm import LanguageRefiner, PaliGemmaImageTower, add_lora
from langhops_cli.model.structures import PartQueries
from langhops_cli.model.text_encoder import TextEncoder

from .weights import GOLDENS, released

pytestmark = pytest.mark.skipif(not GOLDENS.is_dir(), reason=f"no golden tensors in {GOLDENS}")
PALIGEMMA = "partglee.llm_model.base_model.model."
SCALE = 8.0  # sqrt(hidden), by which the release's transformers multiplied whatever entered Gemma


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDENS / "outputs.safetensors")


@pytest.fixture(scope="module")
def given():
    return load_file(GOLDENS / "inputs.safetensors")


@pytest.fixture(scope="module")
def config():
    return json.loads((GOLDENS / "config.json").read_text())


def test_class_embeddings_and_distillation(golden, given, config):
    sizes = config["model"]["text"]

    class Rows:
        """Stands for the tokenizer: a text is the number of its row."""

        model_max_length = sizes["max_positions"]

        def __call__(self, texts, **_):
            rows = [int(text) for text in texts]
            return {key: given[f"text.{key}"][rows] for key in ("input_ids", "attention_mask")}

    encoder = build_random(
        {
            "model_type": "clip_text_model",
            "vocab_size": sizes["vocab_size"],
            "hidden_size": sizes["hidden"],
            "num_hidden_layers": sizes["layers"],
            "num_attention_heads": sizes["heads"],
            "intermediate_size": sizes["intermediate"],
            "max_position_embeddings": sizes["max_positions"],
            "hidden_act": sizes["act"],
            "eos_token_id": sizes["eos_id"],
        }
    )
    module = TextEncoder(encoder=encoder, tokenizer=Rows(), width=sizes["hidden"], query_dim=256, trainable=True)
    module.encoder.load_state_dict(released("partglee.text_encoder.text_model."))
    module.teacher.load_state_dict(released("partglee.text_encoder_teacher.text_model."))
    module.lang_projection.data = released("partglee.")["lang_projection"]
    embedded = module.train()(tuple(map(str, range(17))))
    assert_close(embedded, golden["text.class_embeddings"], atol=1e-4, rtol=0)
    assert_close(module.distillation_loss(), golden["text.distill_mse"][0], atol=5e-5, rtol=0)


def language_model(config):
    sizes = config["model"]["mllm"]
    model = build_random(
        {
            "model_type": "gemma2",
            "vocab_size": sizes["vocab_size"],
            "hidden_size": sizes["hidden"],
            "num_hidden_layers": sizes["layers"],
            "num_attention_heads": sizes["heads"],
            "num_key_value_heads": sizes["kv_heads"],
            "head_dim": sizes["head_dim"],
            "intermediate_size": sizes["intermediate"],
            "query_pre_attn_scalar": sizes["query_pre_attn_scalar"],
            "rms_norm_eps": sizes["rms_eps"],
        }
    )
    lora = config["model"]["lora"]
    add_lora(model, rank=lora["r"], alpha=lora["alpha"], targets=lora["targets"])
    state = dict(released(f"{PALIGEMMA}language_model.model."))
    adapted = {name.partition(".lora_")[0] for name in state if ".lora_" in name}
    for name in adapted:
        state[f"{name}.base_layer.weight"] = state.pop(f"{name}.weight")
    model.load_state_dict(state)
    return model


def image_tower(config):
    sizes = config["model"]["mllm"]["vision"]
    vision = build_random(
        {
            "model_type": "siglip_vision_model",
            "hidden_size": sizes["hidden"],
            "intermediate_size": sizes["intermediate"],
            "num_hidden_layers": sizes["layers"],
            "num_attention_heads": sizes["heads"],
            "image_size": sizes["image_size"],
            "patch_size": sizes["patch_size"],
            "hidden_act": sizes["act"],
            "layer_norm_eps": sizes["layer_norm_eps"],
            "vision_use_head": False,
        }
    )
    state = released(f"{PALIGEMMA}vision_tower.vision_model.")
    vision.load_state_dict(state)
    projector = nn.Linear(64, 64)
    projector.load_state_dict(
        {name: value * SCALE for name, value in released(f"{PALIGEMMA}multi_modal_projector.linear.").items()}
    )
    return PaliGemmaImageTower(vision_tower=vision, projector=projector).eval()


def refiner(config, softcap):
    """Our refiner with the released prompt, text between the objects' slots, and the norm folded into the output."""
    texts, slots = [[]], 0
    for piece in config["prompt"]:
        if "text" in piece:
            texts[-1] += piece["text"]
        else:
            slots += "object_queries" in piece
            texts.append([])
    before, between, last = texts[0], texts[1:-1], texts[-1]
    module = LanguageRefiner(
        language_model=language_model(config),
        hidden_dim=64,
        query_dim=256,
        before_ids=before,
        after_ids=[],
        start_ids=between,
        end_ids=[[]] * (slots - 1) + [last],
        image_tower=image_tower(config),
        norm="none",
        softcap=softcap,
    )
    back = released("partglee.part_queries_back_mapper.")
    scale = back["2.weight"] / (back["2.running_var"] + 1e-5).sqrt()
    shift = back["2.bias"] - back["2.running_mean"] * scale
    module.output.load_state_dict(
        {
            "0.weight": back["0.weight"],
            "0.bias": back["0.bias"],
            "3.weight": back["3.weight"] * scale,
            "3.bias": back["3.bias"] + back["3.weight"] @ shift,
        }
    )
    return module.eval()


def queries(golden, pictures):
    """Mapped queries with their objects; an object without parts has one, as in the release."""
    rows = [golden[f"mllm.mapped_queries.{b}"] * SCALE for b in pictures]
    owners = [index[index > 0] - 1 for index in golden["mllm.query_index"][list(pictures)]]
    embeds = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    parent = nn.utils.rnn.pad_sequence(owners, batch_first=True)
    valid = nn.utils.rnn.pad_sequence([torch.ones_like(owner, dtype=torch.bool) for owner in owners], batch_first=True)
    return PartQueries(embeds, parent, torch.zeros_like(parent), valid)


@torch.no_grad()
@pytest.mark.parametrize(
    ("softcap", "pictures", "prefix"),
    [
        (50.0, (0, 1), ""),
        (50.0, (0,), "single0."),
        (50.0, (1,), "single1."),
        (None, (0, 1), "sdpa."),
        (None, (0,), "released0."),
        (None, (1,), "released1."),
    ],
)
def test_refined_queries(golden, given, config, softcap, pictures, prefix):
    asked = queries(golden, pictures)
    refined = refiner(config, softcap)(asked, num_objects=6, mllm_pixels=given["pixel_values"][list(pictures)])
    expected = golden[f"{prefix}mllm.part_queries"]
    assert_close(refined[asked.valid], expected[asked.valid], atol=1e-4, rtol=0)


@torch.no_grad()
def test_image_tokens(golden, given, config):
    tokens = image_tower(config)(given["pixel_values"])
    assert_close(tokens, golden["mllm.image_features"] * SCALE, atol=6e-4, rtol=0)
