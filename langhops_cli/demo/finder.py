"""What stands behind the page: one model that is asked again and again, and what it found as files for a browser."""

from __future__ import annotations

import io
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

from PIL import Image

from langhops_cli.data.pictures import read_picture
from langhops_cli.errors import UserError
from langhops_cli.prediction.gallery import GalleryWriter
from langhops_cli.prediction.predictor import Predictor
from langhops_cli.prediction.results import Prediction, json_text
from langhops_cli.prediction.wording import limits, with_proposed_parts
from langhops_cli.vocabulary import Vocabulary, VocabularyError, parse_vocabulary

PAGE, COCO, DRAWING = "index.html", "predictions.json", "drawing.jpg"
KEPT = 16
"""Results that can still be fetched; at about a megabyte each they may stay in memory."""


@dataclass(frozen=True)
class Result:
    """What was found in one picture.

    Args:
        picture: the picture's name.
        objects: how many were found.
        parts: likewise.
        seconds: that it took, the writing of the files left out.
        remarks: what to tell of it, a line each.
        files: content by name: `PAGE`, the gallery's page of this picture, `COCO` and `DRAWING`.
    """

    picture: str
    objects: int
    parts: int
    seconds: float
    remarks: tuple[str, ...]
    files: Mapping[str, bytes]


class Finder:
    """Answers the page with one model.

    Args:
        predictor: the model.
        checkpoint: where it is from; None for the one that comes with the package.
    """

    def __init__(self, predictor: Predictor, checkpoint: str | Path | None = None) -> None:
        self.predictor = predictor
        self.checkpoint = checkpoint

    @property
    def min_score(self) -> float:
        """The model's own limit, 0..1."""
        return self.predictor.config.min_score

    def find(self, picture: Path, names: str, *, min_score: float | None = None, propose: bool = True) -> Result:
        """Find objects and their parts in one picture.

        Args:
            picture: the file.
            names: what to look for, in the grammar of `--vocab`, one text a line.
            min_score: what scores less is left out, 0..1; the model's own limit when left out.
            propose: look for likely parts too where the names give none at all.

        Raises:
            UserError: the picture cannot be read, or the names have a mistake.
        """
        vocabulary = read_names(names)
        # Read from memory, so that an error names the picture as the user knows it and not a temporary file.
        image = read_picture(picture.name, content=picture.read_bytes())
        remarks: list[str] = []
        if propose and self.predictor.finds_parts:
            vocabulary, remarks = with_proposed_parts(vocabulary, self.checkpoint)
        remarks += limits(self.predictor, vocabulary)
        start = time.perf_counter()
        prediction = self.predictor.predict(image, vocabulary, min_score=min_score, name=picture.name)
        seconds = time.perf_counter() - start
        objects = len(prediction.children(None))
        files = _files(image, prediction, vocabulary)
        return Result(picture.name, objects, len(prediction) - objects, seconds, tuple(remarks), files)


class Results:
    """The latest results, each below a name that cannot be guessed, so that nobody sees another one's pictures."""

    def __init__(self, most: int = KEPT) -> None:
        self.most = most
        self._kept: OrderedDict[str, Result] = OrderedDict()
        self._lock = Lock()

    def add(self, result: Result) -> str:
        """Keep a result, drop the oldest where there are too many, and return its name."""
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._kept[token] = result
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)
        return token

    def file(self, token: str, name: str) -> bytes | None:
        """Return a file of a result; None where the result is no longer kept or has no such file."""
        with self._lock:
            result = self._kept.get(token)
        return None if result is None else result.files.get(name)


def read_names(text: str) -> Vocabulary:
    """Read what to look for, one text of the grammar a line.

    Raises:
        VocabularyError: a mistake, or the name of a file: whoever sees the page is not to read files through it.
        UserError: there is nothing.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise UserError("say what to look for, such as car:wheel,door")
    if any(line.lstrip().startswith("@") for line in lines):
        raise VocabularyError("'@' names a file, and this page reads none; write the names themselves")
    return parse_vocabulary(lines)


def _files(image: Image.Image, prediction: Prediction, vocabulary: Vocabulary) -> dict[str, bytes]:
    drawing = io.BytesIO()
    prediction.draw(image, names=vocabulary.names).save(drawing, format="JPEG", quality=92)
    with TemporaryDirectory() as folder:
        path = Path(folder) / PAGE
        with GalleryWriter(path, vocabulary) as writer:
            writer.add(image, prediction)
        page = path.read_bytes()
    return {PAGE: page, COCO: json_text(prediction.to_coco()).encode(), DRAWING: drawing.getvalue()}
