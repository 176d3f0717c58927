"""The folder of a job's results: by which settings they came to be, what was made there, and who works in it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from langhops_cli import __version__
from langhops_cli.checkpoint.files import write_text
from langhops_cli.errors import DATA, ENVIRONMENT, UserError
from langhops_cli.prediction.job.record import RECORD, Record

RUN = "run.json"
RESULTS = "predictions.json"
GALLERY = "index.html"


class RunFolder:
    """The folder of a job's results, with what `run.json` says of them.

    Args:
        path: the folder, there or not.

    Attributes:
        settings: by which the results came to be, plain values; empty where there are none.
        folders: those in it that runs have filled, and whether they hold something for every picture of the record.

    Raises:
        UserError: `run.json` is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings: dict[str, Any] = {}
        self.folders: dict[str, bool] = {}
        try:
            content = json.loads((path / RUN).read_text(encoding="utf-8"))
            self.settings = dict(content["settings"])
            self.folders = {str(name): bool(complete) for name, complete in content["folders"].items()}
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path / RUN} is damaged ({error}); give another --out, or take the folder away", code=DATA
            ) from None

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Make the folder and keep other runs out of it; where nothing was put into a new one, it goes again.

        Raises:
            UserError: another run works in it.
        """
        new = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another run writes into {self.path}; wait for it, or give another --out", code=ENVIRONMENT
                ) from None
            except OSError:  # a file system without locks
                pass
            yield
        finally:
            os.close(handle)
            with contextlib.suppress(OSError):  # a folder that is not empty stays
                for folder in new:
                    folder.rmdir()

    def check(
        self,
        record: Record,
        settings: Mapping[str, Any],
        outputs: Sequence[str],
        *,
        overwrite: bool,
        inputs: Collection[str],
    ) -> None:
        """See whether a run can go on with what is there, or take it away; nothing is changed yet.

        Args:
            record: of this folder, collected.
            settings: of the run, plain values.
            outputs: folders that the run fills, by name.
            overwrite: the run takes away what is there.
            inputs: paths of the pictures to be predicted.

        Raises:
            UserError: results of other settings are there, files in a folder of the run that no run has made, or a
                folder where a file is to be.
        """
        for file in (RESULTS, GALLERY, RECORD, RUN):
            if (self.path / file).is_dir():
                raise UserError(f"{self.path / file} is a folder; give another --out", code=DATA)
        if overwrite:
            self._check_inputs(inputs)
        elif record.entries and self.settings != settings:
            raise UserError(
                f"{self.path} holds results of {_difference(self.settings, settings)}: give another --out, or "
                "--overwrite to begin anew",
                code=DATA,
            )
        for name in outputs:
            folder = self.path / name
            if name not in self.folders and folder.is_dir() and any(folder.iterdir()):
                raise UserError(
                    f"{folder} holds files that no earlier run has put there; give another --out, or move them away",
                    code=DATA,
                )

    def lacking(self, outputs: Sequence[str]) -> list[str]:
        """Those of some folders that do not hold something for every picture of the record."""
        return [name for name in outputs if not self.folders.get(name)]

    def save(self, settings: Mapping[str, Any], outputs: Sequence[str]) -> None:
        """Write `run.json`.

        Args:
            settings: by which the results come to be, plain values.
            outputs: folders that have something for every picture of the record, and get it for those that come.
        """
        self.settings = dict(settings)
        self.folders = {**dict.fromkeys(self.folders, False), **dict.fromkeys(outputs, True)}
        content = {"langhops": __version__, "settings": self.settings, "folders": self.folders}
        write_text(self.path / RUN, json.dumps(content, ensure_ascii=False, indent=2) + "\n")

    def sweep(self) -> None:
        """Remove what a process that was killed had begun to write."""
        for place in (self.path, *(self.path / name for name in self.folders)):
            for part in place.glob(".*.part") if place == self.path else place.rglob(".*.part"):
                part.unlink(missing_ok=True)

    def discard(self) -> None:
        """Take `run.json` away after a run that could do nothing, unless files of a run that was killed are there."""
        if not any((self.path / name).exists() for name in self.folders):
            (self.path / RUN).unlink(missing_ok=True)

    def clear(self, record: Record) -> None:
        """Take away what earlier runs have made."""
        record.remove()
        for file in (RESULTS, GALLERY, RUN):
            (self.path / file).unlink(missing_ok=True)
        for name in self.folders:
            shutil.rmtree(self.path / name, ignore_errors=True)
        self.settings, self.folders = {}, {}

    def _check_inputs(self, inputs: Collection[str]) -> None:
        folders = [os.path.realpath(self.path / name) for name in self.folders]
        for path in inputs if folders else ():
            place = os.path.realpath(path)
            if any(place.startswith(folder + os.sep) for folder in folders):
                raise UserError(
                    f"{path} is to be predicted and lies where --overwrite takes away what an earlier run has made; "
                    "give another --out",
                    code=DATA,
                )


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Say in which setting two runs differ: "another vocabulary", "min_score 0.3, not 0.5"."""
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    name = next((name for name in names if isinstance(new.get(name), dict | list)), names[0])
    option = name.replace("_", " ")
    if any(isinstance(value, dict | list) for value in (old.get(name), new.get(name))):
        return f"another {option}"
    return f"{option} {_said(old.get(name))}, not {_said(new.get(name))}"


def _said(value: Any) -> str:
    return "none" if value is None else str(value)
