"""Rows of the index: one a picture, with its instances; the fingerprint of a split is taken over them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from langhops_cli.data.formats.coco_files import check_file_name
from langhops_cli.errors import DATA, UserError

Category = tuple[int, str, str | None]
"""Category id, object name, part name or None."""


def list_rows(path: Path, content: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a picture of a prepared annotation file.

    Args:
        path: the file, for messages.
        content: its content.

    Returns:
        Rows of `image_id`, `file_name`, `width`, `height` and, one entry an instance, `category`, `counts` (run
        lengths), `parent` (place of the object in the row, -1 for none) and `crowd`. Objects come before parts.

    Raises:
        UserError: an annotation has no run lengths or no picture.
    """
    is_part = {row["id"]: row.get("parent_id") is not None for row in content["categories"]}
    rows: dict[int, dict[str, Any]] = {}
    for image in content["images"]:
        rows[image["id"]] = {
            "image_id": image["id"], "file_name": check_file_name(path, image["file_name"]), "width": image["width"],
            "height": image["height"], "category": [], "counts": [], "parent": [], "crowd": [],
        }  # fmt: skip
    place: dict[int, int] = {}
    for item in sorted(content["annotations"], key=lambda item: is_part.get(item["category_id"], False)):
        row = rows.get(item["image_id"])
        if row is None or not isinstance(item.get("segmentation"), dict):
            raise UserError(f"{path}: annotation {item['id']} is not as `langhops prepare` writes it.", code=DATA)
        place[item["id"]] = len(row["category"])
        row["category"].append(item["category_id"])
        row["counts"].append(item["segmentation"]["counts"])
        row["parent"].append(place.get(item.get("parent_id"), -1))
        row["crowd"].append(bool(item.get("iscrowd", 0)))
    return list(rows.values())


def list_names(content: dict[str, Any]) -> list[Category]:
    """What each category of a prepared annotation file stands for."""
    names = {row["id"]: row["name"] for row in content["categories"]}
    return [
        (row["id"], row["name"], None)
        if row.get("parent_id") is None
        else (row["id"], names[row["parent_id"]], row["part_name"])
        for row in content["categories"]
    ]


def is_exhaustive(content: dict[str, Any]) -> bool:
    """Whether every instance of every name was annotated."""
    return bool(content["info"].get("exhaustive", True))


def fingerprint(split: str, content: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """SHA-256 over all that training reads of a split, wherever its pictures lie."""
    head = [split, is_exhaustive(content), list_names(content)]
    digest = hashlib.sha256(json.dumps(head, ensure_ascii=False).encode())
    for row in rows:
        digest.update(json.dumps(row, ensure_ascii=False).encode())
    return digest.hexdigest()
