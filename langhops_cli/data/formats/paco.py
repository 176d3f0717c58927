"""PACO-LVIS: pictures of COCO with masks of 75 objects and their 456 parts, each part with its object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langhops_cli.data.formats.coco_family import annotation_files, coco_places, open_coco
from langhops_cli.data.formats.federated import federated_split
from langhops_cli.data.formats.roles import note_names
from langhops_cli.data.records import Role, Source
from langhops_cli.vocabulary import clean_name, is_spelt_as_part, split_part_name

FILES: dict[str, tuple[str, ...]] = {
    split: tuple(
        f"{folder}paco_lvis_v1_{split}.json"
        for folder in ("", "annotations/", "paco_lvis_v1/", "annotations/paco_lvis_v1/")
    )
    for split in ("train", "val", "test")
}
ORPHAN = "part whose object is no category"


def read_paco(source: Path, *, images: Path | None = None) -> Source:
    """Read PACO-LVIS.

    Args:
        source: the folder with paco_lvis_v1_*.json.
        images: the folder that holds COCO's train2017 and val2017, where it is not the same.

    Raises:
        UserError: files are missing or malformed.
    """
    records = Source("paco", [])
    for split, path in annotation_files(source, "paco", FILES).items():
        file, root = open_coco(path, coco_places(source, images))
        roles = paco_roles(file.categories)
        orphans = {row["id"]: row["name"] for row in file.categories if row["id"] not in roles}
        note_names(records, [row for row in file.categories if row["id"] in roles], roles)
        if orphans:
            records.remarks.append(f"{split}: left out, {ORPHAN}: {', '.join(orphans.values())}")
        reasons = dict.fromkeys(orphans, ORPHAN)
        records.splits.append(federated_split(split, file, roles, root, reasons=reasons))
    return records


def paco_roles(categories: Sequence[dict[str, Any]]) -> dict[int, list[Role]]:
    """What the categories stand for: "dog" and "dog:ear"; a part whose object is no category stands for nothing."""
    roles: dict[int, list[Role]] = {}
    objects = [row["name"] for row in categories if not _is_part(row)]
    for row in categories:
        split = split_part_name(row["name"], objects) if _is_part(row) else None
        if split is not None:
            roles[row["id"]] = [(clean_name(split[0]), split[1])]
        elif not _is_part(row):
            roles[row["id"]] = [(clean_name(row["name"]), None)]
    return roles


def _is_part(row: dict[str, Any]) -> bool:
    return row.get("supercategory") == "PART" or is_spelt_as_part(row["name"])
