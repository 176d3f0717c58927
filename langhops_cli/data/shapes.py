"""Generated scenes of objects with parts: a data set that is true by construction, from a seed alone.

The splits `train` and `val` show the seen kinds. The split `novel` shows kinds that were held out of both, beside seen
ones; all names of their parts are known from seen kinds, so that it measures what carries over to new objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from langhops_cli.data import masks
from langhops_cli.data.figures import HELD_OUT, KINDS, PARTS, SEEN
from langhops_cli.data.records import InstanceRecord, Picture, PictureRecords, Role, Source, SplitSource
from langhops_cli.data.render import Scene, render
from langhops_cli.data.scenes import compose
from langhops_cli.errors import UserError

LEAST_AREA = 12
"""Objects and parts of which fewer pixels are in sight are not annotated."""
SMALLEST, LARGEST = 64, 2048
_SEEN_ROLES: tuple[Role, ...] = tuple((kind, name) for kind in SEEN for name in (None, *PARTS[kind]))
SPLITS = ("train", "val", "novel")
COMPRESSION = 1
"""Of the PNG files: noise hardly gets smaller with more, and three times slower."""


def generate(folder: Path, *, train: int, val: int, size: int, seed: int, novel: int = 0) -> Source:
    """Scenes that are drawn as they are read, and written as PNG files below `folder/images`.

    Args:
        folder: an existing folder.
        train: number of scenes to train on; val: number of scenes of the same kinds to measure on.
        size: side of the square pictures in pixels, 64..2048.
        seed: decides every scene.
        novel: number of scenes that each show a held-out kind, beside kinds of both sorts. With any, pictures of the
            other splits are marked as searched for the seen kinds only, so that training never hears of the others.

    Raises:
        UserError: a number is out of range.
    """
    amounts = dict(zip(SPLITS, (train, val, novel), strict=True))
    if min(amounts.values()) < 0 or not any(amounts.values()):
        asked = " ".join(f"--{name} {amount}" for name, amount in amounts.items())
        raise UserError(f"shapes needs at least one picture and none below 0, not {asked}.")
    if not SMALLEST <= size <= LARGEST:
        raise UserError(f"--size goes from {SMALLEST} to {LARGEST} pixels, not {size}.")
    if seed < 0:
        raise UserError(f"--seed is 0 or more, not {seed}.")
    splits = [
        SplitSource(
            name,
            Path("images"),
            amount,
            pictures=partial(_pictures, name, amount, size),
            read=partial(_draw_and_write, size=size, split=name, seed=seed, apart=novel > 0),
            writes=True,
        )
        for name, amount in amounts.items()
        if amount
    ]
    for split in splits:
        (folder / "images" / split.name).mkdir(parents=True)
    shown = KINDS if novel else SEEN
    return Source("shapes", splits, {kind: dict.fromkeys(PARTS[kind]) for kind in shown})


def scene_of(split: str, number: int, *, seed: int, size: int) -> Scene:
    """Draw one scene of a set.

    Args:
        split: "train", "val" or "novel".
        number: of the scene in its split, from 0.
        seed: of the set; size: side in pixels.
    """
    # The kinds take turns as the one that a scene surely shows, so that even a small set holds each.
    sure = HELD_OUT if split == "novel" else SEEN
    kinds = (*SEEN, *HELD_OUT * 3) if split == "novel" else SEEN
    draw = np.random.default_rng([seed, SPLITS.index(split), number])
    return render(compose(draw, kinds, first=sure[number % len(sure)]), size)


def _pictures(split: str, amount: int, size: int) -> Iterator[Picture]:
    for number in range(1, amount + 1):
        yield Picture(number, f"{split}/{number:06d}.png", (size, size))


def _draw_and_write(
    path: Path, picture: Picture, _: tuple[int, int], *, size: int, split: str, seed: int, apart: bool
) -> PictureRecords:
    scene = scene_of(split, picture.id - 1, seed=seed, size=size)
    Image.fromarray(scene.pixels).save(path, compress_level=COMPRESSION)
    return PictureRecords(_annotate(scene), checked=_SEEN_ROLES if apart and split != "novel" else None)


def _annotate(scene: Scene) -> list[InstanceRecord]:
    """Everything of which enough is in sight: objects, then parts."""
    owners = np.array([owner for owner, _ in scene.parts] + [-1])
    objects = _runs(owners[scene.part], len(scene.objects))
    instances = [InstanceRecord(owner, scene.objects[owner], None, rle) for owner, rle in objects.items()]
    for number, rle in _runs(scene.part, len(scene.parts)).items():
        owner, name = scene.parts[number]
        if owner in objects:
            instances.append(InstanceRecord(len(scene.objects) + number, scene.objects[owner], name, rle, parent=owner))
    return instances


def _runs(numbers: np.ndarray, many: int) -> dict[int, masks.Rle]:
    """Run lengths of each number's pixels, where there are enough of them."""
    areas = np.bincount(numbers[numbers >= 0], minlength=many)
    # Run lengths go down the columns: turned once for all numbers.
    columns = np.ascontiguousarray(numbers.T, dtype=np.int16)
    return {
        int(number): masks.as_text(coco_mask.encode((columns == number).view(np.uint8).T))
        for number in np.flatnonzero(areas >= LEAST_AREA)
    }
