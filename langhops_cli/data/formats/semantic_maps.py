"""Maps of labels, a PNG a picture, each pixel the number of its name: read with care and split into masks."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as coco_mask

from langhops_cli.data.masks import Rle, as_text
from langhops_cli.data.records import Drops
from langhops_cli.errors import DATA, UserError

Depth = Literal["8 bit", "16 bit", "palette"]
"""How a map holds its labels: as grey of 8 bits, of 16 bits, or as places in a table of colours."""
_FORMATS = ("PNG", "TIFF")
_MODES = {"8 bit": ("L", "1"), "16 bit": ("I;16", "I;16B", "I"), "palette": ("P",)}


def read_label_map(path: Path, size: tuple[int, int], depth: Depth) -> np.ndarray:
    """Read a map of labels, refusing whatever would give wrong numbers.

    Args:
        path: the file, a PNG or TIFF.
        size: (width, height) of its picture.
        depth: how it holds its labels.

    Returns:
        (height, width), uint8 or uint16.

    Raises:
        UserError: the file is missing or broken, of another size than the picture, or holds colours, or numbers of
            another depth; the message names it. Raised by a split's `read`, it leaves out the picture: one without its
            annotations would pass for one without objects.
    """
    try:
        with Image.open(path) as image:
            _refuse(path, image, size, depth)
            values = np.asarray(image.convert("L") if image.mode == "1" else image)
    except FileNotFoundError:
        raise UserError(f"{path} is missing.", code=DATA) from None
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is no map of labels that can be read ({error}).", code=DATA) from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error) as error:
        raise UserError(f"{path} is a broken map of labels ({error}).", code=DATA) from None
    return values.astype(np.uint8 if depth != "16 bit" else np.uint16, copy=False)


def _refuse(path: Path, image: Image.Image, size: tuple[int, int], depth: Depth) -> None:
    # The size comes first: nothing is decoded yet, so that a small file that unpacks to gigabytes does no harm.
    if image.size != size:
        told = f"{image.width} x {image.height} pixels, its picture {size[0]} x {size[1]}"
        raise UserError(f"{path} has {told}.", code=DATA)
    if image.format not in _FORMATS:
        raise UserError(f"{path} is a {image.format}, which does not keep numbers; give a PNG.", code=DATA)
    if image.mode in _MODES[depth]:
        return
    if depth == "8 bit" and image.mode == "P" and _is_plain(image):
        return
    if image.mode == "P":
        raise UserError(f"{path} has a palette; its labels should be grey of {depth}.", code=DATA)
    if image.mode in ("L", "1", "I;16", "I;16B", "I"):
        held = "8 bit" if image.mode in ("L", "1") else "16 bit"
        wanted = "a palette" if depth == "palette" else f"grey of {depth}"
        raise UserError(f"{path} is grey of {held}; its labels should be {wanted}.", code=DATA)
    raise UserError(f"{path} holds colours ({image.mode}); it should hold labels.", code=DATA)


def _is_plain(image: Image.Image) -> bool:
    """Whether each place of a palette is the grey of its own number, so that place and grey are one."""
    palette = np.array(image.getpalette("RGB") or [], dtype=np.int64).reshape(-1, 3)
    return bool(len(palette)) and bool((palette == np.arange(len(palette))[:, None]).all())


def split_labels(labels: np.ndarray, ignore: int | None = None) -> list[tuple[int, Rle]]:
    """Split a map of labels into one mask for each label in it, all in one pass.

    Args:
        labels: (height, width), whole numbers of any type.
        ignore: the label of pixels that belong to nothing.

    Returns:
        Labels in rising order, each with its compressed run lengths.
    """
    height, width = labels.shape
    if not labels.size:
        return []
    # Run lengths go column by column, and every run of one label belongs to exactly one mask.
    flat = labels.ravel(order="F")
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    ends = np.append(starts[1:], flat.size)
    owners = flat[starts]
    order = np.argsort(owners, kind="stable")
    found, first = np.unique(owners[order], return_index=True)
    split = []
    for label, runs in zip(found.tolist(), np.split(order, first[1:]), strict=True):
        if label != ignore:
            edges = np.stack((starts[runs], ends[runs]), axis=1).ravel()
            if edges[-1] < flat.size:
                edges = np.append(edges, flat.size)
            counts = np.diff(edges, prepend=0).tolist()
            rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
            split.append((label, as_text(rle)))
    return split


def read_masks(
    path: Path,
    size: tuple[int, int],
    depth: Depth,
    *,
    known: Mapping[int, object] | range,
    ignore: int,
    drops: Drops,
) -> list[tuple[int, Rle]]:
    """Read a map of labels as one mask for each label in it.

    Args:
        path: the file.
        size: (width, height) of its picture.
        depth: how it holds its labels.
        known: the labels that stand for a name.
        ignore: the label of pixels that belong to nothing.
        drops: gets the labels that stand for no name.

    Returns:
        Labels in rising order, each with its compressed run lengths.

    Raises:
        UserError: as `read_label_map`.
    """
    kept = []
    for label, rle in split_labels(read_label_map(path, size, depth), ignore):
        if label in known:
            kept.append((label, rle))
        else:
            drops.add("label that stands for no name", f"{path.name}: {label}")
    return kept
