"""Where part queries start looking: boxes around masks, repetitions, and the places that look most like a part."""

import torch
from torch.testing import assert_close

from langhops_cli.model.part_anchors import repeated, seen_anchors, slot_anchors
from langhops_cli.model.positions import box_around
from langhops_cli.model.structures import PartQueries

WHOLE = (0.5, 0.5, 1.0, 1.0)


def asked(*rows):
    """Queries of one picture: parent, name, slot of each; the last two columns of padding are not valid."""
    table = torch.tensor([*rows, (0, 0, 0), (0, 0, 0)])
    parent, name, slot = table.T.unsqueeze(1)
    valid = torch.arange(len(table))[None] < len(rows)
    return PartQueries(torch.zeros(1, len(table), 4), parent, name, valid, slot)


def blobs(*places, size=32):
    """A map that is as likely as said in squares of 3 x 3 pixels around (x, y)."""
    drawn = torch.zeros(size, size)
    for x, y, likelihood in places:
        drawn[y - 1 : y + 2, x - 1 : x + 2] = likelihood
    return drawn


def test_box_around_by_hand():
    """A canvas of 8 x 10 cells of which the picture fills the left half and three quarters of the height."""
    masks = torch.zeros(1, 3, 8, 10, dtype=torch.bool)
    masks[0, 0, 2:5, 1:3] = True
    masks[0, 1, 0, 0] = masks[0, 1, 5, 4] = True
    boxes, seen = box_around(masks, torch.tensor([[0.5, 0.75]]))
    assert seen.tolist() == [[True, True, False]]
    assert_close(boxes[0, 0], torch.tensor([0.4, 3.5 / 6, 0.4, 0.5]))
    assert_close(boxes[0, 1], torch.tensor(WHOLE))


def test_repeated_is_said_of_every_slot_of_a_part_that_one_object_is_asked_for_twice():
    queries = asked((0, 0, 0), (0, 1, 0), (0, 1, 1), (1, 1, 0), (1, 2, 0))
    assert repeated(queries).tolist() == [[False, True, True, False, False, False, False]]


def test_slots_start_at_the_likeliest_places_of_their_name_in_their_object():
    likelihood = torch.stack(
        [blobs((4, 4, 0.4), (12, 20, 0.9), (28, 6, 0.6), (20, 28, 0.02)), blobs((15, 15, 0.7))]
    ).unsqueeze(0)
    left = (0.25, 0.5, 0.5, 1.0)
    queries = asked((0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 0, 3), (1, 0, 0), (1, 0, 1), (1, 0, 2), (1, 1, 0))
    frames = torch.tensor([[WHOLE] * 4 + [left] * 4 + [WHOLE] * 2])
    logits, found = seen_anchors(likelihood, queries, frames, torch.ones(1, 2))
    # the faint one is no place to look at, and what lies right of an object is none of its parts
    assert found[0, :8].tolist() == [True, True, True, False, True, True, False, True]
    boxes = logits.sigmoid()[0]
    in_whole = torch.tensor([[12.5, 20.5], [28.5, 6.5], [4.5, 4.5]]) / 32
    assert_close(boxes[:3, :2], in_whole, atol=1e-5, rtol=0)
    in_left = torch.tensor([[12.5, 20.5], [4.5, 4.5]]) / torch.tensor([16.0, 32.0])
    assert_close(boxes[4:6, :2], in_left, atol=1e-5, rtol=0)
    assert_close(boxes[:, 2:], torch.full((10, 2), 0.25))


def test_places_are_shares_of_the_picture_not_of_the_canvas():
    likelihood = blobs((8, 12, 0.9))[None, None]
    logits, found = seen_anchors(likelihood, asked((0, 0, 0)), torch.tensor([[WHOLE] * 3]), torch.tensor([[0.5, 0.75]]))
    assert found[0, 0]
    assert_close(logits.sigmoid()[0, 0, :2], torch.tensor([8.5 / 16, 12.5 / 24]), atol=1e-5, rtol=0)


def test_the_repetitions_of_a_part_start_spread_over_their_object():
    """Of 36 windows each quarter of the width and of the height is given its share, and no two start together."""
    logits = slot_anchors(torch.arange(36)[None])[0]
    centres, sizes = logits.sigmoid().split(2, dim=-1)
    for axis in centres.unbind(-1):
        assert (torch.histc(axis, bins=4, min=0, max=1) - 9).abs().max() <= 1
    apart = torch.cdist(centres, centres) + torch.eye(36)
    assert apart.min() > 0.1  # a grid of 6 x 6 would give 0.17
    assert_close(sizes[1:], torch.full((35, 2), 0.25))
    assert_close(logits[0], torch.zeros(4))
