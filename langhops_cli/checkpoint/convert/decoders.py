"""The pixel decoder and the query decoders of the release, and of the projects that it grew from."""

from __future__ import annotations

from langhops_cli.checkpoint.convert.ledger import Ledger

PIXEL_RENAMES = (
    (r"input_proj\.(\d+)\.0\.(.*)", r"input_proj.\1.conv.\2"),
    (r"input_proj\.(\d+)\.1\.(.*)", r"input_proj.\1.norm.\2"),
    (r"transformer\.level_embed", "level_embed"),
    (r"transformer\.encoder\.layers\.(.*)", r"layers.\1"),
    (r"adapter_1\.norm\.(.*)", r"lateral.norm.\1"),
    (r"adapter_1\.weight", "lateral.conv.weight"),
    (r"layer_1\.norm\.(.*)", r"fuse.norm.\1"),
    (r"layer_1\.weight", "fuse.conv.weight"),
    (r"(mask_features\..*)", r"\1"),
)
_LAYER = r"decoder\.layers\.(\d+)\."
QUERY_RENAMES = (
    (r"(enc_output(_norm)?\..*)", r"\1"),
    (r"decoder_norm\.(.*)", r"norm.\1"),
    # the release numbers its norms otherwise: the second follows self-attention, the first cross-attention
    (_LAYER + r"norm1\.(.*)", r"layers.\1.norm2.\2"),
    (_LAYER + r"norm2\.(.*)", r"layers.\1.norm1.\2"),
    (_LAYER + r"(.*)", r"layers.\1.\2"),
)
MLPS = (("decoder.ref_point_head", "ref_point_head"), ("_bbox_embed", "bbox_embed"), ("mask_embed", "mask_embed"))


def convert_pixel_decoder(ledger: Ledger, *, source: str, target: str) -> dict[str, int]:
    """Take the pixel decoder.

    Returns:
        Its numbers, as the configuration names them.
    """
    layers = ledger.count(f"{source}transformer.encoder.layers.")
    dim, feedforward = ledger.look(f"{source}transformer.encoder.layers.0.linear2.weight").shape
    ledger.drop(r".*vl_layers\..*", "early fusion of text and picture, which the release does not use", below=source)
    ledger.rename(source, target, PIXEL_RENAMES)
    return {"dim": int(dim), "feedforward": int(feedforward), "encoder_layers": layers}


def convert_query_decoder(ledger: Ledger, *, source: str, target: str) -> int:
    """Take a query decoder; names are scored by `category_embed`, which projects onto their embeddings.

    Returns:
        Its number of layers.
    """
    for name in ledger.below(source):
        head, _, rest = name.partition("layers.")
        if head.startswith(("bbox_embed.", "decoder.bbox_embed.")):
            ledger.same(source + name, f"{source}_bbox_embed.layers.{rest}")
        elif name.startswith("decoder.norm."):
            ledger.same(source + name, f"{source}decoder_norm.{name.removeprefix('decoder.norm.')}")
    for theirs, ours in MLPS:
        # between two of our linear layers stands a ReLU, which has a number of its own
        for number in range(ledger.count(f"{source}{theirs}.layers.")):
            for kind in ("weight", "bias"):
                ledger.take(f"{source}{theirs}.layers.{number}.{kind}", f"{target}{ours}.{2 * number}.{kind}")
    if ledger.has(f"{source}category_embed"):
        ledger.take(f"{source}category_embed", f"{target}category_embed.weight", lambda matrix: matrix.t().contiguous())
    ledger.rename(source, target, QUERY_RENAMES)
    ledger.drop(r".*label_enc.*", "label tables for denoising; ours makes its content of the names", below=source)
    ledger.drop(r"bdd_.*", "label tables of one data set", below=source)
    ledger.drop(r"(confidence_score|class_embed)\..*", "a head that scores what names do not", below=source)
    return ledger.count(f"{source}decoder.layers.")
