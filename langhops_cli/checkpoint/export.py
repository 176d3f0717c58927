"""The vision part of a model as one file that runs without langhops: pixels and name embeddings to objects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from langhops_cli.checkpoint.files import write_whole
from langhops_cli.errors import MISMATCH, UserError
from langhops_cli.model.langhops import LangHOPSModel
from langhops_cli.model.structures import Names, Pictures

CELL = 64
"""Height and width of the canvas are multiples of it."""
TOLERANCE = 1e-4
"""The largest difference to the model itself that an exported file may show."""
ABOUT = "langhops.json"
"""Name of what a file says of itself; `torch.export.load(path, extra_files={ABOUT: ""})` reads it."""
OUTPUTS = ("logits", "boxes", "masks", "queries", "memory", "mask_features")


@dataclass(frozen=True)
class Exported:
    """What was written: the largest difference to the model itself, and what the file says of itself."""

    difference: float
    about: dict[str, Any]


class VisionPart(nn.Module):
    """Backbone, pixel decoder and object decoder, with tensors for everything.

    Args:
        model: whose parts they are; they are shared, not copied.
    """

    def __init__(self, model: LangHOPSModel) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.pixel_decoder = model.pixel_decoder
        self.object_decoder = model.object_decoder
        self.num_queries = model.num_queries

    def forward(self, pixels: Tensor, sizes: Tensor, names: Tensor) -> dict[str, Tensor]:
        """Find objects.

        Args:
            pixels: RGB in 0..255, float, each picture in the top left corner of its canvas, (B, 3, H, W).
            sizes: height and width of each picture on the canvas in pixels, (B, 2), int64.
            names: embeddings of the names to look for, (C, d), as the model's text encoder gives them.

        Returns:
            `logits` (B, Q, C), before the sigmoid; `boxes` (B, Q, 4): centre x, centre y, width, height as shares of
            the picture; `masks` (B, Q, H / 4, W / 4), before the sigmoid; `queries` (B, Q, d); `memory` (B, S, d), the
            levels from the coarsest to the finest; `mask_features` (B, d, H / 4, W / 4).
        """
        pictures = Pictures(pixels, sizes)
        inside = pictures.valid(1)
        pyramid = self.pixel_decoder(self.backbone(self.backbone.normalise(pixels, inside), inside), pictures)
        embeddings = names.expand(pixels.shape[0], -1, -1)
        objects = self.object_decoder(
            pyramid,
            Names(embeddings, torch.ones_like(embeddings[..., 0], dtype=torch.bool)),
            num_queries=min(self.num_queries, pyramid.memory.shape[1]),
        )
        final = objects.final
        found = (final.logits, final.boxes, final.masks, objects.queries, pyramid.memory, pyramid.mask_features)
        return dict(zip(OUTPUTS, found, strict=True))


def export_vision(
    model: LangHOPSModel, path: Path, *, height: int, width: int, batch: int = 1, about: Mapping[str, Any] | None = None
) -> Exported:
    """Write the vision part with `torch.export`, load it again and compare it with the model; all or nothing.

    The sizes of pictures are fixed, the number of names is free.

    Args:
        model: in float32, on the CPU.
        path: the file to write.
        height, width: of the canvas in pixels, multiples of 64.
        batch: pictures at once.
        about: further plain values for the file to say of itself.

    Raises:
        UserError: the sizes do not fit, or what was written computes something else; nothing is kept then.
    """
    for side in (height, width):
        if side < CELL or side % CELL:
            near = max(CELL, round(side / CELL) * CELL)
            raise UserError(f"{height} x {width} pixels do not fit: use multiples of {CELL}, {near} in place of {side}")
    part = VisionPart(model).eval()
    dim = model.object_decoder.dim
    said = {
        "inputs": {
            "pixels": {"shape": [batch, 3, height, width], "type": "float32", "range": [0, 255]},
            "sizes": {"shape": [batch, 2], "type": "int64", "order": "height, width"},
            "names": {"shape": ["any", dim], "type": "float32"},
        },
        "outputs": list(OUTPUTS),
        **(about or {}),
    }
    example = _inputs(batch, height, width, names=3, dim=dim, seed=0)
    shapes = {"pixels": None, "sizes": None, "names": {0: torch.export.Dim("names", min=1, max=100_000)}}
    with torch.no_grad():
        program = torch.export.export(part, example, dynamic_shapes=shapes, strict=False)
    differences: list[float] = []

    def write(beside: Path) -> None:
        with beside.open("wb") as file:
            torch.export.save(program, file, extra_files={ABOUT: json.dumps(said)})
        with beside.open("rb") as file:
            loaded = torch.export.load(file).module()
        # other pictures, other sizes, other numbers of names: nothing of the example may be left in the file
        for names in (1, 5):
            inputs = _inputs(batch, height, width, names=names, dim=dim, seed=names)
            differences.append(_difference(part, loaded, inputs))
        if not max(differences) <= TOLERANCE:
            raise UserError(
                f"{path} was not written: exported, it differs from the model by {max(differences):.1e}, more than "
                f"{TOLERANCE:.0e}; try another torch, this is {torch.__version__}",
                code=MISMATCH,
            )

    write_whole(path, write)
    return Exported(max(differences), said)


def _inputs(batch: int, height: int, width: int, *, names: int, dim: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (batch, 3, height, width), generator=generator).float()
    sides = [torch.randint(side // 2, side + 1, (batch,), generator=generator) for side in (height, width)]
    return pixels, torch.stack(sides, dim=1), torch.randn(names, dim, generator=generator)


@torch.no_grad()
def _difference(part: nn.Module, loaded: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    expected, got = part(*inputs), loaded(*inputs)
    return max(float((expected[name] - got[name]).abs().max()) for name in OUTPUTS)
