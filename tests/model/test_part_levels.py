"""Parts of parts: which parts become hosts, what is asked of them, and that nothing else moves."""

from dataclasses import fields

import pytest
import torch
from torch.testing import assert_close

from langhops_cli.checkpoint.build import build_model
from langhops_cli.model.configuration import ModelConfig
from langhops_cli.model.part_levels import PartLevel, join_levels, keep_parts, parts_of_parts
from langhops_cli.model.structures import (
    ANY_PART,
    DecoderOutput,
    KeptObjects,
    PartQueries,
    Pictures,
    Predictions,
    VocabularyBatch,
)
from langhops_cli.vocabulary import parse_vocabulary

CONFIG = ModelConfig.preset("mini")
DEEP = parse_vocabulary("dog:head(ear*2(tip),nose),tail;cat:head(ear)")
FLAT = parse_vocabulary("car:wheel*4,door;person")
NAMES = [part.text for part in DEEP.part_classes]


@pytest.fixture(scope="module")
def mini():
    torch.manual_seed(0)
    model = build_model(CONFIG, pretrained=True)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    return model.eval()


def pictures(*sizes):
    pixels = torch.zeros(len(sizes), 3, 128, 192)
    for number, (height, width) in enumerate(sizes):
        generator = torch.Generator().manual_seed(number)
        coarse = torch.rand(1, 3, 8, 8, generator=generator) * 255
        pixels[number, :, :height, :width] = torch.nn.functional.interpolate(coarse, size=(height, width))[0]
    return Pictures(pixels, torch.tensor(sizes))


def asked(table, rows, row):
    """(name, slot) pairs of a row of a table."""
    valid = table.child_valid[0, row]
    pairs = zip(table.children[0, row][valid].tolist(), table.child_slot[0, row][valid].tolist(), strict=True)
    return [(rows[name], slot) for name, slot in pairs]


def test_a_table_by_level_asks_objects_for_all_parts_and_then_parts_for_theirs():
    table = VocabularyBatch.of([DEEP], by_level=True)
    assert table.levels == 3
    ears = [("dog ear", 0), ("dog ear", 1)]
    assert asked(table, NAMES, 0) == [("dog head", 0), *ears, ("dog tip", 0), ("dog nose", 0), ("dog tail", 0)]
    assert asked(table, NAMES, 1) == [("cat head", 0), ("cat ear", 0)]
    below = {name: asked(table.deeper, NAMES, row) for row, name in enumerate(NAMES)}
    assert below == {
        "dog head": [*ears, ("dog nose", 0)],
        "dog ear": [("dog tip", 0)],
        "dog tip": [],
        "dog nose": [],
        "dog tail": [],
        "cat head": [("cat ear", 0)],
        "cat ear": [],
    }
    assert asked(VocabularyBatch.of([DEEP], by_level=True, queries_per_part=2).deeper, NAMES, 1) == [
        ("dog tip", 0), ("dog tip", 1)
    ]  # fmt: skip


def test_two_levels_make_the_same_table_either_way():
    flat, by_level = (VocabularyBatch.of([FLAT], by_level=way) for way in (False, True))
    assert by_level.deeper is None and by_level.levels == 1
    for item in fields(flat):
        one, other = getattr(flat, item.name), getattr(by_level, item.name)
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_parts_of_parts_are_told_from_parts():
    table = VocabularyBatch.of([DEEP, FLAT], by_level=True)
    below = [part.parent is not None for part in DEEP.part_classes]
    assert parts_of_parts(table.deeper).tolist() == [below, [False] * len(below)]


def test_a_table_moves_with_what_is_below_it():
    assert VocabularyBatch.of([DEEP], by_level=True).to("meta").deeper.children.is_meta


