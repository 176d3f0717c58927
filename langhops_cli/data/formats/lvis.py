"""LVIS: pictures of COCO with masks of 1203 objects, each picture searched for some of the names only."""

from __future__ import annotations

from pathlib import Path

from langhops_cli.data.formats.coco_family import annotation_files, coco_places, object_roles, open_coco
from langhops_cli.data.formats.coco_files import find_splits
from langhops_cli.data.formats.federated import federated_split
from langhops_cli.data.records import Source

FILES: dict[str, dict[str, tuple[str, ...]]] = {
    version: {
        split: (f"lvis_{version}_{split}.json", f"annotations/lvis_{version}_{split}.json")
        for split in ("train", "val")
    }
    for version in ("v1", "v0.5")
}


def read_lvis(source: Path, *, images: Path | None = None) -> Source:
    """Read LVIS, version 1 or, where that is not there, version 0.5, whose names are others.

    Args:
        source: the folder with lvis_v1_*.json.
        images: the folder that holds COCO's train2017 and val2017, where it is not the same.

    Raises:
        UserError: files are missing or malformed.
    """
    old = find_splits(source, FILES["v0.5"])
    version = "v0.5" if old and not find_splits(source, FILES["v1"]) else "v1"
    records = Source("lvis", [], remarks=[f"LVIS {version}"])
    for split, path in annotation_files(source, "lvis", FILES[version]).items():
        file, root = open_coco(path, coco_places(source, images))
        records.splits.append(federated_split(split, file, object_roles(file, records), root))
    return records
