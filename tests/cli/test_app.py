import json
import os
import subprocess
import sys

import pytest
from typer import Typer
from typer.testing import CliRunner

from langhops_cli import __version__
from langhops_cli.cli.app import ORDER, Commands, app
from langhops_cli.errors import UserError
from langhops_cli.vocabulary import Vocabulary, parse_vocabulary

run = CliRunner()


def invoke(*arguments, application=app):
    return run.invoke(application, arguments, prog_name="langhops")


@pytest.fixture
def failing():
    """An application of ours with commands that fail, each in its own way."""
    application = Typer(cls=Commands, rich_markup_mode=None, pretty_exceptions_enable=False)

    @application.callback()
    def root(debug: bool = False) -> None: ...

    @application.command()
    def fail(kind: str) -> None:
        errors = {
            "data": UserError("imgs/[b].jpg is cut off; give a whole file", code=3),
            "training": UserError("the loss is no number", code=5),
            "missing": FileNotFoundError(2, "No such file or directory", "lost.json"),
            "full": OSError(28, "No space left on device"),
            "bug": RuntimeError("mat1 and mat2\ncannot be multiplied"),
            "keyboard": KeyboardInterrupt(),
        }
        raise errors[kind]

    return application


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("data", 3, "error: imgs/[b].jpg is cut off; give a whole file\n"),
        ("training", 5, "error: the loss is no number\n"),
        ("missing", 3, "error: lost.json: No such file or directory\n"),
        ("full", 3, "error: No space left on device\n"),
        ("bug", 1, "error: unexpected RuntimeError: mat1 and mat2; run it again with --debug to see where\n"),
        ("keyboard", 130, "error: stopped by the keyboard\n"),
    ],
)
def test_whatever_goes_wrong_is_one_line_and_an_exit_code(failing, kind, code, message):
    result = invoke("fail", kind, application=failing)
    assert (result.exit_code, result.stderr.lstrip("\n"), result.stdout) == (code, message, "")


@pytest.mark.parametrize("arguments", [("--debug", "fail", "data"), ("fail", "data", "--debug")])
def test_debug_shows_the_traceback_wherever_it_stands(failing, arguments):
    result = invoke(*arguments, application=failing)
    assert result.exit_code == 3
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("error: imgs/[b].jpg is cut off; give a whole file\n")


def test_help_names_every_command_and_gives_an_example():
    bare, asked = invoke(), invoke("--help")
    assert bare.exit_code == asked.exit_code == 0
    assert "Example: langhops predict imgs/" in asked.stdout
    assert bare.stdout.split() == asked.stdout.split()
    commands = asked.stdout.partition("Commands:")[2].splitlines()[1:]
    assert [line.split()[0] for line in commands] == [*ORDER]


def test_version_is_the_packages():
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"langhops {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("predikt",), "error: No such command 'predikt'"),
        (("--loud",), "error: No such option: --loud; see 'langhops --help'"),
        (("hierarchy",), "error: Missing command; see 'langhops hierarchy --help'"),
        (("hierarchy", "show"), "error: Missing argument 'vocab'; see 'langhops hierarchy show --help'"),
        (("hierarchy", "show", "a", "--json", "--yaml"), "error: --json and --yaml exclude each other"),
        (("hierarchy", "show", "dog:head,,leg"), "error: empty part name\n  dog:head,,leg\n           ^\n"),
    ],
)
def test_mistakes_on_the_command_line_exit_with_2(arguments, message):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert result.stdout == ""


def test_the_tree_shows_counts_and_parts_of_parts():
    result = invoke("hierarchy", "show", "dog:head(ear,eye),leg*4", "[bold]car:wheel")
    assert result.stdout.splitlines() == [
        "2 objects, 5 parts",
        "├── dog",
        "│   ├── head",
        "│   │   ├── ear",
        "│   │   └── eye",
        "│   └── leg x 4",
        "└── [bold]car",
        "    └── wheel",
    ]


def test_long_names_are_not_broken_when_piped():
    name = "a very long name " * 20 + "end"
    assert name in invoke("hierarchy", "show", f"{name}:head").stdout


def test_json_and_yaml_give_the_vocabulary_back(tmp_path):
    text = "dog:head(ear,eye),leg*4; 'étoile [red]'; 狗:頭"
    vocabulary = parse_vocabulary(text)
    assert Vocabulary.from_dict(json.loads(invoke("hierarchy", "show", text, "--json").stdout)) == vocabulary
    (tmp_path / "names.yaml").write_text(invoke("hierarchy", "show", text, "--yaml").stdout, encoding="utf-8")
    assert parse_vocabulary(f"@{tmp_path}/names.yaml") == vocabulary


def test_the_module_starts_the_command_and_a_narrow_encoding_does_not_break_it(repository):
    result = subprocess.run(
        [sys.executable, "-m", "langhops_cli", "hierarchy", "show", "dog:head"],
        cwd=repository,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.decode().splitlines() == ["1 object, 1 part", "`-- dog", "    `-- head"]
