"""The job: pictures in, files and lines of the record out, batch by batch, while threads read ahead and write."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from langhops_cli.errors import UserError
from langhops_cli.prediction.job.finder import Finder, Shot
from langhops_cli.prediction.job.outputs import PictureFiles
from langhops_cli.prediction.job.reading import Read, Task, read_ahead
from langhops_cli.prediction.job.record import Record
from langhops_cli.prediction.job.sources import Source
from langhops_cli.prediction.results import Prediction
from langhops_cli.prediction.tracks import Tracker


@dataclass(frozen=True)
class Outcome:
    """What became of a picture, of a frame of a video, or of a video that cannot be read on.

    Args:
        source: where it is from.
        prediction: what was found; None where it could not be read.
        error: what is wrong with it; None where it is done.
    """

    source: Source
    prediction: Prediction | None = None
    error: UserError | None = None


class Job:
    """Predicts pictures and videos that are not in the record, and keeps each one there once its files are written.

    A crash loses the batch that is being predicted and the one whose files are being written; these pictures are done
    again by the next run, whose files replace those of the first.

    Args:
        finder: the model with what is asked of it.
        record: of what is done, open and with its entries read.
        files: made of each picture.
        batch: pictures that go through the model together.
        workers: threads that read ahead, and as many that write.
        every: of a video each so-manieth frame is taken.
    """

    def __init__(
        self, finder: Finder, record: Record, files: PictureFiles, *, batch: int, workers: int, every: int = 1
    ) -> None:
        self.finder = finder
        self.record = record
        self.files = files
        self.batch = batch
        self.workers = workers
        self.every = every
        self._trackers: dict[str, Tracker] = {}

    def run(self, sources: Sequence[Source]) -> Generator[Outcome, None, None]:
        """Predict sources.

        Args:
            sources: of this process; of a video no other one has frames.

        Yields:
            What became of each picture and frame, once it is in the record.
        """
        ahead = max(self.batch, self.workers) + 1
        keeper = ThreadPoolExecutor(1, thread_name_prefix="keep")
        writers = ThreadPoolExecutor(self.workers, thread_name_prefix="write")
        kept: Future[list[Outcome]] | None = None
        try:
            with read_ahead(self._tasks(sources), self.finder, workers=self.workers, ahead=ahead) as reads:
                while reads_of_batch := list(islice(reads, self.batch)):
                    shots = [read for read in reads_of_batch if isinstance(read, Shot)]
                    finishers = self.finder.ask(shots) if shots else []
                    if kept is not None:
                        yield from kept.result()
                    kept = keeper.submit(self._keep, reads_of_batch, finishers, writers)
                if kept is not None:
                    yield from kept.result()
        finally:
            keeper.shutdown()  # the batch whose files are being written is still kept
            writers.shutdown()

    def _tasks(self, sources: Sequence[Source]) -> Iterator[Task]:
        """What is left to read of the sources."""
        last: dict[str, int] = {}
        for entry in self.record.entries.values():
            if entry.frame is not None:
                last[entry.source] = max(last.get(entry.source, 0), entry.frame)
        for source in sources:
            if source.video:
                yield Task(source, last.get(source.path, -1) + 1, self.every)
            elif source.path not in self.record.entries:
                yield Task(source)

    def _keep(
        self, reads: Sequence[Read], finishers: Sequence[Callable[[], Prediction]], writers: ThreadPoolExecutor
    ) -> list[Outcome]:
        """Finish a batch, write its files, and only then its lines."""
        shots = [read for read in reads if isinstance(read, Shot)]
        finished = writers.map(lambda finish: finish(), finishers)
        predictions = [self._followed(shot, found) for shot, found in zip(shots, finished, strict=True)]
        list(writers.map(lambda pair: self.files.write(*pair), zip(shots, predictions, strict=True)))
        self.record.append([(shot.stem, found) for shot, found in zip(shots, predictions, strict=True)])
        found = iter(predictions)
        return [
            Outcome(read.source, prediction=next(found))
            if isinstance(read, Shot)
            else Outcome(read.source, error=read.error)
            for read in reads
        ]

    def _followed(self, shot: Shot, found: Prediction) -> Prediction:
        """The prediction of a frame with its things numbered as in the frames before."""
        if not shot.source.video:
            return found
        if shot.source.path not in self._trackers:
            self._trackers.clear()  # videos come one after the other
            tracker = self._trackers[shot.source.path] = Tracker()
            before = [
                (entry.frame, name)
                for name, entry in self.record.entries.items()
                if entry.frame is not None and entry.source == shot.source.path
            ]
            tracker.resume(found for _, found in self.record.read([name for _, name in sorted(before)]))
        return self._trackers[shot.source.path].update(found)
