"""`langhops predict` in this process, with a tiny model of random weights that is loaded once."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from langhops_cli.cli.app import app

from .predicting import VOCABULARY


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    from langhops_cli.checkpoint.build import build_model
    from langhops_cli.checkpoint.folder import save_checkpoint
    from langhops_cli.model.configuration import ModelConfig, PreprocessingConfig

    mini = ModelConfig.preset("mini")
    decoder = replace(
        mini.decoder, dim=32, feedforward=32, heads=4, encoder_layers=1, object_layers=1, part_layers=1, num_queries=12
    )
    hierarchy = replace(mini.hierarchy, num_kept=2, max_queries=8)
    preprocessing = PreprocessingConfig(shortest=64, longest=128)
    config = replace(mini, decoder=decoder, hierarchy=hierarchy, preprocessing=preprocessing)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(build_model(config, pretrained=False), folder, config=config, metadata={"stage": "parts"})
    return folder


@pytest.fixture(scope="session")
def predictor(checkpoint):
    from langhops_cli.prediction.predictor import Predictor

    return Predictor.from_pretrained(checkpoint)


@pytest.fixture
def run(checkpoint, predictor, tmp_path, monkeypatch):
    """Run the command in an empty folder; nothing scores too little, and the good checkpoint is loaded only once."""
    from langhops_cli.prediction.predictor import Predictor

    load = Predictor.from_pretrained

    def load_once(folder, **options):
        return predictor if folder == checkpoint else load(folder, **options)

    monkeypatch.setattr(Predictor, "from_pretrained", load_once)
    monkeypatch.chdir(tmp_path)

    def invoke(*words, model=checkpoint, vocab=VOCABULARY, listed=None):
        options = ["--vocab", vocab, "--checkpoint", str(model), "--min-score", "0"]
        return CliRunner().invoke(app, ["predict", *options, *map(str, words)], input=listed)

    return invoke


@pytest.fixture
def asked(monkeypatch):
    """The pictures that went through the model, batch by batch; one can say at which the keyboard stops it."""
    from langhops_cli.prediction.predictor import Predictor

    forward = Predictor.forward
    asked = SimpleNamespace(batches=[], stop_at=None)

    def counted(self, prepared, *words, **options):
        if len(asked.batches) == asked.stop_at:
            raise KeyboardInterrupt
        asked.batches.append([item.name for item in prepared])
        return forward(self, prepared, *words, **options)

    monkeypatch.setattr(Predictor, "forward", counted)
    return asked
