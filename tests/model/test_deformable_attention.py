"""Deformable attention and the decoder layer against transformers' Deformable DETR: same weights, same output."""

import pytest
import torch
from torch.testing import assert_close
from transformers import DeformableDetrConfig
from transformers.models.deformable_detr.modeling_deformable_detr import (
    DeformableDetrDecoderLayer,
    DeformableDetrMultiscaleDeformableAttention,
)

from langhops_cli.model.deformable_attention import DeformableAttention
from langhops_cli.model.pixel_decoder import Pyramid
from langhops_cli.model.query_decoder import DecoderLayer

SHAPES = ((2, 3), (4, 6), (8, 12))
CELLS = sum(height * width for height, width in SHAPES)
START = torch.tensor([0, 6, 30])
CONFIG = DeformableDetrConfig(
    d_model=32,
    num_feature_levels=3,
    decoder_attention_heads=4,
    decoder_n_points=2,
    decoder_ffn_dim=48,
    activation_function="relu",
    dropout=0.0,
    attention_dropout=0.0,
    disable_custom_kernels=True,
)


def randomise(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3)


def read_oracle(oracle, queries, reference, memory, valid):
    output, _ = oracle(
        hidden_states=queries,
        attention_mask=valid,
        encoder_hidden_states=memory,
        reference_points=reference.unsqueeze(2).expand(-1, -1, len(SHAPES), -1),
        spatial_shapes=torch.tensor(SHAPES),
        spatial_shapes_list=list(SHAPES),
        level_start_index=START,
    )
    return output


@pytest.mark.parametrize("coordinates", [2, 4])
def test_attention_equals_deformable_detr(coordinates):
    torch.manual_seed(0)
    ours = DeformableAttention(dim=32, heads=4, levels=3, points=2)
    oracle = DeformableDetrMultiscaleDeformableAttention(CONFIG, num_heads=4, n_points=2)
    randomise(ours)
    oracle.load_state_dict(ours.state_dict())
    queries, memory = torch.randn(2, 7, 32), torch.randn(2, CELLS, 32)
    reference = torch.rand(2, 7, coordinates)
    valid = torch.rand(2, CELLS) > 0.3
    assert_close(
        ours(queries, reference, memory, valid, SHAPES), read_oracle(oracle, queries, reference, memory, valid)
    )


def test_fresh_heads_look_in_different_directions():
    """At the start point p of a head lies p + 1 cells away: eight heads, eight directions, rings of equal reach."""
    attention = DeformableAttention(dim=32, heads=8, levels=1, points=3)
    offsets = attention.sampling_offsets.bias.view(8, 3, 2)
    assert_close(offsets.abs().amax(-1), torch.tensor([1.0, 2.0, 3.0]).expand(8, 3))
    assert len({tuple((head[0] * 100).round().int().tolist()) for head in offsets}) == 8


def test_decoder_layer_equals_deformable_detr():
    torch.manual_seed(1)
    ours = DecoderLayer(dim=32, feedforward=48, heads=4, levels=3, points=2)
    oracle = DeformableDetrDecoderLayer(CONFIG)
    randomise(ours)
    state = {}
    for name, value in ours.state_dict().items():
        if name.startswith("self_attn.in_proj"):
            kind = name.rpartition("_")[2]
            state |= {f"self_attn.{p}_proj.{kind}": part for p, part in zip("qkv", value.chunk(3), strict=True)}
            continue
        name = name.replace("self_attn.out_proj", "self_attn.o_proj").replace("cross_attn", "encoder_attn")
        for before, after in {
            "norm1": "self_attn_layer_norm",
            "norm2": "encoder_attn_layer_norm",
            "norm3": "final_layer_norm",
            "linear1": "mlp.fc1",
            "linear2": "mlp.fc2",
        }.items():
            name = name.replace(before, after)
        state[name] = value
    oracle.load_state_dict(state)

    queries, position = torch.randn(2, 7, 32), torch.randn(2, 7, 32)
    memory, reference = torch.randn(2, CELLS, 32), torch.rand(2, 7, 4)
    valid = torch.ones(2, CELLS, dtype=torch.bool)
    pyramid = Pyramid(memory, valid, SHAPES, torch.zeros(2, 32, 16, 24), torch.ones(2, 16, 24).bool(), torch.ones(2, 2))
    expected = oracle(
        queries,
        object_queries_position_embeddings=position,
        reference_points=reference.unsqueeze(2).expand(-1, -1, 3, -1),
        spatial_shapes=torch.tensor(SHAPES),
        spatial_shapes_list=list(SHAPES),
        level_start_index=START,
        encoder_hidden_states=memory,
        encoder_attention_mask=valid,
    )
    assert_close(ours(queries, position, reference, pyramid, torch.zeros(8, 7, 7)), expected)
