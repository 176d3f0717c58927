"""Objects and parts in one COCO list without parents, as put together for joint training of objects and parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langhops_cli.data.formats.coco_family import coco_places, open_coco
from langhops_cli.data.formats.coco_files import find_annotations
from langhops_cli.data.formats.federated import federated_split
from langhops_cli.data.formats.roles import note_names
from langhops_cli.data.records import Role, Source
from langhops_cli.vocabulary import clean_name, is_spelt_as_part, split_part_name

ORPHAN = "name that parses to no object"


def read_partglee_joint(
    source: Path,
    *,
    train: Path | None = None,
    val: Path | None = None,
    images: Path | None = None,
    exhaustive: bool | None = None,
) -> Source:
    """Read a joint list of objects and parts; the parents of parts come from their names and from the masks.

    Args:
        source: the folder of the dataset.
        train: annotation file of the train split, when it is not at a usual place; val: that of the val split.
        images: the folder that file names are relative to.
        exhaustive: whether every instance of every name was annotated in each picture; else what the file's `info`
            says, else no: a list put together of several datasets is not.

    Raises:
        UserError: files are missing or malformed.
    """
    paths = {split: path for split, path in (("train", train), ("val", val)) if path is not None}
    records = Source("partglee-joint", [])
    for split, path in (paths or find_annotations(source)).items():
        folder = path.stem.removeprefix("instances_")
        file, root = open_coco(path, [*coco_places(source, images, split, folder), path.parent, path.parent / "images"])
        roles, guessed = joint_roles(file.categories)
        note_names(records, [{"id": row["id"], "name": row["name"]} for row in _kept(file.categories, roles)], roles)
        orphans = {row["id"]: row["name"] for row in file.categories if row["id"] not in roles}
        if orphans:
            records.remarks.append(f"{split}: left out, {ORPHAN}: {', '.join(orphans.values())}")
        if guessed:
            told = ", ".join(f"{name} (of {roles[number][0][0]})" for number, name in guessed.items())
            records.remarks.append(f"{split}: taken as parts by their first words: {told}")
        all_annotated = bool(file.info.get("exhaustive", False)) if exhaustive is None else exhaustive
        reasons = dict.fromkeys(orphans, ORPHAN)
        records.splits.append(federated_split(split, file, roles, root, reasons=reasons, exhaustive=all_annotated))
    return records


def joint_roles(categories: Sequence[dict[str, Any]]) -> tuple[dict[int, list[Role]], dict[int, str]]:
    """What the categories of a joint list stand for.

    "dog's head" and "dog:head" are parts of "dog", which must be a category. Only where no name is spelt so, "Dog Head"
    is one too: beside such names it is more likely an object, as "horse buggy" and "tennis racket" are.

    Returns:
        The roles by category id, without names that are spelt as a part of no category; and the names that were taken
        as parts by their first words.
    """
    names = {row["id"]: row["name"] for row in categories}
    spelt = {number for number, name in names.items() if is_spelt_as_part(name)}
    objects = {clean_name(name): name for number, name in names.items() if number not in spelt}
    tops = [name for cleaned, name in objects.items() if not _known_beginnings(cleaned, objects)]
    roles: dict[int, list[Role]] = {}
    guessed: dict[int, str] = {}
    for number, name in names.items():
        if number in spelt:
            split = split_part_name(name, objects.values())
            if split is None:
                continue
        else:
            above = [] if spelt else [top for top in tops if top in _known_beginnings(clean_name(name), objects)]
            split = split_part_name(name, above)
            if split is not None:
                guessed[number] = name
        roles[number] = [(clean_name(name), None) if split is None else (clean_name(split[0]), split[1])]
    return roles, guessed


def _known_beginnings(cleaned: str, objects: dict[str, str]) -> list[str]:
    """The objects that the first words of a name spell, be it not all of them."""
    words = cleaned.split(" ")
    beginnings = (" ".join(words[:length]) for length in range(1, len(words)))
    return [objects[beginning] for beginning in beginnings if beginning in objects]


def _kept(categories: Sequence[dict[str, Any]], roles: dict[int, list[Role]]) -> list[dict[str, Any]]:
    return [row for row in categories if row["id"] in roles]
