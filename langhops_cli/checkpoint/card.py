"""The model card that lies beside every checkpoint: what it is, what it was trained on, how to use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WHAT = {
    "objects": "It segments objects (stage 1); train it on with `langhops train-stage2` to segment their parts.",
    "parts": "It segments objects and their parts (stage 2) from names given at run time.",
}


def model_card(record: Mapping[str, Any]) -> str:
    """Write the card from what `config.json` says.

    Args:
        record: the content of `config.json`; `notes` is a list of sentences of the checkpoint's own.
    """
    lines = [
        "---",
        "library_name: langhops",
        "pipeline_tag: image-segmentation",
        "---",
        "# A LangHOPS checkpoint",
        "",
        WHAT[record["model"]["level"]],
        "",
        "```",
        "langhops predict imgs/ --checkpoint THIS_FOLDER --vocab 'dog:head,leg,tail'",
        "```",
    ]
    lines += _training(record)
    vocabulary = record.get("vocabulary")
    if vocabulary:
        lines += ["", "## Names it was trained on", "", ", ".join(sorted(vocabulary))]
    if measured := record.get("measured"):
        lines += ["", "## Mask AP on pictures it was not trained on", ""]
        lines += ["| data | pictures | objects | parts | all |", "|---|---|---|---|---|"]
        for name, row in measured.items():
            figures = (row.get(level) for level in ("objects", "parts", "all"))
            cells = " | ".join("-" if figure is None else str(figure) for figure in figures)
            lines.append(f"| {name}, {row['split']} | {row['pictures']} | {cells} |")
    if notes := record.get("notes"):
        lines += ["", "## Notes", "", *(f"- {note}" for note in notes)]
    if versions := record.get("versions"):
        lines += ["", "## Made with", "", ", ".join(f"{name} {value}" for name, value in versions.items())]
    return "\n".join(lines) + "\n"


def _training(record: Mapping[str, Any]) -> list[str]:
    lines = []
    if "step" in record:
        lines.append(f"- steps: {record['step']}")
    for name, item in (record.get("data") or {}).items():
        pictures = f", {item['pictures']} pictures" if "pictures" in item else ""
        terms = f", {item['license']}" if item.get("license") else ""
        lines.append(f"- data: {name}{pictures}{terms}")
    return ["", "## Training", "", *lines] if lines else []
