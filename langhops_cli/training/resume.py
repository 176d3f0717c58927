"""Going on with a run: what the loop needs beside the checkpoint, and whether the recipe is still the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from langhops_cli.checkpoint.files import write_text
from langhops_cli.errors import USAGE, UserError
from langhops_cli.training.recipe import Recipe, load_recipe

RECIPE = "recipe.yaml"
# What may be different when a run is gone on with: where it ends and how it is fed and watched, not what it learns.
FREE = ("schedule.steps", "schedule.minutes", "logging.", "data.root", "data.workers", "data.val")


class ResumeState:
    """Optimizer state and weights of the newest save, in `RUN/resume`.

    Everything else that a step depends on (learning rate, batch, random numbers) is a function of the recipe and of
    the step's number, so that nothing more is needed to go on exactly.

    Args:
        folder: `RUN/resume`; it may be deleted when a run is done.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def tag(self) -> str | None:
        """Name of the newest save, or None."""
        newest = self._folder / "newest"
        tag = newest.read_text(encoding="utf-8").strip() if newest.is_file() else None
        return tag if tag and (self._folder / tag).is_dir() else None

    def save(self, engine: Any, *, step: int) -> None:
        """Write the state after `step` steps; older ones go when it is there."""
        tag = f"step_{step:07d}"
        self._folder.mkdir(parents=True, exist_ok=True)
        state = {"step": step}
        engine.save_checkpoint(
            str(self._folder), tag=tag, client_state=state, save_latest=False, exclude_frozen_parameters=True
        )
        write_text(self._folder / "newest", tag + "\n")
        for item in self._folder.iterdir():
            if item.is_dir() and item.name != tag:
                shutil.rmtree(item)
            elif item.suffix == ".py":  # scripts that DeepSpeed leaves beside every save
                item.unlink()

    def load(self, engine: Any) -> int:
        """Fill an engine with the newest state.

        Returns:
            How many steps are done; 0 where nothing was saved.

        Raises:
            UserError: the state is damaged.
        """
        tag = self.tag
        if tag is None:
            return 0
        try:
            path, state = engine.load_checkpoint(str(self._folder), tag=tag, load_module_strict=False)
        except (OSError, RuntimeError, EOFError, KeyError, ValueError) as error:
            raise self._damaged(tag, error) from error
        if path is None or "step" not in state:
            raise self._damaged(tag, "files are missing")
        return int(state["step"])

    def _damaged(self, tag: str, why: object) -> UserError:
        text = (str(why).strip().splitlines() or [type(why).__name__])[0]
        return UserError(
            f"{self._folder / tag} cannot be gone on with ({text}); remove {self._folder} and start from the run's "
            "checkpoint with --init",
            code=5,
        )


def settle_recipe(recipe: Recipe, run: Path) -> None:
    """Write the resolved recipe into the run's folder, or check that what was saved there came of the same one.

    Raises:
        UserError: the folder holds a save of another recipe; the message names the first difference.
    """
    path = run / RECIPE
    if path.is_file() and ResumeState(run / "resume").tag is not None:
        before = dict(_leaves(load_recipe(path).to_dict()))
        now = dict(_leaves(recipe.to_dict()))
        for key in [*before, *(key for key in now if key not in before)]:
            if before.get(key) != now.get(key) and not key.startswith(FREE):
                raise UserError(
                    f"{run} holds a run with {key} = {before.get(key)}, not {now.get(key)}; give another --out, "
                    "or the same recipe to go on with it",
                    code=USAGE,
                )
    write_text(path, recipe.to_yaml())


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
