"""The DeepSpeed engine of a run: its configuration, and its model as a whole."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from langhops_cli.training.recipe import Recipe


def build_engine(
    model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, *, from_universal: bool = False
) -> Any:
    """A DeepSpeed engine around a model; `join_processes` comes first.

    Args:
        model: on the CPU; the engine moves it.
        optimizer: over the model's trainable parameters.
        recipe: says what is sharded and where it lies, the precision, the batch and the largest gradient norm.
        from_universal: the state to go on from was written by another number of ranks, and converted.
    """
    import deepspeed

    _set_precision(recipe.distributed.tf32)
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, config=settings(recipe) | {"checkpoint": {"load_universal": from_universal}}
    )
    if recipe.distributed.zero == 3:
        for module in engine.module.modules():
            module.register_forward_hook(_mark_tensors)
    return engine


def _mark_tensors(module: Any, _: object, output: Any) -> Any:
    """Let ZeRO 3 know of the tensors in what a module returns, so that its parameters are there in the backward pass.

    DeepSpeed itself finds them in tuples and mappings alone; ours return dataclasses.
    """
    if not is_dataclass(output) or not torch.is_grad_enabled():
        return output
    tensors = {item.name: getattr(output, item.name) for item in fields(output)}
    marked = {
        name: module.pre_bwd_fn.apply(value)
        for name, value in tensors.items()
        if isinstance(value, torch.Tensor) and value.requires_grad
    }
    return replace(output, **marked)  # type: ignore[type-var]


def settings(recipe: Recipe) -> dict[str, Any]:
    """A recipe in the words of DeepSpeed."""
    distributed, data = recipe.distributed, recipe.data
    on_cpu = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    zero: dict[str, Any] = {"stage": distributed.zero}
    if distributed.offload != "none":
        zero["offload_optimizer"] = on_cpu
    if distributed.offload == "parameters":
        zero["offload_param"] = on_cpu
    return {
        "train_micro_batch_size_per_gpu": data.batch,
        "gradient_accumulation_steps": data.accumulate,
        # With several batches a step, one of which may be left out, `step` says when the step is full.
        "managed_gradient_accumulation": data.accumulate == 1,
        "gradient_clipping": recipe.optimizer.clip_norm,
        "zero_optimization": zero,
        # Weights and losses stay float32; matrix products and convolutions run in bfloat16.
        "torch_autocast": {"enabled": distributed.precision == "bf16", "dtype": "bfloat16"},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
    }


def _set_precision(tf32: bool) -> None:
    """Matrix products and convolutions of float32 in TF32 or not, on a GPU; a CPU knows only float32."""
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32


@contextmanager
def gathered(engine: Any, names: Collection[str] | None = None) -> Iterator[None]:
    """While it lasts, a model that ZeRO 3 has spread over the ranks is whole on each of them, and can be asked.

    Args:
        engine: of every rank; all have to take part.
        names: parameters that are wanted, by name, to save them; all of them, for a forward pass, when left out.
    """
    import deepspeed

    spread = [
        parameter
        for name, parameter in engine.module.named_parameters()
        if hasattr(parameter, "ds_id") and (names is None or name in names)
    ]
    if not spread:
        yield
        return
    with deepspeed.zero.GatheredParameters(spread):
        if names is not None:
            yield
            return
        # The hooks would spread the parameters again after the first module, and wait for the other ranks.
        offload = engine.optimizer.parameter_offload
        offload._remove_module_hooks()
        offload.forward_hooks, offload.backward_hooks = [], []
        try:
            yield
        finally:
            offload.setup_zero_stage3_hooks()
