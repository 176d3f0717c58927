"""Reading a file of another project without running what may hide in it."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from langhops_cli.checkpoint.folder import read_safetensors, read_shards
from langhops_cli.errors import DATA, UserError

WRAPPERS = ("model", "state_dict", "module", "model_state_dict")
"""Keys under which training programs put the tensors of a checkpoint."""
ZIP, PICKLE = b"PK\x03\x04", b"\x80"
"""How files of `torch.save` begin, today's and those of old or of pickle itself."""


def read_foreign(path: Path, *, trust: bool = False) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint of another project.

    Args:
        path: a `.safetensors` file, the index of a sharded one (`.safetensors.index.json`), a folder that holds either,
            a file of `torch.save`, or a pickle of arrays.
        trust: run the code that a pickle asks for, where reading without it fails.

    Returns:
        Tensors by name, floating ones as float32 at least; what is no tensor is left out.

    Raises:
        UserError: the file is missing, damaged, needs code to be run, or holds no tensors.
    """
    if path.is_dir():
        found = [path / name for name in ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")]
        path = next((file for file in found if file.is_file()), path / found[0].name)
    if not path.is_file():
        raise UserError(f"{path} does not exist; give the file that was downloaded", code=DATA)
    if path.suffix == ".safetensors":
        tensors: Mapping[str, Any] = read_safetensors(path)
    elif path.name.endswith(".safetensors.index.json"):
        tensors = read_shards(path)
    else:
        tensors = _unwrapped(_pickled(path, trust=trust))
    read = {name: _as_tensor(value) for name, value in tensors.items() if isinstance(value, Tensor | np.ndarray)}
    if not read:
        raise UserError(f"{path} holds no tensors; is it the right file?", code=DATA)
    return read


def _pickled(path: Path, *, trust: bool) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickles that are newer than torch's own
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_starts(path, ZIP) or None)
    except pickle.UnpicklingError as error:
        if not _starts(path, ZIP, PICKLE):
            raise _damaged(path, error) from None
        if not trust:
            raise UserError(
                f"{path} needs code of its own to be read ({_first(error)}), which could do anything to this machine; "
                "if you trust where it comes from, add --trust-checkpoint",
                code=DATA,
            ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from None
    try:
        return _trusted(path)
    except Exception as error:  # code of strangers may fail in any way
        raise _damaged(path, error) from None


def _trusted(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except (RuntimeError, pickle.UnpicklingError):  # a bare pickle, as detectron2's model zoo has them
        with path.open("rb") as file:
            return pickle.load(file, encoding="latin1")


def _starts(path: Path, *signs: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(4).startswith(signs)


def _unwrapped(tree: Any) -> Mapping[str, Any]:
    """The dict that holds the tensors themselves."""
    while isinstance(tree, Mapping) and not any(isinstance(value, Tensor | np.ndarray) for value in tree.values()):
        inner = next((tree[key] for key in WRAPPERS if isinstance(tree.get(key), Mapping)), None)
        if inner is None:
            break
        tree = inner
    return tree if isinstance(tree, Mapping) else {}


def _as_tensor(value: Tensor | np.ndarray) -> Tensor:
    tensor = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _first(error: Exception) -> str:
    text = " ".join(str(error).split())
    start = text.find("Unsupported ")
    return (text[start:] if start >= 0 else text).partition(" Check the doc")[0].split(". ")[0][:160]


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is damaged or no checkpoint ({_first(error)}); download it again", code=DATA)
