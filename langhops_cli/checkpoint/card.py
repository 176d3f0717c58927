"""The model card that lies beside every checkpoint: what it is, what it was trained on, how to use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

WHAT = {
    "objects": "It segments objects (stage 1); train it on with `langhops train-stage2` to segment their parts.",
    "parts": "It segments objects and their parts (stage 2) from names given at run time.",
}


TAGS = ("open-vocabulary", "instance-segmentation", "part-segmentation")


def model_card(record: Mapping[str, Any], *, name: str = "THIS_FOLDER") -> str:
    """Write the card from what `config.json` says.

    Args:
        record: the content of `config.json`; `notes` is a list of sentences of the checkpoint's own, `license` the id
            that the Hub has for a licence.
        name: what its example calls the checkpoint: its folder or its id on the Hub.
    """
    lines = [
        "---",
        *yaml.safe_dump(_front_matter(record), sort_keys=False, allow_unicode=True).splitlines(),
        "---",
        "# A LangHOPS checkpoint",
        "",
        WHAT[record["model"]["level"]],
        "",
        "```",
        f"langhops predict imgs/ --checkpoint {name} --vocab 'dog:head,leg,tail'",
        "```",
    ]
    if origin := record.get("converted_from"):
        lines += ["", f"Converted from {origin['file']} ({origin['layout']}): its licence is that of the release."]
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


def _front_matter(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the Hub reads: it finds a model by these."""
    bases = [base["id"] for base in (record.get("base_models") or {}).values() if "/" in (base.get("id") or "")]
    matter: dict[str, Any] = {
        "license": record.get("license", "unknown"),
        "library_name": "langhops",
        "pipeline_tag": "image-segmentation",
        "tags": list(TAGS),
    }
    return matter | ({"base_model": list(dict.fromkeys(bases))} if bases else {})


def _training(record: Mapping[str, Any]) -> list[str]:
    lines = []
    if "step" in record:
        lines.append(f"- steps: {record['step']}")
    for name, item in (record.get("data") or {}).items():
        pictures = f", {item['pictures']} pictures" if "pictures" in item else ""
        terms = f", {item['license']}" if item.get("license") else ""
        lines.append(f"- data: {name}{pictures}{terms}")
    return ["", "## Training", "", *lines] if lines else []
