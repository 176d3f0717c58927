"""Parameter groups and the course of the learning rate."""

import pytest
import torch
from torch import nn

from langhops_cli.training.optimizer import parameter_groups, rate_factor


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.pixel_decoder = nn.Module()
        self.pixel_decoder.level_embed = nn.Parameter(torch.zeros(4, 8))
        self.pixel_decoder.norm = nn.LayerNorm(8)
        self.text = nn.Module()
        self.text.lang_projection = nn.Parameter(torch.zeros(8, 8))
        self.names = nn.Embedding(5, 8)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.category_embed = nn.Linear(8, 8, bias=False)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(8, 2, bias=False)})
        self.head = nn.Linear(8, 2)


def groups_of(model: nn.Module) -> dict[str, dict]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, learning_rate=1.0, backbone_multiplier=0.1, lora_multiplier=2.0, weight_decay=0.05)
    return {names[id(parameter)]: group for group in groups for parameter in group["params"]}


def test_every_trainable_parameter_is_in_exactly_one_group() -> None:
    model = Toy()
    groups = parameter_groups(model, learning_rate=1.0, backbone_multiplier=0.1, lora_multiplier=1.0, weight_decay=0.05)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    trainable = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == trainable
    assert all(group["params"] for group in groups)


@pytest.mark.parametrize(
    ("name", "rate", "decay"),
    [
        ("backbone.0.weight", 0.1, 0.05),
        ("backbone.0.bias", 0.1, 0.0),
        ("backbone.1.weight", 0.1, 0.0),
        ("pixel_decoder.level_embed", 1.0, 0.0),
        ("pixel_decoder.norm.weight", 1.0, 0.0),
        ("text.lang_projection", 1.0, 0.05),
        ("names.weight", 1.0, 0.0),
        ("category_embed.weight", 1.0, 0.05),  # a projection, whatever its name
        ("lora_A.default.weight", 2.0, 0.05),
        ("head.weight", 1.0, 0.05),
        ("head.bias", 1.0, 0.0),
    ],
)
def test_rate_and_decay_follow_what_a_parameter_is(name: str, rate: float, decay: float) -> None:
    group = groups_of(Toy())[name]
    assert group["lr"] == pytest.approx(rate)
    assert group["weight_decay"] == decay


def test_the_rate_warms_up_then_drops() -> None:
    factors = [rate_factor(step, steps=10, warmup=3, decay="drops", drops=[6, 8]) for step in range(10)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_the_cosine_starts_full_after_the_warm_up_and_ends_near_nothing() -> None:
    factors = [rate_factor(step, steps=100, warmup=10, decay="cosine") for step in range(100)]
    assert factors[10] == pytest.approx(1)
    assert factors[55] == pytest.approx(0.5)
    assert 0 < factors[99] < 0.001
    assert factors[:11] == sorted(factors[:11])
    assert factors[10:] == sorted(factors[10:], reverse=True)
