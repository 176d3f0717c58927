"""Checkpoints of other projects, small and with made-up weights, under the names that those gave."""

from itertools import pairwise

import torch

from langhops_cli.checkpoint.base_models import SWIN_L_CONFIG, build_random

WIDTH = 32
SMALL = {"embed_dim": 8, "depths": [1, 2, 1, 1], "num_heads": [1, 2, 2, 4], "window_size": 3}


def microsoft(swin, *, norms: bool):
    """A Swin of transformers under the names that Microsoft gave: the conversion backwards, written by hand."""
    state, packed = {}, {}
    for name, value in swin.state_dict().items():
        name = name.removeprefix("swin.").replace("encoder.layers", "layers")
        if name.startswith("hidden_states_norms.stage"):
            stage, kind = name.removeprefix("hidden_states_norms.stage").split(".")
            if norms:
                state[f"norm{int(stage) - 1}.{kind}"] = value
        elif "attention." in name and "_proj" in name and "o_proj" not in name:
            block, _, rest = name.partition("attention.")
            packed.setdefault((block, rest.rpartition(".")[2]), {})[rest[0]] = value
        elif name.startswith("layernorm."):
            state[name.replace("layernorm", "norm")] = value
        else:
            for ours, theirs in (
                ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
                ("embeddings.norm", "patch_embed.norm"),
                ("layernorm_before", "norm1"),
                ("layernorm_after", "norm2"),
                ("attention.o_proj", "attn.proj"),
                ("attention.relative_position_bias.", "attn."),
            ):
                name = name.replace(ours, theirs)
            state[name] = value
    for (block, kind), thirds in packed.items():
        state[f"{block}attn.qkv.{kind}"] = torch.cat([thirds[letter] for letter in "qkv"])
    side = 2 * SMALL["window_size"] - 1
    for block in {name.partition("attn.qkv")[0] for name in state if "attn.qkv" in name}:
        assert state[f"{block}attn.relative_position_bias_table"].shape[0] == side**2
        state[f"{block}attn.relative_position_index"] = torch.zeros(9, 9, dtype=torch.long)
    return state


def decoder(prefix, tensors, generator):
    """A query decoder of one layer under the released names, all shapes the released ones but narrower."""
    d = WIDTH

    def put(name, *shape):
        tensors[f"{prefix}{name}"] = torch.randn(shape, generator=generator)

    for name in ("enc_output", "decoder.layers.0.self_attn.out_proj", "decoder.layers.0.cross_attn.output_proj"):
        put(f"{name}.weight", d, d)
        put(f"{name}.bias", d)
    put("decoder.layers.0.cross_attn.value_proj.weight", d, d)
    put("decoder.layers.0.cross_attn.value_proj.bias", d)
    for name in ("enc_output_norm", "decoder_norm", *(f"decoder.layers.0.norm{n}" for n in (1, 2, 3))):
        put(f"{name}.weight", d)
        put(f"{name}.bias", d)
    put("decoder.layers.0.self_attn.in_proj_weight", 3 * d, d)
    put("decoder.layers.0.self_attn.in_proj_bias", 3 * d)
    for name, count in (("sampling_offsets", 256), ("attention_weights", 128)):
        put(f"decoder.layers.0.cross_attn.{name}.weight", count, d)
        put(f"decoder.layers.0.cross_attn.{name}.bias", count)
    for name, shape in (("linear1", (2 * d, d)), ("linear2", (d, 2 * d))):
        put(f"decoder.layers.0.{name}.weight", *shape)
        put(f"decoder.layers.0.{name}.bias", shape[0])
    for name, widths in (
        ("decoder.ref_point_head", (2 * d, d, d)),
        ("_bbox_embed", (d, d, d, 4)),
        ("mask_embed", (d, d, d, d)),
    ):
        for number, (inside, outside) in enumerate(pairwise(widths)):
            put(f"{name}.layers.{number}.weight", outside, inside)
            put(f"{name}.layers.{number}.bias", outside)
    for name in [name for name in tensors if name.startswith(f"{prefix}_bbox_embed.")]:
        rest = name.removeprefix(f"{prefix}_bbox_embed.")
        tensors[f"{prefix}bbox_embed.0.{rest}"] = tensors[f"{prefix}decoder.bbox_embed.0.{rest}"] = tensors[name]
    for kind in ("weight", "bias"):
        tensors[f"{prefix}decoder.norm.{kind}"] = tensors[f"{prefix}decoder_norm.{kind}"]
    put("coco_label_enc.weight", 80, d)
    put("confidence_score.layers.0.weight", d, d)


def pixel_decoder(prefix, tensors, generator, channels=(8, 16, 32, 64)):
    d = WIDTH

    def put(name, *shape):
        tensors[f"{prefix}{name}"] = torch.randn(shape, generator=generator)

    for number, (inside, side) in enumerate(zip([*channels[1:], channels[-1]], (1, 1, 1, 3), strict=True)):
        put(f"input_proj.{number}.0.weight", d, inside, side, side)
        for name in ("0.bias", "1.weight", "1.bias"):
            put(f"input_proj.{number}.{name}", d)
    put("transformer.level_embed", 4, d)
    layer = "transformer.encoder.layers.0."
    for name, shape in (
        ("self_attn.sampling_offsets", (256, d)),
        ("self_attn.attention_weights", (128, d)),
        ("self_attn.value_proj", (d, d)),
        ("self_attn.output_proj", (d, d)),
        ("linear1", (2 * d, d)),
        ("linear2", (d, 2 * d)),
    ):
        put(f"{layer}{name}.weight", *shape)
        put(f"{layer}{name}.bias", shape[0])
    for name in ("norm1", "norm2"):
        put(f"{layer}{name}.weight", d)
        put(f"{layer}{name}.bias", d)
    for name, shape in (("adapter_1", (d, channels[0], 1, 1)), ("layer_1", (d, d, 3, 3))):
        put(f"{name}.weight", *shape)
        put(f"{name}.norm.weight", d)
        put(f"{name}.norm.bias", d)
    put("mask_features.weight", d, d, 1, 1)
    put("mask_features.bias", d)
    put("transformer.encoder.vl_layers.0.gamma_v", 8)


def backbone(prefix, tensors):
    torch.manual_seed(1)
    state = microsoft(build_random(SWIN_L_CONFIG | SMALL), norms=True)
    tensors.update({f"{prefix}{name}": value for name, value in state.items() if not name.startswith("norm.")})
