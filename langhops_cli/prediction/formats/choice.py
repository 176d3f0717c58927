"""Formats by name."""

from __future__ import annotations

from langhops_cli.prediction.formats.geojson import GeoJson
from langhops_cli.prediction.formats.index_masks import IndexMasks
from langhops_cli.prediction.formats.labelme import LabelMe
from langhops_cli.prediction.formats.picture_format import PictureFormat
from langhops_cli.prediction.formats.yolo import Yolo
from langhops_cli.vocabulary import Vocabulary

_BY_NAME: dict[str, type[PictureFormat]] = {
    "labelme": LabelMe, "yolo": Yolo, "masks": IndexMasks, "geojson": GeoJson,
}  # fmt: skip
FORMATS = tuple(_BY_NAME)
"""Names of the formats with files of each picture."""


def picture_format(name: str, vocabulary: Vocabulary) -> PictureFormat:
    """Return the format of a name, one of `FORMATS`, for what was looked for."""
    return _BY_NAME[name](vocabulary)
