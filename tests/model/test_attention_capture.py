"""What is recorded of a forward pass against what the language model itself tells, and nothing is left behind."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from langhops_cli.checkpoint.base_models import build_random
from langhops_cli.model.attention_capture import capture_attention
from langhops_cli.model.lora import add_lora
from langhops_cli.model.mllm import LanguageRefiner, PaliGemmaImageTower
from langhops_cli.model.pixel_decoder import Pyramid
from langhops_cli.model.query_decoder import DecoderLayer
from langhops_cli.model.structures import PartQueries
from tests.model.language_models import families

FAMILIES = families(3)
FIRST, GRID = 3, 2
NUM_OBJECTS = 3
PARENT = torch.tensor([[0, 0, 2, 2, 0], [1, 1, 1, 0, 0]])
VALID = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]]).bool()


def _refiner(family, **changes):
    torch.manual_seed(0)
    name, _, softcap = family.partition(" ")
    language_model = build_random(FAMILIES[name])
    for parameter in language_model.parameters():
        nn.init.normal_(parameter, std=0.3)
    add_lora(language_model, rank=2, alpha=4, dropout=0.5)
    arguments = {
        "language_model": language_model,
        "hidden_dim": 32,
        "query_dim": 8,
        "before_ids": [1, 2, 3],
        "after_ids": [4, 5],
        "start_ids": [[6]],
        "end_ids": [[7]],
        "image_grid": GRID,
        "softcap": 1.0 if softcap else None,
    }
    return LanguageRefiner(**{**arguments, **changes}).eval()


def _inputs():
    generator = torch.Generator().manual_seed(1)
    queries = PartQueries(torch.randn(2, 5, 32, generator=generator), PARENT, torch.zeros_like(PARENT), VALID)
    image = {
        "image_map": torch.randn(2, 8, 3, 4, generator=generator),
        "image_valid": torch.ones(2, 3, 4, dtype=torch.bool),
        "extent": torch.ones(2, 2),
    }
    return queries, image


def _model(refiner=None, layers=()):
    branch = None if refiner is None else SimpleNamespace(refiner=refiner)
    return SimpleNamespace(object_decoder=SimpleNamespace(layers=layers), part_branch=branch)


@pytest.mark.parametrize("family", [*FAMILIES, "gemma softcap"])
def test_the_shares_of_the_image_tokens_are_those_that_the_language_model_tells(family):
    module = _refiner(family)
    queries, image = _inputs()
    calls = []
    with capture_attention(_model(module)) as seen, torch.no_grad():
        handle = module.language_model.register_forward_pre_hook(
            lambda _m, _a, kwargs: calls.append(kwargs), with_kwargs=True
        )
        module(queries, num_objects=NUM_OBJECTS, **image)
        handle.remove()
        told = module.language_model(**(calls[0] | {"output_attentions": True})).attentions
    assert len(told) == 3
    shares = [layer[..., FIRST : FIRST + GRID**2] for layer in told]
    mean = torch.stack([(layer / layer.sum(-1, keepdim=True)).mean(1) for layer in shares]).mean(0)
    sequence = calls[0]["inputs_embeds"]
    assert seen.tokens.shape == (2, 5, GRID**2)
    for picture, query in VALID.nonzero().tolist():
        place = int((sequence[picture] - queries.embeds[picture, query]).abs().sum(-1).argmin())
        assert_close(seen.tokens[picture, query], mean[picture, place])
    assert_close(seen.tokens.sum(-1), torch.ones(2, 5))
    assert seen.tokens.var(-1)[VALID].min() > 1e-6


def test_even_attention_is_shared_evenly():
    module = _refiner("bert")
    for name, parameter in module.language_model.named_parameters():
        if ".query." in name:
            nn.init.zeros_(parameter)
    queries, image = _inputs()
    with capture_attention(_model(module)) as seen:
        module(queries, num_objects=NUM_OBJECTS, **image)
    assert_close(seen.tokens, torch.full((2, 5, 4), 0.25))


def test_the_tokens_of_an_image_tower_are_counted():
    class Vision(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, pixels):
            return SimpleNamespace(last_hidden_state=(pixels * self.scale).flatten(2).transpose(1, 2))

    tower = PaliGemmaImageTower(vision_tower=Vision(), projector=nn.Linear(3, 32))
    module = _refiner("gemma", image_tower=tower)
    with capture_attention(_model(module)) as seen:
        module(_inputs()[0], num_objects=NUM_OBJECTS, mllm_pixels=torch.randn(2, 3, 3, 3))
    assert seen.tokens.shape == (2, 5, 9)
    assert_close(seen.tokens.sum(-1), torch.ones(2, 5))


@pytest.mark.parametrize("family", ["bert", "gemma", "gemma softcap"])
def test_nothing_is_left_behind_and_answers_are_the_same_bits_as_before(family):
    module = _refiner(family)
    queries, image = _inputs()
    config = module.language_model.config
    kind, modules = config._attn_implementation, list(module.modules())

    def run():
        with torch.no_grad():
            return module(queries, num_objects=NUM_OBJECTS, **image)

    before = run()
    with capture_attention(_model(module)):
        assert config._attn_implementation == "eager"
        assert_close(run(), before, atol=1e-5, rtol=0)
    assert config._attn_implementation == kind
    assert not any(item._forward_hooks or item._forward_pre_hooks for item in modules)
    assert torch.equal(run(), before)
    with pytest.raises(RuntimeError), capture_attention(_model(module)):
        raise RuntimeError
    assert config._attn_implementation == kind
    assert not any(item._forward_hooks or item._forward_pre_hooks for item in modules)


def test_without_part_queries_there_is_nothing_to_tell():
    queries, image = _inputs()
    empty = PartQueries(queries.embeds[:, :0], PARENT[:, :0], PARENT[:, :0], VALID[:, :0])
    module = _refiner("bert")
    with capture_attention(_model(module)) as seen:
        assert module(empty, num_objects=NUM_OBJECTS, **image).shape == (2, 0, 8)
    assert seen.tokens is None


def test_places_and_weights_are_those_that_the_query_reads():
    """What each head reads of a value that is the place itself is the weighted mean of its places."""
    torch.manual_seed(0)
    shapes = ((24, 32), (48, 64))
    layer = DecoderLayer(dim=16, feedforward=16, heads=2, levels=2, points=2)
    attention = layer.cross_attn
    nn.init.normal_(attention.attention_weights.weight)
    for part in (attention.value_proj, attention.output_proj):
        nn.init.eye_(part.weight)
    cells = []
    for height, width in shapes:
        y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
        cells.append(torch.stack([x, y], -1).flatten(0, 1))
    memory = torch.cat(cells).repeat(1, 8).unsqueeze(0)  # (x, y) in every pair of channels
    valid = torch.ones(1, len(memory[0]), dtype=torch.bool)
    pyramid = Pyramid(memory, valid, shapes, torch.zeros(1, 16, 1, 1), valid[:, :1, None], torch.ones(1, 2))
    boxes = torch.tensor([[[0.4, 0.5, 0.2, 0.2], [0.6, 0.5, 0.3, 0.2]]])
    queries = torch.randn(1, 2, 16)
    read = []
    handle = attention.register_forward_hook(lambda _m, _i, output: read.append(output))
    with capture_attention(_model(layers=[layer])) as seen, torch.no_grad():
        layer(queries, torch.zeros_like(queries), boxes, pyramid, torch.zeros(2, 2, 2))
    handle.remove()
    (places,), (weights,) = seen.places, seen.weights
    assert places.shape == (1, 2, 8, 2)
    assert_close(weights.sum(-1), torch.ones(1, 2))
    mean = (places * weights.unsqueeze(-1)).sum(2)
    assert_close(read[0].unflatten(-1, (8, 2)).mean(2), mean, atol=1e-4, rtol=0)
    assert not attention._forward_hooks
