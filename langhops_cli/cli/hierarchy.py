"""`langhops hierarchy`: look at a vocabulary as a tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from typer import Argument, Option, Typer

from langhops_cli.cli.console import Branch, out, print_json, print_tree
from langhops_cli.errors import UserError
from langhops_cli.vocabulary import PartNode, Vocabulary, parse_vocabulary

hierarchy = Typer(help="Look at the objects and parts of a vocabulary.", rich_markup_mode=None)


@hierarchy.command("show")
def show(
    vocab: Annotated[list[str], Argument(help="Names: 'dog:head(ear,eye),leg*4; car:wheel' or @file.")],
    as_json: Annotated[bool, Option("--json", help="Print the tree as JSON.")] = False,
    as_yaml: Annotated[bool, Option("--yaml", help="Print the tree as YAML, to be kept as a vocabulary file.")] = False,
) -> None:
    """Show a vocabulary as a tree.

    Example: langhops hierarchy show 'dog:head(ear,eye),leg*4,tail; car:wheel'
    """
    if as_json and as_yaml:
        raise UserError("--json and --yaml exclude each other; give one of them")
    vocabulary = parse_vocabulary(vocab)
    if as_json:
        print_json(vocabulary.to_dict())
    elif as_yaml:
        out.print(vocabulary.to_yaml(), end="", markup=False, emoji=False, soft_wrap=True)
    else:
        print_tree(_tree(vocabulary))


def _tree(vocabulary: Vocabulary) -> Branch:
    objects, parts = len(vocabulary.objects), len(vocabulary.part_classes)
    return Branch(
        f"{objects} {'object' if objects == 1 else 'objects'}, {parts} {'part' if parts == 1 else 'parts'}",
        tuple(Branch(item.name, _branches(item.parts)) for item in vocabulary.objects),
    )


def _branches(parts: Sequence[PartNode]) -> tuple[Branch, ...]:
    return tuple(
        Branch(f"{part.name} x {part.count}" if part.count > 1 else part.name, _branches(part.parts)) for part in parts
    )
