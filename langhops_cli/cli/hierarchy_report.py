"""How `langhops hierarchy` shows trees, findings, proposals and mappings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from langhops_cli.cli.console import Branch, out, print_tree, say
from langhops_cli.vocabulary import PartNode, Vocabulary

if TYPE_CHECKING:
    from langhops_cli.hierarchy.build import Proposal, ProposedPart
    from langhops_cli.hierarchy.check import Finding
    from langhops_cli.hierarchy.compare import Match, TreeMap
    from langhops_cli.hierarchy.sources import Tree

MOST_LINES = 12
"""Findings of one topic that are printed before it is said how many more there are."""


def tree_branch(tree: Tree) -> Branch:
    """A tree for the terminal, headed by where it was found and how large it is."""
    from langhops_cli.hierarchy.export import counts

    vocabulary = tree.vocabulary
    title = f"{tree.kind} {tree.name}: {counts(vocabulary)}" if tree.name else counts(vocabulary)
    return Branch(title, tuple(Branch(item.name, _branches(item.parts)) for item in vocabulary.objects))


def _branches(parts: Sequence[PartNode]) -> tuple[Branch, ...]:
    return tuple(
        Branch(f"{part.name} x {part.count}" if part.count > 1 else part.name, _branches(part.parts)) for part in parts
    )


def print_findings(findings: Sequence[Finding], vocabulary: Vocabulary) -> None:
    """Print what was found, a line each, and a summary."""
    from langhops_cli.hierarchy.export import counts

    told: Counter[str] = Counter()
    for finding in findings:
        told[finding.topic] += 1
        if finding.level == "error" or told[finding.topic] <= MOST_LINES:
            style = "bold red" if finding.level == "error" else "yellow"
            where = f"{finding.where}: " if finding.where else ""
            out.print(Text.assemble((f"{finding.level:<5}", style), "  ", where, finding.text), soft_wrap=True)
    for topic, number in told.items():
        if number > MOST_LINES:
            say(f"       {number - MOST_LINES:,} more of the topic '{topic}'; --json lists all")
    errors = sum(finding.level == "error" for finding in findings)
    notes = len(findings) - errors
    summary = f"{_number(errors, 'error')}, {_number(notes, 'note')}" if findings else "nothing to remark"
    say(f"{counts(vocabulary)}: {summary}")


def print_proposal(proposal: Proposal) -> None:
    """Print objects with their proposed parts, confidence and sources."""
    for item in proposal.objects:
        width = max((len(_with_count(part)) for part in item.parts), default=0)
        branches = tuple(Branch(_part_line(part, width)) for part in item.parts)
        more = f" ({_number(item.left_out, 'part')} left out: less sure, or too many)" if item.left_out else ""
        print_tree(Branch(f"{item.name}{more}" if item.parts else f"{item.name}: no parts known{more}", branches))


def _part_line(part: ProposedPart, width: int) -> str:
    sources = [source for source in part.sources if source.kind != "similar objects"] or list(part.sources)
    told = ", ".join(dict.fromkeys(map(str, sources)))
    advantage = "" if part.advantage is None else f"  {part.advantage:+.2f}"
    return f"{_with_count(part):<{width}}  {part.confidence:.2f}{advantage}  {told}"


def _with_count(part: ProposedPart) -> str:
    return f"{part.name} x {part.count}" if part.count > 1 else part.name


def print_map(found: TreeMap) -> None:
    """Print each name with its counterpart, how it was found and how similar it is."""
    rows = [_row(match) for match in found.matches]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    for match, row in zip(found.matches, rows, strict=True):
        style = "dim" if match.how == "none" else "bold" if match.part is None else ""
        text = f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip()
        out.print(Text(text, style), soft_wrap=True)
    (objects, all_objects), (parts, all_parts) = found.found(parts=False), found.found(parts=True)
    say(f"{objects:,} of {all_objects:,} objects and {parts:,} of {all_parts:,} parts have a counterpart")


def _row(match: Match) -> tuple[str, str, str]:
    name = match.object if match.part is None else f"  {match.part}"
    if match.how == "none":
        return name, "no counterpart", ""
    to = match.to_object if match.part is None else match.to_part
    assert to is not None
    if match.elsewhere:
        to = f"{match.to_object}: {to}"
    similarity = "" if match.similarity is None else f"{match.similarity:.2f}  "
    return name, to if match.part is None else f"  {to}", f"{similarity}{match.how}"


def _number(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
