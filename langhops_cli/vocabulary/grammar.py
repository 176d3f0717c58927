"""The grammar of `--vocab`: "dog:head(ear,eye),leg*4,tail; car:wheel; *:logo", or "@file".

    vocabulary = object { ";" object }
    object     = name [ ":" parts ]            the name "*" gives its parts to every object
    parts      = part { "," part }
    part       = name [ "*" count ] [ "(" parts ")" ]
    name       = text without , ; : ( ) * "    or any text in double quotes, where "" is a quote

Space around a name does not count; space inside does. Every mistake is told with a caret under its column.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from langhops_cli.vocabulary.files import SUFFIXES, Entry, read_vocabulary_file
from langhops_cli.vocabulary.tree import (
    EVERY_OBJECT,
    MAX_COUNT,
    MAX_DEPTH,
    SPECIAL,
    ObjectNode,
    PartNode,
    Vocabulary,
    VocabularyError,
    check_object,
    name_key,
    parts_to_dict,
    read_tree,
    spread,
)

WINDOW = 72
"""Columns of a long text that are shown around a mistake."""


def parse_vocabulary(texts: str | Sequence[str]) -> Vocabulary:
    """Read a vocabulary from texts in the grammar, or from files.

    Args:
        texts: one text or several, "dog:head,leg*4,tail"; one that starts with "@" names a file.

    Returns:
        The vocabulary, objects in the order in which they were written.

    Raises:
        VocabularyError: a mistake, with the text and a caret under its column, or with the file's name.
    """
    objects: list[ObjectNode] = []
    seen: set[str] = set()
    for text in [texts] if isinstance(texts, str) else texts:
        if not text.lstrip().startswith("@"):
            if text.strip().endswith(SUFFIXES) and Path(text.strip()).expanduser().is_file():
                raise VocabularyError(f"{text.strip()} is a file; a file is given as @{text.strip()}")
            objects += _Parser(Entry(text)).vocabulary(seen)
            continue
        path = Path(text.strip()[1:].strip()).expanduser()
        if not path.name:
            raise VocabularyError("'@' is followed by the name of a vocabulary file, as in '@names.yaml'")
        content = read_vocabulary_file(path)
        if isinstance(content, Mapping):
            objects += _objects_of_tree(path, content, seen)
        else:
            for entry in content:
                objects += _Parser(entry).vocabulary(seen)
    return Vocabulary(spread(objects))


def _objects_of_tree(path: Path, tree: Mapping[str, Any], seen: set[str]) -> list[ObjectNode]:
    """Read the objects of a YAML or JSON tree."""
    try:
        objects = read_tree({name: _without_lists(parts) for name, parts in tree.items()})
        for item in objects:
            check_object(item, seen)
    except VocabularyError as error:
        raise VocabularyError(f"{path}: {error}") from None
    return objects


def _without_lists(tree: Any, depth: int = 1) -> Any:
    """Turn lists of parts, `[head, leg*4, "ear(tip)"]`, into the mappings that `read_tree` reads."""
    if isinstance(tree, Mapping) and depth <= MAX_DEPTH:
        return {name: _without_lists(inner, depth + 1) for name, inner in tree.items()}
    if isinstance(tree, list) and tree and all(isinstance(item, str) for item in tree):
        seen: set[str] = set()
        return parts_to_dict([part for item in tree for part in _Parser(Entry(item)).parts_only(seen)])
    return tree


class _Parser:
    """Recursive descent over one text."""

    def __init__(self, entry: Entry) -> None:
        self.text = entry.text
        self.origin = entry.origin
        self.at = 0

    def vocabulary(self, seen: set[str]) -> list[ObjectNode]:
        objects = [self.object(seen)]
        while self.take(";"):
            objects.append(self.object(seen))
        self.expect_end("an object ends with ';', and its parts begin with ':'")
        return objects

    def parts_only(self, seen: set[str]) -> list[PartNode]:
        parts = self.parts(seen, 1)
        self.expect_end("a part ends with ','")
        return list(parts)

    def object(self, seen: set[str]) -> ObjectNode:
        if self.take(EVERY_OBJECT):
            name, start = EVERY_OBJECT, self.at - 1
        else:
            name, start = self.name("object")
        if name_key(name) in seen:
            self.fail(f"object '{name}' stands twice", start)
        seen.add(name_key(name))
        return ObjectNode(name, self.parts(set(), 1) if self.take(":") else ())

    def parts(self, seen: set[str], depth: int) -> tuple[PartNode, ...]:
        if depth > MAX_DEPTH:
            self.fail(f"parts go deeper than {MAX_DEPTH} levels", self.at)
        parts = [self.part(seen, depth)]
        while self.take(","):
            parts.append(self.part(seen, depth))
        return tuple(parts)

    def part(self, seen: set[str], depth: int) -> PartNode:
        name, start = self.name("part")
        if name_key(name) in seen:
            self.fail(f"part '{name}' stands twice in one object", start)
        seen.add(name_key(name))
        count = self.count() if self.take("*") else 1
        if not self.take("("):
            return PartNode(name, count)
        bracket = self.at - 1
        inner = self.parts(seen, depth + 1)
        if not self.take(")"):
            if self.peek() in ("", ";"):
                self.fail("this bracket is never closed", bracket)
            self.fail("a part ends with ',' or ')'", self.at)
        if self.peek() == "*":
            self.fail("a count stands before the bracket, as in leg*4(paw)", self.at)
        return PartNode(name, count, inner)

    def count(self) -> int:
        self.skip_space()
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in SPECIAL:
            self.at += 1
        digits = self.text[start : self.at].strip()
        if not digits:
            self.fail("a number belongs after '*', as in leg*4", start)
        if not digits.isdecimal():
            self.fail(f"a count is a whole number, not '{digits}'", start)
        number = int(digits) if len(digits) < 10 else MAX_COUNT + 1
        if number < 1:
            self.fail("a count starts at 1", start)
        if number > MAX_COUNT:
            self.fail(f"a count ends at {MAX_COUNT}", start)
        return number

    def name(self, kind: str) -> tuple[str, int]:
        """Read a name; return it with the place where it starts."""
        self.skip_space()
        start = self.at
        if self.text.startswith('"', start):
            name = self.quoted()
        else:
            while self.at < len(self.text) and (self.text[self.at] not in SPECIAL or self.text[self.at] == '"'):
                self.at += 1
            name = self.text[start : self.at].strip()
        if not name:
            self.fail(f"empty {kind} name", start)
        return name, start

    def quoted(self) -> str:
        start = self.at
        pieces = []
        while True:
            end = self.text.find('"', self.at + 1)
            if end < 0:
                self.fail("this quote is never closed", start)
            pieces.append(self.text[self.at + 1 : end])
            self.at = end + 1
            if not self.text.startswith('"', self.at):
                return '"'.join(pieces).strip()

    def take(self, character: str) -> bool:
        if self.peek() != character:
            return False
        self.at += 1
        return True

    def peek(self) -> str:
        """Return the next character that is no space, "" at the end."""
        self.skip_space()
        return self.text[self.at : self.at + 1]

    def skip_space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def expect_end(self, rule: str) -> None:
        following = self.peek()
        if following == ")":
            self.fail("this bracket was never opened", self.at)
        if following == "*":
            self.fail("a count belongs to a part, as in dog:leg*4", self.at)
        if following:
            self.fail(f"unexpected '{following}': {rule}", self.at)

    def fail(self, message: str, place: int) -> NoReturn:
        origin = f"{self.origin}: " if self.origin else ""
        raise VocabularyError(f"{origin}{message}\n{point_at(self.text, place)}")


def point_at(text: str, place: int) -> str:
    """Show a text with a caret under one of its characters, on two lines indented by two columns.

    Args:
        text: the text; a long one is cut around the place.
        place: index of the character; the length of the text points behind its end.
    """
    shown = "".join(" " if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character for character in text)
    first = max(0, place - WINDOW // 2) if len(shown) > WINDOW else 0
    head = "..." if first else ""
    tail = "..." if first + WINDOW < len(shown) else ""
    before = head + shown[first:place]
    column = sum(map(_width, before))
    return f"  {head}{shown[first : first + WINDOW]}{tail}\n  {' ' * column}^"


def _width(character: str) -> int:
    """Return how many columns of a terminal a character takes."""
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
