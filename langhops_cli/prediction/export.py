"""Predictions of many pictures in one COCO file, written as they come and put in place whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from langhops_cli import __version__
from langhops_cli.checkpoint.files import WholeText
from langhops_cli.data.formats.folders import is_text
from langhops_cli.prediction.results import (
    Prediction,
    coco_annotations,
    coco_categories,
    coco_image,
    vocabulary_ids,
)
from langhops_cli.vocabulary import Vocabulary


class CocoWriter(WholeText):
    """Writes a COCO instances file while pictures are predicted; only the images' entries are held in memory.

    Used as a context manager; see `WholeText`.

    Args:
        path: the JSON file; its folder exists.
        vocabulary: what was looked for: its objects and parts are the categories.
        info: further entries of the file's `info`, plain values.
    """

    def __init__(self, path: Path, vocabulary: Vocabulary, *, info: dict[str, Any] | None = None) -> None:
        super().__init__(path)
        self.numbers = vocabulary_ids(vocabulary)
        self.info = {"description": f"langhops {__version__}", "vocabulary": str(vocabulary), **(info or {})}
        self.images: list[dict[str, Any]] = []
        self.annotations = 0

    def _begin(self) -> None:
        self.file.write(f'{{"info": {_json(self.info)},\n"categories": {_json(coco_categories(self.numbers))},\n')
        self.file.write('"annotations": [')

    def add(self, prediction: Prediction) -> int:
        """Write one picture's instances.

        Args:
            prediction: its result; one with names that are not in the vocabulary is refused.

        Returns:
            The image's id in the file.

        Raises:
            KeyError: an instance has a name that the vocabulary has not.
            ValueError: the writer is not open.
        """
        file = self.file
        image_id = len(self.images) + 1
        rows = coco_annotations(prediction, self.numbers, image_id=image_id, first_id=self.annotations + 1)
        for row in rows:
            file.write(",\n" if self.annotations else "\n")
            file.write(_json(row))
            self.annotations += 1
        self.images.append(coco_image(prediction, image_id=image_id))
        return image_id

    def _end(self) -> None:
        images = ",\n".join(map(_json, self.images))
        self.file.write(f'\n],\n"images": [\n{images}\n]}}\n')


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    # A file name that is no UTF-8 comes as lone surrogates, which only the escaped form can hold.
    return text if is_text(text) else json.dumps(value, allow_nan=False)
