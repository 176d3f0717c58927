"""One picture of a source on its way into a prepared set: opened, checked, read, its parts given their objects."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from PIL import ExifTags, Image

from langhops_cli.data import masks
from langhops_cli.data.parents import ParentCounts, assign_parents, box_of_record
from langhops_cli.data.pictures import read_picture
from langhops_cli.data.records import Drops, InstanceRecord, Picture, Read, Role
from langhops_cli.errors import UserError


@dataclass(frozen=True)
class CheckedInstance:
    """An instance as it is written.

    Args:
        role: its names.
        counts: compressed run lengths; empty where only the box is known.
        box: left, top, right, bottom in pixels.
        area: pixels of the mask, or of the box.
        parent: place of its object among the picture's instances, -1 for none.
        crowd: it covers several instances.
    """

    role: Role
    counts: str
    box: masks.Box
    area: int
    parent: int
    crowd: bool


@dataclass(frozen=True)
class CheckedPicture:
    """A picture with all that is known of it; objects come before parts.

    Args:
        fault: why it is left out; None for a good one.
        digest: of the file's bytes, to find the same picture in another split.
    """

    id: int
    file_name: str
    width: int = 0
    height: int = 0
    instances: tuple[CheckedInstance, ...] = ()
    checked: tuple[Role, ...] | None = None
    drops: Drops = field(default_factory=Drops)
    parents: ParentCounts = field(default_factory=ParentCounts)
    fault: str | None = None
    digest: int = 0


@dataclass(frozen=True)
class Checker:
    """Checks and reads the pictures of one split; sent to other processes as it is.

    Args:
        root: the folder that file names are relative to.
        read: finds the instances of a picture.
        union: make the object instance of the parts where a picture shows only parts.
        writes: `read` makes the picture itself.
    """

    root: Path
    read: Read
    union: bool
    writes: bool

    def __call__(self, picture: Picture) -> CheckedPicture:
        """Check one picture; its faults are in what comes back, none is raised."""
        path = self.root / picture.file_name
        if self.writes:
            assert picture.size is not None, "a picture that is made has a size"
            size, digest = picture.size, 0
        else:
            fault, size, digest = look_at(path, picture.size)
            if fault is not None:
                return _left_out(picture, fault)
        try:
            found = self.read(path, picture, size)
        except UserError as error:
            return _left_out(picture, "annotations that cannot be read", str(error))
        except RecursionError:
            return _left_out(picture, "annotations nested too deep")
        items, parents = assign_parents(found.instances, union=self.union, drops=found.drops)
        return CheckedPicture(
            id=picture.id,
            file_name=picture.file_name,
            width=size[0],
            height=size[1],
            instances=_checked(items),
            checked=found.checked,
            drops=found.drops,
            parents=parents,
            digest=digest,
        )


def look_at(path: Path, stated: tuple[int, int] | None) -> tuple[str | None, tuple[int, int], int]:
    """Open a picture and read all of it.

    Args:
        path: the file.
        stated: (width, height) that its annotation says it has; None where it does not.

    Returns:
        What is wrong with it or None, its upright (width, height), and a digest of its bytes.
    """
    if path.name.startswith("._"):
        return "macOS ._ file, no picture", (0, 0), 0
    if not os.path.isfile(path):  # unlike the path's own method it takes names that no file can have
        return "missing picture", (0, 0), 0
    try:
        # The whole file is read, but a JPEG decoded at an eighth of its size: enough to see that it is cut off.
        read_picture(path, longest=1)
    except UserError:
        return "unreadable picture", (0, 0), 0
    with Image.open(path) as image:
        stored = image.size
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    with path.open("rb") as file:
        digest = int.from_bytes(hashlib.file_digest(file, "md5").digest()[:8], "little")
    upright = stored[::-1] if turned else stored
    if stated is None or upright == stated:
        return None, upright, digest
    if stored == stated:
        return "picture annotated without its EXIF rotation", upright, digest
    return "picture of another size than annotated", upright, digest


def _left_out(picture: Picture, fault: str, which: str = "") -> CheckedPicture:
    drops = Drops()
    drops.add(fault, which or picture.file_name)
    if picture.annotations:
        drops.add("instance in a picture that was left out", picture.file_name, count=picture.annotations)
    return CheckedPicture(picture.id, picture.file_name, drops=drops, fault=fault)


def _checked(items: list[InstanceRecord]) -> tuple[CheckedInstance, ...]:
    ordered = sorted(items, key=lambda item: item.part is not None)
    place: dict[int | None, int] = {item.id: number for number, item in enumerate(ordered)}
    return tuple(
        CheckedInstance(
            role=(item.object, item.part),
            counts=item.rle["counts"] if item.rle is not None else "",
            box=(box := box_of_record(item)),
            area=masks.area(item.rle) if item.rle is not None else round(masks.box_area(box)),
            parent=place.get(item.parent, -1),
            crowd=item.crowd,
        )
        for item in ordered
    )


def parts_of_objects(picture: CheckedPicture) -> Counter[tuple[Role, int]]:
    """How many parts of each name each object of a picture has: (role of the part, place of the object) -> number."""
    return Counter(
        (item.role, item.parent)
        for item in picture.instances
        if item.role[1] is not None and item.parent >= 0 and not item.crowd
    )
