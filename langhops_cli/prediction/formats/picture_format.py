"""What all formats with files of their own for each picture have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from PIL import Image

from langhops_cli.checkpoint.files import write_whole
from langhops_cli.prediction.results import NamePath, Prediction, title, vocabulary_ids
from langhops_cli.vocabulary import Vocabulary, split_part_name

QUALITY = 95
"""JPEG quality of pictures that are written out, such as frames of a video."""


class PictureFormat(ABC):
    """Writes what was found in a picture as files of one format.

    It holds no state beside the vocabulary, so that several threads and processes may write to one folder.

    Args:
        vocabulary: what was looked for.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.numbers = vocabulary_ids(vocabulary)

    @abstractmethod
    def write(self, prediction: Prediction, picture: Path | Image.Image, folder: Path, stem: str) -> None:
        """Write the files of one picture, each of them whole.

        Args:
            prediction: what was found.
            picture: file of the picture; the picture itself where there is none, as with a frame of a video.
            folder: of the format, made when missing.
            stem: of the files' names, its own for each picture; may name folders, with "/" between them.
        """

    @abstractmethod
    def finish(self, folder: Path) -> None:
        """Write what all pictures share into the format's folder; depends on the vocabulary alone."""


def spelt_names(numbers: dict[NamePath, int]) -> dict[NamePath, str]:
    """Spell names so that they stand alone and are still read as the object or the part that they are.

    Args:
        numbers: all names from the objects down.

    Returns:
        "dog" and "dog head"; "dog:house" for a part whose plain name would be that of another object or its part.
    """
    objects = [path[0] for path in numbers if len(path) == 1]
    spelt = {}
    for path in numbers:
        name = title(path)
        plain = len(path) == 1 or split_part_name(name, objects) == (path[0], path[-1])
        spelt[path] = name if plain else f"{path[0]}:{path[-1]}"
    return spelt


def save_picture(image: Image.Image, path: Path) -> None:
    """Write a picture as a JPEG file."""
    write_whole(path, lambda beside: image.convert("RGB").save(beside, format="JPEG", quality=QUALITY))
