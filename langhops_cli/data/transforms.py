"""Augmentation of a sample: flip, large-scale jitter with a crop, colours; the same draw gives the same sample."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageEnhance

from langhops_cli.data.masks import centres, pick
from langhops_cli.data.sample import Box, Sample, SampleInstance, box_of
from langhops_cli.vocabulary import Vocabulary

LEAST_AREA = 16
"""Instances of which fewer pixels are left are dropped: no cell of the finest map would hold them."""

THINNEST = 8
"""Pictures are not resized to fewer pixels than this in either direction."""

_SIDE = re.compile(r"\b(left|right)\b")
_OTHER_SIDE = {"left": "right", "right": "left"}

Window = tuple[int, int, int, int]
"""Left, top, right, bottom of a crop in pixels of the resized picture."""


def fit(size: tuple[int, int], shortest: int, longest: int) -> tuple[int, int]:
    """Size of a picture whose shorter side is `shortest`, unless its longer side would pass `longest`.

    Args:
        size: height and width in pixels.

    Returns:
        Height and width with the same shape, at least 1 pixel each.
    """
    scale = min(shortest / min(size), longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def resize_sample(sample: Sample, height: int, width: int, *, window: Window | None = None) -> Sample:
    """Resize a picture with its masks and boxes, and cut a window out of it.

    Args:
        sample: left as it is.
        height: height of the whole picture after resizing, in pixels; width: its width.
        window: what to keep of the resized picture; all of it when left out.

    Returns:
        The new sample. Instances of which fewer than 16 pixels are left are dropped (in a whole picture: those of which
        nothing is left); parts of a dropped object have the parent -1.
    """
    left, top, right, bottom = window or (0, 0, width, height)
    source_height, source_width = sample.size
    # Resampling straight from the window's place in the source: no pixel is made that is cut off again.
    x_scale, y_scale = source_width / width, source_height / height
    image = sample.image.resize(
        (right - left, bottom - top),
        Image.Resampling.BILINEAR,
        box=(left * x_scale, top * y_scale, min(right * x_scale, source_width), min(bottom * y_scale, source_height)),
        reducing_gap=2.0,
    )
    rows = centres(source_height, height)[top:bottom]
    columns = centres(source_width, width)[left:right]
    least = 1 if window is None else LEAST_AREA

    def move(item: SampleInstance) -> SampleInstance | None:
        box = _move_box(item.box, 1 / x_scale, 1 / y_scale, (left, top, right, bottom))
        if item.mask is None:
            return replace(item, box=box) if (box[2] - box[0]) * (box[3] - box[1]) >= least else None
        if box[0] >= box[2] or box[1] >= box[3]:
            return None
        mask = pick(item.mask, rows, columns)
        return replace(item, mask=mask, box=box_of(mask)) if int(mask.sum()) >= least else None

    return _map_instances(replace(sample, image=image), move)


def _move_box(box: Box, x_scale: float, y_scale: float, window: Window) -> Box:
    left, top, right, bottom = window
    x0, x1 = (min(max(x * x_scale - left, 0.0), right - left) for x in (box[0], box[2]))
    y0, y1 = (min(max(y * y_scale - top, 0.0), bottom - top) for y in (box[1], box[3]))
    return x0, y0, x1, y1


def _map_instances(sample: Sample, move: Callable[[SampleInstance], SampleInstance | None]) -> Sample:
    """Change or drop instances, and let parts follow their objects to their new places."""
    objects: list[SampleInstance] = []
    place = {-1: -1}
    for number, item in enumerate(sample.objects):
        moved = move(item)
        if moved is not None:
            place[number] = len(objects)
            objects.append(moved)
    moved_parts = [part for part in map(move, sample.parts) if part is not None]
    parts = [replace(part, parent=place.get(part.parent, -1)) for part in moved_parts]
    return replace(sample, objects=objects, parts=parts)


def flip(sample: Sample) -> Sample:
    """Mirror a picture left to right; "left" and "right" change places in labels where both names are known."""
    objects, parts = _mirrored_labels(sample.vocabulary)
    width = sample.image.width

    def mirror(labels: Sequence[int]) -> Callable[[SampleInstance], SampleInstance]:
        def one(item: SampleInstance) -> SampleInstance:
            x0, y0, x1, y1 = item.box
            mask = None if item.mask is None else item.mask[:, ::-1]
            return replace(item, label=labels[item.label], mask=mask, box=(width - x1, y0, width - x0, y1))

        return one

    return replace(
        sample,
        image=sample.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        objects=list(map(mirror(objects), sample.objects)),
        parts=list(map(mirror(parts), sample.parts)),
        unsure_objects=frozenset(objects[label] for label in sample.unsure_objects),
        unsure_parts=frozenset(parts[label] for label in sample.unsure_parts),
    )


@lru_cache(maxsize=64)
def _mirrored_labels(vocabulary: Vocabulary) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """For every object name and part class the one that a mirror turns it into: itself, if it has no counterpart."""
    names = vocabulary.object_names
    objects = {name: number for number, name in enumerate(names)}
    paths: list[tuple[str, ...]] = []
    for part in vocabulary.part_classes:
        above = (names[part.object],) if part.parent is None else paths[part.parent]
        paths.append((*above, part.name))
    places = {path: number for number, path in enumerate(paths)}
    return (
        tuple(objects.get(_mirror_name(name), number) for name, number in objects.items()),
        tuple(places.get(tuple(map(_mirror_name, path)), number) for path, number in places.items()),
    )


def _mirror_name(name: str) -> str:
    return _SIDE.sub(lambda match: _OTHER_SIDE[match.group()], name)


def jittered_size(size: tuple[int, int], *, canvas: int, scale: float) -> tuple[int, int]:
    """Height and width of a picture, given the same, when its longer side is `scale * canvas` pixels."""
    zoom = canvas * scale / max(size)
    height, width = (max(min(THINNEST, canvas), round(side * zoom)) for side in size)
    return height, width


def jitter_crop(sample: Sample, *, size: int, scale: float, generator: np.random.Generator) -> Sample:
    """Large-scale jitter: resize so that the longer side is `scale * size`, then crop at random to `size`.

    Args:
        sample: left as it is.
        size: side of the square canvas in pixels; a smaller picture is not padded here.
        scale: how large the picture becomes, 1 for just filling the canvas.
        generator: draws where the crop lies.
    """
    height, width = jittered_size(sample.size, canvas=size, scale=scale)
    crop_height, crop_width = min(height, size), min(width, size)
    top = int(generator.integers(height - crop_height + 1))
    left = int(generator.integers(width - crop_width + 1))
    return resize_sample(sample, height, width, window=(left, top, left + crop_width, top + crop_height))


def jitter_colour(sample: Sample, *, strength: float, generator: np.random.Generator) -> Sample:
    """Change brightness, contrast and saturation by up to `strength` of themselves each.

    Args:
        sample: left as it is.
        strength: 0 for no change, below 1.
        generator: draws the three factors.
    """
    if strength <= 0:
        return sample
    image = sample.image
    factors = generator.uniform(1 - strength, 1 + strength, size=3)
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for enhancer, factor in zip(enhancers, factors, strict=True):
        image = enhancer(image).enhance(float(factor))
    return replace(sample, image=image)
