"""Pictures of class numbers and of instance numbers, as semantic and panoptic tools read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from langhops_cli.checkpoint.files import write_text, write_whole
from langhops_cli.prediction.colours import colours_of
from langhops_cli.prediction.formats.picture_format import PictureFormat
from langhops_cli.prediction.results import Prediction, json_text, title
from langhops_cli.vocabulary import Vocabulary

NAMES = "names.json"
_BYTE = 255


class IndexMasks(PictureFormat):
    """For each level of the tree - `objects`, `parts`, then `parts-2` for parts of parts - two PNG files a picture.

    `LEVEL/STEM.png` has the class of each pixel as an index into a palette, or as 16-bit grey where a level has more
    than 255 classes; 0 is nothing, `names.json` names the others. `LEVEL-instances/STEM.png` has the number of the
    instance as 16-bit grey; `instances/STEM.json` lists all of them with class, score and the number of the instance
    that they are a part of.

    A pixel holds one number: where instances of a level overlap the smaller one is seen, as in the overlays. The list
    says of each instance how many pixels it has and how many of them are seen.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__(vocabulary)
        colours = colours_of(vocabulary.names)
        depth = max(map(len, self.numbers))
        self._levels = [[path for path in self.numbers if len(path) == level] for level in range(1, depth + 1)]
        self._values = {path: value for paths in self._levels for value, path in enumerate(paths, 1)}
        self._palettes = [[0, 0, 0, *(tone for path in paths for tone in colours[path[-1]])] for paths in self._levels]

    def write(self, prediction: Prediction, picture: Path | Image.Image, folder: Path, stem: str) -> None:
        """Write the PNG files and the list of instances; see `PictureFormat`."""
        seen = np.zeros(len(prediction) + 1, dtype=np.int64)
        for level, palette in enumerate(self._palettes, 1):
            ids = _instance_ids(prediction, level)
            values = np.array([0, *(self._values[found.path] for found in prediction)], dtype=np.uint16)[ids]
            seen += np.bincount(ids.ravel(), minlength=len(seen))
            _save(_indexed(values, palette), folder / level_name(level) / f"{stem}.png")
            _save(Image.fromarray(ids), folder / f"{level_name(level)}-instances" / f"{stem}.png")
        rows = [self._row(prediction, index, int(seen[index + 1])) for index in range(len(prediction))]
        height, width = prediction.size
        content: dict[str, Any] = {"picture": prediction.picture, "width": width, "height": height}
        content |= prediction.moment
        write_text(folder / "instances" / f"{stem}.json", json_text({**content, "instances": rows}) + "\n")

    def finish(self, folder: Path) -> None:
        """Write `names.json`; see `PictureFormat`."""
        levels = {
            level_name(level): [
                {"value": self._values[path], "name": title(path), "path": path, "colour": palette[3 * at : 3 * at + 3]}
                for at, path in enumerate(paths, 1)
            ]
            for level, (paths, palette) in enumerate(zip(self._levels, self._palettes, strict=True), 1)
        }
        write_text(folder / NAMES, json_text(levels) + "\n")

    def _row(self, prediction: Prediction, index: int, seen: int) -> dict[str, Any]:
        found = prediction[index]
        row = {
            "id": index + 1,
            "level": level_name(len(found.path)),
            "value": self._values[found.path],
            "name": found.title,
            "score": round(found.score, 6),
            "parent": None if found.parent is None else found.parent + 1,
            "area": found.area,
            "seen": seen,
        }
        return row if found.track is None else {**row, "track": found.track}


def level_name(level: int) -> str:
    """Name of a level's folder: "objects", "parts", "parts-2" for the parts of parts."""
    return "objects" if level == 1 else "parts" if level == 2 else f"parts-{level - 1}"


def _instance_ids(prediction: Prediction, level: int) -> NDArray[np.uint16]:
    """The number of the instance that each pixel shows, (h, w); small ones lie on large ones."""
    ids = np.zeros(prediction.size, dtype=np.uint16)
    chosen = [index for index, found in enumerate(prediction) if len(found.path) == level]
    for index in sorted(chosen, key=lambda index: -prediction[index].area):
        ids[prediction[index].mask] = index + 1
    return ids


def _indexed(values: NDArray[np.uint16], palette: list[int]) -> Image.Image:
    if len(palette) > 3 * (_BYTE + 1):
        return Image.fromarray(values)
    image = Image.fromarray(values.astype(np.uint8), mode="P")
    image.putpalette(palette)
    return image


def _save(image: Image.Image, path: Path) -> None:
    write_whole(path, lambda beside: image.save(beside, format="PNG"))
