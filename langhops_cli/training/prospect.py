"""What a training would be, before it starts: what its checks look at, and what each of them says."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from langhops_cli.errors import UserError
from langhops_cli.model.configuration import ModelConfig
from langhops_cli.training.recipe import Recipe

if TYPE_CHECKING:
    from langhops_cli.data.sampling.mixture import TrainingDataset
    from langhops_cli.model.langhops import LangHOPSModel

State = Literal["ok", "no", "note"]


@dataclass(frozen=True)
class Found:
    """What one check says.

    Args:
        state: "ok"; "no" where training cannot start; "note" where something should be known, or cannot be.
        text: what was found, and what to do about it, in one line.
        details: further lines.
        code: exit code where it is "no".
    """

    state: State
    text: str
    details: tuple[str, ...] = ()
    code: int = 0


@dataclass
class Prospect:
    """A training that has not started; the first checks find out what the later ones read.

    Args:
        recipe: checked; config: of its model.
        folder: of the run; data_root: of the prepared sets.
        init: checkpoint to start from; None for the base models alone, or where `problem` says why it is not to be had.
        processes: that train together; local: of them on this machine.
        saved: steps that are done already.
        model: of the right shapes on the meta device; None where they are not known, and `why_unknown` says why.
        counts: how many parameters are trained, and how many are frozen.
        sets: that are trained on, in the order of the recipe; None for one that cannot be read.
    """

    recipe: Recipe
    config: ModelConfig
    folder: Path
    data_root: Path
    init: Path | None
    problem: UserError | None
    processes: int
    local: int
    saved: int = 0
    model: LangHOPSModel | None = None
    why_unknown: str = ""
    counts: tuple[int, int] = (0, 0)
    sets: list[TrainingDataset | None] = field(default_factory=list)

    @property
    def pictures(self) -> int:
        """Pictures a step."""
        return self.recipe.data.batch * self.recipe.data.accumulate * self.processes
