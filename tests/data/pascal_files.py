"""Small folders in the layouts of VOC and Pascal-Part, written by other libraries than those that read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from PIL import Image

SIZE = (40, 30)
"""Width and height of all pictures."""
MatRow = tuple[str, Any, Sequence[tuple[str, Any]]]
"""An object: its name, its mask, its parts with their masks."""
RAW_PARTS = {
    "aeroplane": "body stern lwing rwing tail engine_1 wheel_10",
    "bicycle": "fwheel bwheel saddle handlebar chainwheel headlight_3",
    "bird": "head leye reye beak torso neck lwing rwing lleg lfoot rleg rfoot tail",
    "bottle": "cap body",
    "bus": "frontside leftside rightside backside roofside leftmirror rightmirror fliplate bliplate door_1 wheel_2 "
    "headlight_3 window_20",
    "cat": "head leye reye lear rear nose torso neck lfleg lfpa rfleg rfpa lbleg lbpa rbleg rbpa tail",
    "cow": "head leye reye lear rear muzzle lhorn rhorn torso neck lfuleg lflleg rfuleg rflleg lbuleg lblleg rbuleg "
    "rblleg tail",
    "horse": "head leye reye lear rear muzzle torso neck lfuleg lflleg rfuleg rflleg lbuleg lblleg rbuleg rblleg tail "
    "lfho rfho lbho rbho",
    "motorbike": "fwheel bwheel handlebar saddle headlight_1",
    "person": "head leye reye lear rear lebrow rebrow nose mouth hair torso neck llarm luarm lhand rlarm ruarm rhand "
    "llleg luleg lfoot rlleg ruleg rfoot",
    "pottedplant": "pot plant",
    "train": "head hfrontside hleftside hrightside hbackside hroofside headlight_1 coach_1 cfrontside_1 cleftside_1 "
    "crightside_2 cbackside_3 croofside_4",
    "tvmonitor": "screen",
}
"""Object -> all names that Pascal-Part has for its parts, one number of those that are counted."""
RAW_PARTS |= {"car": RAW_PARTS["bus"], "dog": RAW_PARTS["cat"] + " muzzle", "sheep": RAW_PARTS["cow"]}


def mask(left: int, top: int, right: int, bottom: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A rectangle, (height, width) uint8."""
    drawn = np.zeros(size[::-1], np.uint8)
    drawn[top:bottom, left:right] = 1
    return drawn


def write_picture(path: Path, size: tuple[int, int] = SIZE) -> None:
    """Write a picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def write_mat(path: Path, rows: Sequence[MatRow], *, compressed: bool = True) -> None:
    """Write a file of Pascal-Part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    objects = _structs(
        [
            {
                "class": name,
                "class_ind": np.uint8(1),
                "mask": drawn,
                "parts": _structs([{"part_name": part, "mask": value} for part, value in parts]),
            }
            for name, drawn, parts in rows
        ]
    )
    annotation = _structs([{"imname": path.stem, "objects": objects}])
    scipy.io.savemat(path, {"anno": annotation}, do_compression=compressed)


def _structs(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    if not rows:
        return np.empty((0, 0))
    array = np.empty((1, len(rows)), dtype=[(key, object) for key in rows[0]])
    for number, row in enumerate(rows):
        array[0, number] = tuple(row.values())
    return array


def write_labels(path: Path, labels: np.ndarray, *, palette: bool = False) -> None:
    """Write a map of labels as grey, or with a palette of colours as VOC does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    if palette:
        image = Image.fromarray(labels.astype(np.uint8)).convert("P")
        image.putdata(labels.astype(np.uint8).ravel().tolist())
        image.putpalette(np.random.default_rng(0).integers(0, 255, 768).tolist())
    image.save(path)
