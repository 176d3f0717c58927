"""Costs, assignments and losses against numbers that another implementation computed from the same predictions."""

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from langhops_cli.model.criterion import box_distances, focal_loss, mask_distances
from langhops_cli.model.matcher import HungarianMatcher, Truth
from langhops_cli.model.point_sampling import sample_points
from langhops_cli.model.structures import Instances, Predictions

from .weights import GOLDENS

pytestmark = pytest.mark.skipif(not GOLDENS.is_dir(), reason=f"no golden tensors in {GOLDENS}")
PREFIX = {"final": "", "aux0": "aux0.", "aux1": "aux1.", "aux2": "aux2.", "interm": "interm."}


class Stored:
    """One output of one level as it was stored, with what it was compared to."""

    def __init__(self, tensors: dict, inputs: dict, level: str, output: str) -> None:
        def predicted(kind: str) -> torch.Tensor:
            # The masks before the first layer are those of the proposals, and stored once.
            source = "interm." if (kind, output) == ("masks", "aux0") else PREFIX[output]
            return tensors[f"{level}.{source}pred_{kind}"]

        self.predictions = Predictions(predicted("logits"), predicted("boxes"), predicted("masks"))
        names = self.predictions.logits.shape[-1]
        self.truth = Truth.of(
            [
                Instances(
                    labels=inputs[f"target.{level}.labels.{b}"],
                    boxes=inputs[f"target.{level}.boxes.{b}"],
                    masks=inputs[f"target.{level}.masks.{b}"],
                    negatives=torch.ones(names, dtype=torch.bool),
                )
                for b in range(2)
            ],
            num_names=names,
        )
        self.loss = {
            key.split(".")[3]: value for key, value in tensors.items() if key.startswith(f"loss.{level}.{output}.loss")
        }
        self.mask_points = tensors[f"loss.{level}.{output}.mask_points"]
        for name in ("match_points", "match_cost", "match_query", "match_target"):
            setattr(self, name, [tensors[f"loss.{level}.{output}.{name}.{b}"] for b in range(2)])
        self.valid = torch.ones(self.predictions.logits.shape[:2], dtype=torch.bool)

    def match(self):
        return HungarianMatcher().match(
            [self.predictions],
            self.truth,
            valid=self.valid,
            points=torch.stack(self.match_points),
            extent=torch.ones(2, 2),
            names=["first", "second"],
        )


@pytest.fixture(scope="module")
def goldens():
    return load_file(GOLDENS / "outputs.safetensors"), load_file(GOLDENS / "inputs.safetensors")


@pytest.fixture(params=[(level, output) for level in ("object", "part") for output in PREFIX], ids=".".join)
def stored(request, goldens):
    return Stored(*goldens, *request.param)


def test_costs(stored):
    costs = HungarianMatcher().costs(
        [stored.predictions], stored.truth, points=torch.stack(stored.match_points), extent=torch.ones(2, 2)
    )
    for b, expected in enumerate(stored.match_cost):
        assert_close(costs[0, b, :, : expected.shape[1]], expected, rtol=1e-4, atol=1e-3)


def test_assignments(stored):
    matches = stored.match()
    for b in range(2):
        here = matches.picture == b
        assert matches.query[here].tolist() == stored.match_query[b].tolist()
        assert matches.target[here].tolist() == stored.match_target[b].tolist()


def test_losses(stored):
    matches, truth = stored.match(), stored.truth
    normaliser = sum(truth.counts)
    place = (matches.picture, matches.query)
    box, giou = box_distances(stored.predictions.boxes[place], truth.boxes[matches.picture, matches.target])
    logits = sample_points(stored.predictions.masks[place].unsqueeze(1), stored.mask_points).squeeze(1)
    mask, dice = mask_distances(logits, truth.matched_masks_at(stored.mask_points, matches))
    present = torch.zeros_like(stored.predictions.logits, dtype=torch.bool)
    present[(*place, truth.labels[matches.picture, matches.target])] = True
    focal = focal_loss(stored.predictions.logits, present, torch.ones_like(present))
    losses = {"loss_ce": focal, "loss_bbox": box, "loss_giou": giou, "loss_mask": mask, "loss_dice": dice}
    for name, value in losses.items():
        assert_close(value.sum().reshape(1) / normaliser, stored.loss[name].reshape(1), rtol=1e-4, atol=2e-5, msg=name)
