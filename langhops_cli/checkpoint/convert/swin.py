"""Swin in the naming of Microsoft, detectron2 and Mask DINO, and of transformers itself, to `SwinBackbone`."""

from __future__ import annotations

from typing import Any

import torch

from langhops_cli.checkpoint.base_models import SWIN_L_CONFIG
from langhops_cli.checkpoint.convert.ledger import Ledger
from langhops_cli.errors import DATA, UserError

_BLOCK = r"layers\.(\d+)\.blocks\.(\d+)\."
_HERE = r"encoder.layers.\1.blocks.\2."
RENAMES = (
    (r"patch_embed\.proj\.(.*)", r"swin.embeddings.patch_embeddings.projection.\1"),
    (r"patch_embed\.norm\.(.*)", r"swin.embeddings.norm.\1"),
    (_BLOCK + r"norm1\.(.*)", rf"swin.{_HERE}layernorm_before.\3"),
    (_BLOCK + r"norm2\.(.*)", rf"swin.{_HERE}layernorm_after.\3"),
    (_BLOCK + r"attn\.proj\.(.*)", rf"swin.{_HERE}attention.o_proj.\3"),
    (
        _BLOCK + r"attn\.relative_position_bias_table",
        rf"swin.{_HERE}attention.relative_position_bias.relative_position_bias_table",
    ),
    (_BLOCK + r"mlp\.(.*)", rf"swin.{_HERE}mlp.\3"),
    (r"layers\.(\d+)\.downsample\.(.*)", r"swin.encoder.layers.\1.downsample.\2"),
)
BUFFERS = r".*(\.attn_mask|\.relative_position_index|relative_coords_table)"
CLASSIFIER = r"(norm|head|fc)\.(weight|bias)"


def convert_backbone(ledger: Ledger) -> dict[str, Any]:
    """Take the Swin of a file that is one, or of a detector that holds one, and leave the rest; see `convert_swin`."""
    if ledger.has("patch_embed."):
        return convert_swin(ledger, source="", target="")
    shape = convert_swin(ledger, source="backbone.", target="")
    ledger.drop(r"(?!backbone\.).*", "not of the backbone")
    return shape


def convert_swin(ledger: Ledger, *, source: str, target: str) -> dict[str, Any]:
    """Take a Swin backbone.

    A classifier has no norms for its maps; they start as they would in a new backbone.

    Args:
        ledger: of the foreign checkpoint.
        source: prefix of the foreign names, "backbone." or none; target: of ours.

    Returns:
        Fields of the Swin configuration in which it differs from Swin-L.

    Raises:
        UserError: there is no Swin below the prefix.
    """
    if ledger.has("swin.embeddings.") or ledger.has("embeddings.patch_embeddings."):
        raise UserError(
            f"{ledger.source}: is a Swin of transformers already; give its folder or hub id as model.backbone.source",
            code=DATA,
        )
    if not ledger.has(f"{source}patch_embed.proj.weight"):
        raise UserError(f"{ledger.source}: holds no Swin below '{source}'; see --from for what can be read", code=DATA)
    shape = _shape(ledger, source)
    for layer, depth in enumerate(shape["depths"]):
        for block in range(depth):
            _split(ledger, f"{source}layers.{layer}.blocks.{block}.attn.qkv.", f"{target}swin.", layer, block)
    ledger.rename(source, target, RENAMES)
    width = shape["embed_dim"]
    for stage in range(len(shape["depths"])):
        ours = f"{target}hidden_states_norms.stage{stage + 1}"
        norm = f"{source}norm{stage}"
        if ledger.has(f"{norm}.weight"):
            for kind in ("weight", "bias"):
                ledger.take(f"{norm}.{kind}", f"{ours}.{kind}")
        else:
            ledger.put(f"{ours}.weight", torch.ones(width << stage), of=())
            ledger.put(f"{ours}.bias", torch.zeros(width << stage), of=())
    ledger.drop(BUFFERS, "a table that is computed", below=source)
    ledger.drop(CLASSIFIER, "the classifier of the pretraining", below=source)
    return {name: value for name, value in shape.items() if value != SWIN_L_CONFIG[name]}


def _shape(ledger: Ledger, source: str) -> dict[str, Any]:
    stages = ledger.count(f"{source}layers.")
    tables = [
        ledger.look(f"{source}layers.{stage}.blocks.0.attn.relative_position_bias_table").shape
        for stage in range(stages)
    ]
    return {
        "embed_dim": int(ledger.look(f"{source}patch_embed.proj.weight").shape[0]),
        "depths": [ledger.count(f"{source}layers.{stage}.blocks.") for stage in range(stages)],
        "num_heads": [int(table[1]) for table in tables],
        "window_size": int((tables[0][0] ** 0.5 + 1) / 2),  # the table has (2 w - 1)^2 rows
    }


def _split(ledger: Ledger, packed: str, target: str, layer: int, block: int) -> None:
    for kind in ("weight", "bias"):
        thirds = ledger.look(packed + kind).chunk(3)
        for name, part in zip(("q_proj", "k_proj", "v_proj"), thirds, strict=True):
            place = f"{target}encoder.layers.{layer}.blocks.{block}.attention.{name}.{kind}"
            ledger.put(place, part.contiguous(), of=[packed + kind])