@torch.no_grad()
def test_every_part_of_a_part_is_asked_for_in_a_part_of_that_name(mini):
    output = mini(pictures((128, 192)), VocabularyBatch.of([DEEP], by_level=True))
    queries = output.part_queries
    valid = queries.valid[0]
    seen = set()
    for index in torch.nonzero(valid).flatten().tolist():
        part = DEEP.part_classes[queries.name[0, index]]
        host = int(queries.host[0, index])
        root = int(queries.parent[0, index])
        assert int(output.kept.classes[0, root]) == part.object
        if host >= 0:
            assert host < index and valid[host]
            assert int(queries.name[0, host]) == part.parent
            assert int(queries.parent[0, host]) == root
            # the first run asks for ears too, but it is the ears of heads whose tips are looked for
            assert (queries.host[0, host] >= 0) == (part.text == "dog tip")
            seen.add(part.text)
    assert {"dog ear", "dog tip", "dog nose"} <= seen or seen == {"cat ear"}
    parts = output.parts
    assert parts.valid.shape == valid[None].shape and parts.final.masks.shape[1] == len(valid)
    assert torch.equal(parts.valid, queries.valid)
    assert parts.final.boxes.isfinite().all() and parts.final.masks.isfinite().all()


@torch.no_grad()
def test_looking_deeper_leaves_the_first_look_as_it_was(mini):
    deep, flat = (mini(pictures((128, 192)), VocabularyBatch.of([DEEP], by_level=way)) for way in (True, False))
    count = flat.part_queries.valid.shape[1]
    assert deep.part_queries.valid.shape[1] > count and flat.part_queries.host is None
    assert torch.equal(deep.parts.final.masks[:, :count], flat.parts.final.masks)
    assert torch.equal(deep.parts.final.logits[:, :count], flat.parts.final.logits)
    assert torch.equal(deep.part_queries.parent[:, :count], flat.part_queries.parent)
    assert (deep.part_queries.host[:, :count] == -1).all()


@torch.no_grad()
def test_pictures_with_and_without_deeper_parts_share_a_batch(mini):
    both = VocabularyBatch.of([FLAT, DEEP], by_level=True)
    together = mini(pictures((128, 192), (96, 100)), both)
    canvas = pictures((128, 192), (96, 100))
    alone = mini(Pictures(canvas.pixels[1:], canvas.sizes[1:]), VocabularyBatch.of([DEEP], by_level=True))
    host, valid = together.part_queries.host, together.part_queries.valid
    assert not (valid[0] & (host[0] >= 0)).any()
    ours, theirs = (output.part_queries.valid[place] for output, place in ((together, 1), (alone, 0)))
    assert torch.equal(together.part_queries.name[1][ours], alone.part_queries.name[0][theirs])
    assert_close(together.parts.final.boxes[1][ours], alone.parts.final.boxes[0][theirs], atol=1e-4, rtol=0)
    deeper = alone.part_queries.host[0][theirs] >= 0
    assert deeper.any()
    # hosts are numbered among all queries, padding too: their names must still be the same
    name_of = [
        output.part_queries.name[place][output.part_queries.host[place][real][deeper]]
        for output, place, real in ((together, 1, ours), (alone, 0, theirs))
    ]
    assert torch.equal(*name_of)


@torch.no_grad()
def test_a_part_of_a_part_starts_inside_that_part(mini):
    frames = []
    hook = mini.part_branch.decoder.register_forward_pre_hook(
        lambda _module, _args, options: frames.append(options["frames"]), with_kwargs=True
    )
    try:
        output = mini(pictures((128, 192)), VocabularyBatch.of([DEEP], by_level=True))
    finally:
        hook.remove()
    queries = output.part_queries
    frames = torch.cat(frames, dim=1)
    deeper = queries.valid & (queries.host >= 0)
    hosts = output.parts.final.boxes[0][queries.host[deeper]]
    assert len(hosts)
    assert_close(frames[deeper], hosts, atol=0, rtol=0)


@torch.no_grad()
def test_parts_can_be_left_out(mini):
    table = VocabularyBatch.of([DEEP], by_level=True)
    whole, objects = (mini(pictures((128, 192)), table, objects_only=only) for only in (False, True))
    assert objects.part_queries is None and objects.parts is None
    assert torch.equal(whole.objects.final.masks, objects.objects.final.masks)


