import sys
from dataclasses import replace
from importlib import metadata

import pytest

from langhops_cli.checkpoint import environment
from langhops_cli.checkpoint.access import REMEDIES, BaseModel
from langhops_cli.checkpoint.environment import LOADING_BYTES, Facts, Package, gather_facts, read_packages, verdicts
from langhops_cli.checkpoint.hardware import NO_CUDA, Gpu, Hardware
from langhops_cli.checkpoint.precision import INSTALL
from langhops_cli.errors import UserError

EMBEDDED, MINI, BF16, FOUR_BIT, TRAIN = range(5)
GPU = Gpu("H100", 80 * 10**9, bf16=True)
HARDWARE = Hardware(8, 32 * 10**9, 20 * 10**9, "/cache", 10**12, (GPU,))
GOOD = Facts(
    python=Package("python", ">=3.11", "3.12.1"),
    langhops="0.1.0",
    packages=(Package("torch", ">=2.6,<2.14", "2.13.0+cpu"), Package("deepspeed", ">=0.19,<0.20", "0.19.8")),
    extra=(Package("bitsandbytes", ">=0.46.1", "0.47"),),
    hardware=HARDWARE,
    torch_fault=None,
    embedded_fault=None,
    embedded_bases=(BaseModel("package:minilm", "installed"),),
    paper_bases=(BaseModel("o/swin", "cached"), BaseModel("o/clip", "cached"), BaseModel("o/gemma", "cached")),
)


def judge(**changes):
    return verdicts(replace(GOOD, **changes))


def possible(judged):
    return [number for number, verdict in enumerate(judged) if verdict.possible]


def bases(*states):
    return tuple(BaseModel(f"o/m{n}", state, REMEDIES.get(state, "")) for n, state in enumerate(states))


def test_where_all_is_there_all_can_run():
    judged = judge()
    assert possible(judged) == [EMBEDDED, MINI, BF16, FOUR_BIT, TRAIN]
    assert {verdict.text for verdict in judged} == {"on the GPU"}


def test_without_a_gpu_the_full_model_can_be_loaded_but_not_trained():
    judged = judge(hardware=replace(HARDWARE, gpus=(), why_no_gpu=NO_CUDA))
    assert possible(judged) == [EMBEDDED, MINI, BF16]
    assert judged[MINI].text == "on the CPU"
    assert judged[TRAIN].text == "use a machine with a CUDA GPU, and a build of torch that has CUDA"
    old = judge(hardware=replace(HARDWARE, gpus=(), why_no_gpu="the driver is too old"))
    assert old[FOUR_BIT].text == "use a machine with a CUDA GPU (the driver is too old)"


@pytest.mark.parametrize(
    ("total", "free", "words"),
    [
        (32 * 10**9, LOADING_BYTES - 1, "needs 10 GB of host memory, 10.0 GB are free: end other programs"),
        (8 * 10**9, 6 * 10**9, "of which there are 6.0 GB: use a larger machine"),
        (8 * 10**9, None, "of which there are 8.0 GB: use a larger machine"),
    ],
)
def test_too_little_memory_stops_all_that_is_loaded_through_it(total, free, words):
    judged = judge(hardware=replace(HARDWARE, memory_bytes=total, free_memory_bytes=free))
    assert possible(judged) == [EMBEDDED, MINI, FOUR_BIT]
    assert judged[BF16].text == judged[TRAIN].text
    assert words in judged[BF16].text


@pytest.mark.parametrize("free", [LOADING_BYTES, None])
def test_memory_that_suffices_or_is_unknown_stops_nothing(free):
    total = None if free is None else 32 * 10**9
    assert BF16 in possible(judge(hardware=replace(HARDWARE, memory_bytes=total, free_memory_bytes=free)))


@pytest.mark.parametrize("found", [None, "0.40.0"])
def test_a_gpu_without_bitsandbytes_does_all_but_4_bits(found):
    judged = judge(extra=(Package("bitsandbytes", ">=0.46.1", found),))
    assert possible(judged) == [EMBEDDED, MINI, BF16, TRAIN]
    assert judged[FOUR_BIT].text == INSTALL


@pytest.mark.parametrize(
    ("states", "text"),
    [
        (("cached", "gated", "unreachable"), "o/m1: accept its licence on its Hub page, then `hf auth login`"),
        (("unreachable", "refused", "cached"), "o/m1: `hf auth login` with an account that may have it"),
        (("unreachable",) * 3, "3 base models: connect to the Hub once, or point the recipe at a local copy"),
        (("cached", "offline", "offline"), "2 base models: unset HF_HUB_OFFLINE once, or point the recipe at a local"),
        (("cached", "cached", "unknown"), "o/m2: leave --offline out, so that the Hub is asked"),
    ],
)
def test_what_the_hub_does_not_give_is_told_with_what_to_do_first(states, text):
    judged = judge(paper_bases=bases(*states))
    assert possible(judged) == [EMBEDDED, MINI]
    assert judged[BF16].text.startswith(text)
    assert judged[BF16].text == judged[FOUR_BIT].text == judged[TRAIN].text


