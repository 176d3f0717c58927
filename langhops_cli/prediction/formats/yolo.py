"""The folders of Ultralytics: pictures, a label file for each, and a YAML file that names the classes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from langhops_cli.checkpoint.files import write_text, write_whole
from langhops_cli.data.pictures import read_picture
from langhops_cli.prediction.formats.picture_format import PictureFormat, save_picture, spelt_names
from langhops_cli.prediction.outlines import closed_line
from langhops_cli.prediction.results import Prediction

_READ = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
"""Endings of pictures that Ultralytics and this package read."""

TREE = "tree.yaml"


class Yolo(PictureFormat):
    """`images/STEM.jpg`, `labels/STEM.txt` and `data.yaml`: a set to train on, which `langhops prepare yolo-parts`
    reads too.

    A line of a label file is a class and one closed line around the mask, in shares of the picture's sides. Filled as
    Ultralytics does it, a mask in one piece comes back as it was, holes included. The format cannot hold a mask in
    several pieces: they hang together by lines, a pixel wide and as short as can be, which come back as part of the
    mask. It holds no scores, no tracks and no parents: readers find a part's object by its place.

    `tree.yaml` is the vocabulary, which `prepare --tree @tree.yaml` takes where the name of an object begins with that
    of another one, or parts have parts. Pictures are links to the files where the system allows them, else copies.
    """

    def write(self, prediction: Prediction, picture: Path | Image.Image, folder: Path, stem: str) -> None:
        """Write the picture and its label file; see `PictureFormat`."""
        _place(picture, folder / "images", stem)
        height, width = prediction.size
        lines = []
        for found in prediction:
            shares = closed_line(found.mask) / (width, height)
            numbers = " ".join(np.char.mod("%.6f", shares.ravel()))
            lines.append(f"{self.numbers[found.path] - 1} {numbers}\n")
        write_text(folder / "labels" / f"{stem}.txt", "".join(lines))

    def finish(self, folder: Path) -> None:
        """Write `data.yaml` and `tree.yaml`; see `PictureFormat`."""
        import yaml

        names = {self.numbers[path] - 1: name for path, name in spelt_names(self.numbers).items()}
        # Without an entry `path` Ultralytics starts from the file's own folder, wherever that is moved.
        content = {"train": "images", "val": "images", "names": names}
        text = "# All pictures stand for both splits: keep some of them aside to measure on.\n"
        write_text(folder / "data.yaml", text + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        write_text(folder / TREE, self.vocabulary.to_yaml())


def _place(picture: Path | Image.Image, folder: Path, stem: str) -> None:
    """Have a picture among the set's."""
    if not isinstance(picture, Path):
        save_picture(picture, folder / f"{stem}.jpg")
        return
    if picture.suffix.lower() not in _READ:
        save_picture(read_picture(picture), folder / f"{stem}.jpg")
        return
    source, path = picture.resolve(), folder / f"{stem}{picture.suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.link")
    try:
        beside.unlink(missing_ok=True)
        beside.symlink_to(os.path.relpath(source, path.parent.resolve()))
        os.replace(beside, path)
    except (OSError, ValueError):  # links are not allowed, or the picture is on another drive
        beside.unlink(missing_ok=True)
        write_whole(path, lambda target: shutil.copyfile(source, target))
