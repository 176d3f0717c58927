"""How much of the attention falls on the own object: values known beforehand, a real tiny model, the command line."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer import Typer
from typer.testing import CliRunner

from langhops_cli.checkpoint.build import build_model
from langhops_cli.cli.app import Commands
from langhops_cli.cli.evaluate import evaluate
from langhops_cli.data.index import PreparedDataset
from langhops_cli.data.sample import Sample, SampleInstance
from langhops_cli.evaluation import attention
from langhops_cli.evaluation.attention import (
    Score,
    find_objects,
    mask_of,
    measure_attention,
    places_inside,
    tokens_inside,
)
from langhops_cli.evaluation.runner import predict_dataset
from langhops_cli.model.configuration import ModelConfig, PreprocessingConfig
from langhops_cli.model.structures import DecoderOutput, KeptObjects, Output, Predictions
from langhops_cli.prediction.predictor import Predictor
from langhops_cli.vocabulary import parse_vocabulary

from .prepared import SIDE, car, make_set

HALF = np.zeros((8, 6), bool)
HALF[:, :3] = True

application = Typer(cls=Commands, rich_markup_mode=None, pretty_exceptions_enable=False)
application.command("eval")(evaluate)
application.callback()(lambda: None)


@pytest.mark.parametrize(
    ("tokens", "inside"),
    [([1, 0, 0, 0], 1), ([0, 1, 0, 0], 0), ([0, 0.25, 0.75, 0], 0.75), ([0.25] * 4, 0.5), ([0.1, 0.2, 0.3, 0.4], 0.4)],
)
def test_attention_to_tokens_counts_where_they_lie_inside(tokens, inside):
    """2 x 2 tokens, row by row; the mask is the left half."""
    assert tokens_inside(torch.tensor([tokens], dtype=torch.float32), HALF).item() == pytest.approx(inside)


def test_a_token_that_lies_partly_inside_counts_in_part():
    """The middle column of 3 x 3 tokens is cut in two; even attention finds the mask's area, whatever its outline."""
    middle = torch.tensor([[0.0, 0, 0, 0, 1, 0, 0, 0, 0]])
    assert tokens_inside(middle, HALF).item() == pytest.approx(0.5)
    mask = np.random.default_rng(0).random((37, 53)) > 0.8
    assert tokens_inside(torch.full((1, 49), 1 / 49), mask).item() == pytest.approx(mask.mean(), abs=1e-6)


def test_attention_to_places_counts_where_they_lie_inside():
    places = torch.tensor([[0.1, 0.9], [0.49, 0.1], [0.51, 0.1], [-0.1, 0.5], [0.2, 1.0]])
    weights = torch.tensor([0.2, 0.1, 0.3, 0.3, 0.1])
    assert places_inside(places, weights, HALF).item() == pytest.approx(0.3 / 0.6)  # the last two are not in it
    assert places_inside(places[3:], weights[3:], HALF).item() == 0
    tall = HALF.copy()
    tall[4:] = False  # the first place is low in the picture: x comes before y
    assert places_inside(places, weights, tall).item() == pytest.approx(0.1 / 0.6)


def test_scores_are_means_over_queries():
    score = Score()
    assert score.to_dict() == {"score": None, "even": None, "queries": 0}
    score.add(torch.tensor([0.5, 1.0]), 0.2)
    score.add(torch.tensor([]), 0.9)
    score.add(torch.tensor([0.0]), 0.5)
    assert score.to_dict() == {"score": pytest.approx(0.5), "even": pytest.approx(0.3), "queries": 3}
    assert str(score) == "0.50 (0.30 if even, 3 queries)"


