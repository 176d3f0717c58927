"""Writing what was converted: a checkpoint of ours, or a Swin folder to start from, with a report of every tensor."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from langhops_cli.checkpoint.base_models import SWIN_L_CONFIG, build_random, load_clip_text, quiet
from langhops_cli.checkpoint.convert.ledger import Ledger
from langhops_cli.checkpoint.convert.released import Conversion
from langhops_cli.checkpoint.files import whole_folder, write_text
from langhops_cli.checkpoint.folder import write_checkpoint
from langhops_cli.checkpoint.skeleton import build_skeleton
from langhops_cli.errors import DATA, UserError
from langhops_cli.model.configuration import ModelConfig
from langhops_cli.model.langhops import LangHOPSModel

REPORT = "conversion.json"


@dataclass(frozen=True)
class Report:
    """What became of a foreign checkpoint; it lies in the folder that was written, as `conversion.json`.

    Args:
        taken: our tensors, each with those that it was made of.
        dropped: foreign tensors that were left out, each with the reason.
        fresh: our tensors that start new.
    """

    taken: dict[str, list[str]]
    dropped: dict[str, str]
    fresh: list[str]

    def write(self, folder: Path) -> None:
        """Write it down."""
        write_text(folder / REPORT, json.dumps(asdict(self), indent=2) + "\n")

    @property
    def reasons(self) -> dict[str, int]:
        """How many tensors were left out, by reason."""
        second = "second name of another tensor"
        return dict(Counter(second if why.startswith("second name") else why for why in self.dropped.values()))


def write_conversion(conversion: Conversion, folder: Path, *, origin: dict[str, Any], shard: int) -> Report:
    """Check that everything fits on both sides, then write a checkpoint.

    Args:
        conversion: with the configuration that the checkpoint is to have.
        folder: made where missing.
        origin: what the card says of where it came from.
        shard: largest file of weights in bytes; more are written beyond it.

    Raises:
        UserError: a foreign tensor was expected by no rule; one of ours is missing or has another shape.
    """
    ledger, config = conversion.ledger, conversion.config
    _nothing_left(ledger)
    skeleton = build_skeleton(config)
    state = skeleton.state_dict()
    wanted = skeleton.saved_names()
    fresh = sorted(
        name
        for name in wanted - ledger.taken.keys()
        if any(re.fullmatch(pattern, name) for pattern in conversion.fresh)
    )
    tensors = ledger.taken | _start(skeleton, config, fresh)
    _fits({name: tuple(state[name].shape) for name in wanted}, tensors, ledger.source)
    metadata = {"preprocessing": config.to_dict()["preprocessing"], "converted_from": origin}
    report = Report(ledger.origins, ledger.dropped, fresh)
    with whole_folder(folder) as beside:
        write_checkpoint(tensors, beside, config=config, metadata=metadata, shard=shard)
        report.write(beside)
    return report


def write_swin(ledger: Ledger, shape: dict[str, Any], folder: Path) -> Report:
    """Write a Swin backbone as transformers reads it, for `model.backbone.source`.

    Raises:
        UserError: as for `write_conversion`.
    """
    _nothing_left(ledger)
    with torch.device("meta"):
        swin = build_random(SWIN_L_CONFIG | shape)
    # transformers keeps one more norm, whose answer no backbone gives
    unused = {name: value for name, value in swin.state_dict().items() if name.startswith("swin.layernorm.")}
    ones = {name: torch.full(value.shape, float(name.endswith("weight"))) for name, value in unused.items()}
    tensors = ledger.taken | ones
    _fits({name: tuple(value.shape) for name, value in swin.state_dict().items()}, tensors, ledger.source)
    swin.load_state_dict(tensors, assign=True)
    report = Report(ledger.origins, ledger.dropped, sorted(ones))
    with whole_folder(folder) as beside, quiet():
        swin.save_pretrained(beside)
        report.write(beside)
    return report


def _nothing_left(ledger: Ledger) -> None:
    if ledger.left:
        raise UserError(
            f"{ledger.source}: holds {ledger.left[0]}"
            + (f" and {len(ledger.left) - 1} tensors more" if len(ledger.left) > 1 else "")
            + ", which no rule expects; is it a checkpoint of another kind? See --from",
            code=DATA,
        )


def _fits(wanted: dict[str, tuple[int, ...]], tensors: dict[str, Tensor], source: str) -> None:
    missing, unknown = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or unknown:
        what = f"nothing fills {missing[0]}" if missing else f"{unknown[0]} has no place in the model"
        count = len(missing) + len(unknown)
        raise UserError(f"{source}: {what}" + (f" ({count} such tensors)" if count > 1 else ""), code=DATA)
    for name, shape in wanted.items():
        if tuple(tensors[name].shape) != shape:
            raise UserError(
                f"{source}: {name} would have the shape {tuple(tensors[name].shape)}, the model has {shape}; the base "
                "models must be those of the release, see model.text.base.source and model.refiner.base.source",
                code=DATA,
            )


def _start(skeleton: LangHOPSModel, config: ModelConfig, names: list[str]) -> dict[str, Tensor]:
    """Values for tensors that a release has no counterpart of: the base model's where one is, else fresh ones."""
    encoder = "text_encoder.encoder."
    started: dict[str, Tensor] = {}
    if any(name.startswith(encoder) for name in names):
        base, _ = load_clip_text(config.text.base.source, config.text.base.revision)
        started = {f"{encoder}{name}": value for name, value in base.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    state = skeleton.state_dict()
    for name in (name for name in names if name not in started):
        shape = state[name].shape
        spread = 0.02 if "slots" in name else shape[-1] ** -0.5
        started[name] = torch.zeros(shape) if len(shape) == 1 else torch.randn(shape, generator=generator) * spread
    return started