def one_level(hosts, queries, *, parts=None, names=4):
    """A level of one picture: host logits; (parent, name, likelihood logit, valid) of each query."""
    parent, name, score, valid = (torch.tensor([column]) for column in zip(*queries, strict=True))
    count = len(queries)
    logits = torch.full((1, count, names), -9.0)
    logits.scatter_(2, name.clamp(min=0).unsqueeze(-1), score.unsqueeze(-1))
    numbers = torch.arange(count, dtype=torch.float32).reshape(1, count, 1)
    kept = KeptObjects(
        torch.zeros(1, len(hosts), dtype=torch.long) if parts is None else torch.tensor([parts]),
        torch.zeros(1, len(hosts), 2),
        torch.zeros(1, len(hosts), dtype=torch.long),
        torch.tensor([hosts]),
        torch.ones(1, len(hosts), dtype=torch.bool),
        torch.zeros(1, len(hosts), 4),
    )
    answer = Predictions(logits, numbers.expand(-1, -1, 4), numbers.unsqueeze(-1).expand(-1, -1, 2, 2))
    asked = PartQueries(numbers.expand(-1, -1, 2), parent, name, valid, torch.zeros_like(parent))
    return PartLevel(kept, asked, DecoderOutput(numbers.expand(-1, -1, 2), valid, answer))


def test_hosts_are_the_likeliest_parts_with_parts_by_hand():
    """Likelihoods 0.73 x sqrt(0.88), 0.95 x sqrt(0.12) and 0.5 x sqrt(0.88): 0.69, 0.33, 0.47."""
    level = one_level(
        [2.0, -2.0],
        [
            (0, 0, 1.0, True),
            (1, 0, 3.0, True),  # surer, but of an object that is hardly there
            (0, 1, 9.0, True),  # has no parts
            (0, 2, 9.0, False),  # padding
            (0, 2, 0.0, True),
            (0, ANY_PART, 9.0, True),  # was made for no name
        ],
    )
    kept = keep_parts(level, torch.tensor([[True, False, True, False]]), 10)
    assert kept.valid.tolist() == [[True] * 3 + [False] * 3]
    assert kept.index[0, :3].tolist() == [0, 4, 1]
    assert kept.classes[0, :3].tolist() == [0, 2, 0]
    assert kept.scores[0, :3].tolist() == [1.0, 0.0, 3.0]
    assert kept.queries[0, :3, 0].tolist() == kept.boxes[0, :3, 0].tolist() == [0.0, 4.0, 1.0]
    assert keep_parts(level, torch.tensor([[True, False, True, False]]), 2).index.tolist() == [[0, 4]]


def test_levels_are_joined_by_hand():
    first = one_level([2.0, 1.0], [(0, 0, 1.0, True), (1, 0, 1.0, True), (1, 1, 1.0, True)])
    second = one_level([1.0, 1.0], [(0, 2, 1.0, True), (1, 2, 1.0, True)], parts=[2, 0])
    third = one_level([1.0], [(0, 3, 1.0, True)], parts=[1])
    queries, parts = join_levels([first, second, third])
    # second level: its hosts are queries 2 and 0; third level: its host is query 1 of the second, number 4 of all
    assert queries.host.tolist() == [[-1, -1, -1, 2, 0, 4]]
    assert queries.parent.tolist() == [[0, 1, 1, 1, 0, 0]]
    assert queries.name.tolist() == [[0, 0, 1, 2, 2, 3]]
    assert parts.final.boxes[0, :, 0].tolist() == parts.queries[0, :, 0].tolist() == [0, 1, 2, 0, 1, 0]
    assert queries.slot.shape == queries.valid.shape == parts.valid.shape == (1, 6)
    alone, _ = join_levels([first])
    assert alone is first.queries
