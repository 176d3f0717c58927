"""What the categories of a user's own data stand for: objects, and parts by parent ids, by spelling or as told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from langhops_cli.data.records import Role, Source, Tree
from langhops_cli.errors import DATA, USAGE, UserError
from langhops_cli.vocabulary import PartNode, Vocabulary, clean_name, split_part_name

_END = re.compile(r"[ :'\u2019]")
"""Where the name of an object may end within that of a part."""


def roles_of(
    categories: Sequence[dict[str, Any]], *, object_name: str | None, tree: Vocabulary | None
) -> dict[int, list[Role]]:
    """What each category id stands for; several roles where several objects of the tree have such a part.

    Args:
        categories: rows with `id`, `name` and perhaps `parent_id`, as COCO has them.
        object_name: every category without a known parent is a part of this object.
        tree: which categories are parts of which object; all others are objects.

    Raises:
        UserError: a parent id is no category, or goes round in a circle.
    """
    if tree is not None:
        return {row["id"]: _tree_roles(row["name"], tree) for row in categories}
    by_id = {row["id"]: row for row in categories}
    # A file that states parents, be they null, has said which categories are objects: names are not split then.
    explicit = any("parent_id" in row for row in categories)
    tops = {} if explicit else _tops([row["name"] for row in categories])
    roles: dict[int, list[Role]] = {}
    for row in categories:
        top = _top(row, by_id)
        name = row["name"]
        if top is not row:
            owner = clean_name(top["name"])
            split = split_part_name(name, [owner])
            roles[row["id"]] = [(owner, split[1] if split else clean_name(name))]
        elif object_name is not None:
            split = split_part_name(name, [object_name])
            is_object = _key(name) == _key(object_name)
            roles[row["id"]] = [(object_name, None if is_object else split[1] if split else clean_name(name))]
        else:
            split = split_part_name(name, _beginnings(name, tops))
            roles[row["id"]] = [(clean_name(split[0]), split[1]) if split else (clean_name(name), None)]
    return roles


def _tops(names: Sequence[str]) -> dict[str, str]:
    """The names that are not spelt as a part of another one, by their clean form."""
    known = {clean_name(name): name for name in names}
    return {
        cleaned: name
        for cleaned, name in known.items()
        if split_part_name(name, [other for other in _beginnings(name, known) if other != name]) is None
    }


def _beginnings(name: str, known: Mapping[str, str]) -> list[str]:
    """Those of the known names that a name begins with: the few that it can be split behind."""
    cleaned = clean_name(name)
    ends = [*(found.start() for found in _END.finditer(cleaned)), len(cleaned)]
    return [known[left] for end in ends if (left := cleaned[:end].strip()) in known]


def _top(row: dict[str, Any], by_id: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """The category at the top of the chain of parents."""
    seen = {row["id"]}
    while row.get("parent_id") is not None:
        above = by_id.get(row["parent_id"])
        if above is None or above["id"] in seen:
            raise UserError(
                f"category {row['id']} ('{row['name']}') has the parent {row['parent_id']}, which is "
                + ("no category." if above is None else "below itself."),
                code=DATA,
            )
        seen.add(above["id"])
        row = above
    return row


def _key(name: str) -> str:
    """What spellings of one name in a tree and in a file have in common."""
    return clean_name(name).replace("-", " ")


def _tree_roles(name: str, tree: Vocabulary) -> list[Role]:
    split = split_part_name(name, tree.object_names)
    roles: list[Role] = []
    for part in tree.part_classes:
        owner = tree.objects[part.object].name
        if _key(part.name) == _key(name) or (split and split[0] == owner and _key(split[1]) == _key(part.name)):
            roles.append((owner, part.name))
    if roles:
        return roles
    own = [item.name for item in tree.objects if _key(item.name) == _key(name)]
    return [(own[0] if own else clean_name(name), None)]


def check_tree(source: Path, tree: Vocabulary, categories: Sequence[dict[str, Any]]) -> None:
    """See that every part of a tree is a category.

    Raises:
        UserError: one is none; the message lists the categories.
    """
    found = {role for row in categories for role in _tree_roles(row["name"], tree)}
    missing = [part.text for part in tree.part_classes if (tree.objects[part.object].name, part.name) not in found]
    if missing:
        names = ", ".join(sorted({row["name"] for row in categories}))
        raise UserError(f"{source} has no category for {', '.join(missing)}; its categories are: {names}.", code=USAGE)


def note_names(
    records: Source,
    categories: Sequence[dict[str, Any]],
    roles: dict[int, list[Role]],
    tree: Vocabulary | None = None,
) -> None:
    """Enter a split's categories into the tree, in their order, and remember how the source spells them."""
    own: dict[Role, int] = {}
    by_id = {row["id"]: row for row in categories}
    for row in categories:
        for owner, part in roles[row["id"]]:
            parts = records.tree.setdefault(owner, {})
            if part is not None:
                above = by_id.get(row.get("parent_id", -1))
                parts.setdefault(part, roles[above["id"]][0][1] if above else None)
            records.source_names.setdefault((owner, part), row["name"])
            own[owner, part] = own.get((owner, part), 0) + 1
    for owner, part in (role for role, number in own.items() if number > 1):
        name = part if part is not None else owner
        if name not in records.merged:
            records.merged.append(name)
    if tree is not None:
        _note_nesting(records.tree, tree)


def _note_nesting(names: Tree, tree: Vocabulary) -> None:
    def note(owner: str, parts: Sequence[PartNode], above: str | None) -> None:
        for part in parts:
            if part.name in names.get(owner, {}):
                names[owner][part.name] = above
            note(owner, part.parts, part.name)

    for item in tree.objects:
        note(item.name, item.parts, None)
