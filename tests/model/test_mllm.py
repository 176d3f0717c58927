from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from langhops_cli.checkpoint.base_models import build_random
from langhops_cli.model.lora import add_lora
from langhops_cli.model.mllm import LanguageRefiner, PaliGemmaImageTower, read_grid
from langhops_cli.model.structures import PartQueries
from tests.model.language_models import families

FAMILIES = families(2)
BEFORE, AFTER, START, END = [1, 2, 3], [4, 5], [[6]], [[7]]
GRID = 2
PREFIX = len(BEFORE) + GRID**2 + len(AFTER)
NUM_OBJECTS = 4
PARENT = torch.tensor([[0, 0, 1, 3, 3, 3, 0], [2, 2, 2, 2, 0, 0, 0]])
VALID = torch.tensor([[1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0, 0]]).bool()

family = pytest.mark.parametrize("family", [*FAMILIES, "gemma softcap"])


def refiner(family="bert", **changes):
    torch.manual_seed(0)
    name, _, softcap = family.partition(" ")
    language_model = build_random(FAMILIES[name])
    for parameter in language_model.parameters():
        nn.init.normal_(parameter, std=0.2)  # far from the start, where attention hardly matters
    add_lora(language_model, rank=2, alpha=4, dropout=0.5)
    for name, parameter in language_model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)  # zero at the start
    arguments = {
        "language_model": language_model,
        "hidden_dim": 32,
        "query_dim": 8,
        "before_ids": BEFORE,
        "after_ids": AFTER,
        "start_ids": START,
        "end_ids": END,
        "image_grid": GRID,
        "softcap": 1.0 if softcap else None,
    }
    return LanguageRefiner(**{**arguments, **changes}).eval()


def batch():
    generator = torch.Generator().manual_seed(1)
    embeds = torch.randn(2, 7, 32, generator=generator)
    valid = torch.zeros(2, 3, 4, dtype=torch.bool)
    valid[0, :2, :3] = True
    valid[1] = True
    image = {
        "image_map": torch.randn(2, 8, 3, 4, generator=generator),
        "image_valid": valid,
        "extent": torch.tensor([[0.7, 0.6], [1.0, 1.0]]),
    }
    return PartQueries(embeds, PARENT, torch.zeros_like(PARENT), VALID), image


def recorded(module):
    """What the language model is given, call by call."""
    calls = []
    module.language_model.register_forward_pre_hook(lambda _m, _a, kwargs: calls.append(kwargs), with_kwargs=True)
    return calls


@family
def test_all_positions_attend_to_all_but_padding(family):
    """The last real token moves position 0; what stands in the padding moves nothing."""
    module = refiner(family)
    calls = recorded(module)
    queries, image = batch()
    module(queries, num_objects=NUM_OBJECTS, **image)
    given = dict(calls[0])
    length = PREFIX + 4 + 2
    embeds = given.pop("inputs_embeds").detach()

    def run(changed):
        states = module.language_model(inputs_embeds=changed, **given).last_hidden_state
        assert states.isfinite().all()
        return states[1]

    before = run(embeds)
    last, padding = embeds.clone(), embeds.clone()
    last[1, length - 1] += torch.randn(32) * 3.0
    padding[1, length:] += torch.randn(32) * 100.0
    assert (run(last)[0] - before[0]).abs().max() > 1e-4
    assert_close(run(padding)[:length], before[:length], atol=1e-6, rtol=0)


@family
def test_the_sequence_of_a_picture(family):
    """Text, image, instruction, then the queries of each object that has some, between delimiters."""
    module = refiner(family)
    calls = recorded(module)
    queries, image = batch()
    module(queries, num_objects=NUM_OBJECTS, **image)
    words = module.language_model.get_input_embeddings()
    pictures = module.image_projector(read_grid(image["image_map"], image["image_valid"], image["extent"], side=GRID))
    for b, segments in enumerate([[[0, 1], [2], [3, 4, 5]], [[0, 1, 2, 3]]]):
        expected = [words(torch.tensor(BEFORE)), pictures[b], words(torch.tensor(AFTER))]
        for segment in segments:
            expected += [words(torch.tensor([6])), queries.embeds[b, segment], words(torch.tensor([7]))]
        expected = torch.cat(expected)
        sequence = calls[0]["inputs_embeds"][b]
        assert sequence.shape[0] == PREFIX + 7 + 2 * NUM_OBJECTS
        assert_close(sequence[: len(expected)], expected)
        assert not sequence[len(expected) :].any()
        assert calls[0]["position_ids"][b, : len(expected)].tolist() == list(range(len(expected)))


def test_queries_in_any_order():
    module = refiner()
    queries, image = batch()
    refined = module(queries, num_objects=NUM_OBJECTS, **image)
    order = torch.tensor([6, 3, 0, 4, 2, 1, 5])  # the order within an object is kept
    shuffled = PartQueries(queries.embeds[:, order], PARENT[:, order], PARENT[:, order], VALID[:, order])
    ours = module(shuffled, num_objects=NUM_OBJECTS, **image)
    assert_close(ours[0], refined[0, order], atol=1e-5, rtol=1e-5)


