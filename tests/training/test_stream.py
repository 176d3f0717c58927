"""A run whose pictures come from shards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from langhops_cli.checkpoint.folder import read_config
from langhops_cli.cli.train import train_stage1
from langhops_cli.data.shards import write_shards
from langhops_cli.errors import UserError

from .tiny import SIDE, make_recipe, make_set


def test_a_run_reads_shards(tmp_path: Path) -> None:
    """The prepared set and its pictures are gone when it starts: the shards are all that it needs."""
    make_set(tmp_path / "toys", pictures=4)
    write_shards(tmp_path / "toys", tmp_path / "shards" / "toys", group=2)
    shutil.rmtree(tmp_path / "toys")
    stream = str(tmp_path / "shards" / "toys")
    data = {"train": [{"stream": stream}], "image_size": SIDE, "batch": 2, "workers": 1}
    recipe = make_recipe(tmp_path / "tiny.yaml", "objects", data=data)
    overrides = ["schedule.steps=2"]
    train_stage1(str(recipe), overrides, out=tmp_path / "run", data_root=tmp_path / "nothing")
    lines = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    assert all(0 < json.loads(line)["losses"]["total"] < 1000 for line in lines)
    metadata = read_config(tmp_path / "run")
    listed = json.loads((tmp_path / "shards" / "toys" / "shards.json").read_text())
    fingerprint = listed["splits"]["train"]["fingerprint"]
    assert metadata["data"] == {"toys": {"split": "train", "pictures": 4, "fingerprint": fingerprint}}
    assert str(tmp_path) not in (tmp_path / "run" / "config.json").read_text()

    with pytest.raises(UserError, match="no/where does not exist; give a folder of shards or a Hub id"):
        train_stage1(
            str(recipe), [*overrides, "data.train.0.stream=/no/where"], out=tmp_path / "other", data_root=tmp_path
        )
    assert not (tmp_path / "other").exists()
