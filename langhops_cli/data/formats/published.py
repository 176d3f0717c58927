"""What a source holds against what its authors say it holds, and what to say of a folder that holds neither."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from langhops_cli.data.manifests import load_manifest
from langhops_cli.data.records import Tree
from langhops_cli.errors import DATA, UserError


def size_remarks(name: str, found: Mapping[str, int]) -> list[str]:
    """Say which splits have another number of pictures than published.

    Args:
        name: of the dataset.
        found: split -> number of pictures.
    """
    published = {split: facts.images for split, facts in load_manifest(name).splits.items()}
    return [
        f"{split} has {count:,} pictures; {published[split]:,} were published"
        for split, count in found.items()
        if published.get(split) not in (None, count)
    ]


def published_tree(name: str) -> Tree:
    """The names of a dataset whose list is fixed."""
    return {owner: dict.fromkeys(parts) for owner, parts in load_manifest(name).vocabulary.items()}


def choose_layout(name: str, source: Path, found: Mapping[str, list[Path]]) -> tuple[str, Path]:
    """Choose the one layout that a folder holds.

    Args:
        name: of the dataset.
        source: the folder that was given.
        found: layout -> the folders below the given one that hold it.

    Raises:
        UserError: the folder is missing, or holds none of the layouts or several.
    """
    places = [(layout, place) for layout, folders in found.items() for place in folders]
    if len(places) == 1:
        return places[0]
    if places:
        told = " and ".join(f"{layout} ({place})" for layout, place in places)
        raise UserError(f"{source} holds {told}, which are never mixed; give the folder of one alone.", code=DATA)
    if not source.is_dir():
        raise UserError(f"{source} is no folder; give the one that holds {name}.", code=DATA)
    raise UserError(
        f"{source} holds none of the layouts of {name}; 'langhops prepare {name} --describe' shows them.", code=DATA
    )