def test_delimiters_of_several_tokens_and_of_each_rank():
    module = refiner(start_ids=[[8, 9], [10], []], end_ids=[[], [], [], [11, 12]])
    calls = recorded(module)
    queries, image = batch()
    module(queries, num_objects=NUM_OBJECTS, **image)
    word = lambda *ids: module.language_model.get_input_embeddings()(torch.tensor(ids))  # noqa: E731
    embeds = queries.embeds[0]
    expected = torch.cat([word(8, 9), embeds[0:2], word(10), embeds[2:3], embeds[3:6], word(11, 12)])
    assert_close(calls[0]["inputs_embeds"][0, PREFIX : PREFIX + len(expected)], expected)


@family
def test_a_picture_alone_or_in_a_padded_batch(family):
    module = refiner(family)
    queries, image = batch()
    together = module(queries, num_objects=NUM_OBJECTS, **image)
    assert not together[~VALID].any()
    alone = PartQueries(queries.embeds[1:, :4], PARENT[1:, :4], PARENT[1:, :4], VALID[1:, :4])
    ours = module(alone, num_objects=3, **{name: value[1:] for name, value in image.items()})
    assert_close(ours[0], together[1, :4], atol=1e-5, rtol=1e-5)
    small = {
        "image_map": image["image_map"][:1, :, :2, :3],
        "image_valid": image["image_valid"][:1, :2, :3],
        "extent": image["extent"][:1] * torch.tensor([4 / 3, 3 / 2]),
    }
    first = PartQueries(queries.embeds[:1], PARENT[:1], PARENT[:1], VALID[:1])
    assert_close(module(first, num_objects=NUM_OBJECTS, **small)[0], together[0], atol=1e-5, rtol=1e-5)


def test_every_query_sees_every_object_and_the_picture():
    module = refiner()
    queries, image = batch()
    embeds = queries.embeds.clone().requires_grad_()
    image["image_map"].requires_grad_()
    refined = module(PartQueries(embeds, PARENT, PARENT, VALID), num_objects=NUM_OBJECTS, **image)
    refined[0, 0].sum().backward()
    assert ((embeds.grad.abs().sum(-1) > 0) == (VALID & torch.tensor([[True], [False]]))).all()
    read = image["image_map"].grad.abs().sum(1) > 0
    assert read[0].any()
    assert not read[~image["image_valid"]].any()


@family
def test_only_corrections_and_projections_train(family):
    module = refiner(family).train()
    queries, image = batch()
    module(queries, num_objects=NUM_OBJECTS, **image).square().sum().backward()
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[0] for name in trained if "lora_" not in name} == {"image_projector", "output"}
    assert sum("lora_" in name for name in trained) == 2 * 2 * 2
    for name, parameter in module.named_parameters():
        assert (parameter.grad is not None and parameter.grad.any().item()) == (name in trained), name


def test_nothing_to_refine_keeps_every_parameter_in_the_graph():
    module = refiner().train()
    queries, image = batch()
    nothing = PartQueries(queries.embeds[:, :1], PARENT[:, :1], PARENT[:, :1], torch.zeros(2, 1, dtype=torch.bool))
    refined = module(nothing, num_objects=NUM_OBJECTS, **image)
    assert not refined.any()
    refined.sum().backward()
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert not parameter.grad.any(), name
    none = PartQueries(queries.embeds[:, :0], PARENT[:, :0], PARENT[:, :0], VALID[:, :0])
    assert module(none, num_objects=0).shape == (2, 0, 8)


def test_in_training_only_the_corrections_drop_out():
    module = refiner()
    queries, image = batch()
    quiet = module(queries, num_objects=NUM_OBJECTS, **image)
    module.train()
    assert not torch.allclose(module(queries, num_objects=NUM_OBJECTS, **image), quiet, atol=1e-4)
    for name, parameter in module.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()
    first, second = (module(queries, num_objects=NUM_OBJECTS, **image) for _ in range(2))
    assert_close(first, second)


@pytest.mark.parametrize("family", ["bert", "llama", "gemma"])
def test_activation_checkpointing_changes_no_gradient(family):
    def gradients(checkpointing):
        module = refiner(family).train()
        for name, child in module.named_modules():
            if name.endswith("lora_dropout.default"):
                child.p = 0.0
        if checkpointing:
            module.language_model.gradient_checkpointing_enable({"use_reentrant": False})
            module.train()
        runs = []
        inside = [child for name, child in module.named_modules() if name.endswith("lora_A.default")]
        inside[-1].register_forward_pre_hook(lambda *_: runs.append(1))
        queries, image = batch()
        module(queries, num_objects=NUM_OBJECTS, **image).square().sum().backward()
        return len(runs), [p.grad for p in module.parameters() if p.grad is not None]

    plain_runs, plain = gradients(False)
    runs, ours = gradients(True)
    assert (plain_runs, runs) == (1, 2)
    for a, b in zip(plain, ours, strict=True):
        assert_close(a, b)


