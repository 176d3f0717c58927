"""Generated scenes of objects with parts: a data set that is true by construction, from a seed alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from langhops_cli.data.figures import KINDS, PARTS, Figure, rotation
from langhops_cli.data.masks import Rle, as_text
from langhops_cli.data.records import InstanceRecord, PictureRecord, SourceRecords, SplitRecords, Tree
from langhops_cli.errors import UserError

MOST_OBJECTS = 4
LEAST_SEEN = 0.4
"""Objects are placed so that at least this share of each stays in sight."""
LEAST_AREA = 12
"""Parts of which fewer pixels are in sight are not annotated."""
SMALLEST, LARGEST = 64, 2048


@dataclass(frozen=True)
class Scene:
    """A generated picture.

    Args:
        pixels: RGB, (S, S, 3), uint8.
        owner: number of the object seen at each pixel, -1 for the background, (S, S).
        part: number of the part seen at each pixel over all objects, -1 for the background, (S, S).
        objects: name of each object.
        parts: number of its object and name of each part.
    """

    pixels: np.ndarray
    owner: np.ndarray
    part: np.ndarray
    objects: list[str]
    parts: list[tuple[int, str]]


def generate(folder: Path, *, train: int, val: int, size: int, seed: int) -> SourceRecords:
    """Draw the scenes of both splits and write them as PNG files below `folder/images`.

    Args:
        folder: an existing folder.
        train: number of scenes to train on; val: number to measure on.
        size: side of the square pictures in pixels, 64..2048.
        seed: decides every scene.

    Raises:
        UserError: a number is out of range.
    """
    if min(train, val) < 0 or train + val < 1:
        raise UserError(f"shapes needs at least one picture, not --train {train} --val {val}.")
    if not SMALLEST <= size <= LARGEST:
        raise UserError(f"--size goes from {SMALLEST} to {LARGEST} pixels, not {size}.")
    splits = []
    for number, (name, amount) in enumerate((("train", train), ("val", val))):
        split = SplitRecords(name, Path("images"), True, [], [])
        (folder / "images" / name).mkdir(parents=True)
        for place in range(amount):
            scene = draw_scene(size, np.random.default_rng([seed, number, place]))
            file_name = f"{name}/{place + 1:06d}.png"
            Image.fromarray(scene.pixels).save(folder / "images" / file_name)
            split.pictures.append(PictureRecord(place + 1, file_name, size, size))
            split.instances += _annotate(scene, place + 1, first=len(split.instances) + 1)
        if amount:
            splits.append(split)
    tree: Tree = {kind: dict.fromkeys(parts) for kind, parts in PARTS.items()}
    return SourceRecords("shapes", splits, tree)


def draw_scene(size: int, draw: np.random.Generator) -> Scene:
    """Draw one scene: a background with unnamed blots, and one to four objects from back to front.

    Args:
        size: side in pixels.
        draw: decides all.
    """
    scene = Scene(_background(size, draw), np.full((size, size), -1), np.full((size, size), -1), [], [])
    wanted = int(draw.integers(1, MOST_OBJECTS + 1))
    whole: list[int] = []
    while not scene.objects:
        for _ in range(wanted):
            kind = str(draw.choice(list(KINDS)))
            masks = [(name, _fill(outline, size)) for name, outline in _place(KINDS[kind](draw), size, draw)]
            covered = np.logical_or.reduce([mask for _, mask in masks])
            if _hides_too_much(covered, scene, whole):
                continue
            whole.append(int(covered.sum()))
            scene.objects.append(kind)
            _paint(scene, masks, draw)
    grain = draw.integers(-8, 9, size=scene.pixels.shape, dtype=np.int16)
    np.copyto(scene.pixels, np.clip(scene.pixels + grain, 0, 255).astype(np.uint8))
    return scene


def _hides_too_much(covered: np.ndarray, scene: Scene, whole: list[int]) -> bool:
    """Whether a new object would leave too little of an earlier one, or itself lie mostly outside the picture."""
    if covered.sum() < LEAST_AREA * 4:
        return True
    left = np.bincount(scene.owner[(scene.owner >= 0) & ~covered], minlength=len(whole))
    return any(seen < LEAST_SEEN * area for seen, area in zip(left, whole, strict=True))


def _place(figure: Figure, size: int, draw: np.random.Generator) -> Figure:
    """Turn, stretch, mirror and move a figure to somewhere in the picture."""
    scale = size * draw.uniform(0.3, 0.62)
    stretch = np.diag([draw.choice([-1.0, 1.0]) * draw.uniform(0.85, 1.15), draw.uniform(0.85, 1.15)])
    matrix = rotation(draw.uniform(-0.3, 0.3)) @ stretch * scale
    centre = draw.uniform(0.2, 0.8, size=2) * size
    return [(name, outline @ matrix.T + centre) for name, outline in figure]


def _fill(outline: np.ndarray, size: int) -> np.ndarray:
    canvas = Image.new("1", (size, size))
    ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in outline], fill=1)
    return np.asarray(canvas)


def _paint(scene: Scene, masks: list[tuple[str, np.ndarray]], draw: np.random.Generator) -> None:
    size = len(scene.owner)
    colours: dict[str, np.ndarray] = {}
    for name, mask in masks:
        # Parts of one name share a colour within an object, as the legs of an animal do.
        colour = colours.setdefault(name, draw.uniform(30, 225, size=3))
        scene.pixels[mask] = _shade(np.nonzero(mask), size, colour, draw)
        scene.owner[mask] = len(scene.objects) - 1
        scene.part[mask] = len(scene.parts)
        scene.parts.append((len(scene.objects) - 1, name))


def _background(size: int, draw: np.random.Generator) -> np.ndarray:
    everywhere = tuple(np.indices((size, size)).reshape(2, -1))
    pixels = _shade(everywhere, size, draw.uniform(60, 210, size=3), draw, strength=50).reshape(size, size, 3)
    for _ in range(int(draw.integers(2, 7))):
        corners = draw.uniform(-0.1, 1.1, size=2) * size + draw.normal(0, 0.16 * size, size=(5, 2))
        pixels[_fill(corners, size)] = draw.uniform(40, 220, size=3)
    return pixels


def _shade(
    pixels: tuple[np.ndarray, ...], size: int, colour: np.ndarray, draw: np.random.Generator, strength: float = 30
) -> np.ndarray:
    """A colour that grows lighter in a random direction, at the given pixels, (N, 3) uint8."""
    rows, columns = pixels
    angle = draw.uniform(0, 2 * np.pi)
    field = (np.cos(angle) * (columns / size - 0.5) + np.sin(angle) * (rows / size - 0.5)).astype(np.float32)
    return np.clip(colour.astype(np.float32) + strength * 2 * field[:, None], 0, 255).astype(np.uint8)


def _annotate(scene: Scene, image_id: int, first: int) -> list[InstanceRecord]:
    instances = [
        InstanceRecord(first + number, image_id, kind, None, _encode(scene.owner == number))
        for number, kind in enumerate(scene.objects)
    ]
    for number, (owner, name) in enumerate(scene.parts):
        mask = scene.part == number
        if mask.sum() >= LEAST_AREA:
            item = InstanceRecord(
                first + len(instances), image_id, scene.objects[owner], name, _encode(mask), parent=first + owner
            )
            instances.append(item)
    return instances


def _encode(mask: np.ndarray) -> Rle:
    return as_text(coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))))
