"""The paper's kinds of parts, made small and kept in local folders, through the same builder as the full model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    LlamaConfig,
    LlamaModel,
    PaliGemmaConfig,
    PaliGemmaModel,
    SwinBackbone,
    SwinConfig,
)

from langhops_cli.checkpoint.base_models import load_minilm
from langhops_cli.checkpoint.build import build_model
from langhops_cli.data.canvas import to_canvas
from langhops_cli.errors import UserError
from langhops_cli.model.configuration import MINILM, BaseModelConfig, ModelConfig
from langhops_cli.model.structures import VocabularyBatch
from langhops_cli.vocabulary import parse_vocabulary

WORDS = 30522  # of the tokenizer that all the small models share
TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Folders of a small Swin, CLIP text tower, PaliGemma 2 and Llama, as their real ones are laid out."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bases")
    stages = ["stage1", "stage2", "stage3", "stage4"]
    models = {
        "swin": SwinBackbone(
            SwinConfig(embed_dim=12, depths=[1] * 4, num_heads=[1, 2, 2, 4], window_size=4, out_features=stages)
        ),
        "clip": CLIPTextModel(CLIPTextConfig(vocab_size=WORDS, max_position_embeddings=32, **TEXT)),
        "paligemma": PaliGemmaModel(
            PaliGemmaConfig(
                vision_config={"model_type": "siglip_vision_model", "image_size": 28, "patch_size": 14, **TEXT},
                text_config={
                    "model_type": "gemma2",
                    "vocab_size": WORDS,
                    "head_dim": 8,
                    "num_key_value_heads": 2,
                    **TEXT,
                },
                projection_dim=32,
            )
        ),
        "llama": LlamaModel(LlamaConfig(vocab_size=WORDS, num_key_value_heads=2, **TEXT)),
    }
    _, tokenizer = load_minilm()
    for name, model in models.items():
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


def small_paper(bases):
    paper = ModelConfig.preset("paper")
    decoder = replace(
        paper.decoder, dim=32, feedforward=48, heads=4, encoder_layers=1, object_layers=2, part_layers=2, num_queries=12
    )
    return replace(
        paper,
        backbone=BaseModelConfig("swin", str(bases / "swin")),
        text=replace(paper.text, base=BaseModelConfig("clip", str(bases / "clip"))),
        decoder=decoder,
        hierarchy=replace(paper.hierarchy, num_kept=4),
        refiner=replace(paper.refiner, base=BaseModelConfig("paligemma", str(bases / "paligemma")), image_size=28),
    )


def run(model, tower_size=None):
    vocabulary = VocabularyBatch.of([parse_vocabulary("dog:head,leg*2"), parse_vocabulary("car")])
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((64, 100), (120, 64))]
    return model(to_canvas(images, tower_size=tower_size), vocabulary)


def test_the_paper_preset_at_a_small_size(bases):
    model = build_model(small_paper(bases))
    output = run(model, tower_size=28)
    assert output.parts.final.masks.isfinite().all()
    assert output.part_queries.valid.sum(1).tolist() == [4 * 3, 0]
    output.parts.final.masks.square().mean().backward()
    branch = model.part_branch
    assert next(model.backbone.parameters()).grad.any()
    assert next(model.text_encoder.encoder.parameters()).requires_grad  # with a frozen teacher beside it
    assert not any(p.requires_grad for p in branch.refiner.image_tower.parameters())
    trained = {name for name, p in branch.refiner.language_model.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)


def test_a_multimodal_model_asks_for_its_own_picture(bases):
    model = build_model(small_paper(bases))
    with pytest.raises(ValueError, match="mllm_pixels"):
        run(model)


def test_a_text_only_causal_model_reads_the_pixel_decoder(bases):
    config = small_paper(bases)
    language = replace(
        config.refiner,
        base=BaseModelConfig("language", str(bases / "llama")),
        softcap=None,
        image_size=None,
        image_grid=3,
    )
    output = run(build_model(replace(config, refiner=language)))
    assert output.parts.final.logits.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: replace(c, backbone=BaseModelConfig("resnet", "x")), "efficientnet-lite0 and swin"),
        (lambda c: replace(c, text=replace(c.text, base=BaseModelConfig("bert", "x"))), "clip and minilm"),
        (lambda c: replace(c, refiner=replace(c.refiner, base=BaseModelConfig("gpt", "x"))), "paligemma, minilm"),
        (lambda c: replace(c, refiner=replace(c.refiner, image_size=448)), "reads 28 pixels"),
        (lambda c: replace(c, refiner=replace(c.refiner, prompt="{parts}")), "has no {image}"),
        (lambda c: replace(c, refiner=replace(c.refiner, base=MINILM)), r"model\.refiner\.softcap does not fit"),
        (lambda c: replace(c, hierarchy=replace(c.hierarchy, start_where_seen=True)), "needs .*start_in_parent"),
    ],
)
def test_a_configuration_that_cannot_be_built_says_which_key(bases, change, message):
    with pytest.raises(UserError, match=message):
        build_model(change(small_paper(bases)))


def test_part_queries_must_fit_the_language_model():
    mini = ModelConfig.preset("mini")
    with pytest.raises(UserError, match=r"max_queries is 512, but the language model has room for \d+"):
        build_model(replace(mini, hierarchy=replace(mini.hierarchy, max_queries=512)))
