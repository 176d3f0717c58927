"""From records to a prepared set: pictures checked, parents found, written beside and renamed at the end."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from PIL import ExifTags, Image

from langhops_cli.data import masks
from langhops_cli.data.parents import assign_parents
from langhops_cli.data.pictures import read_picture
from langhops_cli.data.records import InstanceRecord, PictureRecord, SourceRecords, SplitRecords
from langhops_cli.data.report import build_vocabulary, count_names, describe_split
from langhops_cli.data.rows import fingerprint, list_rows
from langhops_cli.errors import DATA, UserError
from langhops_cli.vocabulary import Vocabulary

FORMAT = 1
"""Version of what is written; a set of another version is prepared again."""

Item = TypeVar("Item")


class Track(Protocol):
    """Goes through items and shows how far it is."""

    def __call__(self, items: Iterable[Item], *, label: str, total: int) -> Iterable[Item]: ...


def quietly(items: Iterable[Item], *, label: str, total: int) -> Iterable[Item]:
    """Go through items and show nothing."""
    return items


def prepared_folder(data_root: Path | None, name: str) -> Path:
    """Where the prepared set of this name lies.

    Args:
        data_root: the folder of all prepared sets; $LANGHOPS_DATA, else ./data, when left out.
        name: a plain folder name.

    Raises:
        UserError: the name is not a plain folder name.
    """
    if not name or name.startswith(".") or Path(name).name != name:
        raise UserError(f"'{name}' cannot name a prepared set; use letters, digits, '-' and '_'.")
    root = data_root if data_root is not None else Path(os.environ.get("LANGHOPS_DATA") or "data")
    return root / name


def prepare(
    read: Callable[[Path], SourceRecords],
    folder: Path,
    *,
    inputs: dict[str, Any],
    union: bool = False,
    track: Track = quietly,
) -> tuple[dict[str, Any], bool]:
    """Write a prepared set, unless the very same one is there.

    Args:
        read: gives the records of the source; it is handed the folder being written, for pictures of its own.
        folder: where the set shall lie.
        inputs: all that decides the outcome, as JSON has it; a set made of the same inputs is left as it is.
        union: make the object instance of the parts where a picture shows only parts.
        track: shows how far the check of the pictures is.

    Returns:
        The report, and whether anything was written.

    Raises:
        UserError: no picture or no instance is left, an object has parts but no mask, or the folder holds other things.
    """
    inputs = {"format": FORMAT, **inputs, "union": union}
    ready = _read_report(folder)
    if ready is not None and ready["inputs"] == inputs:
        return ready, False
    if folder.exists() and ready is None:
        raise UserError(f"{folder} exists and is no prepared set; choose another --name or --data-root.", code=DATA)
    with written_beside(folder) as partial:
        report = _build(read(partial), partial, name=folder.name, union=union, track=track)
        report["inputs"] = inputs
        _write_json(partial / "report.json", report, indent=1)
    return report, True


def _build(records: SourceRecords, partial: Path, *, name: str, union: bool, track: Track) -> dict[str, Any]:
    if not union:
        _refuse_lone_parts(records)
    for split in records.splits:
        check_pictures(split, partial, track)
    parents = [assign_parents(split, union=union) for split in records.splits]
    if not any(split.instances for split in records.splits):
        reasons = "; ".join(f"{row['reason']}: {row['count']}" for s in records.splits for row in s.drops.to_list())
        raise UserError(f"no instance is left of {name} ({reasons or 'the source has none'}).", code=DATA)
    vocabulary, unused = build_vocabulary(records.tree, records.splits)
    categories = list_categories(vocabulary, records)
    prints = []
    for split in records.splits:
        content = to_coco(split, categories, name)
        path = partial / f"{split.name}.json"
        _write_json(path, content)
        prints.append(fingerprint(split.name, content, list_rows(path, content)))
    (partial / "hierarchy.yaml").write_text(vocabulary.to_yaml(), encoding="utf-8")
    splits = {
        split.name: {**describe_split(split, found), "fingerprint": mark}
        for split, found, mark in zip(records.splits, parents, prints, strict=True)
    }
    return {
        "name": name,
        "kind": records.kind,
        "splits": splits,
        "object_names": len(vocabulary.objects),
        "part_names": len(vocabulary.part_classes),
        "instances_by_name": count_names(records.splits),
        "names_without_instances": unused,
        "names_merged": records.merged,
        "fingerprint": hashlib.sha256(json.dumps(prints).encode()).hexdigest(),
    }


def _refuse_lone_parts(records: SourceRecords) -> None:
    """Parts without any object to belong to would train nothing: say how to make one."""
    whole = {item.object for split in records.splits for item in split.instances if item.part is None}
    for split in records.splits:
        for item in split.instances:
            if item.part is not None and not whole.intersection((item.object, *item.others)):
                raise UserError(
                    f"'{item.object}' has parts ('{item.part}') but no mask of its own in any picture; with --union "
                    f"it is the union of its parts in a picture (right where a picture shows one {item.object}).",
                    code=DATA,
                )


def check_pictures(split: SplitRecords, folder: Path, track: Track = quietly) -> None:
    """Open every picture; leave out, with the reason, those that are missing, unreadable or of another size.

    Args:
        split: changed in place.
        folder: what a relative image root is relative to.
        track: shows how far it is.

    Raises:
        UserError: no picture is left.
    """
    root = folder / split.image_root
    kept = []
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        faults = pool.map(lambda picture: _picture_fault(root / picture.file_name, picture), split.pictures)
        label, total = f"{split.name} pictures", len(split.pictures)
        for picture, fault in track(zip(split.pictures, faults, strict=True), label=label, total=total):
            if fault is None:
                kept.append(picture.id)
            else:
                split.drops.add(fault, picture.file_name)
    if split.pictures and not kept:
        reason = split.drops.to_list(1)[0]["reason"]
        raise UserError(
            f"none of the {len(split.pictures)} pictures of {split.name} below {root} can be used "
            f"({reason}: {split.pictures[0].file_name}); check --images.",
            code=DATA,
        )
    split.keep_pictures(kept)


def _picture_fault(path: Path, picture: PictureRecord) -> str | None:
    if not path.is_file():
        return "missing picture"
    try:
        # The whole file is read, but a JPEG decoded at an eighth of its size: enough to see that it is cut off.
        read_picture(path, longest=1)
    except UserError:
        return "unreadable picture"
    with Image.open(path) as image:
        stored = image.size
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    upright = stored[::-1] if turned else stored
    if upright == (picture.width, picture.height):
        return None
    if stored == (picture.width, picture.height):
        return "picture annotated without its EXIF rotation"
    return "picture of another size than annotated"


def list_categories(vocabulary: Vocabulary, records: SourceRecords) -> list[dict[str, Any]]:
    """COCO categories of a vocabulary: objects first, then parts, ids from 1, each part with its object's id."""
    categories: list[dict[str, Any]] = []
    for number, name in enumerate(vocabulary.object_names, start=1):
        source = records.source_names.get((name, None), name)
        categories.append({"id": number, "name": name, "source_name": source, "parent_id": None})
    for number, part in enumerate(vocabulary.part_classes, start=len(categories) + 1):
        owner = vocabulary.object_names[part.object]
        source = records.source_names.get((owner, part.name), part.name)
        row = {"id": number, "name": part.text, "part_name": part.name, "source_name": source, "supercategory": owner}
        categories.append({**row, "parent_id": part.object + 1})
    return categories


