"""Costs, assignments, losses and gradients against what another implementation computed of the same predictions."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from langhops_cli.checkpoint.convert import Ledger, convert_release
from langhops_cli.model.criterion import Criterion, box_distances, focal_loss, mask_distances
from langhops_cli.model.hierarchy_queries import keep_objects
from langhops_cli.model.matcher import HungarianMatcher, Truth
from langhops_cli.model.point_sampling import sample_points
from langhops_cli.model.structures import Instances, Names, Predictions

LEVELS = ("object", "part")


def truth_of(golden, level, names):
    given = golden.inputs
    return Truth.of(
        [
            Instances(
                labels=given[f"target.{level}.labels.{picture}"],
                boxes=given[f"target.{level}.boxes.{picture}"],
                masks=given[f"target.{level}.masks.{picture}"],
                negatives=torch.ones(names, dtype=torch.bool),
            )
            for picture in range(golden.config["batch"])
        ],
        num_names=names,
    )


def outputs_of(golden, level):
    """Names of the outputs that were scored: the final one, those before each layer, and the proposals."""
    return sorted({name.split(".")[2] for name in golden.tensors if name.startswith(f"loss.{level}.")})


def stored_predictions(golden, level, output):
    def predicted(kind):
        # the masks before the first layer are those of the proposals, and stored once
        source = "interm" if (kind, output) == ("masks", "aux0") else output
        return golden[f"{level}.pred_{kind}" if source == "final" else f"{level}.{source}.pred_{kind}"]

    return Predictions(predicted("logits"), predicted("boxes"), predicted("masks"))


def per_picture(golden, level, output, name):
    return [golden.use(f"loss.{level}.{output}.{name}.{picture}") for picture in range(golden.config["batch"])]


@pytest.mark.parametrize("level", LEVELS)
def test_costs_and_assignments(golden, level):
    for output in outputs_of(golden, level):
        predictions = stored_predictions(golden, level, output)
        truth = truth_of(golden, level, predictions.logits.shape[-1])
        points = torch.stack(per_picture(golden, level, output, "match_points"))
        extent = torch.ones(len(points), 2)
        costs = HungarianMatcher().costs([predictions], truth, points=points, extent=extent)
        matches = HungarianMatcher().match(
            [predictions],
            truth,
            valid=torch.ones(predictions.logits.shape[:2], dtype=torch.bool),
            points=points,
            extent=extent,
            names=[str(picture) for picture in range(len(points))],
        )
        for picture in range(len(points)):
            name = f"loss.{level}.{output}.match_{{}}.{picture}"
            count = golden[name.format("cost")].shape[1]
            golden.compare(name.format("cost"), costs[0, picture, :, :count])
            here = matches.picture == picture
            golden.compare(name.format("query"), matches.query[here])
            golden.compare(name.format("target"), matches.target[here])


def losses(golden, level, output, predictions):
    """The loss terms with the stored assignment and points, by the names of the set, before weighing."""
    truth = truth_of(golden, level, predictions.logits.shape[-1])
    queries, targets = (per_picture(golden, level, output, f"match_{name}") for name in ("query", "target"))
    picture = torch.cat([torch.full_like(rows, number) for number, rows in enumerate(queries)])
    query, target = torch.cat(queries), torch.cat(targets)
    normaliser = sum(truth.counts)
    box, giou = box_distances(predictions.boxes[picture, query], truth.boxes[picture, target])
    points = golden.use(f"loss.{level}.{output}.mask_points")
    logits = sample_points(predictions.masks[picture, query].unsqueeze(1), points).squeeze(1)
    given = [golden.inputs[f"target.{level}.masks.{number}"] for number in range(golden.config["batch"])]
    masks = torch.cat([given[number][rows] for number, rows in enumerate(targets)])
    mask, dice = mask_distances(logits, sample_points(masks.float().unsqueeze(1), points).squeeze(1))
    present = torch.zeros_like(predictions.logits, dtype=torch.bool)
    present[picture, query, truth.labels[picture, target]] = True
    focal = focal_loss(predictions.logits, present, torch.ones_like(present))
    terms = {"loss_ce": focal, "loss_bbox": box, "loss_giou": giou, "loss_mask": mask, "loss_dice": dice}
    return {name: value.sum().reshape(1) / normaliser for name, value in terms.items()}


@pytest.mark.parametrize("level", LEVELS)
def test_losses(golden, level):
    for output in outputs_of(golden, level):
        for name, value in losses(golden, level, output, stored_predictions(golden, level, output)).items():
            golden.compare(f"loss.{level}.{output}.{name}", value, rtol=1e-4)


class Forward(nn.Module):
    """The whole model on the set's inputs, with padded part queries that take part as the release lets them."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pictures, vocabulary, most):
        model = self.model
        branch = model.part_branch
        inside = pictures.valid(1)
        pyramid = model.pixel_decoder(
            model.backbone(model.backbone.normalise(pictures.pixels, inside), inside), pictures
        )
        embeddings = model.text_encoder(vocabulary.texts)
        named = Names(embeddings[vocabulary.objects], vocabulary.object_valid)
        parts_named = Names(embeddings[vocabulary.parts], vocabulary.part_valid)
        objects = model.object_decoder(pyramid, named, num_queries=model.num_queries, auxiliary=True)
        kept = keep_objects(objects, model.num_kept)
        queries = branch.queries(kept, parts_named, vocabulary)
        refined = branch.refiner(queries, num_objects=kept.index.shape[1], mllm_pixels=pictures.mllm_pixels)
        nothing = branch.refiner.output(refined.new_zeros(branch.refiner.hidden_dim))
        seen = torch.where(queries.valid.unsqueeze(-1), refined, nothing)[:, :most]
        parts = branch.decoder(
            pyramid, parts_named, queries=seen, valid=torch.ones_like(queries.valid[:, :most]), auxiliary=True
        )
        return {"object": objects, "part": parts}


