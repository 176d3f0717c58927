"""Files of COCO results, one result a line, written picture by picture by one process or by several."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from langhops_cli.checkpoint.files import write_whole
from langhops_cli.errors import ENVIRONMENT, UserError

PREDICTIONS = "predictions.json"

Result = dict[str, Any]
"""A COCO result: `image_id`, `category_id`, `score`, `bbox`, `segmentation` and, from us, `id` and `parent_id`."""


def _no_wait() -> None:
    """A process that is alone waits for nobody."""


@dataclass(frozen=True)
class Ranks:
    """The processes that predict together, each its share of the pictures.

    Args:
        rank: number of this one, from 0.
        count: of them all.
        wait: returns once all of them have called it.
    """

    rank: int = 0
    count: int = 1
    wait: Callable[[], object] = _no_wait

    @property
    def is_first(self) -> bool:
        """Whether this is the one that joins what all have found, and scores it."""
        return self.rank == 0

    def share(self, places: Sequence[int]) -> Sequence[int]:
        """The pictures of this process: with two, every other one."""
        return places[self.rank :: self.count]


ALONE = Ranks()


def write_predictions(path: Path, pictures: Iterable[Sequence[Mapping[str, Any]]], ranks: Ranks = ALONE) -> None:
    """Write the results of pictures as they come, whole or not at all; no more than one picture's are in memory.

    Several processes write their shares beside the file, and the first one joins them in the order of the pictures,
    so that the file is the same, to the byte, as one process writes it.

    Args:
        path: a JSON list; in a folder that all processes see.
        pictures: the results of each picture of this process's share.
        ranks: the processes that write this file together; all of them return once it is there.

    Raises:
        UserError: the first process does not see what another one wrote.
    """
    if ranks.count == 1:
        write_whole(path, lambda beside: _write_list(beside, (map(_line, results) for results in pictures)))
        return
    own = _share_file(path, ranks.rank, ranks.count)
    write_whole(own, lambda beside: _write_share(beside, pictures))
    ranks.wait()
    if ranks.is_first:
        shares = [_share_file(path, number, ranks.count) for number in range(ranks.count)]
        write_whole(path, lambda beside: _join(shares, beside))
        for share in shares:
            share.unlink()
    ranks.wait()


def remove_shares(folder: Path) -> None:
    """Remove what processes have left in a folder, and in those in it, beside files that they did not finish."""
    for pattern in (".*-of-*.share", "*/.*-of-*.share"):
        for share in folder.glob(pattern):
            share.unlink(missing_ok=True)


def _share_file(path: Path, number: int, count: int) -> Path:
    return path.with_name(f".{path.name}.{number + 1}-of-{count}.share")


def _line(result: Mapping[str, Any]) -> str:
    return json.dumps(result, ensure_ascii=False, allow_nan=False)


def _write_list(path: Path, pictures: Iterable[Iterable[str]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        before = "\n"
        for lines in pictures:
            for line in lines:
                file.write(before + line)
                before = ",\n"
        file.write("\n]\n")


def _write_share(path: Path, pictures: Iterable[Sequence[Mapping[str, Any]]]) -> None:
    """For each picture the number of its results, and then these, one a line."""
    with path.open("w", encoding="utf-8") as file:
        for results in pictures:
            file.write(f"{len(results)}\n")
            file.writelines(f"{_line(result)}\n" for result in results)


def _join(shares: Sequence[Path], path: Path) -> None:
    """Take a picture from each share in turn, as they were dealt out."""
    with ExitStack() as opened:
        try:
            files = [opened.enter_context(share.open(encoding="utf-8")) for share in shares]
        except FileNotFoundError as error:
            raise UserError(
                f"{error.filename} is not there: all machines must write into one folder; give --out a folder that "
                "all of them see",
                code=ENVIRONMENT,
            ) from None
        _write_list(path, _in_turn(files))


def _in_turn(files: Sequence[TextIO]) -> Iterator[Iterator[str]]:
    while True:
        for file in files:
            count = file.readline()
            if not count:  # the shares are as long as one another, or one picture shorter from some file on
                return
            yield (file.readline().rstrip("\n") for _ in range(int(count)))
