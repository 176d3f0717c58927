"""How `langhops predict` shows what it found: trees or JSON, skipped pictures, and where the results are."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from langhops_cli.cli.console import Branch, note, print_tree, say
from langhops_cli.cli.predict_options import Format, Wish
from langhops_cli.prediction.job.folder import GALLERY, RESULTS
from langhops_cli.prediction.job.outputs import OVERLAYS
from langhops_cli.prediction.job.record import RECORD
from langhops_cli.prediction.results import Prediction
from langhops_cli.prediction.wording import count


def show_tree(prediction: Prediction) -> None:
    """Print what was found in a picture as a tree."""

    def grow(node: dict[str, Any]) -> Branch:
        found = prediction[node["instance"]]
        number = f" #{found.track}" if found.track is not None and found.level == "object" else ""
        return Branch(f"{node['name']}{number} {node['score']:.2f}", tuple(map(grow, node["parts"])))

    branches = tuple(map(grow, prediction.tree()))
    print_tree(Branch(prediction.picture if branches else f"{prediction.picture}: nothing found", branches))


def show_json(pictures: Iterable[tuple[str, Prediction]], overlays: Path | None) -> None:
    """Print what was found in pictures as a list, one after the other.

    Args:
        pictures: stem of the files and prediction of each.
        overlays: folder of the overlays where they are drawn.
    """
    waiting = None
    say("[")
    for stem, prediction in pictures:
        drawn = None if overlays is None or prediction.frame is not None else (overlays / f"{stem}.jpg").as_posix()
        if waiting is not None:
            say(f"{waiting},")
        waiting = textwrap.indent(json.dumps(_as_data(prediction, drawn), ensure_ascii=False, indent=2), "  ")
    say("]" if waiting is None else f"{waiting}\n]")


def _as_data(prediction: Prediction, overlay: str | None) -> dict[str, Any]:
    height, width = prediction.size
    return {
        "picture": prediction.picture,
        **prediction.moment,
        "width": width,
        "height": height,
        "overlay": overlay,
        "instances": [
            {
                "name": found.name,
                "level": found.level,
                "score": round(found.score, 4),
                "box": [round(edge, 1) for edge in found.box],
                "area": found.area,
                "parent": found.parent,
                **({} if found.track is None else {"track": found.track}),
            }
            for found in prediction
        ],
    }


def skipped_message(message: str, skipped: int, total: int) -> str:
    """Say in a picture's error that the others go on: "...; skipped (1 of 40). Take it out."."""
    what, found, remedy = message.rpartition("; ")
    if not found:
        return f"{message.rstrip('.')}; skipped ({skipped} of {total})."
    return f"{what}; skipped ({skipped} of {total}). {remedy[:1].upper()}{remedy[1:]}"


def tell_results(wish: Wish, *, pictures: int, before: int) -> None:
    """Say where the results are.

    Args:
        wish: what the command line says.
        pictures: in the record.
        before: of them, those of earlier runs.
    """
    *others, last = [RESULTS if Format.COCO in wish.format else RECORD, *wish.picture_formats]
    files = " and ".join(filter(None, [", ".join(str(wish.out / name) for name in others), str(wish.out / last)]))
    earlier = f" ({before:,} of an earlier run)" if before else ""
    drawn = f", drawn in {wish.out / OVERLAYS}" if wish.overlays else ""
    shown = f"; to look at them, open {wish.out / GALLERY}" if wish.gallery else ""
    note(f"{count(pictures, 'picture')}{earlier} in {files}{drawn}{shown}")
