"""The table of contents of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from langhops_cli.checkpoint.folder import INDEX, WEIGHTS, read_tensors, write_tensors
from langhops_cli.checkpoint.shapes import read_shapes
from langhops_cli.errors import UserError

TENSORS = {"a.weight": torch.ones(3, 2), "a.count": torch.tensor(4), "b": torch.ones(1000)}


@pytest.mark.parametrize("shard", [10**9, 100])
def test_shapes_are_those_of_the_tensors_in_one_file_or_several(tmp_path: Path, shard: int) -> None:
    write_tensors(tmp_path, TENSORS, shard=shard)
    assert (tmp_path / INDEX).is_file() == (shard == 100)
    shapes = read_shapes(tmp_path)
    assert {name: item.shape for name, item in shapes.items()} == {
        name: item.shape for name, item in read_tensors(tmp_path).items()
    }
    assert all(item.is_meta for item in shapes.values())


def test_a_file_that_is_cut_off_or_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.safetensors is missing"):
        read_shapes(tmp_path)
    write_tensors(tmp_path, TENSORS)
    path = tmp_path / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"model\.safetensors is damaged or cut off") as caught:
        read_shapes(tmp_path)
    assert caught.value.code == 3
    (tmp_path / INDEX).write_text("{")
    with pytest.raises(UserError, match=r"index\.json is damaged"):
        read_shapes(tmp_path)
    (tmp_path / INDEX).write_text('{"weight_map": {"b": "model-2.safetensors"}}')
    with pytest.raises(UserError, match=r"model-2\.safetensors is missing"):
        read_shapes(tmp_path)
