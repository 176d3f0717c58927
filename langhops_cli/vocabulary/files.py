"""Vocabulary files: YAML and JSON trees or lists, and text with one or more entries a line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from langhops_cli.vocabulary.tree import VocabularyError, name_key

SUFFIXES = (".yaml", ".yml", ".json", ".txt")


@dataclass(frozen=True)
class Entry:
    """A piece of text in the grammar.

    Args:
        text: the piece, such as "dog:head,leg*4".
        origin: where it stands, "names.txt, line 3"; empty on the command line.
    """

    text: str
    origin: str = ""


def read_vocabulary_file(path: Path) -> list[Entry] | Mapping[str, Any]:
    """Read a vocabulary file.

    Args:
        path: a file whose name ends in .yaml, .yml, .json or .txt.

    Returns:
        The entries of a text file or of a list; the mapping of a tree as it stands.

    Raises:
        VocabularyError: the file is missing, empty, no UTF-8, not well formed, or has another suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise VocabularyError(f"{path}: a vocabulary file ends in {', '.join(SUFFIXES)}")
    text = _read_text(path)
    if suffix == ".txt":
        lines = (re.sub(r"(^|\s)#.*", "", line) for line in text.splitlines())
        entries = [Entry(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
        if not entries:
            raise VocabularyError(f"{path}: no names in this file")
        return entries
    document = _read_json(path, text) if suffix == ".json" else _read_yaml(path, text)
    if isinstance(document, list) and document and all(isinstance(item, str) for item in document):
        return [Entry(item, f"{path}, entry {number}") for number, item in enumerate(document, 1)]
    if isinstance(document, Mapping) and document:
        return document
    raise VocabularyError(f"{path}: expected objects with their parts, or a list of texts such as 'dog:head,tail'")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise VocabularyError(f"{path}: there is no such vocabulary file") from None
    except UnicodeDecodeError as error:
        raise VocabularyError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    except OSError as error:
        raise VocabularyError(f"{path}: cannot be read: {error.strerror}") from None


def _read_json(path: Path, text: str) -> object:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        _refuse_twins(path, [name for name, _ in pairs])
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise VocabularyError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise VocabularyError(f"{path}: nested too deep") from None


def _read_yaml(path: Path, text: str) -> object:
    class Loader(yaml.SafeLoader):
        """Refuses a name that stands twice in one mapping, of which YAML would keep the last without a word."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            _refuse_twins(path, [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise VocabularyError(f"{path}{place}: not YAML: {problem}") from None
    except RecursionError:
        raise VocabularyError(f"{path}: nested too deep") from None


def _refuse_twins(path: Path, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name_key(name) in seen:
            raise VocabularyError(f"{path}: '{name}' stands twice at one level")
        seen.add(name_key(name))
