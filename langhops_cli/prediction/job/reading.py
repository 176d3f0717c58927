"""Pictures and frames read ahead by threads, in order, with only a few of them in memory at any time."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from langhops_cli.data.pictures import read_picture
from langhops_cli.errors import UserError
from langhops_cli.prediction.job.finder import Finder, Shot
from langhops_cli.prediction.job.sources import Source
from langhops_cli.prediction.video import Video, frame_name

_PAUSE = 0.1
"""Seconds after which a reader that waits for room looks whether it is still wanted."""


@dataclass(frozen=True)
class Unreadable:
    """A picture or video that could not be read, or not to its end.

    Args:
        source: the picture or video.
        error: what is wrong with it.
    """

    source: Source
    error: UserError


Read = Shot | Unreadable


@dataclass(frozen=True)
class Task:
    """A source that is to be read.

    Args:
        source: the picture or video.
        start: first frame of a video that is wanted.
        step: each so-manieth frame of a video is.
    """

    source: Source
    start: int = 0
    step: int = 1


class _UnwantedError(Exception):
    """Nobody takes what is read any more."""


@contextlib.contextmanager
def read_ahead(tasks: Iterable[Task], finder: Finder, *, workers: int, ahead: int) -> Iterator[Iterator[Read]]:
    """Read pictures, and frames of videos, in threads while others are predicted.

    Args:
        tasks: what to read.
        finder: brings each to what the model takes.
        workers: threads that do so, at least 1; the frames of a video are decoded by a further one.
        ahead: pictures that wait at most.

    Yields:
        What was read, in the order of the tasks; frames in their order, what is wrong with a video after them.
    """
    waiting: queue.Queue[Future[Read] | None] = queue.Queue(ahead)
    unwanted = threading.Event()

    def put(item: Future[Read] | None) -> None:
        while not unwanted.is_set():
            with contextlib.suppress(queue.Full):
                return waiting.put(item, timeout=_PAUSE)
        raise _UnwantedError

    def produce(pool: ThreadPoolExecutor) -> None:
        try:
            for task in tasks:
                for read in _reads(task, finder):
                    put(pool.submit(read))
            put(None)
        except _UnwantedError:
            pass
        except BaseException as error:  # what nobody foresaw is raised where the pictures are taken
            with contextlib.suppress(_UnwantedError):
                put(_failed(error))

    with ThreadPoolExecutor(workers, thread_name_prefix="read") as pool:
        thread = threading.Thread(target=produce, args=(pool,), name="read ahead")
        thread.start()
        try:
            yield _results(waiting)
        finally:
            unwanted.set()
            thread.join()
            pool.shutdown(cancel_futures=True)


def _results(waiting: queue.Queue[Future[Read] | None]) -> Iterator[Read]:
    while (item := waiting.get()) is not None:
        yield item.result()


def _reads(task: Task, finder: Finder) -> Iterator[Callable[[], Read]]:
    """What a thread has to do for each picture of a source."""
    if not task.source.video:
        yield lambda: _read_picture(task.source, finder)
        return
    try:
        for frame, seconds, image in Video(task.source.path).frames(step=task.step, start=task.start):
            yield _frame_reader(task.source, finder, image, frame, seconds)
    except UserError as error:
        unreadable = Unreadable(task.source, error)
        yield lambda: unreadable


def _read_picture(source: Source, finder: Finder) -> Read:
    try:
        image = read_picture(source.path)
    except UserError as error:
        return Unreadable(source, error)
    return Shot(source, source.path, source.stem, image, finder.prepare(image, source.path))


def _frame_reader(source: Source, finder: Finder, image: Image.Image, frame: int, seconds: float) -> Callable[[], Read]:
    name = frame_name(source.path, frame)
    stem = source.frame_stem(frame)
    return lambda: Shot(source, name, stem, image, finder.prepare(image, name), frame, seconds)


def _failed(error: BaseException) -> Future[Read]:
    future: Future[Read] = Future()
    future.set_exception(error)
    return future
