"""One way to name a tree: a text in the grammar, a file, a prepared set, a dataset, a checkpoint."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langhops_cli.errors import DATA, UserError
from langhops_cli.vocabulary import Vocabulary, parse_vocabulary
from langhops_cli.vocabulary.files import SUFFIXES
from langhops_cli.vocabulary.tree import SPECIAL

if TYPE_CHECKING:
    from langhops_cli.model.configuration import ModelConfig

EMBEDDED = "embedded"
"""The name of the checkpoint that comes with the package."""
HIERARCHY = "hierarchy.yaml"
"""Where a prepared set keeps its tree."""

Kind = Literal["names", "file", "prepared set", "dataset", "checkpoint"]


@dataclass(frozen=True)
class Tree:
    """A tree and where it was found.

    Args:
        vocabulary: its names.
        kind: what it was found in.
        name: of that; empty for a text.
    """

    vocabulary: Vocabulary
    kind: Kind
    name: str = ""


def find_tree(texts: str | Sequence[str], *, data_root: Path | None = None) -> Tree:
    """Find the tree that a text names.

    Tried in this order: "@names.yaml" is a file; what holds one of , ; : ( ) * or " is a text in the grammar; then a
    prepared set of that name, or the folder of one; a dataset whose manifest states its names; a checkpoint, whose
    names are those that it was trained with: "embedded", a folder, or an id on the Hub.

    Args:
        texts: one text, or several in the grammar, which are read as one.
        data_root: folder of the prepared sets; $LANGHOPS_DATA, else ./data, when left out.

    Raises:
        UserError: nothing has that name, with all that was tried; or what has it holds no names.
    """
    several = [texts] if isinstance(texts, str) else list(texts)
    text = several[0].strip() if len(several) == 1 else ""
    if len(several) != 1 or not text or text.startswith("@") or any(character in SPECIAL for character in text):
        is_file = len(several) == 1 and text.startswith("@")
        return Tree(parse_vocabulary(several), "file" if is_file else "names", text[1:].strip() if is_file else "")
    return _named(text, data_root)


def _named(name: str, data_root: Path | None) -> Tree:
    from langhops_cli.data.manifests import manifest_names
    from langhops_cli.hierarchy.known import manifest_tree

    folder = Path(name).expanduser()
    if folder.suffix.lower() in SUFFIXES:
        there = "is a file" if folder.is_file() else "looks like a file, but there is none of that name"
        raise UserError(f"{name} {there}; a file is given as @{name if folder.is_file() else 'FILE'}")
    if name == EMBEDDED:
        return Tree(checkpoint_names(name), "checkpoint", name)
    prepared = _prepared(name, data_root)
    for place in (prepared, folder):
        if place is not None and (place / HIERARCHY).is_file():
            return Tree(parse_vocabulary(f"@{place / HIERARCHY}"), "prepared set", str(place))
    if (folder / "config.json").is_file():
        return Tree(checkpoint_names(name), "checkpoint", name)
    if name in manifest_names():
        stated = manifest_tree(name)
        if stated is None:
            remedy = f"; prepare it first: langhops prepare {name} --help"
            raise UserError(f"the names of {name} come with its source, so there is no tree of it yet{remedy}")
        return Tree(stated, "dataset", name)
    if "/" in name:
        from langhops_cli.checkpoint.hub import is_local

        if not is_local(folder):
            return Tree(checkpoint_names(name), "checkpoint", name)
    raise UserError(_unclear(name, prepared))


def _prepared(name: str, data_root: Path | None) -> Path | None:
    from langhops_cli.data.prepare import prepared_folder

    try:
        return prepared_folder(data_root, name)
    except UserError:
        return None


def _unclear(name: str, prepared: Path | None) -> str:
    from langhops_cli.data.manifests import manifest_names

    sets = [] if prepared is None else [path.parent.name for path in sorted(prepared.parent.glob(f"*/{HIERARCHY}"))]
    near = difflib.get_close_matches(name, [*sets, *manifest_names(), EMBEDDED], n=1, cutoff=0.7)
    meant = f"; did you mean {near[0]}?" if near else "."
    place = "" if prepared is None else f" {prepared}"
    return (
        f"'{name}' names no tree: there is no prepared set{place}, no dataset, no checkpoint of that name{meant} "
        f"An object is written with its parts, '{name}:part'; langhops hierarchy build '{name}' proposes some"
    )


def checkpoint_names(checkpoint: str | Path) -> Vocabulary:
    """The names that a checkpoint was trained with.

    Args:
        checkpoint: "embedded", a folder, or an id on the Hub, of which only the configuration is fetched.

    Raises:
        UserError: there is no checkpoint, or its configuration keeps no names.
    """
    record = read_checkpoint(checkpoint)[0]
    names = record.get("vocabulary")
    if not isinstance(names, Mapping) or not names:
        raise UserError(
            f"{checkpoint} keeps no names in its config.json; give the set that it was trained on", code=DATA
        )
    return Vocabulary.from_dict(names)


def read_checkpoint(checkpoint: str | Path) -> tuple[dict[str, Any], ModelConfig]:
    """What a checkpoint's configuration says, and the model's part of it; no weights are fetched or read.

    Raises:
        UserError: there is no checkpoint, or its configuration is damaged.
    """
    from langhops_cli.checkpoint.folder import CONFIG, config_of, read_config
    from langhops_cli.checkpoint.hub import explained, is_local
    from langhops_cli.prediction.predictor import checkpoint_folder

    folder = Path(checkpoint)
    if checkpoint == EMBEDDED:
        folder = checkpoint_folder(None)
    elif not is_local(folder):
        from huggingface_hub import hf_hub_download

        with explained(f"{checkpoint} is no folder here, and the Hub"):
            folder = Path(hf_hub_download(folder.as_posix(), CONFIG)).parent
    record = read_config(folder)
    return record, config_of(folder, record)
