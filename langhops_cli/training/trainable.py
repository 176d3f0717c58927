"""Which weights a stage trains: all that is not frozen by nature, or few enough for a handful of pictures."""

from __future__ import annotations

from typing import Literal

from langhops_cli.model.langhops import LangHOPSModel
from langhops_cli.model.query_decoder import QueryDecoder

# Of a decoder: what says which places of a picture are worth a query, and what turns a query into name, box and mask.
HEADS = ("enc_output", "enc_output_norm", "norm", "category_embed", "bbox_embed", "mask_embed")


def set_trainable(model: LangHOPSModel, which: Literal["all", "adapters"]) -> None:
    """Freeze all but the adapters of a model, in place; "all" leaves it as it was built.

    A few pictures can teach what new names look like and where their parts begin and end, but not how to see: they
    would only spoil what the model knows of everything else. So backbone, pixel decoder and text encoder stay, and so
    do the attention and feed-forward layers of both decoders and of a Q-Former, with their norms. What is trained:

    - the heads of both decoders: proposals, names, boxes, masks and the norm before them;
    - the projections of names, of noised true instances, and of pixels (`dense`), which are a matrix each;
    - what makes the part queries, and what brings them into the language model and out of it;
    - the language model's LoRA, or what there is of it.

    Whatever is trained is in the graph of every batch, as ZeRO needs it, just as it is where all is trained.

    Args:
        model: built and filled.
        which: of a recipe's `stage.train`.
    """
    if which == "all":
        return
    trained = _names_of_heads("object_decoder", model.object_decoder) | {"text_encoder.lang_projection"}
    prefixes = ["denoising.", "dense."]
    if model.part_branch is not None:
        trained |= _names_of_heads("part_branch.decoder", model.part_branch.decoder)
        prefixes += ["part_branch.denoising.", "part_branch.queries.", "part_branch.refiner."]
    frozen_inside = ("part_branch.refiner.decoder.",)  # the layers of a Q-Former
    for name, parameter in model.named_parameters():
        adapts = name in trained or (name.startswith(tuple(prefixes)) and not name.startswith(frozen_inside))
        parameter.requires_grad_(adapts and parameter.requires_grad)


def _names_of_heads(prefix: str, decoder: QueryDecoder) -> set[str]:
    return {f"{prefix}.{head}.{name}" for head in HEADS for name, _ in getattr(decoder, head).named_parameters()}
