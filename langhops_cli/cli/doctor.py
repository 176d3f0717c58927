"""`langhops doctor`: what can run here, and what to do about what cannot."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.text import Text
from typer import Exit, Option

from langhops_cli.cli.console import out, print_json, say
from langhops_cli.errors import ENVIRONMENT

if TYPE_CHECKING:
    from langhops_cli.checkpoint.access import BaseModel
    from langhops_cli.checkpoint.environment import Facts, Verdict
    from langhops_cli.checkpoint.hardware import Hardware

Mark = Literal["ok", "no", "note"]
STYLES: dict[Mark, str] = {"ok": "green", "no": "bold red", "note": "yellow"}
SHOWN = ("torch", "transformers", "deepspeed", "peft", "datasets", "pycocotools")
"""The required packages whose versions are told when they are fine; of the others only what is wrong."""


@dataclass(frozen=True)
class Line:
    """A line of the report: its mark, what it is about, and what there is to say."""

    mark: Mark
    about: str
    text: str


def doctor(
    offline: Annotated[bool, Option("--offline", help="Do not ask the Hub whether it gives the base models.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Tell what can run here (versions, memory, GPU, access) and what to do about what cannot.

    It runs the embedded model on a blank picture, and asks the Hub for the base models of the paper's model for some
    seconds at most; it downloads nothing. The exit code is 4 if the embedded model does not run.

    Example: langhops doctor --offline
    """
    from langhops_cli.checkpoint.environment import gather_facts, verdicts

    facts = gather_facts(run_embedded=run_embedded, offline=offline)
    judged = verdicts(facts)
    if as_json:
        print_json(asdict(facts) | {"verdicts": [asdict(verdict) for verdict in judged]})
    else:
        print_report(facts, judged)
    if not judged[0].possible:
        raise Exit(ENVIRONMENT)


def run_embedded() -> None:
    """Let the embedded model look at a blank picture."""
    import numpy as np

    from langhops_cli.prediction.predictor import Predictor

    Predictor.from_pretrained().predict(np.zeros((64, 64, 3), np.uint8), "car:wheel")


def print_report(facts: Facts, judged: Sequence[Verdict]) -> None:
    """Print all of it, for one screen of 80 columns."""
    _print_lines("Versions", list(_versions(facts)))
    _print_lines("Hardware", list(_hardware(facts.hardware)))
    _print_lines("Access", [*_shipped(facts.embedded_bases), *map(_fetched, facts.paper_bases)])
    lines = [Line("ok" if verdict.possible else "no", verdict.what, verdict.text) for verdict in judged]
    _print_lines("What can run here", lines)
    first = judged[0]
    say("The embedded model runs here." if first.possible else f"The embedded model does not run here: {first.text}")


def _versions(facts: Facts) -> Iterator[Line]:
    from langhops_cli import __version__
    from langhops_cli.checkpoint.environment import pip_command

    if facts.langhops is None:
        yield Line("note", "langhops", "not installed, so that no version can be checked: pip install -e .")
    if not facts.python.fits:
        yield Line("no", "python", f"{facts.python.found}, and langhops wants {facts.python.wanted}")
    for package in facts.packages:
        if not package.fits:
            yield Line("no", package.name, f"{package.found or 'not installed'}: {pip_command([package])}")
    fine = {package.name: package.found for package in facts.packages if package.fits}
    if facts.torch_fault is not None:
        fine.pop("torch", None)
        yield Line("no", "torch", facts.torch_fault)
    found = [f"{name} {fine[name]}" for name in SHOWN if name in fine]
    known = f"langhops {facts.langhops or __version__}, python {facts.python.found}"
    yield Line("ok", "", ", ".join([known, *found]))


def _hardware(hardware: Hardware) -> Iterator[Line]:
    yield Line("ok", "CPU", f"{hardware.cores} core{'s' if hardware.cores > 1 else ''}")
    total, free = _gigabytes(hardware.memory_bytes), _gigabytes(hardware.free_memory_bytes)
    memory = "unknown" if total is None else f"{total}, free {free or 'unknown'}"
    yield Line("note" if total is None else "ok", "memory", memory)
    disk = _gigabytes(hardware.free_disk_bytes)
    place = "" if hardware.cache is None else f" for downloads, in {_short(hardware.cache)}"
    yield Line("note" if disk is None else "ok", "disk", "unknown" if disk is None else f"{disk} free{place}")
    for gpu in hardware.gpus:
        yield Line("ok", "GPU", f"{gpu.name}, {_gigabytes(gpu.memory_bytes)}, {'bf16' if gpu.bf16 else 'no bf16'}")
    if not hardware.gpus:
        metal = "; torch has Metal (mps), which langhops does not use" if hardware.mps else ""
        yield Line("note", "GPU", f"{hardware.why_no_gpu}{metal}")


def _shipped(bases: Sequence[BaseModel]) -> Iterator[Line]:
    """The base models of the embedded model: one line if all are here."""
    for base in bases:
        if base.state == "missing":
            yield Line("no", base.source, base.remedy)
    if any(base.state == "unknown" for base in bases):
        yield Line("note", "embedded model", "unknown without torch")
    if all(base.there for base in bases):
        yield Line("ok", "embedded model", "base models installed")


def _fetched(base: BaseModel) -> Line:
    """Short, so that the whole name of a model has room beside it; the verdicts say what to do."""
    said = {
        "cached": "in the Hub cache",
        "reachable": "the Hub gives it",
        "gated": "licence not accepted",
        "refused": "refused by the Hub",
        "offline": "HF_HUB_OFFLINE is set",
        "unreachable": "no answer of the Hub",
        "unknown": "not here, not asked",
    }
    return Line("ok" if base.there else "note" if base.state == "unknown" else "no", base.source, said[base.state])


def _print_lines(title: str, lines: Sequence[Line]) -> None:
    """Print a section: aligned, broken at the width of a terminal, unbroken where another program reads it."""
    out.print(Text(title, "bold"))
    width = max(len(line.about) for line in lines)
    for line in lines:
        indent = 8 + (width + 2 if line.about else 0)
        room = max(out.width - indent, 24) if out.is_terminal else 10_000
        first, *more = _wrap(line.text, room)
        about = f"{line.about:<{width}}  " if line.about else ""
        out.print(Text.assemble("  ", (f"{line.mark:<4}", STYLES[line.mark]), "  ", about, first), soft_wrap=True)
        for text in more:
            say(" " * indent + text)


def _wrap(text: str, room: int) -> list[str]:
    """Break a text into lines, but never a command, which is to be copied."""
    glued = re.sub(r"`[^`]*`|pip install .*", lambda command: command[0].replace(" ", "\N{NO-BREAK SPACE}"), text)
    lines = textwrap.wrap(glued, room, break_long_words=False, break_on_hyphens=False) or [""]
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def _gigabytes(number: int | None) -> str | None:
    return None if number is None else f"{number / 1e9:.1f} GB"


def _short(path: str) -> str:
    """A path with ~ for the home folder."""
    try:
        return f"~/{Path(path).relative_to(Path.home()).as_posix()}"
    except (ValueError, RuntimeError):
        return path
