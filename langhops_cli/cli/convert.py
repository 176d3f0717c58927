"""`langhops convert`: checkpoints of other projects into ours."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from langhops_cli.cli.console import note, say
from langhops_cli.errors import USAGE, UserError

if TYPE_CHECKING:
    from langhops_cli.checkpoint.convert import Report
    from langhops_cli.model.configuration import ModelConfig


class Layout(StrEnum):
    """Whose checkpoint it is."""

    langhops = "langhops"
    partglee = "partglee"
    glee = "glee"
    maskdino = "maskdino"
    swin = "swin"


def convert(
    source: Annotated[Path, Argument(help="The file that was downloaded: .pth, .safetensors, .pkl, or its folder.")],
    out: Annotated[Path, Argument(help="Folder to write, which must not exist yet.")],
    overrides: Annotated[list[str] | None, Argument(help="Changes to the model: model.section.key=value ...")] = None,
    layout: Annotated[
        Layout,
        Option("--from", help="Whose checkpoint it is; swin is a backbone as Microsoft or detectron2 name it."),
    ] = Layout.langhops,
    prompt_file: Annotated[
        Path | None,
        Option("--prompt-file", help="YAML with the prompt and the segment that the release was trained with."),
    ] = None,
    trust: Annotated[
        bool, Option("--trust-checkpoint", help="Run the code that the file asks for; only if you know its origin.")
    ] = False,
    shard_gb: Annotated[float, Option("--shard-size", min=0.0001, help="Largest file of weights, in GB.")] = 5.0,
) -> None:
    """Convert a released checkpoint, so that predict, eval and train-stage2 can use it.

    What is particular to a release is folded into the weights. Every tensor is taken, or dropped by a rule that the
    report names; one that no rule expects is an error.

    A swin becomes a folder for model.backbone.source; all others become checkpoints.

    Example: langhops convert langhops.pth runs/released --from langhops
    """
    if out.exists():
        raise UserError(f"{out} exists; give a new folder, or remove it", code=USAGE)
    if layout is not Layout.langhops and prompt_file is not None:
        raise UserError("--prompt-file is for --from langhops: the others have no language model", code=USAGE)
    if layout is Layout.swin and overrides:
        raise UserError(f"a swin has no settings to change, but {overrides[0]} was given", code=USAGE)
    prompt = _prompt(prompt_file)

    from langhops_cli.checkpoint.convert import Ledger, read_foreign

    ledger = Ledger(read_foreign(source, trust=trust), source=str(source))
    if layout is Layout.swin:
        from langhops_cli.checkpoint.convert import convert_backbone, write_swin

        _tell(write_swin(ledger, convert_backbone(ledger), out), out)
        say(f"use it with model.backbone.source={out}")
        return
    from dataclasses import replace

    from langhops_cli.checkpoint.convert import convert_release, write_conversion

    conversion = convert_release(ledger, layout=layout.value)
    config = _changed(conversion.config, overrides or [], prompt)
    report = write_conversion(
        replace(conversion, config=config),
        out,
        origin={"file": source.name, "layout": layout.value},
        shard=round(shard_gb * 10**9),
    )
    _tell(report, out)
    if layout is Layout.langhops and prompt_file is None:
        note("without --prompt-file it speaks to its language model in our words: parts will differ from the release's")


def _prompt(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    from langhops_cli.training.recipe_files import read_yaml

    tree = read_yaml(path)
    if not isinstance(tree, dict) or not tree or tree.keys() - {"prompt", "segment"}:
        raise UserError(f"{path}: give the keys prompt and segment, and no others", code=USAGE)
    return tree


def _changed(config: ModelConfig, overrides: list[str], prompt: dict[str, Any]) -> ModelConfig:
    from langhops_cli.checkpoint.folder import check_config
    from langhops_cli.training.recipe_files import set_key

    tree = {"model": config.to_dict()}
    tree["model"]["refiner"] |= prompt
    for override in overrides:
        if not override.startswith("model."):
            raise UserError(f"{override!r} is no setting of the model: begin it with model.", code=USAGE)
        set_key(tree, override)
    try:
        return check_config(tree["model"])
    except ValueError as error:
        raise UserError(str(error), code=USAGE) from None


def _tell(report: Report, out: Path) -> None:
    say(f"{len(report.taken)} tensors taken")
    for why, count in sorted(report.reasons.items(), key=lambda item: -item[1]):
        say(f"{count} dropped: {why}")
    if report.fresh:
        say(
            f"{len(report.fresh)} start new, for training: {', '.join(report.fresh[:4])}"
            + ", ..." * (len(report.fresh) > 4)
        )
    say(f"written to {out}; conversion.json in it lists every tensor")