def test_what_the_hub_gives_need_not_be_here_yet():
    judged = judge(paper_bases=bases("cached", "reachable", "reachable"))
    assert possible(judged) == [EMBEDDED, MINI, BF16, FOUR_BIT, TRAIN]
    assert judged[BF16].text == "on the GPU; the Hub gives what is not here yet"


def test_an_unfit_version_stops_training_and_not_what_was_seen_to_run():
    judged = judge(packages=(Package("torch", ">=2.6,<2.14", "2.14.1"), GOOD.packages[1]))
    assert possible(judged) == [EMBEDDED, BF16, FOUR_BIT]
    assert judged[MINI].text == judged[TRAIN].text == "pip install 'torch>=2.6,<2.14'"


def test_an_unfit_version_is_the_first_suspect_where_the_embedded_model_does_not_run():
    unfit = (Package("torch", ">=2.6,<2.14", "2.5.0"), GOOD.packages[1])
    assert judge(packages=unfit, embedded_fault="KeyError: x")[EMBEDDED].text == "pip install 'torch>=2.6,<2.14'"
    unknown = judge(embedded_fault="KeyError: x")
    assert possible(unknown) == []
    assert unknown[EMBEDDED].text == "install langhops into a new environment (KeyError: x)"


def test_what_only_training_needs_may_be_missing_for_the_rest():
    judged = judge(packages=(GOOD.packages[0], Package("deepspeed", ">=0.19,<0.20")))
    assert possible(judged) == [EMBEDDED, BF16, FOUR_BIT]
    assert judged[MINI].text == "pip install 'deepspeed>=0.19,<0.20'"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"packages": (Package("peft", ">=0.21"), Package("rich"))}, "pip install 'peft>=0.21' rich"),
        ({"torch_fault": "cannot be imported (OSError: x)"}, "pip install --force-reinstall 'torch>=2.6,<2.14'"),
        ({"embedded_bases": (BaseModel("package:m", "missing", "run: pip install m"),)}, "run: pip install m"),
    ],
)
def test_a_broken_installation_stops_everything_and_the_remedy_is_the_same(changes, text):
    judged = judge(**changes, embedded_fault="it does not run")
    assert possible(judged) == []
    assert {verdict.text for verdict in judged} == {text}


def test_an_old_python_is_named():
    judged = judge(python=Package("python", ">=3.11", "3.10.4"))
    assert judged[MINI].text == "use Python >=3.11"


@pytest.mark.parametrize(
    ("wanted", "found", "fits"),
    [
        (">=2.6,<2.14", "2.13.0+cpu", True),
        (">=2.6,<2.14", "2.14.0", False),
        (">=5.2", "5.3.0rc1", True),
        ("", "0.1", True),
        ("", None, False),
        (">=1", "unknown", False),
    ],
)
def test_which_versions_fit(wanted, found, fits):
    assert Package("x", wanted, found).fits is fits


def test_requirements_come_from_the_installed_package(monkeypatch):
    texts = ["torch<2.14,>=2.6", "absent>=1", "bitsandbytes>=0.46.1; extra == '4bit'", "ruff>=0.17; extra == 'test'"]
    versions = {"torch": "2.13.0", "ruff": "0.17.0"}

    def version(name):
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(environment.metadata, "requires", lambda name: texts)
    monkeypatch.setattr(environment.metadata, "version", version)
    required, extra = read_packages()
    assert required == (Package("torch", ">=2.6,<2.14", "2.13.0"), Package("absent", ">=1"))
    assert extra == (Package("bitsandbytes", ">=0.46.1"),)


def test_a_checkout_that_is_not_installed_has_no_requirements(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    for function in ("requires", "version"):
        monkeypatch.setattr(environment.metadata, function, absent)
    facts = gather_facts(run_embedded=lambda: None, offline=True)
    assert (facts.langhops, facts.packages, facts.extra) == (None, (), (Package("bitsandbytes"),))
    assert verdicts(facts)[EMBEDDED].possible


def test_a_torch_that_cannot_be_imported_is_a_fact_and_no_error(monkeypatch):
    def never():
        raise AssertionError("the embedded model needs torch")

    monkeypatch.setitem(sys.modules, "torch", None)
    facts = gather_facts(run_embedded=never, offline=True)
    assert facts.torch_fault is not None
    assert facts.torch_fault.startswith("cannot be imported (ModuleNotFoundError: ")
    assert facts.hardware.gpus == ()
    assert not verdicts(facts)[EMBEDDED].possible


@pytest.mark.parametrize(
    ("error", "fault"),
    [(UserError("no model here"), "no model here"), (RuntimeError("one\ntwo"), "RuntimeError: one"), (None, None)],
)
def test_what_the_embedded_model_raises_is_a_fact(error, fault):
    def run():
        if error:
            raise error

    facts = gather_facts(run_embedded=run, offline=True)
    assert facts.embedded_fault == fault
    assert verdicts(facts)[EMBEDDED].possible is (error is None)
