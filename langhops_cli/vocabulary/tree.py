"""The vocabulary: objects, their parts, the parts of those, and how many of a part to look for."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from langhops_cli.errors import UserError

NamePath = tuple[str, ...]
"""Names from the object down: ("dog",) for an object, ("dog", "head", "ear") for a part of a part."""
EVERY_OBJECT = "*"
"""The name that stands for every object of a vocabulary."""
MAX_COUNT = 64
"""How many queries one part of one object may have."""
MAX_DEPTH = 8
"""How deep parts of parts may go."""
SPECIAL = ',;:()*"'
"""Characters with a meaning in the grammar; a name that holds one is written in double quotes."""


class VocabularyError(UserError):
    """A mistake in a vocabulary, told in one line and, where it has a place in a text, with a caret under it."""


@dataclass(frozen=True)
class PartNode:
    """A part of an object.

    Args:
        name: the part's own name, "head".
        count: how many of it one object may show, 1..64; each gets a query of its own.
        parts: the parts of this part.
    """

    name: str
    count: int = 1
    parts: tuple[PartNode, ...] = ()

    def __str__(self) -> str:
        count = f"*{self.count}" if self.count > 1 else ""
        inner = f"({','.join(map(str, self.parts))})" if self.parts else ""
        return quote(self.name) + count + inner


@dataclass(frozen=True)
class ObjectNode:
    """An object to look for, with its parts; an object without parts is looked for as a whole."""

    name: str
    parts: tuple[PartNode, ...] = ()

    def __str__(self) -> str:
        inner = f":{','.join(map(str, self.parts))}" if self.parts else ""
        return quote(self.name) + inner


@dataclass(frozen=True)
class PartClass:
    """One class of parts, the parts of one object being classes of their own.

    Args:
        object: index of its object in `Vocabulary.objects`.
        name: the part's own name, "head".
        text: what the text encoder reads, "dog head".
        count: how many of it one object may show.
        parent: for a part of a part the index of that part in `Vocabulary.part_classes`, else None.
    """

    object: int
    name: str
    text: str
    count: int
    parent: int | None


@dataclass(frozen=True)
class Vocabulary:
    """The names to look for in a picture.

    Args:
        objects: the objects with their parts, in the order of their class numbers.

    Raises:
        VocabularyError: a name is empty or stands twice, a count is out of range, or parts go too deep.
    """

    objects: tuple[ObjectNode, ...]

    def __post_init__(self) -> None:
        if not self.objects:
            raise VocabularyError("the vocabulary names no object; give one such as 'dog:head,leg*4,tail'")
        seen: set[str] = set()
        for item in self.objects:
            check_object(item, seen)
            if item.name == EVERY_OBJECT:
                raise VocabularyError("'*' stands for every object and is no name of one")

    @property
    def object_names(self) -> tuple[str, ...]:
        """Names of the objects, in the order of their class numbers."""
        return tuple(item.name for item in self.objects)

    @cached_property
    def part_classes(self) -> tuple[PartClass, ...]:
        """All part classes, depth first over the objects, in the order of their class numbers."""
        classes: list[PartClass] = []

        def add(parts: Sequence[PartNode], number: int, owner: str, parent: int | None) -> None:
            for part in parts:
                classes.append(PartClass(number, part.name, f"{owner} {part.name}", part.count, parent))
                add(part.parts, number, owner, len(classes) - 1)

        for number, item in enumerate(self.objects):
            add(item.parts, number, item.name, None)
        return tuple(classes)

    @cached_property
    def part_paths(self) -> tuple[NamePath, ...]:
        """The names from the object down of each part class, in the order of their class numbers."""
        paths: list[NamePath] = []
        for part in self.part_classes:
            above = (self.object_names[part.object],) if part.parent is None else paths[part.parent]
            paths.append((*above, part.name))
        return tuple(paths)

    @property
    def names(self) -> list[str]:
        """Own names of the objects, then of the part classes, as they stand; it is this order that gives colours."""
        return [*self.object_names, *(part.name for part in self.part_classes)]

    def to_dict(self) -> dict[str, Any]:
        """Return nested mappings of names, `{"dog": {"head": {"ear": None}, "leg": {"count": 4}}}`.

        The key "count" with a number is the count of the part above it; a part that is called "count" has no number.
        """
        return {item.name: parts_to_dict(item.parts) for item in self.objects}

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Self:
        """Return the vocabulary that `to_dict` wrote; an object "*" gives its parts to every object.

        Args:
            tree: name of an object -> None or the mapping of its parts.

        Raises:
            VocabularyError: the tree has another form, or a name or a count is not allowed.
        """
        return cls(spread(read_tree(tree)))

    def to_yaml(self) -> str:
        """Return the tree as YAML, readable by `from_dict` and as a vocabulary file."""
        import yaml

        class Dumper(yaml.SafeDumper):
            """Writes an empty value as nothing, so that a leaf reads `tail:`."""

        Dumper.add_representer(type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", ""))
        return yaml.dump(self.to_dict(), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1000)

    def __str__(self) -> str:
        """Return the vocabulary in the grammar that `parse_vocabulary` reads."""
        return "; ".join(map(str, self.objects))


def quote(name: str) -> str:
    """Write a name as the grammar reads it: in double quotes if it holds a character with a meaning."""
    if any(character in SPECIAL for character in name) or name.startswith("@"):
        return '"' + name.replace('"', '""') + '"'
    return name


def name_key(name: str) -> str:
    """Return what two spellings of one name have in common: case and Unicode composition do not count."""
    return unicodedata.normalize("NFC", name).casefold()


def read_tree(tree: Mapping[str, Any]) -> list[ObjectNode]:
    """Read the mapping of `Vocabulary.to_dict`; an object "*" stays as it is.

    Raises:
        VocabularyError: the tree has another form.
    """
    if not isinstance(tree, Mapping):
        raise VocabularyError(f"expected objects with their parts, found {_described(tree)}")
    nodes = []
    for name, parts in tree.items():
        count, inner = _read_parts(parts, [_text(name)])
        if count != 1:
            raise VocabularyError(f"{name}: a count belongs to a part, not to an object")
        nodes.append(ObjectNode(name.strip(), inner))
    return nodes


def parts_to_dict(parts: Sequence[PartNode]) -> dict[str, Any] | None:
    """Return parts as nested mappings, or None where there are none."""
    tree: dict[str, Any] = {}
    for part in parts:
        inner = parts_to_dict(part.parts)
        tree[part.name] = {"count": part.count, **(inner or {})} if part.count > 1 else inner
    return tree or None


def check_object(item: ObjectNode, seen: set[str]) -> None:
    """Check the names, counts and depth of one object; add its name to those seen before it.

    Raises:
        VocabularyError: a name is empty or stands twice, a count is out of range, or parts go too deep.
    """
    _check_name(item.name, "object", seen)
    _check_parts(item.parts, item.name, set(), depth=1)


def spread(objects: Sequence[ObjectNode]) -> tuple[ObjectNode, ...]:
    """Give the parts of the object "*" to every other object, after its own; what an object has stays as it is.

    Raises:
        VocabularyError: "*" has no parts, or stands alone.
    """
    shared = [item for item in objects if item.name == EVERY_OBJECT]
    named = [item for item in objects if item.name != EVERY_OBJECT]
    if not shared:
        return tuple(objects)
    if not named:
        raise VocabularyError(
            "'*' stands for every object, but the vocabulary names none; add one, as in 'dog; *:head'"
        )
    if any(not item.parts for item in shared):
        raise VocabularyError("'*' gives its parts to every object, but has none; add them, as in '*:head'")
    parts = [part for item in shared for part in item.parts]
    return tuple(ObjectNode(item.name, (*item.parts, *_missing(parts, _keys(item.parts)))) for item in named)


def _keys(parts: Sequence[PartNode]) -> set[str]:
    return {name_key(part.name) for part in _walk(parts)}


def _walk(parts: Sequence[PartNode]) -> Iterator[PartNode]:
    for part in parts:
        yield part
        yield from _walk(part.parts)


def _missing(parts: Sequence[PartNode], known: set[str]) -> list[PartNode]:
    """Return the parts, and parts of parts, whose names are not known yet."""
    return [
        PartNode(part.name, part.count, tuple(_missing(part.parts, known)))
        for part in parts
        if name_key(part.name) not in known
    ]


def _check_name(name: str, kind: str, seen: set[str]) -> None:
    if not name.strip():
        raise VocabularyError(f"empty {kind} name")
    key = name_key(name)
    if key in seen:
        raise VocabularyError(f"{kind} '{name}' stands twice")
    seen.add(key)


def _check_parts(parts: Sequence[PartNode], owner: str, seen: set[str], depth: int) -> None:
    if parts and depth > MAX_DEPTH:
        raise VocabularyError(f"{owner}: parts go deeper than {MAX_DEPTH} levels")
    for part in parts:
        _check_name(part.name, f"{owner}: part", seen)
        if not 1 <= part.count <= MAX_COUNT:
            raise VocabularyError(f"{owner}: {part.name}: a count goes from 1 to {MAX_COUNT}, not {part.count}")
        _check_parts(part.parts, owner, seen, depth + 1)


def _read_parts(tree: object, path: list[str]) -> tuple[int, tuple[PartNode, ...]]:
    """Read the mapping below one name; return the count it states, and the parts."""
    if tree is None:
        return 1, ()
    place = ": ".join(path)
    if not isinstance(tree, Mapping):
        raise VocabularyError(f"{place}: expected parts by name, found {_described(tree)}")
    if len(path) > MAX_DEPTH + 1:
        raise VocabularyError(f"{path[0]}: parts go deeper than {MAX_DEPTH} levels")
    count = 1
    parts = []
    for name, inner in tree.items():
        if name == "count" and isinstance(inner, int | float):
            if isinstance(inner, bool | float):
                raise VocabularyError(f"{place}: a count is a whole number from 1 to {MAX_COUNT}, not {inner}")
            count = inner
            continue
        number, below = _read_parts(inner, [*path, _text(name)])
        parts.append(PartNode(name.strip(), number, below))
    return count, tuple(parts)


def _text(name: object) -> str:
    if not isinstance(name, str):
        raise VocabularyError(f"a name must be text, found {_described(name)}; put it in quotes")
    return name


def _described(value: object) -> str:
    if isinstance(value, bool):
        return f"yes or no ({value})"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text '{value}'"
    return {list: "a list", dict: "a mapping", type(None): "nothing"}.get(type(value), type(value).__name__)
