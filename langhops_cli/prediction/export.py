"""Predictions of many pictures in one file, written as they come and put in place whole, and read again."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from langhops_cli import __version__
from langhops_cli.checkpoint.files import WholeText
from langhops_cli.errors import DATA, UserError
from langhops_cli.prediction.coco import coco_annotations, coco_categories, coco_image
from langhops_cli.prediction.results import Prediction, json_text, vocabulary_ids
from langhops_cli.vocabulary import Vocabulary


class CocoWriter(WholeText):
    """Writes a COCO instances file picture by picture; what it holds in memory does not grow with them.

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
        self.pictures = 0
        self.annotations = 0
        self._images: IO[str] | None = None

    def _begin(self) -> None:
        # A picture's entry comes with its annotations but stands behind all of them: it waits in a file of its own.
        self._images = tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n")  # noqa: SIM115 (see __exit__)
        self.file.write(f'{{"info": {json_text(self.info)},\n')
        self.file.write(f'"categories": {json_text(coco_categories(self.numbers))},\n"annotations": [')

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
        file, images = self.file, self._images
        assert images is not None, "both files are open or closed together"
        image_id = self.pictures + 1
        rows = coco_annotations(prediction, self.numbers, image_id=image_id, first_id=self.annotations + 1)
        for row in rows:
            file.write(",\n" if self.annotations else "\n")
            file.write(json_text(row))
            self.annotations += 1
        images.write(",\n" if self.pictures else "\n")
        images.write(json_text(coco_image(prediction, image_id=image_id)))
        self.pictures = image_id
        return image_id

    def _end(self) -> None:
        assert self._images is not None, "both files are open or closed together"
        self.file.write('\n],\n"images": [')
        self._images.seek(0)
        shutil.copyfileobj(self._images, self.file)
        self.file.write("\n]}\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            if self._images is not None:
                self._images.close()
            self._images = None


def write_coco(
    path: Path, predictions: Iterable[Prediction], vocabulary: Vocabulary, *, info: dict[str, Any] | None = None
) -> int:
    """Write a COCO instances file of many predictions, taken one at a time.

    Args:
        path: the JSON file; its folder exists.
        predictions: what was found; an error while they come leaves an older file as it was.
        vocabulary: what was looked for.
        info: further entries of the file's `info`, plain values. `image_root`, the folder that the pictures' names
            start from as seen from the file's folder, lets `langhops prepare coco-parts` find them.

    Returns:
        How many pictures there are.

    Raises:
        KeyError: an instance has a name that the vocabulary has not.
    """
    with CocoWriter(path, vocabulary, info=info) as writer:
        for prediction in predictions:
            writer.add(prediction)
    return writer.pictures


def read_predictions(path: Path) -> Iterator[Prediction]:
    """Read predictions as `langhops predict` writes them to `predictions.jsonl`, one at a time.

    Raises:
        UserError: the file cannot be read, or a line is no prediction; the message names it.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield Prediction.from_json(line)
                except ValueError as error:
                    raise UserError(f"{path}, line {number} is damaged ({error}); take it out.", code=DATA) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.", code=DATA) from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text in UTF-8; give a file that langhops predict wrote.", code=DATA) from None
