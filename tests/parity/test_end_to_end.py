"""The converted release against what the release computed, stage by stage on the way of one forward pass.

A model that masks padding compares with pictures that were run alone, also when it runs them as a batch.
"""

from dataclasses import replace

import pytest
import torch

from langhops_cli.model.query_decoder import propose

from .conftest import one, pyramid_of

PREDICTIONS = ("pred_logits", "pred_boxes", "pred_masks")


@pytest.fixture(scope="module")
def batch(model, pictures, vocabulary):
    """Every tensor on the way, of both pictures together."""
    with torch.no_grad():
        return model(pictures, vocabulary, return_intermediates=True)


@pytest.fixture(scope="module")
def alone(model, pictures, vocabulary):
    with torch.no_grad():
        return [
            model(one(pictures, picture), one(vocabulary, picture), return_intermediates=True)
            for picture in range(len(pictures.sizes))
        ]


@pytest.fixture(scope="module")
def as_released(released_model, pictures, vocabulary):
    """Each picture alone and without the softcap, then both together."""
    with torch.no_grad():
        single = [
            released_model(one(pictures, picture), one(vocabulary, picture), return_intermediates=True)
            for picture in range(len(pictures.sizes))
        ]
        return single, released_model(pictures, vocabulary, return_intermediates=True)


def named(golden, *prefixes):
    return [name for name in golden.tensors if name.startswith(prefixes)]


def test_backbone_and_pixel_decoder(golden, batch):
    for name in named(golden, "backbone.", "pixel."):
        golden.compare(name, batch.intermediates[name])


def test_class_embeddings_and_distillation(golden, batch, model):
    golden.compare("text.class_embeddings", batch.intermediates["text.class_embeddings"])
    text = model.text_encoder
    with torch.no_grad():
        tokens = text.tokens(tuple(golden.names))
        golden.compare("text.last_hidden_valid", tokens.states[tokens.attended], loosen=2)
        text.train()
        text(tuple(golden.names))
        golden.compare("text.distill_mse", text.distillation_loss().reshape(1))
        text.eval()


def test_object_decoder(golden, batch):
    for name in named(golden, "object."):
        if name == "object.query_scores":
            golden.compare(name, batch.intermediates["object.pred_logits"].amax(-1))
        else:
            golden.compare(name, batch.intermediates[name])


def test_queries_for_the_language_model(golden, batch):
    """The released mapper's answer is multiplied by the scale later, ours brings it along."""
    valid = batch.part_queries.valid
    assert valid.sum(1).tolist() == golden.use("part.count").tolist()
    for picture, rows in enumerate(valid):
        golden.compare(f"mllm.initial_queries.{picture}", batch.intermediates["mllm.initial_queries"][picture, rows])
        mapped = batch.intermediates["mllm.mapped_queries"][picture, rows]
        golden.compare(f"mllm.mapped_queries.{picture}", mapped / golden.scale)


def test_language_model(golden, batch, model, pictures):
    """Ours leaves room for the delimiters of objects that are not there; all of them are here."""
    valid = golden["mllm.attention_mask"].bool()
    length = valid.shape[1]
    assert not batch.intermediates["mllm.attention_mask"][:, length:].any()
    golden.compare("mllm.attention_mask", batch.intermediates["mllm.attention_mask"][:, :length])
    embedded = batch.intermediates["mllm.inputs_embeds"][:, :length]
    golden.compare("mllm.inputs_embeds", embedded / golden.scale, mask=valid)
    for name in named(golden, "mllm.hidden"):
        golden.compare(name, batch.intermediates[name][:, :length], mask=valid)
    golden.compare("mllm.image_features", batch.intermediates["mllm.image_features"] / golden.scale)
    with torch.no_grad():
        tower = model.part_branch.refiner.image_tower.vision_tower
        golden.compare("mllm.vision_last_hidden", tower(pictures.mllm_pixels).last_hidden_state)


def test_where_the_queries_stand(golden, batch):
    places = batch.intermediates["mllm.query_positions"]
    index = torch.zeros_like(golden["mllm.query_index"])
    for picture, rows in enumerate(batch.part_queries.valid):
        index[picture, places[picture, rows]] = batch.part_queries.parent[picture, rows] + 1
    golden.compare("mllm.query_index", index)


def test_refined_queries(golden, batch):
    for name in ("query_hidden", "part_queries"):
        most = golden[f"mllm.{name}"].shape[1]
        valid = batch.part_queries.valid[:, :most]
        golden.compare(f"mllm.{name}", batch.intermediates[f"mllm.{name}"][:, :most], mask=valid)


def test_refined_queries_without_the_softcap(golden, as_released):
    _, together = as_released
    for name in named(golden, "sdpa.mllm."):
        length = golden[name].shape[1]
        mask = golden["mllm.attention_mask"].bool() if ".hidden" in name else together.part_queries.valid[:, :length]
        golden.compare(name, together.intermediates[name.removeprefix("sdpa.")][:, :length], mask=mask)


def test_pictures_alone(golden, alone, as_released):
    for kind, outputs in (("single", alone), ("released", as_released[0])):
        for picture, output in enumerate(outputs):
            valid = output.part_queries.valid[0]
            for name in named(golden, f"{kind}{picture}.part.", f"{kind}{picture}.mllm."):
                golden.compare(name, output.intermediates[name.partition(".")[2]][:, valid])


def test_a_batch_gives_each_picture_what_it_gets_alone(golden, batch, as_released):
    for prefix, output in (("single", batch), ("released", as_released[1])):
        for picture, rows in enumerate(output.part_queries.valid):
            for kind in PREDICTIONS:
                mine = output.intermediates[f"part.{kind}"][picture : picture + 1, rows]
                golden.compare(f"{prefix}{picture}.part.{kind}", mine)


@pytest.mark.parametrize("prefix", ["", "sdpa."])
def test_part_decoder_with_padding_that_is_seen(golden, decode_live, prefix):
    trace = {}
    output = decode_live(golden[f"{prefix}mllm.part_queries"], trace)
    answers = {"": output.final, "interm.": output.proposals}
    answers |= {f"aux{number}.": item for number, item in enumerate(output.auxiliary)}
    said = trace | {
        f"{place}pred_{kind}": getattr(item, kind)
        for place, item in answers.items()
        for kind in ("logits", "boxes", "masks")
    }
    for name in named(golden, f"{prefix}part."):
        if name != "part.count":
            golden.compare(name, said[name.removeprefix(f"{prefix}part.")])


@torch.no_grad()
def test_proposals_near_the_edge_are_unusable(golden):
    shapes = tuple(tuple(shape) for shape in golden.use("proposals.spatial_shapes").tolist())
    memory = golden.use("proposals.memory_in")
    pyramid = replace(
        pyramid_of(golden),
        memory=memory,
        valid=torch.ones(memory.shape[:2], dtype=torch.bool),
        shapes=shapes,
        extent=torch.ones(1, 2),
    )
    kept, logits, usable = propose(pyramid)
    golden.compare("proposals.memory_out", kept)
    golden.compare("proposals.logits", logits, mask=usable.unsqueeze(-1).expand_as(logits))
    assert torch.equal(torch.isinf(logits), torch.isinf(golden["proposals.logits"]))
    assert not usable.all()
