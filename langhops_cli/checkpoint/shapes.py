"""What is in a checkpoint, without reading it: the tables of contents of its files."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from langhops_cli.checkpoint.folder import INDEX, WEIGHTS
from langhops_cli.errors import DATA, UserError


def read_shapes(folder: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint by name, on the meta device: their shapes alone.

    Raises:
        UserError: a file is missing, damaged or cut off; what is wrong within its tensors is not seen.
    """
    tensors: dict[str, Tensor] = {}
    for path in _files(folder):
        if not path.is_file():
            raise UserError(f"{path} is missing; copy the whole checkpoint folder", code=DATA)
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                for name in file.keys():  # noqa: SIM118 (a handle, not a dict)
                    tensors[name] = torch.empty(file.get_slice(name).get_shape(), device="meta")
        except (SafetensorError, OSError, ValueError) as error:
            text = " ".join(str(error).split())
            raise UserError(f"{path} is damaged or cut off ({text}); copy the checkpoint again", code=DATA) from None
    return tensors


def _files(folder: Path) -> list[Path]:
    index = folder / INDEX
    if not index.is_file():
        return [folder / WEIGHTS]
    try:
        return [
            folder / name for name in sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        ]
    except (ValueError, KeyError, AttributeError, OSError) as error:
        raise UserError(f"{index} is damaged ({error}); copy the checkpoint again", code=DATA) from None
