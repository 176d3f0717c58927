"""The cheapest assignment, and what it must never pick."""

import math
from itertools import permutations

import pytest
import torch
from torch.testing import assert_close

from langhops_cli.model.criterion import box_distances, mask_distances
from langhops_cli.model.matcher import HungarianMatcher, Matches, NonFiniteCost, Truth, class_distance, generalised_iou
from langhops_cli.model.point_sampling import sample_points
from langhops_cli.model.structures import Instances, Predictions

NAMES, SIDE = 5, 8


@pytest.fixture
def random():
    return torch.Generator().manual_seed(0)


def some_boxes(random, *shape):
    return torch.rand(*shape, 4, generator=random) * 0.4 + 0.3


def some_instances(random, count, *, masks=True):
    return Instances(
        labels=torch.randint(0, NAMES, (count,), generator=random),
        boxes=some_boxes(random, count),
        masks=torch.randint(0, 2, (count, 4 * SIDE, 4 * SIDE), generator=random, dtype=torch.uint8) if masks else None,
        negatives=torch.ones(NAMES, dtype=torch.bool),
    )


def some_predictions(random, pictures, queries):
    return Predictions(
        torch.randn(pictures, queries, NAMES, generator=random),
        some_boxes(random, pictures, queries),
        torch.randn(pictures, queries, SIDE, SIDE, generator=random),
    )


def match(outputs, instances, random, **changes) -> Matches:
    pictures, queries = outputs[0].logits.shape[:2]
    settings = {
        "valid": torch.ones(pictures, queries, dtype=torch.bool),
        "points": torch.rand(pictures, 40, 2, generator=random),
        "extent": torch.ones(pictures, 2),
        "names": [f"picture {b}.jpg" for b in range(pictures)],
    }
    return HungarianMatcher().match(outputs, Truth.of(instances, num_names=NAMES), **(settings | changes))


def pairs_of(matches, output, picture):
    here = (matches.output == output) & (matches.picture == picture)
    return sorted(zip(matches.query[here].tolist(), matches.target[here].tolist(), strict=True))


def test_finds_the_cheapest_assignment(random):
    """Against all permutations, for two outputs of a batch whose pictures have 3, 0 and 2 instances."""
    instances = [some_instances(random, count) for count in (3, 0, 2)]
    outputs = [some_predictions(random, 3, 5) for _ in range(2)]
    points = torch.rand(3, 40, 2, generator=random)
    matches = match(outputs, instances, random, points=points)
    costs = HungarianMatcher().costs(
        outputs, Truth.of(instances, num_names=NAMES), points=points, extent=torch.ones(3, 2)
    )
    for o in range(2):
        for b, count in enumerate((3, 0, 2)):
            best = min(
                permutations(range(5), count),
                key=lambda rows: sum(float(costs[o, b, q, t]) for t, q in enumerate(rows)),
            )
            assert pairs_of(matches, o, b) == sorted((q, t) for t, q in enumerate(best))
    assert matches.per_output == (5, 5)
    assert matches.per_picture == (6, 0, 4)


def test_a_cost_is_the_weighted_sum_of_its_terms(random):
    instances, outputs = [some_instances(random, 2)], [some_predictions(random, 1, 3)]
    points = torch.rand(1, 40, 2, generator=random)
    costs = HungarianMatcher(class_cost=1, mask_cost=2, dice_cost=3, box_cost=4, giou_cost=5).costs(
        outputs, Truth.of(instances, num_names=NAMES), points=points, extent=torch.ones(1, 2)
    )
    seen = sample_points(outputs[0].masks, points)[0]
    true = sample_points(instances[0].masks.unsqueeze(0), points)[0]
    for q in range(3):
        for n in range(2):
            entropy, dice = mask_distances(seen[q : q + 1], true[n : n + 1])
            box, giou = box_distances(outputs[0].boxes[0, q], instances[0].boxes[n])
            named = class_distance(outputs[0].logits[0, q, instances[0].labels[n]])
            # The matching cost leaves out the constant 1 of 1 - GIoU.
            expected = named + 2 * entropy[0] + 3 * dice[0] + 4 * box + 5 * (giou - 1)
            assert_close(costs[0, 0, q, n], expected, atol=1e-4, rtol=1e-4)


def test_a_picture_matches_alone_as_in_a_batch(random):
    instances = [some_instances(random, count) for count in (2, 4)]
    outputs = [some_predictions(random, 2, 6)]
    points = torch.rand(2, 40, 2, generator=random)
    together = match(outputs, instances, random, points=points)
    for b in range(2):
        one = [Predictions(*(part[b : b + 1] for part in (item.logits, item.boxes, item.masks))) for item in outputs]
        alone = match(one, instances[b : b + 1], random, points=points[b : b + 1])
        assert pairs_of(alone, 0, 0) == pairs_of(together, 0, b)


def test_forbidden_pairs_are_avoided_and_left_out_when_nothing_else_is_left(random):
    outputs, instances = [some_predictions(random, 1, 3)], [some_instances(random, 2)]
    forbidden = torch.tensor([[[True, True], [False, True], [True, True]]])
    matches = match(outputs, instances, random, forbidden=forbidden)
    assert pairs_of(matches, 0, 0) == [(1, 0)]


def test_as_many_allowed_pairs_as_possible_are_kept(random):
    """Query 0 may take either instance and query 1 only the first: both get one, whatever they cost."""
    instances = [some_instances(random, 2)]
    forbidden = torch.tensor([[[False, False], [False, True]]])
    for _ in range(5):
        matches = match([some_predictions(random, 1, 2)], instances, random, forbidden=forbidden)
        assert pairs_of(matches, 0, 0) == [(0, 1), (1, 0)]


