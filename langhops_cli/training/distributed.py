"""A DeepSpeed engine for this process: the environment that it expects, its configuration, its quiet."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


def prepare_environment() -> None:
    """Set what has to be set before torch is imported; what the user has set stays."""
    # Idle threads that spin slow a machine 15 times down as soon as anything else uses a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def join_processes() -> None:
    """Take part in the process group: the launcher's, or a group of one.

    DeepSpeed looks for MPI when RANK and its fellows are missing, and asks a second time for a group that exists.
    """
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if "RANK" not in os.environ:
        alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
        os.environ.update(alone, MASTER_PORT=str(_free_port()))
    _quiet()
    import deepspeed

    # The shared-memory kernels compile for most of a minute at first use; gloo does without.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    _quiet()
    if not deepspeed.comm.is_initialized():
        deepspeed.init_distributed("nccl" if torch.cuda.is_available() else "gloo", verbose=False)


def device() -> torch.device:
    """Where this process computes."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def build_engine(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    zero: int,
    precision: str,
    batch: int,
    clip_norm: float,
) -> Any:
    """A DeepSpeed engine around a model; `join_processes` comes first.

    Args:
        model: on the CPU; the engine moves it.
        optimizer: over the model's trainable parameters.
        zero: how much is sharded: 0 nothing, 1 optimizer state, 2 gradients, 3 parameters.
        precision: "fp32" or "bf16".
        batch: pictures a step on one process.
        clip_norm: largest gradient norm, 0 for none.
    """
    import deepspeed

    settings = {
        "train_micro_batch_size_per_gpu": batch,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": clip_norm,
        "zero_optimization": {"stage": zero},
        # Weights and losses stay float32; matrix products and convolutions run in bfloat16.
        "torch_autocast": {"enabled": precision == "bf16", "dtype": "bfloat16"},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
    return engine


def gathered(model: nn.Module) -> AbstractContextManager[None]:
    """While it lasts, a model that ZeRO 3 has spread over the processes is whole on each of them."""
    import deepspeed

    spread = [parameter for parameter in model.parameters() if hasattr(parameter, "ds_id")]
    return deepspeed.zero.GatheredParameters(spread) if spread else nullcontext()


def is_first() -> bool:
    """Whether this process is the one that writes what all share."""
    return os.environ.get("RANK", "0") == "0"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _quiet() -> None:
    """Keep DeepSpeed's progress notes off the terminal; its warnings and errors stay."""
    os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "warning")
    for name in ("DeepSpeed", "deepspeed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="deepspeed")
