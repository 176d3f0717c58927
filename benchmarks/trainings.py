"""What the ablations share: one training, done once, and figures of several seeds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev


def train(
    folder: Path, command: str, recipe: str, settings: Sequence[str], *, data_root: Path, init: Path | None = None
) -> Path:
    """Train into `folder`, or go on where a run in it was stopped; the log stands beside it.

    Args:
        folder: of the run.
        command: "train-stage1" or "train-stage2".
        recipe: file or name of a recipe.
        settings: KEY=VALUE of the recipe.
        data_root: folder of the prepared sets.
        init: checkpoint to start from.

    Returns:
        The folder.

    Raises:
        subprocess.CalledProcessError: the training failed; its log says why.
    """
    words = [sys.executable, "-m", "langhops_cli", command, recipe, "--out", str(folder)]
    words += ["--data-root", str(data_root), *settings]
    words += [] if init is None else ["--init", str(init)]
    with folder.with_name(f"{folder.name}.log").open("a", encoding="utf-8") as log:
        subprocess.run(words, check=True, stdout=log, stderr=log)
    return folder


def spread(values: Sequence[float], sign: str = "") -> str:
    """Mean and standard deviation, "12.3 ± 0.4"."""
    return f"{mean(values):{sign}.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")
