"""The whole model, at the size of the embedded one: what must never change an answer, and where gradients go."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from langhops_cli.checkpoint.build import build_model
from langhops_cli.model.configuration import ModelConfig
from langhops_cli.model.criterion import Criterion
from langhops_cli.model.query_decoder import MASKED_LOGIT
from langhops_cli.model.structures import Instances, Pictures, Targets, VocabularyBatch
from langhops_cli.vocabulary import parse_vocabulary

CONFIG = ModelConfig.preset("mini")
DOGS = parse_vocabulary("dog:head,leg*4,tail;cat:head,ear*2")
CARS = parse_vocabulary("car:wheel*4,door,window;person;bicycle:wheel*2")


def build(**changes):
    """The mini model with every parameter away from its start, where some of them are zero and hide mistakes."""
    torch.manual_seed(0)
    model = build_model(replace(CONFIG, **changes), pretrained=True)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    return model.eval()


@pytest.fixture(scope="module")
def mini():
    return build()


def picture(height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 16 + 2, width // 16 + 2, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")[0] * 255


def canvas(pictures, height, width):
    pixels = torch.zeros(len(pictures), 3, height, width)
    for place, item in zip(pixels, pictures, strict=True):
        place[:, : item.shape[1], : item.shape[2]] = item
    return Pictures(pixels, torch.tensor([list(item.shape[1:]) for item in pictures]))


def instances(labels, names, size, *, parents=None):
    """Boxes on a diagonal, with masks that fill them."""
    boxes = torch.tensor([[0.3 + 0.1 * i, 0.4 + 0.05 * i, 0.3, 0.4] for i in range(len(labels))]).view(-1, 4)
    masks = torch.zeros(len(labels), *size, dtype=torch.uint8)
    for mask, (x, y, w, h) in zip(masks, boxes.tolist(), strict=True):
        rows = slice(round((y - h / 2) * size[0]), round((y + h / 2) * size[0]))
        columns = slice(round((x - w / 2) * size[1]), round((x + w / 2) * size[1]))
        mask[rows, columns] = 1
    return Instances(
        torch.tensor(labels, dtype=torch.long),
        boxes,
        masks,
        torch.ones(names, dtype=torch.bool),
        None if parents is None else torch.tensor(parents, dtype=torch.long),
    )


def targets(vocabulary, size, objects=(), parts=(), parents=()):
    return Targets(
        instances(list(objects), len(vocabulary.object_names), size),
        instances(list(parts), len(vocabulary.part_classes), size, parents=list(parents)),
        name="test",
    )


SMALL, LARGE = picture(180, 128, 1), picture(256, 320, 2)


@torch.no_grad()
def test_padding_never_changes_a_picture(mini):
    """Alone on its canvas or padded beside a larger picture with a longer vocabulary: the same answer."""
    alone = mini(canvas([SMALL], 192, 128), VocabularyBatch.of([DOGS]))
    together = mini(canvas([LARGE, SMALL], 256, 320), VocabularyBatch.of([CARS, DOGS]))
    names, parts = len(DOGS.object_names), len(DOGS.part_classes)
    assert_close(together.objects.final.logits[1:, :, :names], alone.objects.final.logits, atol=1e-4, rtol=1e-4)
    assert_close(together.objects.final.boxes[1:], alone.objects.final.boxes, atol=1e-4, rtol=0)
    assert_close(
        together.objects.final.masks[1:, :, :45, :32], alone.objects.final.masks[:, :, :45], atol=1e-3, rtol=1e-4
    )
    count = int(alone.part_queries.valid.sum())
    assert count and int(together.part_queries.valid[1].sum()) == count
    assert torch.equal(together.part_queries.name[1, :count], alone.part_queries.name[0, :count])
    assert_close(
        together.parts.final.logits[1:, :count, :parts], alone.parts.final.logits[:, :count], atol=1e-4, rtol=1e-4
    )
    assert_close(together.parts.final.boxes[1:, :count], alone.parts.final.boxes[:, :count], atol=1e-4, rtol=0)


@torch.no_grad()
def test_what_lies_on_the_padding_is_never_read(mini):
    clean = canvas([SMALL, LARGE], 256, 320)
    dirty = clean.pixels.clone()
    dirty[0, :, 180:] = 255
    dirty[0, :, :, 128:] = 77
    vocabulary = VocabularyBatch.of([DOGS, CARS])
    first, second = mini(clean, vocabulary), mini(replace(clean, pixels=dirty), vocabulary)
    assert torch.equal(first.objects.final.logits, second.objects.final.logits)
    assert torch.equal(
        first.parts.final.boxes[first.part_queries.valid], second.parts.final.boxes[first.part_queries.valid]
    )


@torch.no_grad()
def test_permuting_the_vocabulary_permutes_the_logits(mini):
    pictures = canvas([LARGE], 256, 320)
    ordered = mini(pictures, VocabularyBatch.of([parse_vocabulary("cat;dog;car;tree")]))
    shuffled = mini(pictures, VocabularyBatch.of([parse_vocabulary("tree;dog;cat;car")]))
    assert_close(shuffled.objects.final.logits, ordered.objects.final.logits[..., [3, 1, 0, 2]], atol=1e-4, rtol=1e-4)
    assert_close(shuffled.objects.final.boxes, ordered.objects.final.boxes, atol=1e-5, rtol=0)


@torch.no_grad()
def test_every_part_query_asks_for_a_part_of_its_object(mini):
    output = mini(canvas([LARGE, SMALL], 256, 320), VocabularyBatch.of([CARS, DOGS]))
    for b, vocabulary in enumerate((CARS, DOGS)):
        queries = output.part_queries
        asked = {}
        for parent, name in zip(
            queries.parent[b][queries.valid[b]].tolist(), queries.name[b][queries.valid[b]].tolist(), strict=True
        ):
            asked.setdefault(parent, []).append(name)
        for parent, object_class in enumerate(output.kept.classes[b].tolist()):
            expected = [
                index
                for index, part in enumerate(vocabulary.part_classes)
                if part.object == object_class
                for _ in range(part.count)
            ]
            if len(asked) <= parent:
                break  # weaker objects fall to the limit of part queries
            assert asked.get(parent, []) == expected


@torch.no_grad()
@pytest.mark.parametrize("vocabulary", ["dog", "dog:" + ",".join(f"part {n}" for n in range(40))])
def test_no_parts_and_one_object_of_many_parts(mini, vocabulary):
    output = mini(canvas([SMALL], 192, 128), VocabularyBatch.of([parse_vocabulary(vocabulary)]))
    assert output.objects.final.logits.isfinite().all() and output.parts.final.boxes.isfinite().all()
    queries = output.part_queries.valid.sum()
    assert queries == (0 if vocabulary == "dog" else 128)  # 10 objects of 40 parts, cut off at the limit


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(64, 64), (1, 1), (3, 320)])
def test_tiny_pictures_have_fewer_queries_and_finite_answers(mini, height, width):
    output = mini(canvas([picture(height, width, 3)], 64, 320 if width > 64 else 64), VocabularyBatch.of([DOGS]))
    for predictions in (output.objects.final, output.parts.final):
        assert predictions.logits.isfinite().all() and predictions.boxes.isfinite().all()
        assert predictions.masks.isfinite().all()
    absent = ~output.objects.valid
    assert (output.objects.final.logits[absent] == MASKED_LOGIT).all()


BATCHES = {
    "objects and parts": (
        targets(DOGS, (180, 128), [0, 1], [0, 1, 3], [0, 0, 1]),
        targets(CARS, (256, 320), [0], [0, 1], [0, 0]),
    ),
    "no parts": (targets(DOGS, (180, 128), [0]), targets(CARS, (256, 320), [1])),
    "nothing at all": (targets(DOGS, (180, 128)), targets(CARS, (256, 320))),
}


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("kind", ["mllm", "qformer", "learned"])
def test_every_trainable_parameter_is_in_the_graph_in_every_step(batch, kind):
    """Else ZeRO waits for ever for the rank whose pictures had no parts."""
    changes = {
        "mllm": {},
        "qformer": {"refiner": replace(CONFIG.refiner, kind="qformer", qformer_layers=2)},
        "learned": {"hierarchy": replace(CONFIG.hierarchy, source="learned"), "part_scoring": "open"},
    }[kind]
    model = build(**changes).train()
    pictures, vocabulary = canvas([SMALL, LARGE], 256, 320), VocabularyBatch.of([DOGS, CARS])
    output = model(pictures, vocabulary, BATCHES[batch])
    losses = Criterion(tied=kind == "mllm")(output, BATCHES[batch], pictures, vocabulary)
    losses["total"].backward()
    missing = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert losses["total"].isfinite()


@pytest.mark.parametrize("detach", [False, True])
def test_part_losses_teach_objects_unless_detached(detach):
    """Object-part synergy: only with the gradient through the language model do parts reach the object decoder."""
    model = build(hierarchy=replace(CONFIG.hierarchy, detach_object_queries=detach))
    output = model(canvas([LARGE], 256, 320), VocabularyBatch.of([DOGS]))
    valid = output.part_queries.valid
    (output.parts.final.logits[valid].clamp(min=-100).sum() + output.parts.final.boxes[valid].sum()).backward()
    object_layer = model.object_decoder.layers[0].linear1.weight.grad
    assert (object_layer is None or not object_layer.any()) == detach
    for reached in (model.text_encoder.lang_projection, model.backbone._conv_stem.weight):
        assert reached.grad is not None and reached.grad.any()


@torch.no_grad()
def test_a_fresh_part_is_looked_for_in_the_middle_of_its_object():
    hierarchy = replace(CONFIG.hierarchy, start_where_seen=False)
    model = build_model(replace(CONFIG, hierarchy=hierarchy)).eval()
    output = model(canvas([LARGE], 256, 320), VocabularyBatch.of([DOGS]), return_intermediates=True)
    valid = output.part_queries.valid[0]
    objects = output.kept.boxes[0][output.part_queries.parent[0][valid]]
    start = output.intermediates["part.ref0"][0][valid]
    first = output.part_queries.slot[0][valid] == 0
    assert_close(start[first, :2], objects[first, :2], atol=1e-4, rtol=0)
    assert_close(start[first, 2:], objects[first, 2:] / 2, atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_part_is_looked_for_where_its_first_mask_is(mini):
    """The box around the mask that the content alone gives; a part asked for more than once starts elsewhere."""
    pictures = canvas([LARGE], 256, 320)
    output = mini(pictures, VocabularyBatch.of([DOGS]), return_intermediates=True)
    queries, decoder = output.part_queries, mini.part_branch.decoder
    content, start = output.intermediates["part.init_content"][0], output.intermediates["part.ref0"][0]
    pixels = output.intermediates["pixel.mask_features"][0]
    masks = torch.einsum("qd,dhw->qhw", decoder.mask_embed(decoder.norm(content)), pixels) > 0
    compared = 0
    for query in torch.nonzero(queries.valid[0]).flatten().tolist():
        once = DOGS.part_classes[queries.name[0, query]].name in ("head", "tail")
        rows, columns = torch.nonzero(masks[query], as_tuple=True)
        if not once or not len(rows):
            continue
        low = torch.stack([columns.min() / 80, rows.min() / 64])
        high = torch.stack([(columns.max() + 1) / 80, (rows.max() + 1) / 64])
        expected = torch.cat([(low + high) / 2, high - low]).clamp(0.02, 0.98)
        assert_close(start[query], expected, atol=1e-5, rtol=0)
        compared += 1
    assert compared >= 5


def test_stage_one_has_no_part_branch():
    model = build(level="objects")
    output = model(canvas([LARGE], 256, 320), VocabularyBatch.of([DOGS]))
    assert output.parts is None and model.part_branch is None
    assert not any(name.startswith("part_branch") for name in model.saved_names())


def test_frozen_bases_are_not_saved(mini):
    names = mini.saved_names()
    assert "text_encoder.lang_projection" in names
    assert any("lora_A" in name for name in names)
    assert not any("base_layer" in name or name.startswith("text_encoder.encoder") for name in names)
    trained = {name for name, parameter in mini.named_parameters() if parameter.requires_grad}
    assert trained <= names
