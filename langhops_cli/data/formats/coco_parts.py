"""COCO instances whose categories are objects and parts: with parent ids, spelt in the names, or told by the user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from langhops_cli.data.formats.coco_files import check_file_name, find_annotations, find_image_root, read_coco
from langhops_cli.data.masks import BadMaskError, to_rle
from langhops_cli.data.records import Drops, InstanceRecord, PictureRecord, SourceRecords, SplitRecords, Tree
from langhops_cli.errors import DATA, USAGE, UserError
from langhops_cli.vocabulary import PartNode, Vocabulary, clean_name, split_part_name

Role = tuple[str, str | None]
"""What a category stands for: (object, None) or (object, part)."""


def read_coco_parts(
    source: Path,
    *,
    train: Path | None = None,
    val: Path | None = None,
    images: Path | None = None,
    object_name: str | None = None,
    tree: Vocabulary | None = None,
    exhaustive: bool | None = None,
) -> SourceRecords:
    """Read a COCO dataset with objects and parts.

    Args:
        source: the folder of the dataset.
        train: annotation file of the train split, when it is not at a usual place; val: that of the val split.
        images: the folder that file names are relative to.
        object_name: every category without a known parent is a part of this object.
        tree: which categories are parts of which object; all others are objects.
        exhaustive: whether every instance of every name was annotated; else what the file's `info` says, else yes.

    Raises:
        UserError: files are missing or malformed, or a name of the tree is no category.
    """
    if object_name is not None and tree is not None:
        raise UserError("give --object or --tree, not both: --tree already names the objects.", code=USAGE)
    files = {split: path for split, path in (("train", train), ("val", val)) if path is not None}
    files = files or find_annotations(source)
    contents = {split: read_coco(path) for split, path in files.items()}
    categories = [row for content in contents.values() for row in content["categories"]]
    if tree is not None:
        _check_tree(source, tree, categories)
    records = SourceRecords("coco-parts", [], {})
    for split, content in contents.items():
        roles = _roles(content["categories"], object_name=object_name, tree=tree)
        _note_names(records, content["categories"], roles, tree)
        names = [check_file_name(files[split], row["file_name"]) for row in content["images"]]
        root = images.resolve() if images is not None else find_image_root(files[split], source, split, names)
        stated = content["info"].get("exhaustive", True) if exhaustive is None else exhaustive
        records.splits.append(_read_split(split, content, roles, root, bool(stated), files[split]))
    return records


def _read_split(
    name: str, content: dict[str, Any], roles: dict[int, list[Role]], root: Path, exhaustive: bool, path: Path
) -> SplitRecords:
    pictures = {
        row["id"]: PictureRecord(row["id"], check_file_name(path, row["file_name"]), row["width"], row["height"])
        for row in content["images"]
    }
    drops = Drops()
    instances: list[InstanceRecord] = []
    seen: set[int] = set()
    for row in content["annotations"]:
        picture = pictures.get(row["image_id"])
        if picture is None or row["category_id"] not in roles:
            drops.add("annotation of an unknown picture" if picture is None else "unknown category", row["id"])
        elif row["id"] in seen or not isinstance(row["id"], int):
            drops.add("annotation id that is no whole number or stands twice", row["id"])
        else:
            seen.add(row["id"])
            instances.extend(_read_instance(row, picture, roles[row["category_id"]], drops))
    return SplitRecords(name, root, exhaustive, list(pictures.values()), instances, drops)


def _read_instance(
    row: dict[str, Any], picture: PictureRecord, roles: Sequence[Role], drops: Drops
) -> Iterator[InstanceRecord]:
    try:
        rle, short = to_rle(row.get("segmentation"), picture.height, picture.width)
    except BadMaskError as error:
        drops.add(str(error), row["id"])
        return
    if short:
        drops.add("polygon of fewer than three points beside whole ones", *[row["id"]] * short)
    (owner, part), *others = roles
    yield InstanceRecord(
        id=row["id"],
        image_id=row["image_id"],
        object=owner,
        part=part,
        rle=rle,
        parent=row.get("parent_id"),
        crowd=bool(row.get("iscrowd", False)),
        others=tuple(name for name, _ in others),
    )


def _roles(
    categories: Sequence[dict[str, Any]], *, object_name: str | None, tree: Vocabulary | None
) -> dict[int, list[Role]]:
    """What each category id stands for; several roles where several objects of the tree have such a part."""
    if tree is not None:
        return {row["id"]: _tree_roles(row["name"], tree) for row in categories}
    by_id = {row["id"]: row for row in categories}
    # A file that states parents, be they null, has said which categories are objects: names are not split then.
    explicit = any("parent_id" in row for row in categories)
    tops = [] if explicit else _tops([row["name"] for row in categories])
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
            split = split_part_name(name, tops)
            roles[row["id"]] = [(clean_name(split[0]), split[1]) if split else (clean_name(name), None)]
    return roles


def _tops(names: Sequence[str]) -> list[str]:
    """The names that are not spelt as a part of another one."""
    return [name for name in names if split_part_name(name, [other for other in names if other != name]) is None]


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


def _check_tree(source: Path, tree: Vocabulary, categories: Sequence[dict[str, Any]]) -> None:
    found = {role for row in categories for role in _tree_roles(row["name"], tree)}
    missing = [part.text for part in tree.part_classes if (tree.objects[part.object].name, part.name) not in found]
    if missing:
        names = ", ".join(sorted({row["name"] for row in categories}))
        raise UserError(f"{source} has no category for {', '.join(missing)}; its categories are: {names}.", code=USAGE)


def _note_names(
    records: SourceRecords,
    categories: Sequence[dict[str, Any]],
    roles: dict[int, list[Role]],
    tree: Vocabulary | None,
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
