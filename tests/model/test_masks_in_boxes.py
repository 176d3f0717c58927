"""Masks that end a little outside their boxes."""

from dataclasses import replace

import torch
from torch.testing import assert_close

from langhops_cli.checkpoint.build import build_model
from langhops_cli.model.configuration import ModelConfig
from langhops_cli.model.query_decoder import MARGIN, OUTSIDE, SLOPE, outside_boxes
from langhops_cli.model.structures import Pictures, VocabularyBatch
from langhops_cli.vocabulary import parse_vocabulary


def test_what_is_taken_off_by_hand():
    """A canvas of 20 x 40 cells whose left half is picture, the box in its middle 10 cells wide and 4 high."""
    taken = outside_boxes(torch.tensor([[[0.5, 0.5, 0.5, 0.2]]]), torch.tensor([[0.5, 1.0]]), (20, 40))[0, 0]
    row, column = taken[9], taken[:, 9]  # their cells are half a cell from the middle of the box
    for cells, half in ((row, 5 * MARGIN), (column, 2 * MARGIN)):
        away = (torch.arange(len(cells)) + 0.5 - 10).abs()
        assert_close(cells, (SLOPE * (away / half - 1)).clamp(0, OUTSIDE))
    assert (row[4:16] == 0).all() and (column[8:12] == 0).all()
    assert taken[0, 0] == taken[-1, -1] == OUTSIDE


def test_a_box_without_size_takes_everything_off_but_breaks_nothing():
    taken = outside_boxes(torch.tensor([[[0.5, 0.5, 0.0, 0.0]]]), torch.ones(1, 2), (8, 8))
    assert (taken == OUTSIDE).all()


@torch.no_grad()
def test_only_masks_of_parts_change_and_only_outside_of_their_boxes():
    config = ModelConfig.preset("mini")
    torch.manual_seed(0)
    model = build_model(config, pretrained=True).eval()
    pictures = Pictures(torch.rand(1, 3, 128, 160) * 255, torch.tensor([[128, 160]]))
    vocabulary = VocabularyBatch.of([parse_vocabulary("dog:head,leg*4,tail")])
    bound = model(pictures, vocabulary)
    model.part_branch.decoder.masks_in_boxes = False
    free = model(pictures, vocabulary)
    assert_close(bound.objects.final.masks, free.objects.final.masks, rtol=0, atol=0)
    assert_close(bound.parts.final.boxes, free.parts.final.boxes, rtol=0, atol=0)
    assert_close(bound.parts.final.logits, free.parts.final.logits, rtol=0, atol=0)
    taken = outside_boxes(free.parts.final.boxes, torch.ones(1, 2), (32, 40))
    assert_close(bound.parts.final.masks, free.parts.final.masks - taken, rtol=0, atol=0)
    assert taken[bound.part_queries.valid].any()
    assert not build_model(
        replace(config, decoder=replace(config.decoder, part_masks_in_boxes=False))
    ).part_branch.decoder.masks_in_boxes
