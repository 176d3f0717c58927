"""Recipe files as plain values: reading one, the recipe that it builds on, changing single keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from langhops_cli.errors import UserError
from langhops_cli.resources import recipes_folder

BASE = "base"
"""The key of a recipe file that names the recipe it builds on."""


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    return {path.stem: path for path in sorted(recipes_folder().glob("*.yaml"))}


def read_tree(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a recipe file, laid over the one that it builds on: what it says wins, and lists are replaced as a whole.

    Args:
        path: a YAML file; its `base` is the name of a recipe of the package, or a path from its own folder.
        above: the files that build on this one.

    Raises:
        UserError: it is no mapping, or what it builds on is not there or builds on it.
    """
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise UserError(f"{path}: a recipe is a mapping of sections, such as data and schedule", code=2)
    name = tree.pop(BASE, None)
    if name is None:
        return tree
    found = find_base(name, path)
    chain = (*above, path.resolve())
    if found.resolve() in chain:
        raise UserError(f"{path}: base {name} builds on this recipe itself", code=2)
    return merge(read_tree(found, chain), tree)


def find_base(name: object, path: Path) -> Path:
    """The file that a recipe builds on.

    Args:
        name: of a recipe of the package, "ins_part"; or a path from the recipe's folder, "mine.yaml".
        path: of the recipe.

    Raises:
        UserError: there is no such recipe.
    """
    shipped = shipped_recipes()
    if isinstance(name, str) and name in shipped:
        return shipped[name]
    beside = path.parent / str(name)
    if beside.suffix not in (".yaml", ".yml") or not beside.is_file():
        raise UserError(
            f"{path}: base {name} is no recipe of the package ({', '.join(shipped)}) and no file beside this one",
            code=2,
        )
    return beside


def merge(below: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Lay nested plain values over others; what is no mapping on both sides is replaced as a whole."""
    merged = dict(below)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def read_head(path: Path) -> str:
    """The comments that a recipe file begins with, as they stand there."""
    head = re.match(r"(?:#.*\n)*", path.read_text(encoding="utf-8"))
    return head[0] if head else ""


def describe(path: Path) -> dict[str, str]:
    """What the head of a recipe file says under each of its words, in one line each.

    Returns:
        "about" for what stands before the first word, then the words in lower case, such as "reproduces" and "needs".
    """
    told: dict[str, list[str]] = {"about": []}
    word = "about"
    for line in read_head(path).splitlines():
        text = line.removeprefix("#")
        if found := re.match(r" ([A-Z][a-z]+) {2,}(?=\S)", text):
            word = found[1].lower()
            text = text[found.end() :]
        told.setdefault(word, []).append(text.strip())
    return {name: " ".join(filter(None, lines)) for name, lines in told.items()}


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        UserError: it cannot be read, or is no YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})", code=2) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not YAML: {' '.join(str(error).split())}", code=2) from None


def set_key(tree: dict[str, Any], override: str) -> None:
    """Change one key of nested plain values, in place.

    Args:
        tree: mappings and lists.
        override: `section.key=value`; the value is read as YAML.

    Raises:
        UserError: it is not of that form, or leads through what has no keys.
    """
    key, equals, text = override.partition("=")
    steps = key.strip().split(".")
    if not equals or not all(steps):
        raise UserError(f"{override!r} is not of the form section.key=value", code=2)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"{override!r}: the value is not YAML; put it in quotes", code=2) from None
    node: Any = tree
    for step in steps[:-1]:
        node = _child(node, step, override)
    if isinstance(node, list):
        node[_position(node, steps[-1], override)] = value
    else:
        node[steps[-1]] = value


def _child(node: Any, step: str, override: str) -> Any:
    if isinstance(node, list):
        child = node[_position(node, step, override)]
    else:
        child = node.setdefault(step, {})
        if child is None:
            child = node[step] = {}
    if not isinstance(child, dict | list):
        raise UserError(f"{override!r}: {step} is a single value and has no keys below it", code=2)
    return child


def _position(node: list[Any], step: str, override: str) -> int:
    if not step.isdecimal() or int(step) >= len(node):
        raise UserError(f"{override!r}: {step} is no position in a list of {len(node)}", code=2)
    return int(step)
