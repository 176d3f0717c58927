from __future__ import annotations

import copy

import pytest
import torch
from torch.testing import assert_close

from langhops_cli.checkpoint.base_models import build_random, load_minilm
from langhops_cli.model import text_encoder
from langhops_cli.model.text_encoder import TextEncoder

NAMES = ("dog", "dog head", "traffic light pole", "église à clocher")


class CharacterTokenizer:
    """One token a character between a begin and an end token, padded on the right."""

    model_max_length = 16

    def __call__(self, texts, *, padding, truncation, max_length, return_tensors):
        rows = [[1, *[3 + ord(c) % 90 for c in text][: max_length - 2], 2] for text in texts]
        width = max(map(len, rows))
        return {
            "input_ids": torch.tensor([row + [0] * (width - len(row)) for row in rows]),
            "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
        }


def bert():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return build_random({"model_type": "bert", "vocab_size": 100, "max_position_embeddings": 32, **sizes}).eval()


def clip():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return build_random(
        {"model_type": "clip_text_model", "vocab_size": 100, "max_position_embeddings": 32, "eos_token_id": 2, **sizes}
    ).eval()


def encoder(model=bert, *, trainable=False):
    return TextEncoder(
        encoder=model(), tokenizer=CharacterTokenizer(), width=16, query_dim=8, trainable=trainable
    ).train()


@pytest.mark.parametrize("model", [bert, clip])
@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_embedding_is_the_mean_of_projected_tokens(model, trainable, training):
    module = encoder(model, trainable=trainable).train(training)
    for text, embedded in zip(NAMES, module(NAMES), strict=True):
        inputs = module.tokenizer([text], padding=True, truncation=True, max_length=16, return_tensors="pt")
        states = module.encoder(**inputs).last_hidden_state[0]
        assert_close(embedded, torch.stack([state @ module.lang_projection for state in states]).mean(0))


def test_minilm_knows_that_a_dog_has_no_wheel():
    model, tokenizer = load_minilm()
    module = TextEncoder(encoder=model, tokenizer=tokenizer, width=384, query_dim=384, trainable=False)
    torch.nn.init.eye_(module.lang_projection)
    head, leg, wheel = torch.nn.functional.normalize(module(("dog head", "dog leg", "car wheel")))
    assert (head @ leg).item() == pytest.approx(0.57, abs=0.01)
    assert (head @ wheel).item() == pytest.approx(0.20, abs=0.01)


@pytest.mark.parametrize("trainable", [False, True])
def test_order_and_company_do_not_matter(trainable):
    module = encoder(trainable=trainable).eval()
    together = module(NAMES)
    assert_close(module(NAMES[::-1]), together.flip(0))
    assert_close(module((NAMES[2], NAMES[0], NAMES[2])), together[[2, 0, 2]])
    module.reset_cache()
    assert_close(torch.cat([module((name,)) for name in NAMES]), together)


@pytest.mark.parametrize("trainable", [False, True])
def test_no_texts(trainable):
    assert encoder(trainable=trainable)(()).shape == (0, 8)


def test_many_names_are_encoded_in_chunks():
    module = encoder()
    seen = []
    module.encoder.register_forward_hook(
        lambda _m, _a, kwargs, _o: seen.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    names = tuple(f"name {i}" for i in range(600))
    embedded = module(names)
    assert seen == [256, 256, 88]
    module.reset_cache()
    assert_close(embedded[300:301], module((names[300],)))


def test_frozen_encoder_runs_once_a_name_and_its_projection_trains():
    module = encoder()
    runs = []
    module.encoder.register_forward_hook(lambda *_: runs.append(1))
    module(NAMES)
    module(NAMES[:2]).square().sum().backward()
    assert len(runs) == 1
    assert module.lang_projection.grad.abs().sum() > 0
    with torch.no_grad():
        module.lang_projection.mul_(2)
    doubled = module(NAMES)
    module.reset_cache()
    assert_close(module(NAMES), doubled)
    assert [name for name, p in module.named_parameters() if p.requires_grad] == ["lang_projection"]


def test_names_cached_without_gradients_serve_training():
    module = encoder()
    with torch.inference_mode():
        module(NAMES)
    module(NAMES).sum().backward()
    assert module.lang_projection.grad.abs().sum() > 0


def test_cache_is_bounded(monkeypatch):
    module = encoder()
    expected = module(NAMES)
    module.reset_cache()
    monkeypatch.setattr(text_encoder, "CACHE_LIMIT", 3)
    assert_close(module(NAMES[:2]), expected[:2])
    assert_close(module(NAMES[1:]), expected[1:])
    assert len(module._rows) == 3


def test_new_weights_and_new_types_empty_the_cache():
    module, other = encoder(), encoder()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    before = module(NAMES)
    torch.nn.ModuleDict({"text": module}).load_state_dict({f"text.{k}": v for k, v in other.state_dict().items()})
    assert not torch.allclose(module(NAMES), before, atol=1e-3)
    assert_close(module(NAMES), other(NAMES))
    assert module.double()(NAMES).dtype == torch.float64


def test_a_copy_forgets_alone():
    module = encoder()
    expected = module(NAMES)
    twin = copy.deepcopy(module)
    twin.load_state_dict({name: value * 2 for name, value in module.state_dict().items()})
    assert_close(module(NAMES), expected)
    assert not torch.allclose(twin(NAMES), expected)


def test_trainable_encoder_learns_and_stays_near_its_teacher():
    module = encoder(clip, trainable=True)
    module(NAMES).square().sum().backward()
    assert module.encoder.embeddings.token_embedding.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in module.teacher.parameters())
    assert module.distillation_loss().item() == 0

    with torch.no_grad():
        module.encoder.final_layer_norm.bias.add_(0.5)
    module(NAMES)
    loss = module.distillation_loss()
    assert loss.item() == pytest.approx(0.25, rel=1e-4)
    loss.backward()
    assert module.encoder.final_layer_norm.bias.grad.abs().sum() > 0
    assert module.distillation_loss().item() == 0, "nothing was encoded since"


def test_trainable_encoder_never_serves_stale_names():
    module = encoder(trainable=True).eval()
    before = module(NAMES)
    assert module._rows
    module.train()
    with torch.no_grad():
        module.encoder.embeddings.word_embeddings.weight.add_(torch.randn(100, 16))
    assert not torch.allclose(module.eval()(NAMES), before)


def test_frozen_encoder_has_no_teacher_and_nothing_to_distil():
    module = encoder()
    module(NAMES)
    assert module.teacher is None
    assert module.distillation_loss().item() == 0
