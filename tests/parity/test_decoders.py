"""Pixel decoder and query decoders against the golden tensors, each stage from the golden input of that stage."""

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from langhops_cli.model.pixel_decoder import PixelDecoder, Pyramid
from langhops_cli.model.query_decoder import QueryDecoder, propose
from langhops_cli.model.structures import Names, Pictures

from .weights import GOLDENS, pixel_decoder_state, query_decoder_state

pytestmark = pytest.mark.skipif(not GOLDENS.is_dir(), reason=f"no golden tensors in {GOLDENS}")
FEATURES, LOGITS, BOXES, MASKS = 1e-4, 1e-4, 2e-5, 1e-3


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDENS / "outputs.safetensors")


def compare(actual, expected, atol):
    assert_close(actual, expected, atol=atol, rtol=0)


def compare_predictions(actual, golden, prefix):
    for value, name, atol in (
        (actual.logits, "pred_logits", LOGITS),
        (actual.boxes, "pred_boxes", BOXES),
        (actual.masks, "pred_masks", MASKS),
    ):
        if f"{prefix}{name}" in golden:
            compare(value, golden[f"{prefix}{name}"], atol)


@pytest.fixture(scope="module")
def pyramid(golden):
    """What the decoders read, as the reference computed it."""
    levels = [golden[f"pixel.level{number}"] for number in (3, 2, 1, 0)]
    memory = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
    return Pyramid(
        memory,
        torch.ones(memory.shape[:2], dtype=torch.bool),
        tuple(tuple(level.shape[-2:]) for level in levels),
        golden["pixel.mask_features"],
        torch.ones(len(memory), 2),
    )


@torch.no_grad()
def test_pixel_decoder(golden):
    features = [golden[f"backbone.res{number}"] for number in (2, 3, 4, 5)]
    decoder = PixelDecoder(channels=[f.shape[1] for f in features], dim=256, layers=2, feedforward=2048)
    decoder.load_state_dict(pixel_decoder_state())
    height, width = (4 * side for side in features[0].shape[-2:])
    pictures = Pictures(torch.zeros(2, 3, height, width), torch.tensor([[height, width]] * 2))
    pyramid = decoder(features, pictures)
    for number in range(4):
        compare(pyramid.level(3 - number)[0], golden[f"pixel.level{number}"], FEATURES)
    compare(pyramid.mask_features, golden["pixel.mask_features"], FEATURES)


@torch.no_grad()
def test_object_decoder(golden, pyramid):
    decoder = QueryDecoder(dim=256, layers=3, feedforward=2048)
    decoder.load_state_dict(query_decoder_state("object_predictor"))
    names = Names(golden["text.class_embeddings"][:5].expand(2, -1, -1), torch.ones(2, 5, dtype=torch.bool))
    trace = {}
    output = decoder(pyramid, names, num_queries=40, auxiliary=True, trace=trace)
    assert torch.equal(trace["proposal_index"], golden["object.proposal_index"])
    for name in ("proposal_scores", "init_content", "init_ref_logit", "layer0.state", "layer1.state"):
        compare(trace[name], golden[f"object.{name}"], FEATURES)
    for number in range(4):
        compare(trace[f"ref{number}"], golden[f"object.ref{number}"], BOXES)
    compare(output.queries, golden["object.queries"], FEATURES)
    compare_predictions(output.final, golden, "object.")
    compare_predictions(output.proposals, golden, "object.interm.")
    for number, auxiliary in enumerate(output.auxiliary):
        compare_predictions(auxiliary, golden, f"object.aux{number}.")


@torch.no_grad()
@pytest.mark.parametrize("picture", [0, 1])
def test_part_decoder(golden, pyramid, picture):
    """A model that masks padding compares with a picture run alone, also when it runs the batch."""
    decoder = QueryDecoder(dim=256, layers=3, feedforward=2048)
    decoder.load_state_dict(query_decoder_state("part_predictor"))
    embeddings = golden["text.class_embeddings"][5:].expand(2, -1, -1)
    names = Names(embeddings, torch.ones(embeddings.shape[:2], dtype=torch.bool))
    counts = golden["part.count"]
    alone = [golden[f"single{b}.mllm.part_queries"][0] for b in range(2)]
    queries = torch.nn.utils.rnn.pad_sequence(alone, batch_first=True)
    valid = torch.arange(queries.shape[1]) < counts[:, None]
    output = decoder(pyramid, names, queries=queries, valid=valid)
    mine = slice(0, int(counts[picture]))
    compare(output.final.logits[picture, mine], golden[f"single{picture}.part.pred_logits"][0], LOGITS)
    compare(output.final.boxes[picture, mine], golden[f"single{picture}.part.pred_boxes"][0], BOXES)
    compare(output.final.masks[picture, mine], golden[f"single{picture}.part.pred_masks"][0], MASKS)


@torch.no_grad()
def test_proposals_near_the_edge_are_unusable(golden):
    shapes = tuple(tuple(shape) for shape in golden["proposals.spatial_shapes"].tolist())
    memory = golden["proposals.memory_in"]
    pyramid = Pyramid(
        memory, torch.ones(memory.shape[:2], dtype=torch.bool), shapes, memory.new_zeros(1, 1, 1, 1), torch.ones(1, 2)
    )
    kept, logits, usable = propose(pyramid)
    compare(kept, golden["proposals.memory_out"], FEATURES)
    assert torch.equal(torch.isinf(logits), torch.isinf(golden["proposals.logits"]))
    assert not usable.all()
    compare(logits[usable], golden["proposals.logits"][usable], FEATURES)
