"""The index of a prepared set whose annotation file was written by hand."""

import json
from pathlib import Path

from datasets.arrow_writer import ArrowWriter

from langhops_cli.checkpoint.files import file_hash
from langhops_cli.data.index import INDEX, open_datasets
from langhops_cli.data.rows import features
from langhops_cli.data.writer import category_names


def write_index(root: Path, split: str) -> None:
    """Write the index that `langhops prepare` would have written beside `<split>.json`."""
    path = root / f"{split}.json"
    content = json.loads(path.read_text())
    level = {row["id"]: row["parent_id"] is not None for row in content["categories"]}
    folder = root / INDEX / split
    folder.mkdir(parents=True, exist_ok=True)
    writer = ArrowWriter(path=str(folder / "rows.arrow"), features=features(open_datasets()))
    for image in content["images"]:
        items = [row for row in content["annotations"] if row["image_id"] == image["id"]]
        items.sort(key=lambda row: level[row["category_id"]])
        place = {row["id"]: number for number, row in enumerate(items)}
        writer.write(
            {
                "image_id": image["id"],
                **{key: image[key] for key in ("file_name", "width", "height")},
                "category": [row["category_id"] for row in items],
                "counts": [row["segmentation"]["counts"] for row in items],
                "box": [[] for _ in items],
                "parent": [place.get(row["parent_id"], -1) for row in items],
                "crowd": [bool(row["iscrowd"]) for row in items],
                "checked": None,
            }
        )
    writer.finalize()
    meta = {
        "exhaustive": content["info"]["exhaustive"],
        "image_root": content["info"]["image_root"],
        "categories": category_names(content["categories"]),
        "fingerprint": file_hash(path),
        "sha256": file_hash(path),
    }
    (folder / "meta.json").write_text(json.dumps(meta))
