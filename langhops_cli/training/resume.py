"""Going on with a run: what the loop needs beside the checkpoint, and whether the recipe is still the same."""

from __future__ import annotations

import json
import os
import re
import shutil
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langhops_cli.checkpoint.files import file_hash, flush, write_text
from langhops_cli.errors import TRAINING, USAGE, UserError
from langhops_cli.training.distributed import gather, is_first, together, world_size
from langhops_cli.training.recipe import Recipe, load_recipe

RECIPE = "recipe.yaml"
LIST = "files.json"
"""Stands in a save that is whole: the size and the SHA-256 of each of its files."""
CONVERTED = ".converted"
# What may be different when a run is gone on with: where it ends, how it is fed and watched and what it costs, not
# what it learns.
FREE = (
    "schedule.steps",
    "schedule.minutes",
    "logging.",
    "data.root",
    "data.workers",
    "data.val",
    "optimizer.skip_nonfinite",
    "distributed.checkpoint_activations",
    "distributed.offload",
    "distributed.hang_minutes",
)


class SaveFailed(Exception):  # noqa: N818 - it names what happened
    """A save could not be written, on some rank; what was half written is gone, and the message says why."""


@dataclass(frozen=True)
class Save:
    """A save that is whole: its folder, the steps that were done, and how many ranks wrote it with which ZeRO stage."""

    folder: Path
    step: int
    ranks: int
    zero: int


class ResumeState:
    """Optimizer state and weights after some steps, in `RUN/resume/step_N`, the newest few of them.

    Everything else that a step depends on (learning rate, batch, random numbers) is a function of the recipe and of
    the step's number, so that nothing more is needed to go on exactly. A save gets its name when all its files are on
    the disk, with a list of their sizes and hashes, so that one that was cut off or damaged is told from a whole one.

    Args:
        folder: `RUN/resume`, which all ranks see; it may be deleted when a run is done.
        keep: how many saves are kept.
        zero: ZeRO stage of the run.
    """

    def __init__(self, folder: Path, *, keep: int = 1, zero: int = 0) -> None:
        self._folder = folder
        self._keep = keep
        self._zero = zero

    @property
    def newest(self) -> int | None:
        """Steps of the newest save by its name, unchecked; None where there is none."""
        return max(self._saves(), default=None)

    def pick(self) -> tuple[Save | None, list[str]]:
        """Find the newest save whose files are all as they were written.

        Returns:
            The save, None where nothing was saved yet, and a line for each newer one that is damaged.

        Raises:
            UserError: there are saves, and none is whole.
        """
        notes: list[str] = []
        for step, folder in sorted(self._saves().items(), reverse=True):
            problem, record = _check(folder)
            if problem is None:
                return Save(folder, step, record["ranks"], record["zero"]), notes
            notes.append(f"{folder} is damaged ({problem}) and left out")
        if notes:
            raise self._damaged(notes[-1])
        return None, []

    def save(self, engine: Any, *, step: int, state: Mapping[str, Any] | None = None) -> None:
        """Write the state after `step` steps; the oldest ones go when it is there. All ranks take part.

        Args:
            engine: DeepSpeed's.
            step: how many are done.
            state: further plain values to find again.

        Raises:
            SaveFailed: some rank could not write; on all of them.
        """
        tag = f"step_{step:07d}"
        part = self._folder / f".{tag}.part"
        with self._or_none(part):
            agree(self._make(part) if is_first() else None)
            with _guarded_writer(engine) as writer:
                engine.save_checkpoint(
                    str(self._folder),
                    tag=part.name,
                    client_state={"step": step, **(state or {})},
                    save_latest=False,
                    exclude_frozen_parameters=True,
                )
            agree(writer.problem)
            agree(self._commit(part, self._folder / tag) if is_first() else None)
        if is_first():
            self._prune(step)

    def convert(self, save: Save) -> bool:
        """Bring a save of another number of ranks into the form that any number can read. All ranks take part.

        Returns:
            Whether there was anything to convert: an engine has to know when it is built.

        Raises:
            UserError: it could not be converted.
        """
        if save.zero == 0 or save.ranks == world_size():
            return False
        together(lambda: self._convert(save) if is_first() else None)
        return True

    def load(self, engine: Any, save: Save, *, converted: bool = False) -> dict[str, Any]:
        """Fill an engine with a save. All ranks take part.

        Args:
            engine: DeepSpeed's, new.
            save: from `pick`.
            converted: what `convert` said of it.

        Returns:
            What was given to `save` as `state`, and `step`.

        Raises:
            UserError: its files are whole and yet do not fit.
        """
        folder = self._folder / CONVERTED if converted else self._folder
        try:
            path, state = engine.load_checkpoint(str(folder), tag=save.folder.name, load_module_strict=False)
        except (OSError, RuntimeError, EOFError, KeyError, ValueError) as error:
            raise self._damaged(f"{save.folder} cannot be gone on with ({first_line(error)})") from error
        if path is None or "step" not in state:
            raise self._damaged(f"{save.folder} cannot be gone on with (files are missing)")
        if converted:  # ZeRO 3 would count every step once for each group: they share one count until now
            for kept in engine.optimizer.optimizer.state.values():
                kept["step"] = kept["step"].clone()
        gather(None)  # every rank has read what is removed now
        if is_first():
            shutil.rmtree(self._folder / CONVERTED, ignore_errors=True)
        return dict(state)

    def _saves(self) -> dict[int, Path]:
        folders = self._folder.glob("step_*") if self._folder.is_dir() else ()
        return {int(item.name[5:]): item for item in folders if re.fullmatch(r"step_\d+", item.name) and item.is_dir()}

    def _make(self, part: Path) -> str | None:
        try:
            for cut_off in self._folder.glob(".step_*.part"):
                shutil.rmtree(cut_off, ignore_errors=True)
            part.mkdir(parents=True)
        except OSError as error:
            return first_line(error)
        return None

    def _commit(self, part: Path, final: Path) -> str | None:
        """List the files of a save, and give it its name: from then on it counts."""
        try:
            files = {
                path.name: {"bytes": path.stat().st_size, "sha256": file_hash(path)} for path in sorted(part.iterdir())
            }
            record = {"ranks": world_size(), "zero": self._zero, "files": files}
            write_text(part / LIST, json.dumps(record, indent=1) + "\n")
            if final.exists():
                shutil.rmtree(final)
            os.replace(part, final)
            flush(final.parent)
        except OSError as error:
            return first_line(error)
        return None

    def _prune(self, step: int) -> None:
        """Keep the newest ones; what claims to be newer than this one was damaged."""
        saves = self._saves()
        kept = sorted(number for number in saves if number <= step)[-self._keep :]
        for number, folder in saves.items():
            if number not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _convert(self, save: Save) -> None:
        from deepspeed.checkpoint.ds_to_universal import main

        target = self._folder / CONVERTED / save.folder.name
        shutil.rmtree(target.parent, ignore_errors=True)
        how = Namespace(
            input_folder=str(save.folder),
            output_folder=str(target),
            num_extract_workers=1,
            num_merge_workers=1,
            keep_temp_folder=False,
            strict=True,
            inject_missing_state=True,
        )
        try:
            target.mkdir(parents=True)
            with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
                main(how)
        except (OSError, RuntimeError, AssertionError, KeyError, ValueError, NotImplementedError) as error:
            shutil.rmtree(target.parent, ignore_errors=True)
            raise UserError(
                f"{save.folder} was written by {save.ranks} ranks and cannot be converted for {world_size()} "
                f"({first_line(error)}); go on with {save.ranks} ranks, or start from the run's checkpoint with --init",
                code=TRAINING,
            ) from error

    @contextmanager
    def _or_none(self, part: Path) -> Iterator[None]:
        """Leave nothing of a save that fails."""
        try:
            yield
        except SaveFailed:
            if is_first():
                shutil.rmtree(part, ignore_errors=True)
            raise

    def _damaged(self, what: str) -> UserError:
        return UserError(
            f"{what}; remove {self._folder} and start from the run's checkpoint with --init and another --out",
            code=TRAINING,
        )


