"""Generated scenes of objects with parts: a data set that is true by construction, from a seed alone.

The splits `train` and `val` show the seen kinds. The split `novel` shows kinds that were held out of both, beside seen
ones; all names of their parts are known from seen kinds, so that it measures what carries over to new objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from langhops_cli.data import masks
from langhops_cli.data.generated.figures import HELD_OUT, KINDS, PARTS, SEEN
from langhops_cli.data.generated.render import Scene, render
from langhops_cli.data.generated.scenes import MOST_OBJECTS, compose
from langhops_cli.data.records import InstanceRecord, Picture, PictureRecords, Role, Source, SplitSource
from langhops_cli.errors import UserError

LEAST_AREA = 12
"""Objects and parts of which fewer pixels are in sight are not annotated."""
SMALLEST, LARGEST = 64, 2048
SPLITS = ("train", "val", "novel")
COMPRESSION = 1
"""Of the PNG files: noise hardly gets smaller with more, and three times slower."""


def generate(
    folder: Path,
    *,
    train: int,
    val: int,
    size: int,
    seed: int,
    novel: int = 0,
    kinds: str = "",
    objects: int = MOST_OBJECTS,
) -> Source:
    """Scenes that are drawn as they are read, and written as PNG files below `folder/images`.

    Args:
        folder: an existing folder.
        train: number of scenes to train on; val: number of scenes of the same kinds to measure on.
        size: side of the square pictures in pixels, 64..2048.
        seed: decides every scene.
        novel: number of scenes that each show a held-out kind, beside kinds of both sorts. With any, pictures of the
            other splits are marked as searched for the seen kinds only, so that training never hears of the others.
        kinds: names of those that are shown, with commas between; all when empty.
        objects: how many of them a scene shows at most, 1..6.

    Raises:
        UserError: a number is out of range, or a kind is not known.
    """
    seen, held_out = _chosen(kinds, novel)
    if not 1 <= objects <= MOST_OBJECTS:
        raise UserError(f"--objects goes from 1 to {MOST_OBJECTS}, not {objects}.")
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
            read=partial(
                _draw_and_write,
                scene=partial(scene_of, name, seed=seed, size=size, seen=seen, held_out=held_out, objects=objects),
                searched=_roles(seen) if novel and name != "novel" else None,
            ),
            writes=True,
        )
        for name, amount in amounts.items()
        if amount
    ]
    for split in splits:
        (folder / "images" / split.name).mkdir(parents=True)
    shown = [kind for kind in KINDS if kind in seen or (kind in held_out and novel)]
    return Source("shapes", splits, {kind: dict.fromkeys(PARTS[kind]) for kind in shown})


def _chosen(kinds: str, novel: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of the kinds that are seen in training and of those held out, the ones to show."""
    if not kinds.strip():
        return SEEN, HELD_OUT
    wanted = [name.strip() for name in kinds.split(",")]
    for name in wanted:
        if name not in KINDS:
            raise UserError(f"shapes draws no {name!r}; --kinds knows {', '.join(KINDS)}.")
    seen = tuple(kind for kind in SEEN if kind in wanted)
    held_out = tuple(kind for kind in HELD_OUT if kind in wanted)
    if not seen or (novel and not held_out):
        which = "held out" if seen else "seen in training"
        raise UserError(
            f"--kinds {kinds} names none that is {which}; of these are {', '.join((HELD_OUT, SEEN)[not seen])}."
        )
    return seen, held_out


def _roles(kinds: Sequence[str]) -> tuple[Role, ...]:
    return tuple((kind, name) for kind in kinds for name in (None, *PARTS[kind]))


def scene_of(
    split: str,
    number: int,
    *,
    seed: int,
    size: int,
    seen: Sequence[str] = SEEN,
    held_out: Sequence[str] = HELD_OUT,
    objects: int = MOST_OBJECTS,
) -> Scene:
    """Draw one scene of a set.

    Args:
        split: "train", "val" or "novel".
        number: of the scene in its split, from 0.
        seed: of the set; size: side in pixels.
        seen, held_out: kinds to show; the held-out ones in "novel" alone.
        objects: how many a scene shows at most.
    """
    # The kinds take turns as the one that a scene surely shows, so that even a small set holds each.
    sure = held_out if split == "novel" else seen
    kinds = (*seen, *tuple(held_out) * 3) if split == "novel" else seen
    draw = np.random.default_rng([seed, SPLITS.index(split), number])
    return render(compose(draw, kinds, first=sure[number % len(sure)], most=objects), size)


def _pictures(split: str, amount: int, size: int) -> Iterator[Picture]:
    for number in range(1, amount + 1):
        yield Picture(number, f"{split}/{number:06d}.png", (size, size))


def _draw_and_write(
    path: Path,
    picture: Picture,
    _: tuple[int, int],
    *,
    scene: Callable[[int], Scene],
    searched: tuple[Role, ...] | None,
) -> PictureRecords:
    drawn = scene(picture.id - 1)
    Image.fromarray(drawn.pixels).save(path, compress_level=COMPRESSION)
    return PictureRecords(_annotate(drawn), checked=searched)


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
