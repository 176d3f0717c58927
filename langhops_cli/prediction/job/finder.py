"""A model with what is asked of it, in steps that threads share: pictures made ready, one pass, masks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from langhops_cli.prediction.postprocess import Level
from langhops_cli.prediction.predictor import Answered, Predictor, Prepared
from langhops_cli.prediction.results import Prediction
from langhops_cli.prediction.tiles import predict_tiled
from langhops_cli.vocabulary import Vocabulary

if TYPE_CHECKING:
    from langhops_cli.prediction.job.sources import Source
    from langhops_cli.prediction.refine import Refiner


@dataclass(frozen=True)
class Shot:
    """A picture, or a frame of a video, on its way through the job.

    Args:
        source: where it is from.
        name: what the results call it.
        stem: of the names of its files.
        image: its pixels.
        prepared: these as the model sees them; None where it sees them in windows.
        frame, seconds: place of a frame in its video; None for a picture.
    """

    source: Source
    name: str
    stem: str
    image: Image.Image
    prepared: Prepared | None
    frame: int | None = None
    seconds: float | None = None

    @property
    def file(self) -> Path | None:
        """The picture's file; None for a frame."""
        return None if self.source.video else Path(self.source.path)


class Finder:
    """A model with the names to look for and how the results are to be.

    Args:
        predictor: the model.
        vocabulary: what to look for.
        min_score: instances below are left out, in 0..1; the model's own limit when left out.
        level: of what is wanted.
        max_objects: objects of a picture at most; no limit when left out.
        tile: side of the windows, in pixels, in which large pictures are looked at; the whole picture when left out.
        batch: pictures, or windows of one, that go through the model together.
        refiner: makes the masks finer; when left out they stay.
    """

    def __init__(
        self,
        predictor: Predictor,
        vocabulary: Vocabulary,
        *,
        min_score: float | None = None,
        level: Level = "all",
        max_objects: int | None = None,
        tile: int | None = None,
        batch: int = 1,
        refiner: Refiner | None = None,
    ) -> None:
        self.predictor = predictor
        self.vocabulary = vocabulary
        self.min_score = min_score
        self.level = level
        self.max_objects = max_objects
        self.tile = tile
        self.batch = batch
        self._refiner = refiner
        self._refining = threading.Lock()  # the masks of several pictures are made at once, a second model takes turns

    def prepare(self, image: Image.Image, name: str) -> Prepared | None:
        """Bring a picture to what the model takes; any thread may do so."""
        return None if self.tile is not None else self.predictor.prepare(image, name=name)

    def ask(self, shots: Sequence[Shot]) -> list[Callable[[], Prediction]]:
        """Let the model look at pictures; for the one thread that the model belongs to.

        Returns:
            For each picture what finishes its prediction, in any thread.
        """
        if self.tile is not None:
            return [partial(self._complete, shot, partial(_same, self._in_windows(shot, self.tile))) for shot in shots]
        prepared = [shot.prepared for shot in shots if shot.prepared is not None]
        answers = self.predictor.forward(prepared, self.vocabulary, level=self.level)
        return [
            partial(self._complete, shot, partial(self._finish, answer))
            for shot, answer in zip(shots, answers, strict=True)
        ]

    def _in_windows(self, shot: Shot, tile: int) -> Prediction:
        return predict_tiled(
            self.predictor,
            shot.image,
            self.vocabulary,
            tile=tile,
            batch_size=self.batch,
            min_score=self.min_score,
            name=shot.name,
            level=self.level,
            max_objects=self.max_objects,
        )

    def _finish(self, answer: Answered) -> Prediction:
        return self.predictor.finish(answer, min_score=self.min_score, max_objects=self.max_objects)

    def _complete(self, shot: Shot, finish: Callable[[], Prediction]) -> Prediction:
        found = finish()
        if self._refiner is not None:
            with self._refining:
                found = self._refiner.refine(shot.image, found, tile=self.tile)
        return found if shot.frame is None else replace(found, frame=shot.frame, seconds=shot.seconds)


def _same(found: Prediction) -> Prediction:
    return found
