"""How much memory a training step will need, worked out without any: the model runs once on tensors of shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from langhops_cli.data.canvas import CANVAS_STEP
from langhops_cli.model.configuration import ModelConfig
from langhops_cli.model.langhops import LangHOPSModel
from langhops_cli.model.structures import Instances, Pictures, Targets, VocabularyBatch
from langhops_cli.training.activations import LAYERS
from langhops_cli.training.recipe import Recipe
from langhops_cli.vocabulary import Vocabulary

KEPT = 1.5
"""Memory of a step's activations for each byte that the backward pass keeps of the forward pass.

Measured on a CPU with the mini model in float32, 256 to 512 px, batches of 1 to 4, both stages, by the peak of the
process less what its weights, gradients and optimizer take: 1.46 to 1.57, after 60 MiB that depend on nothing. The rest
are losses, gradients of activations and what the allocator cannot use again.
"""
CONSTANT = 60 << 20
HALF = 0.74
"""Share of float32 activations that is left where matrix products run in bfloat16; measured as `KEPT` was."""
PROGRAM = {"cpu": 450 << 20, "cuda": 1 << 30}
"""What a process takes that has loaded all libraries: measured on a CPU, a common figure for CUDA's context."""
BUCKET = LIVE = 500_000_000
"""DeepSpeed's defaults: gradients that it reduces at once from stage 1 on; of weights in stage 3 twice as many live."""
INSTANCES = (5, 15)
"""Objects and parts of the picture that is tried; noised queries fill up to a fixed number, whatever their origin."""
TOKENS = 8
"""Of the longest name."""
FOUR_BIT = 4.5 / 16
"""Size of a weight in 4 bits with its scales, by its size in bfloat16."""


@dataclass(frozen=True)
class MemoryEstimate:
    """What a process of a training needs, in bytes.

    Args:
        weights, gradients, optimizer: of the model, this process's share of them; these are sure.
        activations: estimated; see `KEPT`.
        program: estimated; libraries and their buffers.
        host: of the sure ones, what `distributed.offload` leaves to the machine's own memory.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    program: int
    host: int = 0

    @property
    def sure(self) -> int:
        """What no smaller batch would spare."""
        return self.weights + self.gradients + self.optimizer

    @property
    def total(self) -> int:
        """All of it, on the device that computes."""
        return self.sure + self.activations + self.program


def estimate_memory(
    model: LangHOPSModel,
    recipe: Recipe,
    config: ModelConfig,
    *,
    processes: int,
    names: tuple[int, int] = (20, 60),
    device: str = "cpu",
    bucket: int = BUCKET,
) -> MemoryEstimate:
    """Estimate what each process of a training needs.

    Args:
        model: of the recipe's stage, on the meta device, with what it trains set to train; it cannot be used after.
        recipe: says batch, size, precision, sharding and offload.
        config: of the model.
        processes: that share the work.
        names: most object names and part names of a picture.
        device: "cpu" or "cuda".
        bucket: gradients that are reduced at once, from stage 1 on.
    """
    trained, frozen = count_parameters(model)
    weights = weight_bytes(model, four_bit=config.refiner.precision == "4bit")
    distributed = recipe.distributed
    zero = distributed.zero
    # Stage 1 and above hold a float32 copy of the weights that they update, each process of its share.
    optimizer = 12 * trained // processes if zero else 8 * trained
    gradients = 4 * trained if zero < 2 else 4 * trained // processes
    buffer = (4 * bucket if device == "cuda" else 4 * min(bucket, trained)) if zero else 0
    share, host = weights, 0
    if zero == 3:
        alive = min(weights, 2 * LIVE * weights // max(1, trained + frozen))
        share = (0 if distributed.offload == "parameters" else weights // processes) + alive
    if distributed.offload != "none":
        host = optimizer + gradients + (weights // processes if distributed.offload == "parameters" else 0)
        optimizer = gradients = 0
    kept = kept_bytes(model, recipe, config, names=names)
    return MemoryEstimate(
        weights=share,
        gradients=gradients,
        optimizer=optimizer,
        activations=round(KEPT * kept) + CONSTANT,
        program=PROGRAM[device] + buffer,
        host=host,
    )


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """How many parameters are trained, and how many are frozen."""
    counts = {True: 0, False: 0}
    for parameter in model.parameters():
        counts[parameter.requires_grad] += parameter.numel()
    return counts[True], counts[False]


def weight_bytes(model: LangHOPSModel, *, four_bit: bool = False) -> int:
    """Bytes of all weights, in the types that they have; the language model's frozen ones in 4 bits where asked."""
    total = 0.0
    for name, parameter in model.named_parameters():
        small = four_bit and not parameter.requires_grad and ".language_model." in name
        total += parameter.numel() * parameter.element_size() * (FOUR_BIT if small else 1)
    return round(total)


