import io
import json
from dataclasses import replace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from langhops_cli import __version__
from langhops_cli.checkpoint.access import REMEDIES, BaseModel
from langhops_cli.checkpoint.environment import Facts, Package, verdicts
from langhops_cli.checkpoint.hardware import NO_CUDA, Gpu, Hardware
from langhops_cli.cli import console, doctor
from langhops_cli.cli.app import app
from langhops_cli.model.configuration import ModelConfig

run = CliRunner()
VERSIONS = {"torch": "2.13.0+cpu", "transformers": "5.23.0", "deepspeed": "0.19.8", "peft": "0.21.2", "rich": "15.0.0"}
PAPER = ModelConfig.preset("paper")
IDS = (PAPER.backbone.source, PAPER.text.base.source, PAPER.refiner.base.source)
FACTS = Facts(
    python=Package("python", ">=3.11", "3.11.7"),
    langhops="0.1.0",
    packages=tuple(Package(name, "", version) for name, version in VERSIONS.items()),
    extra=(Package("bitsandbytes"),),
    hardware=Hardware(2, 25 * 10**9, 22 * 10**9, "/cache/hub", 68 * 10**9, (), why_no_gpu=NO_CUDA),
    torch_fault=None,
    embedded_fault=None,
    embedded_bases=(BaseModel("package:minilm", "installed"),),
    paper_bases=tuple(BaseModel(source, "unreachable", REMEDIES["unreachable"]) for source in IDS),
)


@pytest.fixture
def report(monkeypatch):
    """Runs the command where the facts are as given."""

    def invoke(*arguments, **changes):
        facts = replace(FACTS, **changes)
        monkeypatch.setattr("langhops_cli.checkpoint.environment.gather_facts", lambda **options: facts)
        return run.invoke(app, ["doctor", *arguments], prog_name="langhops")

    return invoke


@pytest.fixture
def screen(monkeypatch):
    """What a terminal of 80 columns shows."""

    def show(**changes):
        file = io.StringIO()
        terminal = Console(file=file, force_terminal=True, width=80, color_system=None, highlight=False)
        monkeypatch.setattr(console, "out", terminal)
        monkeypatch.setattr(doctor, "out", terminal)
        facts = replace(FACTS, **changes)
        doctor.print_report(facts, verdicts(facts))
        return file.getvalue().splitlines()

    return show


def test_on_this_machine_the_embedded_model_runs():
    result = run.invoke(app, ["doctor", "--offline", "--json"], prog_name="langhops")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["verdicts"][0] == {
        "what": "predict, eval (embedded)",
        "possible": True,
        "text": f"on the {'GPU' if told['hardware']['gpus'] else 'CPU'}",
    }
    assert [base["source"] for base in told["paper_bases"]] == list(IDS)
    assert {base["state"] for base in told["paper_bases"]} <= {"unknown", "cached"}
    assert {"torch", "typer", "pillow"} <= {package["name"] for package in told["packages"]}
    assert told["hardware"]["cores"] >= 1


