from __future__ import annotations

import torch
from torch.testing import assert_close

from langhops_cli.model.qformer import LearnedPartQueries, QFormer
from langhops_cli.model.structures import KeptObjects, PartQueries

PARENT = torch.tensor([[0, 0, 2, 2, 2, 0], [1, 1, 1, 2, 0, 0]])
VALID = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0]]).bool()


def queries(embeds=None):
    if embeds is None:
        embeds = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(1))
    return PartQueries(embeds, PARENT, torch.zeros_like(PARENT), VALID)


def qformer():
    torch.manual_seed(0)
    return QFormer(query_dim=16, num_layers=2, num_heads=2, feedforward_dim=32).eval()


OBJECTS = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(2))


def test_an_object_alone_gives_the_same():
    """Against the same decoder run once an object, without any mask."""
    module = qformer()
    refined = module(queries(), objects=OBJECTS)
    for b in range(2):
        for k in range(3):
            own = (PARENT[b] == k) & VALID[b]
            if own.any():
                alone = module.decoder(queries().embeds[b, own][None], OBJECTS[b, k][None, None])[0]
                assert_close(refined[b, own], alone, atol=1e-5, rtol=1e-5)


def test_queries_see_their_object_and_their_siblings_and_nothing_else():
    module = qformer()
    embeds = queries().embeds.clone().requires_grad_()
    objects = OBJECTS.clone().requires_grad_()
    module(queries(embeds), objects=objects)[0, 2, 0].backward()  # a sum over a LayerNorm would not move
    seen = embeds.grad.abs().sum(-1) > 0
    assert seen.tolist() == [[False, False, True, True, True, False], [False] * 6]
    assert (objects.grad.abs().sum(-1) > 0).tolist() == [[False, False, True], [False] * 3]


def test_padding_is_zero_and_changes_nothing():
    module = qformer()
    refined = module(queries(), objects=OBJECTS)
    assert not refined[~VALID].any()
    embeds = torch.where(VALID.unsqueeze(-1), queries().embeds, torch.tensor(1e3))
    assert_close(module(queries(embeds), objects=OBJECTS), refined)


def test_only_padding_keeps_every_parameter_in_the_graph():
    module = qformer().train()
    nothing = PartQueries(torch.randn(1, 1, 16), PARENT[:1, :1], PARENT[:1, :1], torch.zeros(1, 1, dtype=torch.bool))
    module(nothing, objects=OBJECTS[:1]).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in module.parameters())


def test_no_queries():
    none = torch.zeros(2, 0, dtype=torch.long)
    assert qformer()(PartQueries(torch.zeros(2, 0, 16), none, none, none.bool()), objects=OBJECTS).shape == (2, 0, 16)


def test_learned_queries_are_the_same_for_every_object_but_for_the_object():
    torch.manual_seed(0)
    module = LearnedPartQueries(num_queries=4, query_dim=16, hidden_dim=24)
    zeros = torch.zeros(2, 3, dtype=torch.long)
    valid = torch.tensor([[True, True, True], [False, True, False]])
    made = module(KeptObjects(zeros, OBJECTS, zeros, zeros.float(), valid, zeros.float()))
    assert made.parent[0].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert made.parent[1, :4].tolist() == [1] * 4
    assert made.valid[1].tolist() == [True] * 4 + [False] * 8
    assert (made.name == -1).all()
    expected = module.queries.weight + module.object_projection(OBJECTS[1, 1])
    assert_close(made.embeds[1, :4], expected)
    assert_close(made.embeds[0, 4:8], module.queries.weight + module.object_projection(OBJECTS[0, 1]))


def test_learned_queries_learn_through_the_qformer():
    module, refine = LearnedPartQueries(num_queries=4, query_dim=16, hidden_dim=16), qformer()
    zeros = torch.zeros(2, 3, dtype=torch.long)
    objects = OBJECTS.clone().requires_grad_()
    made = module(
        KeptObjects(zeros, objects, zeros, zeros.float(), torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 3, 4))
    )
    refine(made, objects=objects).square().sum().backward()
    assert module.queries.weight.grad.abs().sum() > 0
    assert (objects.grad.abs().sum(-1) > 0).all()


def test_a_fresh_one_leaves_the_parts_of_an_object_apart():
    torch.manual_seed(0)
    refiner = QFormer(query_dim=128, feedforward_dim=512).eval()
    embeds = 0.5 * torch.randn(1, 15, 128) + torch.randn(1, 1, 128)
    parents, names = torch.zeros(1, 15, dtype=torch.long), torch.arange(15)[None]
    refined = refiner(
        PartQueries(embeds, parents, names, torch.ones_like(names, dtype=torch.bool)), objects=embeds[:, :1]
    )

    def between(queries):
        return (queries - queries.mean(1, keepdim=True)).square().sum() / queries.square().sum()

    assert between(refined) > 0.4 * between(embeds)
