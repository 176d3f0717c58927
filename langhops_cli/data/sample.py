"""One picture with what is true in it, as it travels from a prepared set through the augmentation to a batch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from langhops_cli.data.masks import Box
from langhops_cli.vocabulary import Vocabulary


@dataclass(frozen=True)
class SampleInstance:
    """One object or one part in a picture.

    Args:
        label: index into the vocabulary's object names (an object) or part classes (a part).
        mask: (h, w) uint8 0/1 at the picture's size, or None where only the box is known.
        box: left, top, right, bottom in pixels.
        parent: for a part the index of its object among the sample's objects, -1 where unknown.
    """

    label: int
    mask: np.ndarray | None
    box: Box
    parent: int = -1


@dataclass(frozen=True)
class Sample:
    """A picture, its instances and the names that were looked for in it.

    Args:
        name: which picture this is, for messages.
        image: RGB, upright.
        objects: object instances; parts: part instances.
        vocabulary: the names that labels index.
        exhaustive: whether every instance of every name was annotated.
        image_id: id in the annotation file.
        unsure_objects: object names of which unannotated instances may be in the picture (in a set that is not
            exhaustive those annotated at all; crowd regions everywhere): no query may be told that it is not one.
        unsure_parts: the same for part classes.
        draw: number of the random draw that made this sample; seeds what is still to be drawn for it.
    """

    name: str
    image: Image.Image
    objects: list[SampleInstance]
    parts: list[SampleInstance]
    vocabulary: Vocabulary
    exhaustive: bool = True
    image_id: int = 0
    unsure_objects: frozenset[int] = field(default_factory=frozenset)
    unsure_parts: frozenset[int] = field(default_factory=frozenset)
    draw: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.height, self.image.width


def box_of(mask: np.ndarray) -> Box:
    """Smallest box around the set pixels.

    Args:
        mask: (h, w), uint8 or bool, not empty.

    Returns:
        Left, top, right, bottom in pixels; right and bottom lie behind the last set pixel.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
