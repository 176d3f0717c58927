"""Reading maps at points, and choosing the points."""

import math

import pytest
import torch
from torch.nn.functional import grid_sample
from torch.testing import assert_close

from langhops_cli.model.point_sampling import num_points, sample_points, uncertain_points


@pytest.fixture
def random():
    return torch.Generator().manual_seed(0)


def read_slowly(grid: torch.Tensor, x: float, y: float, filled_x: float, filled_y: float) -> float:
    """One point of one map, corner by corner, as the definition says."""
    height, width = grid.shape
    column, row = x * filled_x * width - 0.5, y * filled_y * height - 0.5
    total = 0.0
    for j in (math.floor(row), math.floor(row) + 1):
        for i in (math.floor(column), math.floor(column) + 1):
            inside = 0 <= j < math.ceil(filled_y * height) and 0 <= i < math.ceil(filled_x * width)
            if inside:
                total += float(grid[j, i]) * (1 - abs(column - i)) * (1 - abs(row - j))
    return total


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_agrees_with_a_loop(random, dtype):
    maps = (torch.rand(2, 3, 5, 7, generator=random) * 9).to(dtype)
    points = torch.rand(2, 11, 2, generator=random)
    extent = torch.tensor([[1.0, 1.0], [0.6, 0.75]])
    values = sample_points(maps, points, extent=extent)
    for n in range(2):
        for c in range(3):
            for p in range(11):
                expected = read_slowly(maps[n, c], *points[n, p].tolist(), *extent[n].tolist())
                assert float(values[n, c, p]) == pytest.approx(expected, abs=1e-4)


def test_agrees_with_grid_sample_and_its_gradient(random):
    maps = torch.randn(2, 3, 6, 4, generator=random, requires_grad=True)
    points = torch.rand(2, 50, 2, generator=random)
    weight = torch.randn(2, 3, 50, generator=random)
    ours = sample_points(maps, points)
    theirs = grid_sample(maps, (points * 2 - 1).unsqueeze(2), align_corners=False).squeeze(3)
    assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad((values * weight).sum(), maps)[0] for values in (ours, theirs)]
    assert_close(*gradients, atol=1e-5, rtol=1e-5)


def test_the_outside_reads_as_zero():
    """At the corner of a map of ones three of the four neighbours lie outside."""
    assert float(sample_points(torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 2))) == 0.25


def test_padding_is_never_read(random):
    """A picture of 3 x 5 cells reads the same on a larger canvas, whatever the padding holds."""
    alone = torch.randn(1, 2, 3, 5, generator=random)
    padded = torch.full((1, 2, 8, 12), 1e6)
    padded[:, :, :3, :5] = alone
    points = torch.rand(1, 100, 2, generator=random)
    values = sample_points(padded, points, extent=torch.tensor([[5 / 12, 3 / 8]]))
    assert_close(values, sample_points(alone, points), atol=1e-4, rtol=1e-4)


def test_a_cell_that_the_picture_fills_in_part_is_read():
    """18 pixels are four and a half cells of stride 4: the fifth cell counts, the sixth does not."""
    row = torch.tensor([0.0, 0, 0, 0, 1, 100]).expand(1, 1, 1, 6)
    value = sample_points(row, torch.tensor([[[1.0, 0.5]]]), extent=torch.tensor([[18 / 24, 1.0]]))
    assert float(value) == 1.0


def test_rows_choose_the_map(random):
    maps = torch.randint(0, 2, (4, 1, 5, 5), generator=random, dtype=torch.uint8)
    rows = torch.tensor([2, 2, 0])
    points = torch.rand(3, 9, 2, generator=random)
    assert_close(sample_points(maps, points, rows=rows), sample_points(maps[rows], points))
    with pytest.raises(ValueError, match="one channel, not 3"):
        sample_points(torch.zeros(4, 3, 5, 5), points, rows=rows)


def test_no_rows_give_no_points_and_keep_the_graph():
    maps = torch.randn(0, 1, 5, 5, requires_grad=True)
    points = uncertain_points(maps, 8)
    values = sample_points(maps, points)
    assert points.shape == (0, 8, 2)
    assert values.shape == (0, 1, 8)
    assert values.sum().requires_grad


def test_points_gather_where_the_mask_is_unsure(random):
    """Logits are near 0 in the left quarter only, which uniform points would hit one time in four."""
    logits = torch.full((2, 1, 16, 16), 10.0)
    logits[..., :4] = 0.01
    points = uncertain_points(logits, 400, generator=random)
    share = (points[..., 0] < 0.25).float().mean(1)
    # A quarter of three candidates a point lies there, which is just what is taken; so do some of the uniform ones.
    assert (share > 0.7).all()
    assert (points >= 0).all()
    assert (points <= 1).all()
    everywhere = uncertain_points(logits, 400, important=0.0, generator=random)
    assert (((everywhere[..., 0] < 0.25).float().mean(1) - 0.25).abs() < 0.1).all()


def test_points_look_only_at_the_picture(random):
    """Doubt in the padding draws no points, and points are counted in shares of the picture."""
    logits = torch.full((1, 1, 8, 16), 10.0)
    logits[..., 8:] = 0.0
    logits[..., :4] = 0.01
    points = uncertain_points(logits, 200, extent=torch.tensor([[0.5, 1.0]]), generator=random)
    assert (points[..., 0] < 0.6).float().mean() > 0.75


@pytest.mark.parametrize(("side", "expected"), [(1024, 12544), (320, 1225), (16, 64)])
def test_the_number_of_points_follows_the_canvas(side, expected):
    assert num_points(side, side) == expected
