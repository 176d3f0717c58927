"""What is to be predicted: the pictures and videos that words on a command line stand for, each with its file names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from langhops_cli.data.pictures import SUFFIXES, list_pictures
from langhops_cli.errors import DATA, UserError
from langhops_cli.prediction.video import VIDEO_SUFFIXES, is_video

LIST = "-"
"""The word that stands for a list of paths on standard input."""
_FRAME = re.compile(r"(.+)-\d{6,}")


@dataclass(frozen=True, slots=True)
class Source:
    """One picture or one video.

    Args:
        path: of the file, which is also what the results call it.
        stem: of the names of the files that are made of it; no other source has it.
        video: whether it is a video.
    """

    path: str
    stem: str
    video: bool = False

    def frame_stem(self, number: int) -> str:
        """Stem of the names of the files that are made of a frame of this video."""
        return f"{self.stem}-{number:06d}"


@dataclass(frozen=True)
class Inputs:
    """What the words of a command line stand for.

    Args:
        paths: of pictures and videos, each once.
        left_out: how many files were left out because an earlier run has made them.
    """

    paths: list[str]
    left_out: int


def list_inputs(words: Sequence[str], *, listed: Callable[[], bytes], own: Collection[Path] = ()) -> Inputs:
    """Find the pictures and videos that files, folders, glob patterns and a list stand for.

    Args:
        words: files, folders (searched through, sorted), patterns, and "-" for the list. A file is taken whatever its
            name ends in.
        listed: reads the list: paths with a line end or, where there is one, a zero byte behind each.
        own: folders that an earlier run has written; what lies in them is left out where it was not asked for by name.

    Returns:
        The paths in the order of the words, folders and patterns sorted.

    Raises:
        UserError: a path does not exist, a pattern matches nothing, a folder holds no picture, or the list is empty.
    """
    found: dict[str, None] = {}
    left_out = 0
    folders = [os.path.realpath(folder) for folder in own]
    for word in words:
        if word == LIST:
            found.update(dict.fromkeys(read_list(listed())))
            continue
        paths = [path.as_posix() for path in list_pictures([word], suffixes=SUFFIXES | VIDEO_SUFFIXES)]
        kept = paths if _lies_in(word, folders) else [path for path in paths if not _lies_in(path, folders)]
        if not kept:
            raise UserError(f"{word} holds only what an earlier run has written; give pictures", code=DATA)
        left_out += len(paths) - len(kept)
        found.update(dict.fromkeys(kept))
    return Inputs(list(found), left_out)


def read_list(content: bytes) -> list[str]:
    """Return the paths of a list, one a line, or each ended by a zero byte as `find -print0` writes them.

    Raises:
        UserError: there is none.
    """
    lines = content.split(b"\0") if b"\0" in content else [line.rstrip(b"\r") for line in content.split(b"\n")]
    paths = [Path(os.fsdecode(line)).as_posix() for line in lines if line.strip()]
    if not paths:
        raise UserError(f"{LIST} stands for a list of pictures on standard input, which is empty", code=DATA)
    return paths


def name_sources(paths: Iterable[str], *, known: dict[str, str], out: Path) -> list[Source]:
    """Give each picture and video a stem for file names that no other one has and that hits no input.

    Args:
        paths: of pictures and videos.
        known: stems that earlier runs have given, by the paths of their sources; these stay.
        out: the folder to which the files go.

    Returns:
        For each path its source. Of several `a.jpg` the first has the stem `a`, the second `a-2` ...
    """
    stems = _Stems(known, out)
    found = []
    for path in paths:
        video = is_video(path)
        found.append(Source(path, known.get(path) or stems.give(path, video=video), video))
    return found


class _Stems:
    """Gives stems; upper and lower case count as one, since some file systems take a.jpg and A.jpg for one file."""

    def __init__(self, known: dict[str, str], out: Path) -> None:
        self._out = os.path.realpath(out)
        self._next: dict[str, int] = {}
        self._taken: set[str] = set()
        self._videos: set[str] = set()
        self._like_frames: set[str] = set()
        for path, stem in known.items():
            self._take(stem.casefold(), video=is_video(path))

    def give(self, path: str, *, video: bool) -> str:
        """Return a stem for a source."""
        first = Path(path).stem
        # An input inside the folder of results, which none of the files that are made may replace.
        number = 2 if _lies_in(path, [self._out]) else self._next.get(first.casefold(), 1)
        while True:
            stem = first if number == 1 else f"{first}-{number}"
            number += 1
            if self._is_free(stem.casefold(), video=video):
                self._next[first.casefold()] = number
                self._take(stem.casefold(), video=video)
                return stem

    def _is_free(self, stem: str, *, video: bool) -> bool:
        like = _FRAME.fullmatch(stem)
        if stem in self._taken or (like is not None and like[1] in self._videos):
            return False
        return not (video and stem in self._like_frames)

    def _take(self, stem: str, *, video: bool) -> None:
        self._taken.add(stem)
        if video:
            self._videos.add(stem)
        if (like := _FRAME.fullmatch(stem)) is not None:
            self._like_frames.add(like[1])


def _lies_in(path: str, folders: Sequence[str]) -> bool:
    if not folders:
        return False
    parent, name = os.path.split(os.path.abspath(path))
    place = os.path.join(_real(parent), name)
    return any(place == folder or place.startswith(folder + os.sep) for folder in folders)


@lru_cache(maxsize=4096)
def _real(folder: str) -> str:
    return os.path.realpath(folder)
