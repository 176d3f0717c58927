"""`langhops export`: a model for programs that know nothing of langhops."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from langhops_cli.cli.console import note, say
from langhops_cli.errors import DATA, UserError

if TYPE_CHECKING:
    from langhops_cli.checkpoint.hub import LangHOPS

SUFFIX = ".pt2"


def export(
    checkpoint: Annotated[str, Argument(help="Folder or Hub id of a model.")],
    out: Annotated[Path, Argument(metavar="OUT.pt2", help="The file to write.")],
    height: Annotated[
        int | None, Option(min=1, help="Of the canvas in pixels, a multiple of 64; the model's largest when left out.")
    ] = None,
    width: Annotated[int | None, Option(min=1, help="Likewise.")] = None,
    batch: Annotated[int, Option(min=1, help="Pictures at once.")] = 1,
    language_model: Annotated[
        Path | None,
        Option(help="Also write the language model, its LoRA merged in, to this folder, as transformers reads it."),
    ] = None,
) -> None:
    """Write the vision part of a model with torch.export: pixels and embedded names in, objects out.

    The size of the pictures is fixed, the number of names is free. What was written is loaded again and compared with
    the model on random pictures; if they differ by more than 1e-4, nothing is kept and the exit code is 5.

    Example: langhops export runs/stage2 stage2.pt2 --height 512 --width 512
    """
    _check_out(out)
    from langhops_cli import __version__
    from langhops_cli.checkpoint.export import CELL, export_vision
    from langhops_cli.checkpoint.hub import LangHOPS, checkpoint_name
    from langhops_cli.checkpoint.merge import check_empty

    if language_model is not None:
        check_empty(language_model)
    langhops = LangHOPS.from_pretrained(checkpoint)
    if language_model is not None:
        _check_language(langhops, checkpoint)
    largest = -(-langhops.config.preprocessing.longest // CELL) * CELL
    height, width = height or largest, width or largest
    note(f"exporting {batch} x {height} x {width} pixels; this takes a minute or more")
    exported = export_vision(
        langhops.model,
        out,
        height=height,
        width=width,
        batch=batch,
        about={"checkpoint": checkpoint_name(checkpoint), "langhops": __version__},
    )
    say(f"{out}: {batch} x {height} x {width} pixels, differs from the model by at most {exported.difference:.1e}")
    if language_model is not None:
        from langhops_cli.checkpoint.merge import save_merged

        branch = langhops.model.part_branch
        assert branch is not None
        difference = save_merged(branch.refiner.language_model, language_model, base=langhops.config.refiner.base)
        say(f"{language_model}: merged, differs from the unmerged one by at most {difference:.1e} of its largest state")


def _check_language(langhops: LangHOPS, checkpoint: str) -> None:
    if langhops.config.level != "parts" or langhops.config.refiner.kind != "mllm":
        raise UserError(f"{checkpoint} has no language model; leave --language-model out")


def _check_out(out: Path) -> None:
    """Say what is wrong with the place before minutes are spent."""
    if out.suffix != SUFFIX:
        raise UserError(f"{out} is no name for an exported model; end it in {SUFFIX}")
    if out.is_dir():
        raise UserError(f"{out} is a folder; name a file", code=DATA)
    above = next(path for path in out.absolute().parents if path.exists())
    if not above.is_dir():
        raise UserError(f"{above} is a file; name a file in a folder", code=DATA)
    if not os.access(above, os.W_OK):
        raise UserError(f"{above} cannot be written to; name a file somewhere else", code=DATA)
