"""The optimizer's step, and how long the gradient was."""

from __future__ import annotations

from typing import Any

import torch


def take_step(engine: Any) -> float | None:
    """Let the engine's optimizer step, after `engine.backward`, in place of `engine.step()`.

    Args:
        engine: DeepSpeed's, of any ZeRO stage.

    Returns:
        Norm of the whole gradient, mean over all processes and before it is clipped; None where this was not the last
        batch of an accumulated step, so that nothing was learned.
    """
    ours = not engine.managed_gradient_accumulation()  # then it is the caller who says that the step is full
    last = ours or bool(engine.is_gradient_accumulation_boundary())
    # DeepSpeed keeps no norm without ZeRO, and its step throws the gradients away, so they are measured before it.
    plain = engine.zero_optimization_stage() == 0
    if plain and ours and engine.world_size > 1:
        engine.buffered_allreduce_fallback()  # else only the step takes their mean over all processes
    norm = gradient_norm(engine.module) if plain and last else None
    engine.step()
    if not last:
        return None
    if not plain:
        norm = engine.get_global_grad_norm()
    return None if norm is None else float(norm)


def gradient_norm(module: torch.nn.Module) -> float:
    """Norm of the gradients that lie in a module's parameters, all together; 0.0 where there are none."""
    norms = [parameter.grad.float().norm() for parameter in module.parameters() if parameter.grad is not None]
    return float(torch.stack(norms).norm()) if norms else 0.0
