"""Recorded numbers of the published model, small: weights grow from their names, inputs and outputs are on file."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

SHARED = Path(os.environ.get("LANGHOPS_SHARED", Path(__file__).parents[3] / "shared"))
FOLDER = SHARED / "goldens" / "reference_small_a"

needs_goldens = pytest.mark.skipif(
    not (FOLDER / "keys.tsv").is_file(), reason=f"no recorded numbers at {FOLDER}: set LANGHOPS_SHARED"
)


@cache
def config() -> dict[str, Any]:
    return json.loads((FOLDER / "config.json").read_text())


@cache
def inputs() -> dict[str, Tensor]:
    return load_file(FOLDER / "inputs.safetensors")


@cache
def outputs() -> dict[str, Tensor]:
    return load_file(FOLDER / "outputs.safetensors")


def weights(prefix: str) -> dict[str, Tensor]:
    """All drawn tensors whose name starts with the prefix, without it."""
    found = {}
    with (FOLDER / "keys.tsv").open() as file:
        for name, shape, kind, alias, *_ in csv.reader(file, delimiter="\t"):
            if name.startswith(prefix) and kind not in ("int_buffer", "constant", "kind"):
                found[name.removeprefix(prefix)] = draw(alias or name, shape, kind)
    return found


def draw(name: str, shape: str, kind: str) -> Tensor:
    size = tuple(map(int, shape.split("x")))
    seed = int.from_bytes(hashlib.sha256((config()["salt"] + name).encode()).digest()[:8], "little")
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal(size).astype(np.float32))
    scaled = {
        "norm_weight": lambda: 1 + 0.1 * x,
        "rms_weight": lambda: 0.1 * x,
        "rel_pos_table": lambda: 0.1 * x,
        "bias": lambda: 0.05 * x,
        "running_mean": lambda: 0.05 * x,
        "running_var": lambda: 1 + 0.1 * x.abs(),
        "lang_projection": lambda: x / 16,
        "category_embed": lambda: x / 256,
        "matrix": lambda: x / np.prod(size[1:]) ** 0.5 if len(size) > 1 else 0.05 * x,
    }
    return scaled[kind]()
