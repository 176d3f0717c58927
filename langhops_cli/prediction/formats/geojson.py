"""GeoJSON: polygons in pixels of the picture, as QuPath, napari and GIS tools read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from langhops_cli.checkpoint.files import write_text
from langhops_cli.prediction.colours import colours_of
from langhops_cli.prediction.formats.picture_format import PictureFormat
from langhops_cli.prediction.outlines import Ring, outlines
from langhops_cli.prediction.results import Detection, Prediction, json_text
from langhops_cli.vocabulary import Vocabulary


class GeoJson(PictureFormat):
    """`STEM.geojson` a picture: a feature an instance, a `Polygon` or a `MultiPolygon` of its pieces, with holes.

    Coordinates are pixels, x to the right and y down, and run along the edges of pixels, so that whatever fills
    pixels by their centres gets the mask as it was. Rings are closed and turn as RFC 7946 wants them: outer ones have
    a positive area. There is no map behind the picture, and so no longitude or latitude. Properties `objectType`,
    `classification` and `name` are those of QuPath; `instance` and `parent` number the features from 1.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__(vocabulary)
        self._colours = colours_of(vocabulary.names)

    def write(self, prediction: Prediction, picture: Path | Image.Image, folder: Path, stem: str) -> None:
        """Write `STEM.geojson`; see `PictureFormat`."""
        height, width = prediction.size
        features = [json_text(self._feature(found, index)) for index, found in enumerate(prediction)]
        head = {"type": "FeatureCollection", "picture": prediction.picture, "width": width, "height": height}
        head |= prediction.moment
        rows = ",\n".join(features)
        write_text(folder / f"{stem}.geojson", f'{json_text(head)[:-1]}, "features": [\n{rows}\n]}}\n')

    def finish(self, folder: Path) -> None:
        """Nothing is shared: each file says all; see `PictureFormat`."""

    def _feature(self, found: Detection, index: int) -> dict[str, Any]:
        polygons = [[_closed(ring) for ring in rings] for rings in outlines(found.mask)]
        single = len(polygons) == 1
        properties = {
            "objectType": "annotation",
            "name": found.title,
            "classification": {"name": found.title, "color": list(self._colours[found.name])},
            "path": list(found.path),
            "score": round(found.score, 6),
            "instance": index + 1,
            "parent": None if found.parent is None else found.parent + 1,
        }
        if found.track is not None:
            properties["track"] = found.track
        geometry = {
            "type": "Polygon" if single else "MultiPolygon",
            "coordinates": polygons[0] if single else polygons,
        }
        return {"type": "Feature", "geometry": geometry, "properties": properties}


def _closed(ring: Ring) -> list[list[int]]:
    points: list[list[int]] = np.concatenate([ring, ring[:1]]).tolist()
    return points