def test_padding_queries_never_match_whatever_they_hold(random):
    outputs = some_predictions(random, 1, 4)
    outputs.logits[0, 1] = torch.nan
    outputs.masks[0, 1] = torch.inf
    valid = torch.tensor([[True, False, True, False]])
    matches = match([outputs], [some_instances(random, 3)], random, valid=valid)
    assert [query for query, _ in pairs_of(matches, 0, 0)] == [0, 2]


def test_no_instance_anywhere_gives_no_pair(random):
    matches = match([some_predictions(random, 2, 3)] * 2, [some_instances(random, 0)] * 2, random)
    assert matches.query.shape == (0,)
    assert matches.per_output == (0, 0)
    assert (matches.instance_of(output=1, like=torch.zeros(2, 3)) == -1).all()


def test_boxes_alone_are_enough(random):
    """Without true masks the masks that were predicted count for nothing."""
    boxes_only = [some_instances(random, 2, masks=False)]
    outputs = some_predictions(random, 1, 4)
    truth, points = Truth.of(boxes_only, num_names=NAMES), torch.rand(1, 9, 2, generator=random)
    costs = [
        HungarianMatcher().costs([item], truth, points=points, extent=torch.ones(1, 2))
        for item in (outputs, Predictions(outputs.logits, outputs.boxes, None))
    ]
    assert_close(*costs)


def test_a_picture_with_boxes_only_may_stand_beside_one_with_masks(random):
    instances = [some_instances(random, 2, masks=False), some_instances(random, 2)]
    outputs = some_predictions(random, 2, 4)
    without = Predictions(outputs.logits, outputs.boxes, None)
    truth, points = Truth.of(instances, num_names=NAMES), torch.rand(2, 9, 2, generator=random)
    full, bare = (
        HungarianMatcher().costs([item], truth, points=points, extent=torch.ones(2, 2)) for item in (outputs, without)
    )
    assert_close(full[:, 0], bare[:, 0])
    assert (full[:, 1] > bare[:, 1]).all()


@pytest.mark.parametrize("part", ["logits", "boxes", "masks"])
def test_a_broken_prediction_names_its_picture(random, part):
    outputs = some_predictions(random, 2, 3)
    getattr(outputs, part)[1, 2] = torch.nan
    with pytest.raises(NonFiniteCost, match=r"picture 1\.jpg"):
        match([outputs], [some_instances(random, 2), some_instances(random, 1)], random)


def test_which_instance_a_query_answers_for(random):
    instances = [some_instances(random, 2), some_instances(random, 1)]
    matches = match([some_predictions(random, 2, 3) for _ in range(2)], instances, random)
    for output in range(2):
        table = matches.instance_of(output=output, like=torch.zeros(2, 3))
        for picture in range(2):
            found = [(q, t) for q, t in enumerate(table[picture].tolist()) if t >= 0]
            assert found == pairs_of(matches, output, picture)


def test_masks_of_pairs_are_read_from_their_own_picture(random):
    """Pictures of different sizes; the pairs come output by output, the masks picture by picture."""
    instances = [some_instances(random, 3), some_instances(random, 2)]
    instances[1] = Instances(
        instances[1].labels, instances[1].boxes, instances[1].masks[:, :20, :12], instances[1].negatives
    )
    matches = match([some_predictions(random, 2, 4) for _ in range(3)], instances, random)
    points = torch.rand(len(matches.query), 7, 2, generator=random)
    values = Truth.of(instances, num_names=NAMES).matched_masks_at(points, matches)
    for pair, (b, t) in enumerate(zip(matches.picture, matches.target, strict=True)):
        expected = sample_points(instances[b].masks[t][None, None], points[pair][None])[0, 0]
        assert_close(values[pair], expected)


@pytest.mark.parametrize(
    ("box", "other", "expected"),
    [
        ([1, 1, 2, 2], [1, 1, 2, 2], 1.0),
        ([1, 1, 2, 2], [2, 2, 2, 2], 1 / 7 - 2 / 9),  # overlap 1, union 7, hull 9
        ([1, 1, 2, 2], [5, 1, 2, 2], -4 / 12),  # no overlap, union 8, hull 12
        ([2, 2, 4, 4], [2, 2, 2, 2], 0.25),  # one inside the other: the hull adds nothing
    ],
)
def test_generalised_iou_by_hand(box, other, expected):
    box, other = torch.tensor(box, dtype=torch.float32), torch.tensor(other, dtype=torch.float32)
    assert float(generalised_iou(box, other)) == pytest.approx(expected, abs=1e-6)
    assert float(generalised_iou(other, box)) == pytest.approx(expected, abs=1e-6)


def test_generalised_iou_of_nothing_is_finite_and_has_a_gradient():
    empty = torch.zeros(4, requires_grad=True)
    value = generalised_iou(empty, torch.zeros(4))
    value.backward()
    assert value.isfinite()
    assert empty.grad.isfinite().all()


@pytest.mark.parametrize("logit", [-3.0, 0.0, 1.5])
def test_class_distance_in_closed_form(logit):
    p = 1 / (1 + math.exp(-logit))
    expected = 0.25 * (1 - p) ** 2 * -math.log(p) - 0.75 * p**2 * -math.log(1 - p)
    assert float(class_distance(torch.tensor(logit))) == pytest.approx(expected, rel=1e-5)
