"""Writing a tree for other programs: YAML, JSON, Graphviz, and a page for the browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from html import escape

from langhops_cli.hierarchy.page import PAGE
from langhops_cli.vocabulary import PartNode, Vocabulary


def as_json(vocabulary: Vocabulary, _title: str) -> str:
    """The tree as nested mappings, readable as a vocabulary file."""
    return json.dumps(vocabulary.to_dict(), ensure_ascii=False, indent=2) + "\n"


def as_yaml(vocabulary: Vocabulary, _title: str) -> str:
    """The tree as YAML, readable as a vocabulary file."""
    return vocabulary.to_yaml()


def as_dot(vocabulary: Vocabulary, title: str) -> str:
    """The tree for Graphviz: `dot -Tsvg tree.dot`."""
    lines = [
        f"digraph {_dot_text(title)} {{",
        "  rankdir=LR",
        '  node [shape=plain fontname="Helvetica,Arial,sans-serif"]',
        "  edge [arrowhead=none color=gray60]",
    ]
    number = 0

    def grow(parts: Sequence[PartNode], above: int) -> None:
        nonlocal number
        for part in parts:
            number += 1
            own = number
            lines.append(f"  n{own} [label={_dot_text(_with_count(part))}]")
            lines.append(f"  n{above} -> n{own}")
            grow(part.parts, own)

    for item in vocabulary.objects:
        number += 1
        lines.append(f'  n{number} [label={_dot_text(item.name)} fontname="Helvetica-Bold,Arial Bold,sans-serif"]')
        grow(item.parts, number)
    return "\n".join([*lines, "}"]) + "\n"


def as_html(vocabulary: Vocabulary, title: str) -> str:
    """The tree as one page: folds, is searched, works without a network."""

    def branch(name: str, parts: Sequence[PartNode], open_: bool) -> str:
        label = f"<span>{escape(name)}</span>"
        if not parts:
            return f"<li>{label}</li>"
        inner = "".join(branch(_with_count(part), part.parts, True) for part in parts)
        shown = " open" if open_ else ""
        return (
            f"<li><details{shown}><summary>{label} <small>{len(parts)}</small></summary><ul>{inner}</ul></details></li>"
        )

    few = len(vocabulary.part_classes) <= 60
    tree = "\n".join(branch(item.name, item.parts, few) for item in vocabulary.objects)
    values = {"title": escape(title), "counts": escape(counts(vocabulary)), "tree": tree}
    return re.sub("@@(title|counts|tree)@@", lambda place: values[place[1]], PAGE)


FORMATS: dict[str, Callable[[Vocabulary, str], str]] = {
    "yaml": as_yaml,
    "json": as_json,
    "dot": as_dot,
    "html": as_html,
}
"""What writes each format, given the tree and a title."""


def counts(vocabulary: Vocabulary) -> str:
    """How large a tree is, in words: "2 objects, 5 parts"; where parts share names, how many there are."""
    objects, parts = len(vocabulary.objects), len(vocabulary.part_classes)
    names = len({part.name for part in vocabulary.part_classes})
    distinct = f" of {names:,} names" if names < parts else ""
    return f"{objects:,} object{'' if objects == 1 else 's'}, {parts:,} part{'' if parts == 1 else 's'}{distinct}"


def _with_count(part: PartNode) -> str:
    return f"{part.name} x {part.count}" if part.count > 1 else part.name


def _dot_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