def test_a_report_is_plain_aligned_lines(report):
    result = report()
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "Versions",
        "  ok    langhops 0.1.0, python 3.11.7, torch 2.13.0+cpu, transformers 5.23.0, deepspeed 0.19.8, peft 0.21.2",
        "Hardware",
        "  ok    CPU     2 cores",
        "  ok    memory  25.0 GB, free 22.0 GB",
        "  ok    disk    68.0 GB free for downloads, in /cache/hub",
        "  note  GPU     none: this build of torch has no CUDA",
        "Access",
        "  ok    embedded model                                  base models installed",
        "  no    microsoft/swin-large-patch4-window12-384-in22k  no answer of the Hub",
        "  no    openai/clip-vit-base-patch32                    no answer of the Hub",
        "  no    google/paligemma2-3b-pt-448                     no answer of the Hub",
        "What can run here",
        "  ok    predict, eval (embedded)  on the CPU",
        "  ok    train the mini model      on the CPU",
        "  no    load paper model, bf16    3 base models: connect to the Hub once, or point the recipe at a local copy",
        "  no    load paper model, 4-bit   use a machine with a CUDA GPU, and a build of torch that has CUDA",
        "  no    train the paper model     use a machine with a CUDA GPU, and a build of torch that has CUDA",
        "The embedded model runs here.",
    ]
    assert result.stdout.isascii()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"paper_bases": tuple(BaseModel(source, "offline", REMEDIES["offline"]) for source in IDS)},
        {"paper_bases": tuple(BaseModel(source, "gated", REMEDIES["gated"]) for source in IDS)},
        {"hardware": replace(FACTS.hardware, gpus=(Gpu("NVIDIA H100 80GB HBM3", 85 * 10**9, bf16=True),))},
    ],
)
def test_it_fits_a_terminal_of_80_by_24(screen, changes):
    lines = screen(**changes)
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 24


def test_a_command_to_copy_is_not_broken(screen):
    wanted = ">=5.17,!=5.18,!=5.19,!=5.20,<6"
    lines = screen(packages=(Package("transformers", wanted, "4.0"),))
    assert sum(f"pip install 'transformers{wanted}'" in line for line in lines) == 3  # versions, two trainings


def test_what_is_unfit_missing_or_broken_is_told_with_its_command(report):
    packages = (Package("torch", "<2.14", "2.13.0"), Package("peft", ">=0.21", "0.20.0"), Package("scipy", ">=1.14"))
    result = report(packages=packages, torch_fault="cannot be imported (OSError: no libcudart)", embedded_fault="x")
    assert result.exit_code == 4
    assert "  no    peft   0.20.0: pip install 'peft>=0.21'\n" in result.stdout
    assert "  no    scipy  not installed: pip install 'scipy>=1.14'\n" in result.stdout
    assert "  no    torch  cannot be imported (OSError: no libcudart)\n" in result.stdout
    assert result.stdout.endswith("The embedded model does not run here: pip install 'scipy>=1.14'\n")
    assert "torch 2.13.0" not in result.stdout


def test_json_has_the_same_exit_code(report):
    result = report("--json", embedded_fault="KeyError: 'x'")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["embedded_fault"] == "KeyError: 'x'"


def test_what_is_unknown_is_said_to_be(report):
    nothing = Hardware(1, None, None, None, None, mps=True, why_no_gpu=NO_CUDA)
    lost = (BaseModel("package:a", "missing", "run: pip install a"), BaseModel("package:b", "unknown"))
    shown = report(
        langhops=None, python=Package("python", ">=3.11", "3.10.1"), hardware=nothing, embedded_bases=lost
    ).stdout
    assert "  ok    CPU     1 core\n  note  memory  unknown\n  note  disk    unknown\n" in shown
    assert "no CUDA; torch has Metal (mps), which langhops does not use\n" in shown
    assert "  note  langhops  not installed, so that no version can be checked: pip install -e .\n" in shown
    assert "  no    python    3.10.1, and langhops wants >=3.11\n" in shown
    assert f"  ok    langhops {__version__}, python 3.10.1," in shown
    assert "run: pip install a\n" in shown
    assert "unknown without torch\n" in shown


def test_gpus_are_listed(report):
    gpus = (Gpu("H100", 85 * 10**9, bf16=True), Gpu("T4", 16 * 10**9, bf16=False))
    shown = report(hardware=replace(FACTS.hardware, gpus=gpus)).stdout
    assert "  ok    GPU     H100, 85.0 GB, bf16\n  ok    GPU     T4, 16.0 GB, no bf16\n" in shown


def test_a_folder_at_home_is_told_from_there(report, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    home = replace(FACTS.hardware, cache=str(tmp_path / "hub"))
    assert "free for downloads, in ~/hub\n" in report(hardware=home).stdout
