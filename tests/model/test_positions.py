"""Positions against transformers' and by hand."""

import pytest
import torch
from torch.testing import assert_close
from transformers.models.mask2former.modeling_mask2former import Mask2FormerSinePositionEmbedding

from langhops_cli.model.positions import box_in_frame, box_positions, logit, map_positions, sine_embedding


def test_map_positions_equal_mask2former_where_nothing_is_padding():
    oracle = Mask2FormerSinePositionEmbedding(num_position_features=16, normalize=True)
    expected = oracle((1, 32, 5, 7), "cpu", torch.float32)
    ours = map_positions(torch.ones(1, 5, 7, dtype=torch.bool), 32)
    assert_close(ours.permute(0, 3, 1, 2), expected, atol=1e-5, rtol=0)


def test_map_positions_count_the_picture_and_not_the_canvas():
    valid = torch.zeros(1, 6, 8, dtype=torch.bool)
    valid[:, :4, :5] = True
    alone = map_positions(valid[:, :4, :5], 16)
    assert_close(map_positions(valid, 16)[:, :4, :5], alone)


def test_sine_embedding_by_hand():
    """A quarter of the picture is a quarter of a turn in the first pair, a hundredth of that in the second."""
    first, second = torch.tensor([torch.pi / 2, torch.pi / 200])
    expected = torch.stack([first.sin(), first.cos(), second.sin(), second.cos()])
    assert_close(sine_embedding(torch.tensor([0.25]), 4), expected, atol=1e-6, rtol=0)


def test_boxes_are_embedded_y_first():
    box = torch.tensor([0.1, 0.2, 0.3, 0.4])
    assert_close(box_positions(box, 8), sine_embedding(box[[1, 0, 2, 3]], 4))


@pytest.mark.parametrize(("share", "expected"), [(0.5, 0.0), (0.9, 2.1972246), (0.0, -11.512925), (1.5, 11.512925)])
def test_logit_is_finite_everywhere(share, expected):
    assert_close(logit(torch.tensor(share)), torch.tensor(expected))


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([0.5, 0.5, 1.0, 1.0], [0.4, 0.6, 0.2, 0.4]),  # all of the frame
        ([0.0, 1.0, 0.5, 0.25], [0.3, 0.8, 0.1, 0.1]),  # around its bottom left corner
    ],
)
def test_box_in_frame(box, expected):
    frame = torch.tensor([0.4, 0.6, 0.2, 0.4])
    assert_close(box_in_frame(torch.tensor(box), frame), torch.tensor(expected))