class _Writer:
    """Stands in for DeepSpeed's writer of files: what fails is told later, as other ranks wait for it."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self.problem: str | None = None

    def save(self, state_dict: Any, path: str) -> None:
        if self.problem is not None:
            return
        try:
            self._writer.save(state_dict, path)
            flush(Path(path))
        except (OSError, RuntimeError) as error:
            self.problem = first_line(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


@contextmanager
def _guarded_writer(engine: Any) -> Iterator[_Writer]:
    before, copy_scripts = engine.checkpoint_engine, engine._copy_recovery_script
    writer = engine.checkpoint_engine = _Writer(before)
    engine._copy_recovery_script = lambda _: None  # it would put scripts of DeepSpeed's beside every save
    try:
        yield writer
    finally:
        engine.checkpoint_engine, engine._copy_recovery_script = before, copy_scripts


def agree(problem: str | None) -> None:
    """Let all ranks know of a problem that one of them has.

    Raises:
        SaveFailed: some rank has one; on all of them.
    """
    found = next((item for item in gather(problem) if item is not None), None)
    if found is not None:
        raise SaveFailed(found)


def _check(folder: Path) -> tuple[str | None, dict[str, Any]]:
    """What is wrong with a save, None if nothing, and what it says of itself."""
    try:
        record = json.loads((folder / LIST).read_text(encoding="utf-8"))
        for name, facts in record["files"].items():
            path = folder / name
            size = path.stat().st_size
            if size != facts["bytes"]:
                return f"{name} has {size} bytes, not {facts['bytes']}", {}
            if file_hash(path) != facts["sha256"]:
                return f"the contents of {name} have changed", {}
        return None, {"ranks": int(record["ranks"]), "zero": int(record["zero"])}
    except FileNotFoundError as error:
        return f"{Path(error.filename or LIST).name} is missing", {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return first_line(error), {}


def first_line(error: BaseException) -> str:
    """What an error says, as one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def settle_recipe(recipe: Recipe, run: Path) -> None:
    """Write the resolved recipe into the run's folder, or check that what was saved there came of the same one.

    Raises:
        UserError: the folder holds a save of another recipe; the message names the first difference.
    """
    check_same_recipe(recipe, run)
    write_text(run / RECIPE, recipe.to_yaml())


def check_same_recipe(recipe: Recipe, run: Path) -> None:
    """See that what was saved in a run's folder, if anything was, came of the same recipe; as for `settle_recipe`."""
    path = run / RECIPE
    if not path.is_file() or ResumeState(run / "resume").newest is None:
        return
    before = dict(_leaves(load_recipe(path).to_dict()))
    now = dict(_leaves(recipe.to_dict()))
    for key in [*before, *(key for key in now if key not in before)]:
        if before.get(key) != now.get(key) and not key.startswith(FREE):
            raise UserError(
                f"{run} holds a run with {key} = {before.get(key)}, not {now.get(key)}; give another --out, "
                "or the same recipe to go on with it",
                code=USAGE,
            )


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