def test_too_long_a_sequence_is_refused_with_its_numbers():
    module = refiner()
    room = module.max_part_queries(num_objects=NUM_OBJECTS, image_tokens=GRID**2)
    assert room == 64 - PREFIX - 2 * NUM_OBJECTS
    _, image = batch()

    def ask(count):
        none = torch.zeros(2, count, dtype=torch.long)
        return module(PartQueries(torch.zeros(2, count, 32), none, none, none == 0), num_objects=NUM_OBJECTS, **image)

    assert ask(room).isfinite().all()
    with pytest.raises(ValueError, match=f"{room + 1} part queries of 4 objects and 9 tokens .* make 65 .* has 64"):
        ask(room + 1)
    assert refiner("llama").max_part_queries(num_objects=9, image_tokens=9) is None


def test_grid_reads_only_the_picture():
    """A map whose value is its own coordinate, on a canvas with rubbish beyond the picture."""
    image_map = torch.full((1, 2, 4, 8), 1e6)
    image_map[0, 0, :2, :4] = torch.arange(4) + 0.5
    image_map[0, 1, :2, :4] = (torch.arange(2) + 0.5)[:, None]
    valid = torch.zeros(1, 4, 8, dtype=torch.bool)
    valid[0, :2, :4] = True
    read = read_grid(image_map, valid, torch.tensor([[0.5, 0.5]]), side=2)
    assert_close(read[0], torch.tensor([[1.0, 0.5], [3.0, 0.5], [1.0, 1.5], [3.0, 1.5]]))


def test_image_tokens_start_at_the_size_of_words():
    module = refiner()
    _, image = batch()
    words = module.language_model.get_input_embeddings().weight
    tokens = module.image_projector(read_grid(*image.values(), side=GRID))
    assert tokens.square().mean().sqrt().item() == pytest.approx(words.square().mean().sqrt().item(), rel=0.05)


def test_own_image_tower():
    tower = PaliGemmaImageTower(vision_tower=build_random(SIGLIP), projector=nn.Linear(16, 32))
    module = refiner("gemma", image_tower=tower).train()
    queries, _ = batch()
    pixels = torch.randn(2, 3, 28, 28)
    calls = recorded(module)
    refined = module(queries, num_objects=NUM_OBJECTS, mllm_pixels=pixels)
    tokens = tower.projector(tower.vision_tower(pixels).last_hidden_state)
    assert_close(calls[0]["inputs_embeds"][:, len(BEFORE) : len(BEFORE) + 4], tokens)
    refined.sum().backward()
    assert all(parameter.grad is None for parameter in tower.parameters())
    assert not tower.vision_tower.training
    with pytest.raises(ValueError, match="mllm_pixels"):
        module(queries, num_objects=NUM_OBJECTS)


SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "vision_use_head": False,
}


def test_a_map_is_asked_for_by_name():
    with pytest.raises(ValueError, match="image_map, image_valid and extent"):
        refiner()(batch()[0], num_objects=NUM_OBJECTS)


def test_softcap_acts_where_there_is_one():
    queries, image = batch()
    free, capped = (refiner(name)(queries, num_objects=NUM_OBJECTS, **image) for name in ("gemma", "gemma softcap"))
    assert (free - capped).abs().max() > 1e-3
    with pytest.raises(ValueError, match="softcap of 1 "):
        refiner("bert softcap")


def test_lora_names_what_it_cannot_find():
    with pytest.raises(ValueError, match="no layers named to_q, to_v"):
        add_lora(build_random(FAMILIES["bert"]), targets=["to_q", "to_v"])


def test_half_precision_language_model():
    module = refiner()
    module.language_model.to(torch.bfloat16)
    queries, image = batch()
    ours = module(queries, num_objects=NUM_OBJECTS, **image)
    assert ours.dtype == torch.float32
    assert_close(ours, refiner()(queries, num_objects=NUM_OBJECTS, **image), atol=0.1, rtol=0.1)


def test_autocast():
    module = refiner()
    queries, image = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = module(queries, num_objects=NUM_OBJECTS, **image)
    assert_close(ours.float(), module(queries, num_objects=NUM_OBJECTS, **image), atol=0.1, rtol=0.1)


def test_corrections_of_a_half_precision_model_train_in_full():
    """Steps of a usual learning rate are smaller than what bfloat16 can tell apart."""
    model = add_lora(build_random(FAMILIES["llama"]).bfloat16())
    corrections = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert corrections and all(value.dtype == torch.float32 for value in corrections.values())
    states = model(inputs_embeds=torch.randn(1, 3, 32, dtype=torch.bfloat16)).last_hidden_state
    assert states.dtype == torch.bfloat16
    states.float().square().sum().backward()
    assert all(value.grad is not None for value in corrections.values())
