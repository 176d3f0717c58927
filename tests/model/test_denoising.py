"""Noised queries: what they are made of, and who sees them."""

import pytest
import torch
from torch.testing import assert_close

from langhops_cli.model.denoising import DenoisingQueries, attention_mask
from langhops_cli.model.structures import Instances, Names, Targets

DIM, NAMES = 6, 4


def some_targets(*counts):
    generator = torch.Generator().manual_seed(0)
    none = Instances(torch.zeros(0, dtype=torch.long), torch.zeros(0, 4), None, torch.ones(0, dtype=torch.bool))
    return [
        Targets(
            Instances(
                labels=torch.randint(0, NAMES, (count,), generator=generator),
                boxes=torch.rand(count, 4, generator=generator) * 0.2 + 0.4,
                masks=None,
                negatives=torch.ones(NAMES, dtype=torch.bool),
            ),
            none,
        )
        for count in counts
    ]


def some_names(pictures, *, names=NAMES, real=NAMES):
    embeddings = torch.randn(pictures, names, DIM, generator=torch.Generator().manual_seed(1))
    return Names(embeddings, torch.arange(names).expand(pictures, -1) < real)


def make(targets, names=None, *, seed=0, **settings):
    torch.manual_seed(0)
    module = DenoisingQueries(query_dim=DIM, **({"num_queries": 8} | settings))
    noised = module(
        [item.objects for item in targets],
        names or some_names(len(targets)),
        generator=torch.Generator().manual_seed(seed),
    )
    return module, noised


def test_without_noise_each_query_is_its_instance():
    targets, names = some_targets(2, 3), some_names(2)
    module, noised = make(targets, names, label_flip=0.0, box_jitter=0.0)
    assert noised.content.shape == (2, 6, DIM)  # two groups of three fit into eight
    assert noised.target.tolist() == [[0, 1, 0, 0, 1, 0], [0, 1, 2, 0, 1, 2]]
    assert noised.valid.tolist() == [[True, True, False] * 2, [True] * 6]
    for b, i in noised.valid.nonzero().tolist():
        instance = noised.target[b, i]
        label = targets[b].objects.labels[instance]
        assert_close(noised.content[b, i], module.projection(names.embeddings[b, label]))
        assert_close(noised.reference[b, i].sigmoid(), targets[b].objects.boxes[instance])


def test_labels_flip_as_often_as_asked_and_only_to_real_names():
    targets, names = some_targets(1), some_names(1, real=3)
    names.embeddings[:, 3:] = torch.nan
    targets[0].objects.labels[:] = 0
    module, noised = make(targets, names, num_queries=3000, label_flip=0.3)
    assert noised.content.isfinite().all()
    own = module.projection(names.embeddings[0, 0])
    changed = ~torch.isclose(noised.content[0], own).all(-1)
    assert float(changed.float().mean()) == pytest.approx(0.3 * 2 / 3, abs=0.03)  # one in three draws its own name


def test_boxes_stay_within_the_jitter():
    targets = some_targets(1)
    w, h = targets[0].objects.boxes[0, 2:].tolist()
    _, noised = make(targets, num_queries=500, box_jitter=0.4)
    offset = (noised.reference[0].sigmoid() - targets[0].objects.boxes[0]).abs().amax(0)
    reach = torch.tensor([0.2 * w, 0.2 * h, 0.4 * w, 0.4 * h])
    assert (offset <= reach + 1e-5).all()
    assert (offset > 0.9 * reach).all()


def test_more_instances_than_queries_are_drawn_from():
    _, noised = make(some_targets(20, 1), num_queries=8)
    assert noised.content.shape[:2] == (2, 8)
    assert len(set(noised.target[0].tolist())) == 8
    assert noised.valid[1].sum() == 1


@pytest.mark.parametrize("names", [NAMES, 0])
def test_without_instances_the_projection_stays_in_the_graph(names):
    module, noised = make(some_targets(0, 0), some_names(2, names=names))
    assert noised.content.shape == (2, 8, DIM)
    assert not noised.valid.any()
    assert noised.reference.isfinite().all()
    noised.content.sum().backward()
    assert module.projection.weight.grad is not None


def test_boxes_at_the_border_have_finite_references():
    targets = some_targets(1)
    targets[0].objects.boxes[0] = torch.tensor([0.0, 1.0, 0.0, 1.0])
    _, noised = make(targets)
    assert noised.reference.isfinite().all()


def test_the_same_seed_gives_the_same_noise():
    first, second, other = (make(some_targets(2, 3), seed=seed)[1] for seed in (0, 0, 1))
    assert_close(first.reference, second.reference)
    assert not torch.equal(first.reference, other.reference)


def test_attention_by_hand():
    """Two groups of two, the second instance missing, and two object queries."""
    mask = attention_mask(torch.tensor([[True, False, True, False]]), groups=2, num_matched=2)
    hidden = [
        [0, 1, 1, 1, 0, 0],  # group one: sees its own, not the missing one, and the object queries
        [0, 1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 1, 1, 1, 0, 0],  # an object query sees no noised one
        [1, 1, 1, 1, 0, 0],
    ]
    assert mask.int().tolist() == [hidden]


def test_every_query_sees_something():
    _, noised = make(some_targets(0, 3))
    hidden = attention_mask(noised.valid, groups=noised.groups, num_matched=3)
    assert hidden.shape == (2, 9, 9)
    assert not hidden.all(-1).any()
