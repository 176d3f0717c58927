"""What can go wrong in a step, in one line: losses that are no numbers, too little memory, a rank that is gone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from langhops_cli.checkpoint.files import write_text, write_whole
from langhops_cli.errors import TRAINING, UserError

if TYPE_CHECKING:
    from langhops_cli.data.collate import Batch
    from langhops_cli.training.recipe import Recipe

NO_MEMORY = ("out of memory", "DefaultCPUAllocator", "can't allocate memory", "Cannot allocate memory")
"""What errors of PyTorch say when memory runs out and their type does not."""
LOST = ("Connection closed by peer", "Connection reset by peer", "gloo", "NCCL", "Broken pipe", "Timed out waiting")
"""What errors of the collectives say when another rank does not answer."""


class RankLost(UserError):  # noqa: N818 - it names what happened
    """Another rank of the run is gone: what there is to say of it is said once, by the first rank."""


@dataclass(frozen=True)
class Fault:
    """A batch whose loss is no number.

    Args:
        what: which loss, and what it is.
        pictures: of the batch.
        rank: that met it.
    """

    what: str
    pictures: tuple[str, ...]
    rank: int

    def __str__(self) -> str:
        return f"{self.what}; the batch was {', '.join(self.pictures)}"


def not_finite(losses: Mapping[str, float]) -> str | None:
    """The first loss that is no number, in words; None where all are."""
    guilty = next((name for name, value in losses.items() if not math.isfinite(value)), None)
    return None if guilty is None else f"the loss {guilty} is {losses[guilty]}"


def write_bundle(
    folder: Path,
    fault: Fault,
    *,
    recipe: Recipe,
    step: int,
    seed: int,
    batch: Batch,
    losses: Mapping[str, float],
    output: object,
    model: nn.Module,
) -> None:
    """Write what is needed to find out why a loss is no number.

    `report_rankN.json` holds the step, the pictures, the seed of its random numbers, the losses by name, and of the
    predictions and the parameters those that are not finite; `batch_rankN.pt` the batch, as nested plain values;
    `recipe.yaml` the recipe.

    Args:
        folder: `RUN/debug/step_N`.
        fault: of this rank.
        recipe: of the run; step: from 1; seed: of the batch's random numbers.
        batch: as the loader gave it.
        losses: by name, as far as they were computed.
        output: what the model said.
        model: where ZeRO 3 has spread it, this rank's share is looked at.
    """
    report = {
        "step": step,
        "rank": fault.rank,
        "what": fault.what,
        "pictures": list(fault.pictures),
        "seed": seed,
        "losses": {name: str(value) if not math.isfinite(value) else value for name, value in losses.items()},
        "predictions": dict(_not_finite_within(output)),
        "parameters": {
            name: statistics(getattr(parameter, "ds_tensor", parameter))
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and not torch.isfinite(getattr(parameter, "ds_tensor", parameter)).all()
        },
    }
    write_text(folder / f"report_rank{fault.rank}.json", json.dumps(report, indent=2) + "\n")
    write_whole(folder / f"batch_rank{fault.rank}.pt", lambda path: torch.save(plain(batch), path))
    write_text(folder / "recipe.yaml", recipe.to_yaml())


def statistics(tensor: Tensor) -> dict[str, Any]:
    """Shape of a tensor, how many of its numbers are NaN or infinite, and the range of the others."""
    values = tensor.detach().float()
    finite = values[torch.isfinite(values)]
    return {
        "shape": list(tensor.shape),
        "nan": int(values.isnan().sum()),
        "infinite": int(values.isinf().sum()),
        "smallest": float(finite.min()) if finite.numel() else None,
        "largest": float(finite.max()) if finite.numel() else None,
    }


def _not_finite_within(value: object, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Floating tensors somewhere in a structure that are not all finite, by their place in it."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and not torch.isfinite(value).all():
            yield path, statistics(value)
    elif is_dataclass(value):
        for item in fields(value):
            yield from _not_finite_within(getattr(value, item.name), f"{path}.{item.name}".lstrip("."))
    elif isinstance(value, tuple | list):
        for number, item in enumerate(value):
            yield from _not_finite_within(item, f"{path}.{number}")


def plain(value: Any) -> Any:
    """A structure of dataclasses as mappings, lists and tensors on the CPU, that loads without our classes."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def in_one_line(error: BaseException, *, recipe: Recipe, step: int, saved: int | None) -> UserError | None:
    """What an error in the middle of a run means to its user; None for one that is a mistake of ours.

    Args:
        error: as it was raised.
        recipe: of the run.
        step: that it came in, from 1.
        saved: steps of the newest save; None where there is none.
    """
    said = str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in said for text in NO_MEMORY):
        return UserError(f"step {step}: {_memory(error, recipe, saved)}", code=TRAINING)
    if "DataLoader worker" in said and "killed" in said:
        return UserError(
            f"step {step}: a process that reads pictures was killed, as a machine does whose memory is full: lower "
            f"data.workers (now {recipe.data.workers}) or data.batch (now {recipe.data.batch}); {_going_on(saved)}",
            code=TRAINING,
        )
    if isinstance(error, torch.distributed.DistError) or any(text in said for text in LOST):
        return RankLost(
            f"step {step}: another rank of the run has ended or does not answer; what it said stands above or in its "
            f"own output; {_going_on(saved)}",
            code=TRAINING,
        )
    return None


def _memory(error: BaseException, recipe: Recipe, saved: int | None) -> str:
    distributed, data = recipe.distributed, recipe.data
    where = "the GPU's" if isinstance(error, torch.OutOfMemoryError) or "CUDA" in str(error) else "the machine's"
    third, resumable = "set distributed.checkpoint_activations=true (now false)", True
    if distributed.checkpoint_activations:  # then the next one that is not in use yet
        third, resumable = f"raise distributed.zero (now {distributed.zero})", False
    if distributed.checkpoint_activations and distributed.zero == 3:
        third, resumable = f"set distributed.offload=parameters (now {distributed.offload})", True
    way = _going_on(saved) + (
        ", with that last change alone, or start from it with --init" if resumable and saved else ""
    )
    return (
        f"{where} memory ran out: lower data.batch (now {data.batch}; data.accumulate makes up for it) or "
        f"data.image_size (now {data.image_size}), or {third}; {way}"
    )


def _going_on(saved: int | None) -> str:
    if saved is None:
        return "nothing was saved yet, so start again"
    return f"the save of step {saved} is whole: the same command goes on from it"
