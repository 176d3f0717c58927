"""LabelMe files: to look at what was found, correct it by hand and train on it."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from langhops_cli.checkpoint.files import write_text
from langhops_cli.prediction.formats.picture_format import PictureFormat, save_picture, spelt_names
from langhops_cli.prediction.results import Detection, Prediction, json_text
from langhops_cli.vocabulary import Vocabulary

VERSION = "5.5.0"
"""Of LabelMe, whose form is written; it has shapes of the type mask."""

LABELS = "labels.txt"


class LabelMe(PictureFormat):
    """A LabelMe file a picture, `STEM.json`, that names the picture by its path from there.

    `langhops prepare labelme-parts` reads the folder, with `--images` the folder of the pictures, and with `--tree`
    where the name of an object begins with that of another one.

    Each instance is a shape of the type `mask`, which holds its pixels exactly. An object and its parts have one
    `group_id`. LabelMe takes shapes of one label and one group for one thing, so from the second part of a name on a
    part has no group: other readers find its object by its place. Exact parents, which `labelme-parts` reads, scores
    and tracks stand in further entries of a shape, which LabelMe keeps when it saves the file.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__(vocabulary)
        self._names = spelt_names(self.numbers)

    def write(self, prediction: Prediction, picture: Path | Image.Image, folder: Path, stem: str) -> None:
        """Write `STEM.json`, and `STEM.jpg` where the picture is no file; see `PictureFormat`."""
        path = folder / f"{stem}.json"
        if isinstance(picture, Path):
            image = _way(picture, path.parent)
        else:
            image = f"{path.stem}.jpg"
            save_picture(picture, path.parent / image)
        height, width = prediction.size
        content: dict[str, Any] = {
            "version": VERSION,
            "flags": {},
            "shapes": self._shapes(prediction),
            "imagePath": image,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        write_text(path, json_text(content) + "\n")

    def finish(self, folder: Path) -> None:
        """Write `labels.txt`, from which `labelme --labels` offers the names; see `PictureFormat`."""
        write_text(folder / LABELS, "".join(f"{name}\n" for name in self._names.values()))

    def _shapes(self, prediction: Prediction) -> list[dict[str, Any]]:
        # Large ones first: LabelMe draws in this order, and what is drawn last can be clicked.
        order = sorted(range(len(prediction)), key=lambda index: -prediction[index].area)
        groups: dict[int, int | None] = {}
        taken: set[tuple[int, str]] = set()
        for index in sorted(range(len(prediction)), key=lambda index: -prediction[index].score):
            root = prediction.root(index)
            place = root + 1, self._names[prediction[index].path]
            groups[index] = None if place in taken else place[0]
            taken.add(place)
        return [self._shape(prediction[index], index, groups[index]) for index in order]

    def _shape(self, found: Detection, index: int, group: int | None) -> dict[str, Any]:
        mask = found.mask
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        top, bottom, left, right = (int(edge) for edge in (rows[0], rows[-1], columns[0], columns[-1]))
        further = {"score": round(found.score, 6), "instance": index + 1}
        if found.parent is not None:
            further["parent"] = found.parent + 1
        if found.track is not None:
            further["track"] = found.track
        return {
            "label": self._names[found.path],
            "points": [[left, top], [right, bottom]],
            "group_id": group,
            "description": "",
            "shape_type": "mask",
            "flags": {},
            "mask": _png(mask[top : bottom + 1, left : right + 1]),
            **further,
        }


def _png(mask: np.ndarray) -> str:
    """A mask, (h, w), as a PNG file of one bit a pixel, in base64."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(mask)).save(file, format="PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _way(picture: Path, folder: Path) -> str:
    """Path of a picture from a folder, with "/" between names; the whole path where there is none."""
    try:
        return Path(os.path.relpath(picture.resolve(), folder.resolve())).as_posix()
    except ValueError:  # on another drive
        return picture.resolve().as_posix()
