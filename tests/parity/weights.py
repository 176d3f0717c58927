"""Weights of the golden set, made anew from the names of its keys, and given to our modules.

The recipe is the README's beside the goldens: every tensor is drawn from a generator seeded by its own name.
"""

import csv
import hashlib
import os
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GOLDENS = Path(
    os.environ.get("LANGHOPS_GOLDENS", Path(__file__).parents[3] / "shared" / "goldens" / "reference_small_a")
)
SALT = "golden-a/"


def draw(name: str, shape: tuple[int, ...], kind: str) -> Tensor:
    seed = int.from_bytes(hashlib.sha256((SALT + name).encode()).digest()[:8], "little")
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    if kind == "norm_weight":
        x = 1 + 0.1 * x
    elif kind in ("bias", "running_mean"):
        x = 0.05 * x
    elif kind == "running_var":
        x = 1 + 0.1 * np.abs(x)
    elif kind in ("rms_weight", "rel_pos_table"):
        x = 0.1 * x
    elif kind == "lang_projection":
        x = x / 16
    elif kind == "category_embed":
        x = x / 256
    else:
        x = x / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.05 * x
    return torch.from_numpy(np.asarray(x, dtype=np.float32))


@cache
def released(prefix: str) -> dict[str, Tensor]:
    """Tensors below a prefix of the released layout, by the rest of their name; those without influence left out."""
    with (GOLDENS / "keys.tsv").open(newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    return {
        key.removeprefix(prefix): draw(alias or key, tuple(map(int, shape.split("x"))), kind)
        for key, shape, kind, alias, used in (row[:5] for row in rows)
        if key.startswith(prefix) and used != "0"
    }


def pixel_decoder_state() -> dict[str, Tensor]:
    renamed = {
        "transformer.encoder.layers": "layers",
        "transformer.level_embed": "level_embed",
        "adapter_1.norm": "lateral.norm",
        "adapter_1.weight": "lateral.conv.weight",
        "layer_1.norm": "fuse.norm",
        "layer_1.weight": "fuse.conv.weight",
    }
    state = {}
    for name, value in released("partglee.pixel_decoder.").items():
        for before, after in renamed.items():
            name = name.replace(before, after)
        if name.startswith("input_proj"):
            _, level, place, kind = name.split(".")
            name = f"input_proj.{level}.{'conv' if place == '0' else 'norm'}.{kind}"
        state[name] = value
    return state


def query_decoder_state(predictor: str) -> dict[str, Tensor]:
    """`predictor` is object_predictor or part_predictor."""
    state = {}
    for name, value in released(f"partglee.{predictor}.").items():
        if name.startswith(("decoder.norm", "bbox_embed", "decoder.bbox_embed")):
            continue  # second names of tensors that are taken under their first
        name = name.replace("decoder_norm", "norm").replace("_bbox_embed", "bbox_embed").replace("decoder.", "")
        head, _, rest = name.partition(".layers.")
        if rest and head in ("bbox_embed", "mask_embed", "ref_point_head"):
            number, kind = rest.split(".")
            name = f"{head}.{2 * int(number)}.{kind}"  # ReLU stands between the linear layers
        if ".norm1" in name or ".norm2" in name:
            name = name.replace(".norm1", ".norm?").replace(".norm2", ".norm1")
            name = name.replace(".norm?", ".norm2")
        if name == "category_embed":
            name, value = "category_embed.weight", value.t().contiguous()
        state[name] = value
    return state