def kept_bytes(model: LangHOPSModel, recipe: Recipe, config: ModelConfig, *, names: tuple[int, int]) -> int:
    """Bytes that autograd keeps of a forward pass of one batch, without those of the weights themselves.

    Args:
        model: as for `estimate_memory`.
        recipe, config: likewise.
        names: likewise.
    """
    model.text_encoder = _Names(model)  # type: ignore[assignment]
    model.train()
    count = _Counter(model, again=recipe.distributed.checkpoint_activations)
    side = -(-recipe.data.image_size // CANVAS_STEP) * CANVAS_STEP
    pictures, vocabulary, targets = _batch(recipe, config, side, names)
    with torch.autograd.graph.saved_tensors_hooks(count.keep, lambda tensor: tensor), _Sampled():
        output = model(pictures, vocabulary, targets)
    del output
    half = recipe.distributed.precision == "bf16"
    return round(count.total(HALF if half else 1.0))


class _Counter:
    """Counts each storage that autograd keeps once, by the layer that computes again what is in it, if any does."""

    def __init__(self, model: nn.Module, *, again: bool) -> None:
        self._seen = {tensor.untyped_storage()._cdata for tensor in [*model.parameters(), *model.buffers()]}
        self._held: list[Any] = []  # a storage that is gone would leave its address to another one
        self._outside: dict[bool, int] = {True: 0, False: 0}
        self._layers: list[dict[bool, int]] = []
        self._depth = 0
        if again:
            from transformers.modeling_layers import GradientCheckpointingLayer

            for module in model.modules():
                if isinstance(module, (*LAYERS, GradientCheckpointingLayer)):
                    module.register_forward_pre_hook(self._enter, with_kwargs=True)
                    module.register_forward_hook(self._leave)

    def keep(self, tensor: Tensor) -> Tensor:
        """Count a tensor, in the way of `saved_tensors_hooks`."""
        storage = tensor.untyped_storage()
        # Of shapes alone PyTorch takes attention apart and keeps all its weights, which no device does.
        apart = tensor.grad_fn is not None and tensor.grad_fn.name() == "SafeSoftmaxBackward0"
        if storage._cdata in self._seen:
            return tensor
        self._seen.add(storage._cdata)
        self._held.append(storage)
        if not apart:
            count = self._layers[-1] if self._depth else self._outside
            count[tensor.dtype == torch.float32] += storage.nbytes()
        return tensor

    def total(self, share: float) -> float:
        """Bytes outside of such layers, and of the largest one, whose turn it is to be computed again."""
        each = (share * count[True] + count[False] for count in self._layers)
        return share * self._outside[True] + self._outside[False] + max(each, default=0.0)

    def _enter(self, _: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        if not self._depth:
            for value in (*inputs, *named.values()):
                if isinstance(value, Tensor):
                    self.keep(value)
            self._layers.append({True: 0, False: 0})
        self._depth += 1

    def _leave(self, _: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._depth -= 1


class _Sampled(TorchDispatchMode):
    """Tells the shape of what `grid_sample` gives; PyTorch takes it apart into hundreds of steps to find that out."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.grid_sampler_2d.default:
            features, grid = args[:2]
            return features.new_empty(*features.shape[:2], *grid.shape[1:3])
        return func(*args, **(kwargs or {}))


class _Names(nn.Module):
    """Stands in for the text encoder, which looks at its tokens and remembers states: neither is had of shapes."""

    def __init__(self, model: LangHOPSModel) -> None:
        super().__init__()
        text = model.text_encoder
        self.lang_projection = text.lang_projection
        self.trainable = text.trainable and any(item.requires_grad for item in text.encoder.parameters())
        self.encoder = text.encoder if self.trainable else None

    def forward(self, texts: tuple[str, ...]) -> Tensor:
        states = self.lang_projection.new_zeros(len(texts), self.lang_projection.shape[0])
        if self.encoder is not None:
            ids = torch.zeros(len(texts), TOKENS, dtype=torch.int64, device=states.device)
            states = self.encoder(input_ids=ids).last_hidden_state.mean(1)
        return states @ self.lang_projection


def _batch(
    recipe: Recipe, config: ModelConfig, side: int, names: tuple[int, int]
) -> tuple[Pictures, VocabularyBatch, list[Targets]]:
    """A batch of shapes: full canvases, as many names as may be asked for, a few instances."""
    batch = recipe.data.batch
    objects, parts = (max(1, min(count, recipe.data.max_names)) for count in names)
    each = -(-parts // objects)
    tree = {f"object {i}": {f"part {i} {j}": None for j in range(each)} for i in range(objects)}
    vocabulary = VocabularyBatch.of(
        [Vocabulary.from_dict(tree)] * batch, queries_per_part=config.hierarchy.queries_per_part
    )
    tower = config.refiner.image_size if config.level == "parts" else None
    with torch.device("meta"):
        pictures = Pictures(
            torch.empty(batch, 3, side, side, dtype=torch.uint8),
            torch.empty(batch, 2, dtype=torch.int64),
            None if tower is None else torch.empty(batch, 3, tower, tower),
        )
        objects_here, parts_here = (
            Instances(
                labels=torch.empty(number, dtype=torch.int64),
                boxes=torch.empty(number, 4),
                masks=torch.empty(number, side, side, dtype=torch.uint8),
                negatives=torch.empty(count, dtype=torch.bool),
                parents=torch.empty(number, dtype=torch.int64),
            )
            for number, count in zip(INSTANCES, (objects, each * objects), strict=True)
        )
    return pictures, vocabulary.to("meta"), [Targets(objects_here, parts_here)] * batch
