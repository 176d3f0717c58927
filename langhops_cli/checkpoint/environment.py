"""What can run here: facts about packages, machine and access are gathered once, verdicts follow from them alone."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from langhops_cli.checkpoint.access import REMEDIES, BaseModel, ask_hub, base_models_of, find_shipped, hub_cache
from langhops_cli.checkpoint.hardware import NO_CUDA, Hardware, read_hardware
from langhops_cli.errors import UserError
from langhops_cli.model.configuration import ModelConfig

DISTRIBUTION = "langhops"
TRAINING_ONLY = ("deepspeed",)
"""Required packages that nothing but training imports."""
FOUR_BIT = "4bit"
"""The extra that holding a language model in 4 bits needs."""
LOADING_BYTES = 10 * 10**9
"""Free host memory that the paper model in bf16 needs: a whole prediction on a CPU held 8.0 GB at its peak."""


@dataclass(frozen=True)
class Package:
    """An installed package, or one that should be.

    Args:
        name: of the distribution.
        wanted: the versions that fit, ">=5.2,<6"; empty if any does.
        found: the version that is installed, None if there is none.
    """

    name: str
    wanted: str = ""
    found: str | None = None

    @property
    def fits(self) -> bool:
        """Whether the installed version is one of those wanted."""
        if self.found is None:
            return False
        try:
            return SpecifierSet(self.wanted).contains(Version(self.found), prereleases=True)
        except InvalidVersion:
            return False


@dataclass(frozen=True)
class Facts:
    """All that the verdicts depend on.

    Args:
        python: this interpreter, against what langhops requires.
        langhops: its version; None where it runs without having been installed, so that no requirement is known.
        packages: those that langhops requires.
        extra: those that 4 bits need besides.
        hardware: what there is.
        torch_fault: why torch cannot be imported, None if it can.
        embedded_fault: why the embedded model does not run, None if it does.
        embedded_bases: base models of the embedded model, from packages.
        paper_bases: base models of the paper model, from the Hub.
    """

    python: Package
    langhops: str | None
    packages: tuple[Package, ...]
    extra: tuple[Package, ...]
    hardware: Hardware
    torch_fault: str | None
    embedded_fault: str | None
    embedded_bases: tuple[BaseModel, ...]
    paper_bases: tuple[BaseModel, ...]


@dataclass(frozen=True)
class Verdict:
    """Whether something can run here: how if it can, else the one thing to do next."""

    what: str
    possible: bool
    text: str


def gather_facts(*, run_embedded: Callable[[], object], offline: bool = False) -> Facts:
    """Look at this environment; nothing is downloaded, and no error in it ends the look.

    Args:
        run_embedded: runs the embedded model; whatever it raises is the reason why that does not run.
        offline: do not ask the Hub.
    """
    wait_for_hub = ask_hub(base_models_of(ModelConfig.preset("paper")), offline=offline)
    torch, torch_fault = _torch()
    packages, extra = read_packages()
    version = _version(DISTRIBUTION)
    requires_python = "" if version is None else metadata.metadata(DISTRIBUTION)["Requires-Python"]
    return Facts(
        python=Package("python", requires_python or "", platform.python_version()),
        langhops=version,
        packages=packages,
        extra=extra,
        hardware=read_hardware(torch=torch, cache=hub_cache()),
        torch_fault=torch_fault,
        embedded_fault="torch is not to be had" if torch is None else _fault_of(run_embedded),
        embedded_bases=tuple(find_shipped(base.source) for base in base_models_of(ModelConfig.preset("mini"))),
        paper_bases=wait_for_hub(),
    )


def verdicts(facts: Facts) -> tuple[Verdict, ...]:
    """Decide what can run; the embedded model comes first."""
    where = "on the GPU" if facts.hardware.gpus else "on the CPU"
    fetch = [base.source for base in facts.paper_bases if base.state == "reachable"]
    how = f"{where}; the Hub gives what is not here yet" if fetch else where
    broken, unfit, bases = _broken(facts), _unfit(facts), _unavailable(facts.paper_bases)
    memory, gpu = _too_little_memory(facts.hardware), _no_gpu(facts.hardware)
    judged = (
        ("predict, eval (embedded)", broken, where),
        ("train the mini model", broken or unfit, where),
        ("load paper model, bf16", broken or bases or memory, how),
        ("load paper model, 4-bit", broken or gpu or _no_four_bit(facts.extra) or bases, how),
        ("train the paper model", broken or unfit or gpu or bases or memory, how),
    )
    return tuple(Verdict(what, next_step is None, next_step or how) for what, next_step, how in judged)


def pip_command(packages: Sequence[Package], *options: str) -> str:
    """The command that installs packages in versions that fit."""
    names = (f"'{package.name}{package.wanted}'" if package.wanted else package.name for package in packages)
    return " ".join(("pip install", *options, *names))


def read_packages() -> tuple[tuple[Package, ...], tuple[Package, ...]]:
    """Compare what is installed with what the installed langhops requires.

    Returns:
        The packages it requires, and those that 4 bits need besides.
    """
    try:
        texts = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        texts = []
    required, extra = [], []
    for requirement in map(Requirement, texts):
        wanted = ",".join(sorted(map(str, requirement.specifier), reverse=True))  # the lower bound first
        package = Package(requirement.name, wanted, _version(requirement.name))
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            required.append(package)
        elif requirement.marker.evaluate({"extra": FOUR_BIT}):
            extra.append(package)
    return tuple(required), tuple(extra) or (Package("bitsandbytes", "", _version("bitsandbytes")),)


def _broken(facts: Facts) -> str | None:
    """What to do first where the embedded model does not run."""
    missing = [package for package in facts.packages if package.found is None and package.name not in TRAINING_ONLY]
    if missing:
        return pip_command(missing)
    if facts.torch_fault is not None:
        torch = next((package for package in facts.packages if package.name == "torch"), Package("torch"))
        return pip_command([torch], "--force-reinstall")
    lost = [base.remedy for base in facts.embedded_bases if base.state == "missing"]
    if lost or facts.embedded_fault is None:
        return lost[0] if lost else None
    return _unfit(facts) or f"install langhops into a new environment ({facts.embedded_fault})"


def _unfit(facts: Facts) -> str | None:
    if not facts.python.fits:
        return f"use Python {facts.python.wanted}"
    unfit = [package for package in facts.packages if not package.fits]
    return pip_command(unfit) if unfit else None


def _unavailable(bases: Sequence[BaseModel]) -> str | None:
    """What to do about the base models that cannot be had: first what only a person can do."""
    for state in REMEDIES:
        found = [base for base in bases if base.state == state]
        if found:
            what = found[0].source if len(found) == 1 else f"{len(found)} base models"
            return f"{what}: {found[0].remedy}"
    return None


def _too_little_memory(hardware: Hardware) -> str | None:
    free, total = hardware.free_memory_bytes, hardware.memory_bytes
    known = total if free is None else free
    if known is None or known >= LOADING_BYTES:
        return None
    need = f"loading needs {LOADING_BYTES / 1e9:.0f} GB of host memory"
    if total is not None and total >= LOADING_BYTES:
        return f"{need}, {known / 1e9:.1f} GB are free: end other programs"
    return f"{need}, of which there are {known / 1e9:.1f} GB: use a larger machine"


def _no_gpu(hardware: Hardware) -> str | None:
    if hardware.gpus:
        return None
    if hardware.why_no_gpu == NO_CUDA:
        return "use a machine with a CUDA GPU, and a build of torch that has CUDA"
    return f"use a machine with a CUDA GPU ({hardware.why_no_gpu})"


def _no_four_bit(extra: Sequence[Package]) -> str | None:
    if all(package.fits for package in extra):
        return None
    from langhops_cli.checkpoint.precision import INSTALL

    return INSTALL


def _torch() -> tuple[Any | None, str | None]:
    """The module, or why it cannot be imported."""
    found: list[Any] = []
    fault = _fault_of(lambda: found.append(import_module("torch")))
    return (found[0], None) if found else (None, f"cannot be imported ({fault})")


def _fault_of(act: Callable[[], object]) -> str | None:
    try:
        act()
    except Exception as error:  # whatever it is, it is told in a line
        return _line(error)
    return None


def _line(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return first if isinstance(error, UserError) else f"{type(error).__name__}: {first}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
