"""What holds for the repository as a whole: layers, style, size, secrets, and what README promises."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

SECRETS = {
    "private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}\b",
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{60,})\b",
    "PyPI token": r"\bpypi-[A-Za-z0-9_-]{50,}",
    "cloud access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "API key": r"\bsk-[A-Za-z0-9_-]{32,}",
    "password in an address": r"\b[a-z]+://[^\s/:@'\"]+:[^\s/:@'\"{}<>$]+@",
    "assigned secret": r"(?i)\b(?:password|secret|api_?key|token)\s*[:=]\s*['\"][A-Za-z0-9+/_-]{20,}['\"]",
}


def tool(name: str) -> str:
    """Path of a command in the environment of this interpreter."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found, f"{name} is not installed; pip install -e '.[test]'"
    return found


def kept_files(repository: Path) -> list[Path]:
    """The files that git tracks or would track."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=repository, capture_output=True, check=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (path := repository / name).is_file()]


def secrets_in(text: str) -> list[str]:
    """What kinds of secrets a text holds."""
    return [kind for kind, pattern in SECRETS.items() if re.search(pattern, text)]


@pytest.mark.parametrize("kind", SECRETS)
def test_the_scan_knows_a_secret_when_it_sees_one(kind):
    # Put together here, so that this file holds none itself.
    samples = {
        "private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
        "Hugging Face token": "hf_" + "a1B2" * 9,
        "GitHub token": "ghp_" + "a1B2" * 9,
        "PyPI token": "pypi-" + "AgEI" * 15,
        "cloud access key": "AKIA" + "ABCD" * 4,
        "API key": "sk-" + "a1B2" * 10,
        "password in an address": "https://user" + ":pass@host/",
        "assigned secret": "api_key" + " = '" + "a1B2" * 6 + "'",
    }
    assert kind in secrets_in(f"before {samples[kind]} after")


def test_no_file_holds_a_secret(repository):
    found = {}
    for path in kept_files(repository):
        content = path.read_bytes()
        if b"\0" not in content[:8192] and (kinds := secrets_in(content.decode("utf-8", "replace"))):
            found[str(path.relative_to(repository))] = kinds
    assert found == {}


def test_no_source_file_is_long(repository):
    lengths = {
        str(path.relative_to(repository)): len(path.read_text(encoding="utf-8").splitlines())
        for path in kept_files(repository)
        if path.suffix == ".py"
    }
    assert len(lengths) > 20
    assert {name: length for name, length in lengths.items() if length > 400} == {}


@pytest.mark.parametrize(
    "command", [("ruff", "check"), ("ruff", "format", "--check"), ("lint-imports", "--no-cache")], ids=" ".join
)
def test_style_format_and_layers_hold(repository, command):
    result = subprocess.run([tool(command[0]), *command[1:]], cwd=repository, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"], ["hierarchy", "show", "dog:head"]])
def test_help_and_names_need_no_heavy_library(repository, arguments):
    script = (
        "import json, sys\n"
        "from langhops_cli.cli.app import app\n"
        "try:\n"
        f"    app({arguments!r})\n"
        "except SystemExit as end:\n"
        "    code = end.code\n"
        "print(json.dumps([code, sorted({name.partition('.')[0] for name in sys.modules})]))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=repository, capture_output=True, text=True, check=True)
    code, modules = json.loads(result.stdout.splitlines()[-1])
    assert code == 0
    heavy = {"torch", "transformers", "deepspeed", "datasets", "peft", "scipy", "pandas", "pyarrow", "numpy", "PIL"}
    assert heavy.intersection(modules) == set()


def commands_of(readme: str) -> list[str]:
    """The lines of the README's shell blocks."""
    blocks = re.findall(r"```bash\n(.*?)```", readme, flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_ci_runs_the_test_command_of_the_readme(repository):
    commands = commands_of((repository / "README.md").read_text(encoding="utf-8"))
    script = (repository / ".ci" / "run").read_text(encoding="utf-8")
    pattern = re.search(r"sed -n 's/\^\\\((?P<line>.*?)\\\)\$/", script)
    assert pattern, ".ci/run takes its command from README.md"
    taken = [line for line in commands if re.fullmatch(pattern["line"], line)]
    assert taken == ["pip install -e '.[test]' && pytest"]


def test_the_pictures_have_a_licence_each_and_are_small(repository):
    pictures = sorted((repository / "imgs").glob("*.jpg"))
    licences = (repository / "imgs" / "LICENSES.md").read_text(encoding="utf-8")
    assert len(pictures) >= 3
    assert [path.name for path in pictures if f"`{path.name}`" not in licences] == []
    assert sum(path.stat().st_size for path in pictures) < 600_000


def test_the_bounds_of_torch_keep_pip_off_a_larger_build(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "torch>=2.6,<2.14" in project["dependencies"]
    assert not [name for name in project["dependencies"] if name.startswith(("torchvision", "timm"))]


def test_every_library_that_is_imported_is_a_declared_dependency(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [name for names in project["optional-dependencies"].values() for name in names]
    declared = {re.split(r"[<>=\[ ]", name)[0].replace("-", "_") for name in [*project["dependencies"], *extras]}
    imported = set()
    for path in (repository / "langhops_cli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    distributions = {"PIL": "pillow", "yaml": "pyyaml"}
    libraries = {distributions.get(name, name) for name in imported - sys.stdlib_module_names - {"langhops_cli"}}
    assert {"torch", "typer"} <= libraries
    assert libraries - declared == set()


def test_the_files_that_the_readme_shows_exist(repository):
    readme = (repository / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", readme) if "://" not in link]
    assert len(links) >= 3
    assert [link for link in links if not (repository / link).exists()] == []
