"""Which part query may answer for which part, and what that does to the losses."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from langhops_cli.model.criterion import Criterion
from langhops_cli.model.matcher import NonFiniteCost, Truth

from .criterion_cases import ASKED, PARTS, QUERIES, focal, score, some_instances, some_output, some_targets


@pytest.fixture
def random():
    return torch.Generator().manual_seed(0)


def forbidden(output, matched, parts, **settings):
    truth = Truth.of([parts], num_names=PARTS)
    return Criterion(**settings).forbidden(output.part_queries, output.kept, torch.tensor([matched]), truth)[0]


def test_a_part_query_answers_only_for_its_own_object_and_name(random):
    """Object query 2 (kept first) is matched to instance 1, query 4 (kept third) to instance 0, query 0 to none."""
    output = some_output(random, 1)
    parts = some_instances(random, 3, PARTS, parents=torch.tensor([1, 0, -1]))
    parts.labels[:] = torch.tensor([1, 2, 0])
    matched = [-1, -1, 1, -1, 0]
    by_parent = torch.tensor([[1, 0, 1], [1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 1, 1], [0, 1, 1]], dtype=torch.bool)
    by_name = torch.tensor([[0, 0, 1], [1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=torch.bool)
    assert_close(forbidden(output, matched, parts, tied=False), ~by_parent)
    assert_close(forbidden(output, matched, parts, parent_aware=False), ~by_name)
    assert_close(forbidden(output, matched, parts), ~(by_parent & by_name))
    assert not forbidden(output, matched, parts, parent_aware=False, tied=False).any()


def test_a_query_without_name_or_parent_is_free(random):
    output = some_output(random, 1)
    queries = replace(output.part_queries, name=torch.full((1, ASKED), -1), parent=torch.full((1, ASKED), -1))
    parts = some_instances(random, 3, PARTS, parents=torch.tensor([1, 0, -1]))
    assert not forbidden(replace(output, part_queries=queries), [-1] * QUERIES, parts).any()


def test_parts_follow_the_final_matching_of_their_objects(random):
    """At the end query 2 is the object, before it was query 0: only the part queries of query 2 learn a box."""
    output, target = some_output(random, 1), some_targets(random, 1, 2)
    decoder = output.objects
    for item, best in ((decoder.final, 2), (decoder.auxiliary[0], 0), (decoder.auxiliary[1], 0)):
        item.logits.data[:] = item.masks.data[:] = 0
        item.boxes.data[:] = 0.01
        item.boxes.data[0, best] = target.objects.boxes[0]
    score(output, [target], tied=False)["total"].backward()
    for item in (output.parts.final, *output.parts.auxiliary, output.parts.proposals):
        assert (item.boxes.grad[0] != 0).any(-1).tolist() == [True, True, False, False, False, False]


def test_parts_are_divided_by_the_number_of_parts(random):
    """No query asks for the name of the three parts, so that all are told what they are not."""
    output, target = some_output(random, 1), some_targets(random, 1, 3)
    target.parts.labels[:] = 3
    output.part_queries.name.data = torch.zeros(1, ASKED, dtype=torch.long)
    losses = score(output, [target])
    expected = sum(focal(logit, False) for logit in output.parts.final.logits.flatten().tolist())
    assert losses["parts/final/class"].item() == pytest.approx(4 * expected / 3, rel=1e-5)
    assert losses["parts/final/box"].item() == 0


@pytest.mark.parametrize("level", ["objects", "parts"])
def test_a_broken_prediction_names_its_picture(random, level):
    output = some_output(random)
    getattr(output, level).auxiliary[0].boxes.data[1] = torch.inf
    settings = {"tied": False, "parent_aware": False}
    with pytest.raises(NonFiniteCost, match=r"dog\.jpg"):
        score(output, [some_targets(random), some_targets(random, name="dog.jpg")], **settings)