def _kept(masks, classes):
    """Queries 5, 4, 3 ... are kept, in this order; every second one is another, empty."""
    count = len(masks)
    logits = torch.full((1, count + 2, SIDE // 4, SIDE // 4), -9.0)
    boxes = torch.zeros(1, count + 2, 4)
    index = torch.arange(count + 1, 1, -1)[None]
    for query, mask in zip(index[0].tolist(), masks, strict=True):
        logits[0, query] = torch.from_numpy(mask[::4, ::4]).float() * 18 - 9
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        boxes[0, query] = torch.tensor([left + right, top + bottom, 2 * (right - left), 2 * (bottom - top)]) / 2 / SIDE
    found = DecoderOutput(torch.zeros(1, count + 2, 4), torch.ones(1, count + 2, dtype=torch.bool), Predictions(
        torch.zeros(1, count + 2, 2), boxes, logits
    ))  # fmt: skip
    valid = torch.ones(1, count, dtype=torch.bool)
    kept = KeptObjects(
        index, torch.zeros(1, count, 4), torch.tensor([classes]), torch.zeros(1, count), valid, boxes[:, index[0]]
    )
    return Output(found, kept)


def _truth(*masks, boxes_only=False):
    items = []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = tuple(float(side) for side in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        items.append(SampleInstance(0, None if boxes_only else mask.astype(np.uint8), box))
    return Sample("a.png", Image.new("RGB", (SIDE, SIDE)), items, [], parse_vocabulary("car; dog"))


@pytest.mark.parametrize("boxes_only", [False, True])
def test_objects_are_found_by_name_and_overlap(boxes_only):
    near, far = car(0), np.roll(car(0), 24, axis=0)
    output = _kept([far, near, near, ~near], [1, 0, 0, 0])
    sample = _truth(near, far, boxes_only=boxes_only)
    size = (SIDE, SIDE)
    assert find_objects(output, sample, [0, 0], size=size) in ({1: 0}, {2: 0})  # the far one has another name
    assert set(find_objects(output, sample, [0, 1], size=size).items()) >= {(0, 1)}
    assert find_objects(output, _truth(), [], size=size) == {}
    shifted = _kept([car(4)], [0])  # an overlap of 16 in 48 columns: IoU 1/3
    assert find_objects(shifted, sample, [0, 0], size=size) == {}


def test_a_box_stands_for_a_mask_that_is_not_known():
    item = SampleInstance(0, None, (2.0, 1.0, 5.0, 4.0))
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:5] = True
    assert (mask_of(item, (6, 8)) == expected).all()


PARTS = ModelConfig.preset("mini")
CONFIG = replace(
    PARTS,
    decoder=replace(
        PARTS.decoder, dim=32, feedforward=32, heads=4, encoder_layers=1, object_layers=2, part_layers=1, num_queries=12
    ),
    hierarchy=replace(PARTS.hierarchy, num_kept=3),
    preprocessing=PreprocessingConfig(shortest=SIDE, longest=2 * SIDE),
)
QFORMER = replace(CONFIG, refiner=replace(CONFIG.refiner, kind="qformer", qformer_layers=1))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Cars only, so that every object has the right name."""
    root = tmp_path_factory.mktemp("data") / "toys"
    make_set(root)
    (root / "hierarchy.yaml").write_text("car:\n  wheel:\n  door:\n")
    return PreparedDataset(root, "val")


@pytest.fixture
def any_overlap(monkeypatch):
    """A model that has learnt nothing finds nothing: every overlap will do."""
    monkeypatch.setattr(attention, "FOUND_IOU", 0.0)


@lru_cache
def _build(config):
    torch.manual_seed(0)
    return build_model(ModelConfig.from_dict(json.loads(config)), pretrained=False).eval()


def _model(config=CONFIG):
    """A model of its own to change, always the same at first."""
    return deepcopy(_build(json.dumps(config.to_dict())))


def test_even_attention_scores_the_area_of_the_objects(dataset, any_overlap):
    model = _model()
    for name, parameter in model.part_branch.refiner.language_model.named_parameters():
        if ".query." in name:
            nn.init.zeros_(parameter)
    report = measure_attention(model.train(), dataset, config=CONFIG)
    assert model.training
    assert report.parts.queries == 3 * 2  # wheel and door of a car on each of three pictures
    assert report.objects.queries == report.found_objects == report.true_objects == 3
    area = 32 * 32 / SIDE**2
    said = report.to_dict()["part_queries"]
    assert (said["score"], said["even"]) == (pytest.approx(area), pytest.approx(area))


@pytest.mark.parametrize(("row", "score"), [(0, 1), (1, 0)])
def test_queries_that_read_one_place_score_where_it_is(dataset, any_overlap, monkeypatch, row, score):
    """Without offsets all of an object query's places are the centre of its box, here on the picture's upper edge."""
    model = _model()
    for layer in model.object_decoder.layers:
        nn.init.zeros_(layer.cross_attn.sampling_offsets.weight)
        nn.init.zeros_(layer.cross_attn.sampling_offsets.bias)
    with torch.no_grad():
        model.object_decoder.bbox_embed[-1].bias.copy_(torch.tensor([0.0, -50, 0, 0]))
    mask = np.zeros((SIDE, SIDE), bool)
    mask[row] = True
    monkeypatch.setattr(attention, "mask_of", lambda *_: mask)
    said = measure_attention(model, dataset, config=CONFIG).to_dict()["object_queries"]
    assert said == {"score": pytest.approx(score), "even": pytest.approx(1 / SIDE), "queries": 3}


def test_what_the_model_answers_is_not_changed(dataset):
    model = _model()

    def predict():
        return list(predict_dataset(model, dataset, config=CONFIG, pictures=range(3)))

    before = predict()
    measure_attention(model, dataset, config=CONFIG)
    assert predict() == before


def test_nothing_found_is_no_figure(dataset):
    report = measure_attention(_model(), dataset, config=CONFIG, pictures=[0])
    assert (report.true_objects, report.found_objects) == (1, 0)
    assert report.to_dict()["part_queries"] == {"score": None, "even": None, "queries": 0}
    assert report.line() == ("Attention inside the object: part queries -, object queries -; 0 of 1 objects were found")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (QFORMER, "the Q-Former reads no image"),
        (replace(CONFIG, level="objects"), "trained on objects only"),
    ],
)  # fmt: skip
def test_a_model_whose_part_queries_read_no_image_tokens_says_so(dataset, any_overlap, config, says):
    report = measure_attention(_model(config), dataset, config=config)
    assert report.to_dict()["part_queries"] is None
    assert says in report.to_dict()["notes"][0]
    assert says in report.line()
    assert report.objects.queries == 3


@pytest.fixture
def command(dataset, monkeypatch, tmp_path):
    monkeypatch.setattr(
        Predictor,
        "from_pretrained",
        lambda checkpoint=None, *, device="cpu": SimpleNamespace(model=_model(), config=CONFIG, finds_parts=True),
    )

    def run(*arguments):
        common = ["eval", "--data", "toys", "--data-root", str(dataset.root.parent), "--out", str(tmp_path)]
        return CliRunner().invoke(application, [*common, *arguments], prog_name="langhops")

    return run


def test_the_command_writes_and_prints_it(command, dataset, any_overlap, tmp_path):
    done = command("--attention", "--limit", "2")
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "attention.json").read_text())
    assert written["part_queries"]["queries"] == 4
    expected = measure_attention(_model(), dataset, config=CONFIG, pictures=range(2)).to_dict()
    for key in ("part_queries", "object_queries", "objects"):
        assert written[key] == expected[key]
    assert written["dataset"]["scored"] == 2
    assert written["settings"]["detach_object_queries"] is False
    line = next(line for line in done.stdout.splitlines() if line.startswith("Attention inside the object: "))
    assert f"part queries {written['part_queries']['score']:.2f} (0.25 if even, 4 queries)" in line
    assert "2 of 2 objects were found" in line
    assert "attention.json" in done.stderr


def test_the_command_prints_it_as_json_and_is_silent_without(command, any_overlap, tmp_path):
    with_it = json.loads(command("--attention", "--json").stdout)
    assert with_it.pop("attention") == json.loads((tmp_path / "attention.json").read_text())
    report = (tmp_path / "report.json").read_text()
    (tmp_path / "attention.json").unlink()
    plain = command("--json")
    assert json.loads(plain.stdout) == with_it == json.loads(report)
    assert not (tmp_path / "attention.json").exists()
    assert "ttention" not in command().output


def test_a_file_of_results_has_no_attention(command, tmp_path):
    done = command("--attention", "--predictions", "results.json")
    assert (done.exit_code, len(done.stderr.strip().splitlines())) == (2, 1)
    assert "--attention does not go with --predictions, which is scored without a model" in done.stderr
