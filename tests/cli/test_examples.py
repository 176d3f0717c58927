"""Every command that README, the help texts and the recipes show is one that the command line takes."""

import inspect
import re
import shlex

import pytest
from typer.main import get_command

from langhops_cli.cli.app import app
from tests.conftest import REPOSITORY

COMMANDS = get_command(app)


def leaves(command, path=()):
    """All commands with their names, those of groups too."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, (*path, name))
    if not getattr(command, "commands", {}):
        yield " ".join(path), command


def examples_in_help():
    for name, command in leaves(COMMANDS):
        text = inspect.cleandoc(command.help or "")
        for paragraph in re.split(r"\n\s*\n", text):
            if paragraph.startswith("Example"):
                found = re.findall(r"langhops .*?(?=\s*\n\s*langhops |$)", paragraph, flags=re.DOTALL)
                yield from ((name, " ".join(line.split())) for line in found)


def examples_in_files():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for block in re.findall(r"```bash\n(.*?)```", readme, flags=re.DOTALL):
        yield from re.findall(r"(?:^|&& )(langhops .*)$", block, flags=re.MULTILINE)
    for recipe in sorted((REPOSITORY / "recipes").glob("*.yaml")):
        header = re.sub(r"\\\n#\s*", "", recipe.read_text(encoding="utf-8").partition("\nmodel:")[0])
        yield from re.findall(r"^#.*?(langhops .*)$", header, flags=re.MULTILINE)


def parse(line):
    """Let the command line read an example without doing it."""
    command, words = COMMANDS, shlex.split(line)[1:]
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    return command.make_context("langhops", words)


@pytest.mark.parametrize("line", sorted({*examples_in_files(), *(line for _, line in examples_in_help())}))
def test_an_example_is_taken(line):
    parse(line)


def test_every_command_has_an_example_in_its_help():
    assert {name for name, _ in leaves(COMMANDS)} - {name for name, _ in examples_in_help()} == set()


def test_a_wrong_example_would_be_noticed():
    with pytest.raises(Exception, match="No such option"):
        parse("langhops predict imgs/ --vocab cat --lout x")
