"""What is made of the answers: the rows that are kept, their scores, boxes and masks at the picture's own size."""

import pytest
import torch

from langhops_cli.prediction.masks import scored_mask
from langhops_cli.prediction.postprocess import best_pairs
from langhops_cli.prediction.semantic import semantic_scores

from .conftest import one

KINDS = ("logits", "boxes", "masks")


def merge(golden, objects, parts):
    """The release keeps the best rows of each level and lays both vocabularies side by side."""
    rows = {"logits": [], "boxes": [], "masks": []}
    most = golden.config["merge"]
    for level, item in (("object", objects), ("part", parts)):
        best = item["logits"].amax(-1).topk(most[f"topk_{level}"]).indices
        for kind in KINDS:
            index = best.reshape(*best.shape, *[1] * (item[kind].dim() - 2)).expand(-1, -1, *item[kind].shape[2:])
            rows[kind].append(item[kind].gather(1, index))
    ours, theirs = rows["logits"]
    left = torch.cat([ours, torch.full((*ours.shape[:2], theirs.shape[-1]), -torch.inf)], dim=-1)
    right = torch.cat([torch.full((*theirs.shape[:2], ours.shape[-1]), -torch.inf), theirs], dim=-1)
    return {
        "logits": torch.cat([left, right], dim=1),
        "boxes": torch.cat(rows["boxes"], dim=1),
        "masks": torch.cat(rows["masks"], dim=1),
    }


def level(output, name):
    return {kind: output.intermediates[f"{name}.pred_{kind}"] for kind in KINDS}


def compare(golden, prefix, merged):
    for kind in KINDS:
        if f"{prefix}merged.pred_{kind}" in golden:
            expected = golden[f"{prefix}merged.pred_{kind}"]
            assert torch.equal(expected.isinf(), merged[kind].isinf())
            golden.compare(f"{prefix}merged.pred_{kind}", merged[kind], mask=~expected.isinf())


@pytest.fixture(scope="module")
def alone(model, pictures, vocabulary, golden):
    """The merged rows of each picture, run alone."""
    rows = []
    for picture in range(len(pictures.sizes)):
        with torch.no_grad():
            output = model(one(pictures, picture), one(vocabulary, picture), return_intermediates=True)
        parts = {kind: value[:, output.part_queries.valid[0]] for kind, value in level(output, "part").items()}
        rows.append(merge(golden, level(output, "object"), parts))
    return rows


def test_merged_rows(golden, alone):
    for picture, merged in enumerate(alone):
        compare(golden, f"single{picture}.", merged)


def test_merged_rows_without_the_softcap(golden, released_model, pictures, vocabulary):
    for picture in range(len(pictures.sizes)):
        with torch.no_grad():
            output = released_model(one(pictures, picture), one(vocabulary, picture), return_intermediates=True)
        parts = {kind: value[:, output.part_queries.valid[0]] for kind, value in level(output, "part").items()}
        compare(golden, f"released{picture}.", merge(golden, level(output, "object"), parts))


def test_merged_rows_of_a_batch_whose_padding_is_seen(golden, decode_live, model, pictures, vocabulary):
    with torch.no_grad():
        output = model(pictures, vocabulary, return_intermediates=True)
    answer = decode_live(golden["mllm.part_queries"]).final
    parts = {kind: getattr(answer, kind) for kind in KINDS}
    compare(golden, "", merge(golden, level(output, "object"), parts))


@pytest.mark.parametrize("picture", [0, 1])
def test_detections(golden, alone, picture):
    """The order of the best pairs is free; the masks were made in two steps, as ours are."""
    settings = golden.config["detect"]
    merged = {kind: value[0] for kind, value in alone[picture].items()}
    stored = {
        kind: golden.use(f"detect.{picture}.{kind}") for kind in ("row", "label", "class_score", "score", "box", "mask")
    }
    likelihood = merged["logits"].sigmoid()
    row, label = best_pairs(likelihood, settings["detections"])
    place = {pair: number for number, pair in enumerate(zip(row.tolist(), label.tolist(), strict=True))}
    order = [place.pop(pair) for pair in zip(stored["row"].tolist(), stored["label"].tolist(), strict=True)]
    assert not place
    size, original = tuple(settings["content_hw"]), tuple(settings["original_hw"])
    found = [scored_mask(merged["masks"][number], size, original) for number in row.tolist()]
    scores = likelihood[row, label]
    golden.compare(f"detect.{picture}.class_score", scores[order])
    quality = torch.tensor([quality for _, quality in found])
    golden.compare(f"detect.{picture}.score", (scores * quality)[order])
    masks = torch.stack([torch.from_numpy(mask.copy()) for mask, _ in found])[order]
    assert (masks != stored["mask"].bool()).sum() <= 10, "a few pixels on a border may differ"
    centre, extent = merged["boxes"][row].split(2, dim=-1)
    # a box is a share of the padded input, which ends where its own pixels would at this scale
    padded = torch.tensor([float(side) for side in golden.inputs["image"].shape[:-3:-1]])
    grown = padded * torch.tensor([original[1] / size[1], original[0] / size[0]])
    boxes = torch.cat([centre - extent / 2, centre + extent / 2], dim=-1) * grown.repeat(2)
    golden.compare(f"detect.{picture}.box", boxes[order])


@pytest.mark.parametrize("picture", [0, 1])
def test_semantic_scores(golden, alone, picture):
    settings = golden.config["detect"]
    merged = {kind: value[0] for kind, value in alone[picture].items()}
    scores = semantic_scores(
        merged["logits"],
        merged["masks"],
        size=tuple(settings["content_hw"]),
        original=tuple(settings["original_hw"]),
        temperature=settings["semseg_temperature"],
    )
    golden.compare(f"detect.{picture}.semseg", scores)
