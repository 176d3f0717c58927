"""Predictions of many pictures in one COCO file, written as they come and put in place whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from langhops_cli import __version__
from langhops_cli.prediction.results import (
    Prediction,
    category_ids,
    coco_annotations,
    coco_categories,
    coco_image,
    part_paths,
)
from langhops_cli.vocabulary import Vocabulary


class CocoWriter:
    """Writes a COCO instances file while pictures are predicted; only the images' entries are held in memory.

    Used as a context manager. The file is written beside its place and moved there at the end; after an exception or
    an interruption nothing is left and an older file stays as it was.

    Args:
        path: the JSON file; its folder exists.
        vocabulary: what was looked for: its objects and parts are the categories.
        info: further entries of the file's `info`, plain values.
    """

    def __init__(self, path: Path, vocabulary: Vocabulary, *, info: dict[str, Any] | None = None) -> None:
        self.path = path
        self.numbers = category_ids([*((name,) for name in vocabulary.object_names), *part_paths(vocabulary)])
        self.info = {"description": f"langhops {__version__}", "vocabulary": str(vocabulary), **(info or {})}
        self.images: list[dict[str, Any]] = []
        self.annotations = 0
        self._beside = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        self._file = self._beside.open("w", encoding="utf-8")
        self._file.write(f'{{"info": {_json(self.info)},\n"categories": {_json(coco_categories(self.numbers))},\n')
        self._file.write('"annotations": [')
        return self

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
        if self._file is None:
            raise ValueError(f"{self.path} is not open; use the writer in a with statement")
        image_id = len(self.images) + 1
        rows = coco_annotations(prediction, self.numbers, image_id=image_id, first_id=self.annotations + 1)
        for row in rows:
            self._file.write(",\n" if self.annotations else "\n")
            self._file.write(_json(row))
            self.annotations += 1
        self.images.append(coco_image(prediction, image_id=image_id))
        return image_id

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        file, self._file = self._file, None
        assert file is not None
        try:
            with file:
                if kind is None:
                    images = ",\n".join(map(_json, self.images))
                    file.write(f'\n],\n"images": [\n{images}\n]}}\n')
                    file.flush()
                    os.fsync(file.fileno())
            if kind is None:
                os.replace(self._beside, self.path)
        finally:
            self._beside.unlink(missing_ok=True)


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    # A file name that is no UTF-8 comes as lone surrogates, which only the escaped form can hold.
    return text if _is_unicode(text) else json.dumps(value, allow_nan=False)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
