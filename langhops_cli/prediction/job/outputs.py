"""What is made of predictions: files of each picture, and from the record the COCO file, the page and the videos."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from PIL import Image

from langhops_cli.checkpoint.files import write_whole
from langhops_cli.data.pictures import read_picture
from langhops_cli.errors import DATA, UserError
from langhops_cli.prediction.draw import draw_overlay
from langhops_cli.prediction.export import write_coco
from langhops_cli.prediction.formats import picture_format
from langhops_cli.prediction.gallery import GalleryWriter
from langhops_cli.prediction.job.finder import Shot
from langhops_cli.prediction.job.folder import GALLERY, RESULTS
from langhops_cli.prediction.job.record import RECORD, Record
from langhops_cli.prediction.job.sources import Source
from langhops_cli.prediction.results import Prediction
from langhops_cli.prediction.video import Video, write_video
from langhops_cli.vocabulary import Vocabulary

OVERLAYS = "overlays"
QUALITY = 92
"""JPEG quality of overlays."""

Watch = Callable[[Iterable[tuple[str, Prediction]], int], Iterable[tuple[str, Prediction]]]
"""Goes through so many pictures of the record and may show how far it is."""


class PictureFiles:
    """The files that are made of each picture, each kind in a folder of its own.

    Args:
        out: folder of the results.
        vocabulary: what was looked for.
        overlays: draw what was found on a copy of each picture.
        formats: names of formats with files of each picture.
    """

    def __init__(self, out: Path, vocabulary: Vocabulary, *, overlays: bool, formats: Sequence[str]) -> None:
        self.out = out
        self.names = vocabulary.names
        self._overlays = overlays
        self._formats = {name: picture_format(name, vocabulary) for name in formats}

    @property
    def folders(self) -> list[str]:
        """Names of the folders."""
        return [*([OVERLAYS] if self._overlays else []), *self._formats]

    def write(self, shot: Shot, prediction: Prediction) -> None:
        """Write a picture's files; any thread may do so."""
        self._write(shot.image, shot.file or shot.image, prediction, shot.stem, self.folders)

    def catch_up(self, pictures: Iterable[tuple[str, Prediction]], folders: Collection[str], every: int) -> list[str]:
        """Write the files of pictures that were predicted before these were wanted.

        Args:
            pictures: stem and prediction of each.
            folders: names of those that lack them.
            every: of a video each so-manieth frame was taken.

        Returns:
            What could not be made, a line each.
        """
        originals, remarks = Originals(every), []
        for stem, prediction in pictures:
            try:
                image = originals.find(prediction)
            except UserError as error:
                remarks.append(str(error))
                continue
            file = Path(prediction.picture) if prediction.frame is None else image
            self._write(image, file, prediction, stem, folders)
        return remarks

    def finish(self) -> None:
        """Write what a folder has once, beside the files of its pictures."""
        for name, form in self._formats.items():
            if (self.out / name).is_dir():
                form.finish(self.out / name)

    def _write(
        self, image: Image.Image, file: Path | Image.Image, prediction: Prediction, stem: str, folders: Collection[str]
    ) -> None:
        if OVERLAYS in folders and prediction.frame is None:  # those of frames become a video
            drawn = draw_overlay(image, prediction, names=self.names)
            target = self.out / OVERLAYS / f"{stem}.jpg"
            write_whole(target, lambda beside: drawn.save(beside, format="JPEG", quality=QUALITY))
        for name, form in self._formats.items():
            if name in folders:
                form.write(prediction, file, self.out / name, stem)


class Originals:
    """The pictures that predictions are of, read again; frames of a video one after the other.

    Args:
        every: of a video each so-manieth frame was taken.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._path = ""
        self._frames: Iterator[tuple[int, float, Image.Image]] = iter(())

    def find(self, prediction: Prediction) -> Image.Image:
        """Return the picture of a prediction.

        Raises:
            UserError: it is gone, or is not the one any more that was predicted.
        """
        frame = prediction.frame
        image = read_picture(prediction.picture) if frame is None else self._frame(prediction, frame)
        if (image.height, image.width) != tuple(prediction.size):
            raise _changed(prediction)
        return image

    def _frame(self, prediction: Prediction, wanted: int) -> Image.Image:
        path = prediction.picture.rpartition("#")[0]
        if path != self._path:
            self._path, self._frames = path, Video(path).frames(step=self._every, start=wanted)
        for number, _, image in self._frames:
            if number == wanted:
                return image
            if number > wanted:
                break
        self._path = ""
        raise _changed(prediction)


def _changed(prediction: Prediction) -> UserError:
    return UserError(
        f"{prediction.picture} is not what was predicted any more and is not shown; --overwrite predicts it anew",
        code=DATA,
    )


def derive(
    record: Record,
    out: Path,
    vocabulary: Vocabulary,
    *,
    coco: bool,
    gallery: bool,
    every: int,
    watch: Watch,
) -> list[str]:
    """Make the COCO file and the page from the record.

    Args:
        record: complete and in order.
        out: folder of the results.
        vocabulary: what was looked for.
        coco: write the COCO file.
        gallery: write the page, of the first pictures.
        every: of a video each so-manieth frame was taken.
        watch: goes through the pictures.

    Returns:
        What could not be shown, a line each.
    """
    remarks: list[str] = []
    elsewhere = RESULTS if coco else RECORD
    pages = GalleryWriter(out / GALLERY, vocabulary, elsewhere=elsewhere) if gallery else nullcontext()
    with pages as page:
        pictures = (found for _, found in watch(record.read(), len(record.entries)))
        seen = pictures if page is None else _shown(pictures, page, Originals(every), remarks)
        if coco:
            root = os.path.relpath(Path.cwd(), out)
            write_coco(out / RESULTS, seen, vocabulary, info={"image_root": root})
        elif page is not None:
            for _ in seen:
                if page.pictures >= page.most:
                    break
        if page is not None:
            page.pictures = len(record.entries)
    return remarks


def _shown(
    pictures: Iterable[Prediction], page: GalleryWriter, originals: Originals, remarks: list[str]
) -> Iterator[Prediction]:
    for prediction in pictures:
        if page.pictures < page.most:
            try:
                page.add(originals.find(prediction), prediction)
            except UserError as error:
                remarks.append(str(error))
        yield prediction


def draw_video(record: Record, source: Source, target: Path, names: Sequence[str], *, every: int) -> None:
    """Draw what was found on the frames of a video, from the record, whole or not at all.

    Args:
        record: complete.
        source: the video.
        target: the file to write.
        names: all names of the vocabulary, so that a name has one colour in every video.
        every: of the video each so-manieth frame was taken.

    Raises:
        UserError: the video cannot be read any more, or what writes videos is not installed.
    """
    frames = [(entry.frame, name) for name, entry in record.entries.items() if entry.source == source.path]
    originals = Originals(every)
    drawn = (
        (found.seconds or 0.0, draw_overlay(originals.find(found), found, names=names))
        for _, found in record.read([name for _, name in sorted(frames)])
    )
    write_video(target, drawn, fps=Video(source.path).fps / every)
