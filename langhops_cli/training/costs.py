"""What a training will take: disk, memory, pictures and time."""

from __future__ import annotations

import os
from itertools import islice

import torch

from langhops_cli.checkpoint.hardware import free_disk, read_gpus, read_memory
from langhops_cli.errors import ENVIRONMENT, UserError
from langhops_cli.training.engine import settings
from langhops_cli.training.logging import duration
from langhops_cli.training.memory import BUCKET, MemoryEstimate, estimate_memory
from langhops_cli.training.prospect import Found, Prospect
from langhops_cli.training.recipe import Recipe
from langhops_cli.training.sinks import read_reports

STEP_BYTES = {0: 12, 1: 16, 2: 16, 3: 16}
"""Bytes of a save for each trained parameter, by ZeRO stage: weight, two moments, and the copy that is updated."""
RECENT = 20
"""Reports of an earlier start from which the pace is taken."""


def disk(plan: Prospect) -> Found:
    """The checkpoint, its successor, the best one, and one save more than are kept have room."""
    there = next(path for path in (plan.folder.absolute(), *plan.folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UserError(
            f"{plan.folder} cannot be written: {there} is no folder that you may write to", code=ENVIRONMENT
        )
    free = free_disk(plan.folder)
    if plan.model is None:
        return Found("note", f"{_size(free)} are free; what is needed is not known: {plan.why_unknown}")
    state = plan.model.state_dict()
    checkpoint = sum(4 * state[name].numel() for name in plan.model.saved_names())
    logging = plan.recipe.logging
    save = STEP_BYTES[plan.recipe.distributed.zero] * plan.counts[0]
    copies = 3 if logging.evaluate_every else 2
    need = copies * checkpoint + (logging.keep + 1) * save
    used = sum(path.stat().st_size for path in plan.folder.rglob("*") if path.suffix in (".safetensors", ".pt"))
    each = f"a checkpoint takes {_size(checkpoint)}, a save to go on from {_size(save)}, {logging.keep} are kept"
    if free is not None and need > free + used:
        return Found(
            "no",
            f"{plan.folder} needs {_size(need)}, {_size(free + used)} are free: make room, or choose another --out "
            f"({each})",
            code=ENVIRONMENT,
        )
    return Found("note" if free is None else "ok", f"{_size(need)} of {_size(free)} that are free; {each}")


def batch(plan: Prospect) -> Found:
    """Pictures a step, and what is learned of them how fast."""
    data, optimizer, distributed = plan.recipe.data, plan.recipe.optimizer, plan.recipe.distributed
    few = f"{plan.processes} processes" if plan.processes > 1 else "1 process"
    text = (
        f"{plan.pictures} pictures a step ({data.batch} x {data.accumulate} accumulated x {few}), {data.image_size} px"
    )
    offload = "" if distributed.offload == "none" else f", offload {distributed.offload}"
    rate = f"learning rate {optimizer.learning_rate:g}, backbone x {optimizer.backbone_multiplier:g}"
    return Found("ok", f"{text}; {rate}; ZeRO {distributed.zero}{offload}, {distributed.precision}")


def parameters(plan: Prospect) -> Found:
    """How many are trained."""
    if plan.model is None:
        return Found("note", f"not known: {plan.why_unknown}")
    trained, frozen = plan.counts
    return Found("ok", f"{trained / 1e6:,.1f} M trained, {frozen / 1e6:,.1f} M frozen")


def memory(plan: Prospect) -> Found:
    """What is sure must fit; what is estimated is told."""
    gpus, _ = read_gpus(torch)
    total, free = read_memory()
    if plan.model is None:
        return Found("note", f"not known: {plan.why_unknown}")
    known = [dataset.vocabulary for dataset in plan.sets if dataset is not None]
    sizes = ([len(names.object_names) for names in known], [len(names.part_classes) for names in known])
    zero = settings(plan.recipe)["zero_optimization"]
    try:
        estimate = estimate_memory(
            plan.model,
            plan.recipe,
            plan.config,
            processes=plan.processes,
            names=(max(sizes[0], default=20), max(sizes[1], default=60)),
            device="cuda" if gpus else "cpu",
            bucket=int(zero.get("reduce_bucket_size", BUCKET)),
        )
    except (RuntimeError, NotImplementedError) as error:  # an operation that asks a tensor for more than its shape
        return Found("note", f"not estimated ({(str(error).splitlines() or ['unknown'])[0]})")
    room = min(gpu.memory_bytes for gpu in gpus) if gpus else total
    times = 1 if gpus else plan.local
    host = estimate.host * plan.local
    where = f"the GPU's {_size(room)}" if gpus else f"this machine's {_size(room)}"
    text = f"about {_size(times * estimate.total)} of {where}" + (f" for {times} processes" if times > 1 else "")
    details = [_shares(estimate, plan.processes)]
    if host:
        details.append(f"and {_size(host)} of this machine's own {_size(total)}, by distributed.offload")
    remedy = _cheaper(plan.recipe)
    if (room is not None and times * estimate.sure > room) or (total is not None and host > total):
        return Found(
            "no", f"{text}, {_size(times * estimate.sure)} of it for sure: {remedy}", tuple(details), ENVIRONMENT
        )
    if room is not None and times * estimate.total > room:
        return Found("note", f"{text}, which may not be enough: {remedy}", tuple(details))
    if not gpus and free is not None and times * estimate.total > free:
        return Found(
            "note", f"{text}, of which {_size(free)} are free: end other programs, or {remedy}", tuple(details)
        )
    return Found("ok", f"{text} (estimated)", tuple(details))


def _shares(estimate: MemoryEstimate, processes: int) -> str:
    parts = ("weights", "gradients", "optimizer", "activations", "program")
    named = ", ".join(f"{name} {_size(getattr(estimate, name))}" for name in parts)
    return named + (" on each process" if processes > 1 else "")


def _cheaper(recipe: Recipe) -> str:
    """The settings that take memory away, those that are in use left out."""
    distributed = recipe.distributed
    ways = [f"lower data.batch ({recipe.data.batch})"] if recipe.data.batch > 1 else []
    ways.append(f"lower data.image_size ({recipe.data.image_size})")
    if not distributed.checkpoint_activations:
        ways.append("set distributed.checkpoint_activations=true")
    if distributed.zero < 3:
        ways.append(f"raise distributed.zero ({distributed.zero})")
    elif distributed.offload != "parameters":
        ways.append("set distributed.offload=parameters")
    return ", ".join(ways[:-1]) + f" or {ways[-1]}" if len(ways) > 1 else ways[0]


def steps(plan: Prospect) -> Found:
    """How often each set is gone through."""
    recipe = plan.recipe
    total = recipe.schedule.steps * plan.pictures
    ratios = sum(item.ratio for item in recipe.data.train)
    lines = []
    for item, dataset in zip(recipe.data.train, plan.sets, strict=True):
        seen = total * item.ratio / ratios
        times = "" if dataset is None else f", {seen / len(dataset):.3g} times through"
        lines.append(f"{item.name or item.stream}: {seen:,.0f} pictures{times}")
    done = f", {plan.saved:,} of them done" if plan.saved else ""
    text = f"{recipe.schedule.steps:,} steps{done}, {total:,} pictures"
    if plan.saved >= recipe.schedule.steps:
        return Found("note", f"{text}: the run is done; a larger schedule.steps goes on with it", tuple(lines))
    return Found("ok", text, tuple(lines))


def time(plan: Prospect) -> Found:
    """From the pace of an earlier start; a step is too slow to be tried for this."""
    schedule = plan.recipe.schedule
    limit = "" if schedule.minutes is None else f"; stops and saves after {schedule.minutes:g} minutes"
    paces = [
        record["seconds_per_step"]
        for record in read_reports(plan.folder / "log.jsonl")
        if isinstance(record.get("seconds_per_step"), int | float)
    ]
    left = max(0, schedule.steps - plan.saved)
    recent = list(islice(reversed(paces), RECENT))
    if not recent:
        return Found("note", f"not known before the first steps, which tell it{limit}")
    pace = sum(recent) / len(recent)
    return Found("ok", f"{duration(pace * left)} for {left:,} steps, at the {pace:.2f} s a step of before{limit}")


def _size(number: int | None) -> str:
    if number is None:
        return "an unknown size"
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.0f} MB"