def to_coco(split: SplitRecords, categories: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The COCO mapping of a split; annotations get new ids from 1, objects of a picture before its parts."""
    names = {row["id"]: row["name"] for row in categories}
    category_of = {
        (names[row["parent_id"]], row["part_name"]) if row["parent_id"] else (row["name"], None): row["id"]
        for row in categories
    }
    ordered: list[InstanceRecord] = []
    for items in split.by_picture().values():
        ordered += sorted(items, key=lambda item: item.part is not None)
    new_ids: dict[int | None, int] = {item.id: number for number, item in enumerate(ordered, start=1)}
    annotations = [
        {
            "id": new_ids[item.id],
            "image_id": item.image_id,
            "category_id": category_of[item.object, item.part],
            "parent_id": new_ids.get(item.parent),
            "segmentation": item.rle,
            "area": masks.area(item.rle),
            "bbox": masks.box_xywh(item.rle),
            "iscrowd": int(item.crowd),
        }
        for item in ordered
    ]
    images = [
        {"id": row.id, "file_name": row.file_name, "width": row.width, "height": row.height} for row in split.pictures
    ]
    info = {
        "description": f"{name}, {split.name}",
        "format": FORMAT,
        "exhaustive": split.exhaustive,
        "image_root": str(split.image_root),
    }
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}


def source_digest(records: SourceRecords) -> str:
    """SHA-256 over what was read, and over size and time of every picture, so that a mended picture is seen."""
    digest = hashlib.sha256()
    digest.update(json.dumps([records.tree, records.merged], sort_keys=True).encode())
    for split in records.splits:
        digest.update(json.dumps([split.name, str(split.image_root), split.exhaustive, split.drops.ids]).encode())
        for item in split.instances:
            row = [item.id, item.image_id, item.object, item.part, item.rle, item.parent, item.crowd, item.others]
            digest.update(json.dumps(row).encode())
        for picture in split.pictures:
            path = split.image_root / picture.file_name
            state = path.stat() if split.image_root.is_absolute() and path.is_file() else None
            times = (state.st_size, state.st_mtime_ns) if state else None
            digest.update(json.dumps([picture.id, picture.file_name, picture.width, picture.height, times]).encode())
    return digest.hexdigest()


@contextmanager
def written_beside(folder: Path) -> Iterator[Path]:
    """Give an empty folder to write in, which takes the place of `folder` at the end, or vanishes after a fault."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(folder)
    partial = folder.parent / f".{folder.name}.partial-{os.getpid()}"
    partial.mkdir()
    try:
        yield partial
        old = folder.parent / f".{folder.name}.old-{os.getpid()}"
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _clear_leftovers(folder: Path) -> None:
    """Remove what a killed run left, and put back a set that it had moved aside but not replaced."""
    for kind in ("old", "partial"):
        for left in folder.parent.glob(f".{folder.name}.{kind}-*"):
            if _runs(left.name.rpartition("-")[2]):
                continue
            if kind == "old" and not folder.exists():
                left.rename(folder)
            else:
                shutil.rmtree(left, ignore_errors=True)


def _runs(process: str) -> bool:
    """Whether another process of this number is alive."""
    if not process.isdigit() or int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _read_report(folder: Path) -> dict[str, Any] | None:
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) and "inputs" in report else None


def _write_json(path: Path, content: object, indent: int | None = None) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, indent=indent, separators=(",", ":") if indent is None else None)
        file.write("\n")
