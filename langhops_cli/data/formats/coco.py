"""COCO 2017: instances of 80 objects, with masks, all of them annotated."""

from __future__ import annotations

from pathlib import Path

from langhops_cli.data.formats.coco_family import annotation_files, coco_places, object_roles, open_coco
from langhops_cli.data.formats.coco_parts import coco_split
from langhops_cli.data.records import Source

FILES: dict[str, tuple[str, ...]] = {
    split: (
        f"annotations/instances_{split}2017.json", f"instances_{split}2017.json",
        f"annotations/instances_{split}2014.json", f"instances_{split}2014.json",
    )
    for split in ("train", "val")
}  # fmt: skip


def read_coco(source: Path, *, images: Path | None = None) -> Source:
    """Read COCO's instances.

    Args:
        source: the folder with annotations/instances_*.json.
        images: the folder that holds train2017 and val2017, where it is not the same.

    Raises:
        UserError: files are missing or malformed.
    """
    records = Source("coco", [])
    for split, path in annotation_files(source, "coco", FILES).items():
        folder = path.stem.removeprefix("instances_")
        file, root = open_coco(path, coco_places(source, images, folder, split))
        records.splits.append(coco_split(split, file, object_roles(file, records), root))
    return records