def test_total_and_gradients(golden, released, model, pictures, vocabulary):
    """Gradients flow through the conversion too: those of a norm that was folded away are known by the chain rule."""
    wanted = {name.removeprefix("grad."): name for name in golden.tensors if name.startswith("grad.")}
    leaves = dict(released)
    for key in wanted:
        leaves[key] = released[key].clone().requires_grad_()
    for key, tensor in released.items():  # second names of one tensor stay one
        same = next((name for name in wanted if name != key and released[name] is tensor), None)
        leaves[key] = leaves[same] if same is not None else leaves[key]
    taken = convert_release(Ledger(leaves, source="release"), layout="langhops").ledger.taken
    most = golden["part.part_queries"].shape[1] if "part.part_queries" in golden else int(golden["part.count"].max())
    model.text_encoder.train()  # in evaluation names are remembered without their gradients
    answers = functional_call(
        Forward(model), {f"model.{name}": value for name, value in taken.items()}, (pictures, vocabulary, most)
    )
    model.text_encoder.eval()
    criterion = Criterion()
    kinds = {"loss_ce": "class", "loss_bbox": "box", "loss_giou": "giou", "loss_mask": "mask", "loss_dice": "dice"}
    assert {name: criterion.weights[kind] for name, kind in kinds.items()} == golden.config["loss"]["weights"]
    total = torch.zeros(1)
    for level, decoder in answers.items():
        predictions = {"final": decoder.final, "interm": decoder.proposals}
        predictions |= {f"aux{number}": item for number, item in enumerate(decoder.auxiliary)}
        for output in outputs_of(golden, level):
            for name, value in losses(golden, level, output, predictions[output]).items():
                golden.compare(f"loss.{level}.{output}.{name}", value, rtol=1e-4)
                total = total + value * criterion.weights[kinds[name]]
    golden.compare("loss.total", total, rtol=1e-4)
    gradients = torch.autograd.grad(total.sum(), [leaves[key] for key in wanted])
    for name, gradient in zip(wanted.values(), gradients, strict=True):
        share = 1e-3 * golden[name].abs().max().item()  # of the largest entry, as the set's README has it
        golden.compare(name, gradient, loosen=max(1.0, share / golden.tolerance[name]))
