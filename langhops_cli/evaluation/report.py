"""What an evaluation says: tables for people, and `report.json` for programs."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata as packages
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self, runtime_checkable

from langhops_cli.checkpoint.files import write_text
from langhops_cli.data.prepare import read_report
from langhops_cli.evaluation.instances.instance_ap import InstanceAP

if TYPE_CHECKING:
    from langhops_cli.data.index import PreparedDataset

REPORT = "report.json"
FORMAT = 2
VERSIONS = ("langhops", "torch", "transformers", "pycocotools", "hotcoco", "numpy", "pillow")
INSTANCE_AP: Final = "instance AP"
SEMANTIC_HIOU: Final = "semantic hIoU"
CONSISTENCY = "hierarchy consistency"
CONFUSION = "name confusion"
PROMPTED = "class-prompted IoU"
PICTURES = "pictures"
ROBUSTNESS = "vocabulary"
RETENTION = "retention"
"""Names of protocols and of sections in a report."""


class Section(Protocol):
    """One kind of figures of a report."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `report.json` holds them."""

    def rows(self) -> Sequence[Sequence[str]]:
        """Return a table of finished texts, its head first."""

    def notes(self) -> Sequence[str]:
        """Return what has to be known to read the figures, one sentence each."""


@runtime_checkable
class NamedSection(Section, Protocol):
    """A section with a table of names."""

    def name_rows(self) -> Sequence[Sequence[str]]:
        """Return a table of finished texts, its head first."""


@dataclass(frozen=True)
class DatasetCard:
    """What was scored on.

    Args:
        name: of the prepared set; kind: what it was prepared from, "" where nobody knows; split: "train" or "val".
        annotations: its annotation file.
        fingerprint: SHA-256 over the set, so that two reports on different truths are never compared unnoticed.
        names_hash: SHA-256 over the tree of names that are looked for.
        pictures: how many pictures it has.
        scored: how many of them, the first ones or a choice, were scored.
    """

    name: str
    kind: str
    split: str
    annotations: str
    fingerprint: str
    names_hash: str
    pictures: int
    scored: int

    @classmethod
    def of(cls, dataset: PreparedDataset, pictures: Sequence[int]) -> Self:
        """What a report says of a set, and of the places of the pictures that were used."""
        tree = json.dumps(dataset.vocabulary.to_dict(), ensure_ascii=False)
        return cls(
            name=dataset.root.name,
            kind=(read_report(dataset.root) or {}).get("kind", ""),
            split=dataset.split,
            annotations=str(dataset.annotation_file),
            fingerprint=dataset.fingerprint,
            names_hash=hashlib.sha256(tree.encode()).hexdigest(),
            pictures=len(dataset),
            scored=len(set(pictures)),
        )


@dataclass(frozen=True)
class Report:
    """An evaluation with all that is needed to read and to repeat it.

    Args:
        protocol: INSTANCE_AP or SEMANTIC_HIOU.
        dataset: what was scored on.
        model: the checkpoint or the results file that was scored.
        figures: the instance AP, where that was measured; shares in 0..1.
        sections: the other figures by their names.
        settings: how it was predicted and scored.
        results: the file of the results that were scored; "" where they were in memory only.
        command: the command line, "" when called from Python.
        label: what the model saw of the set in training, such as "zero-shot"; None where that is not known.
        published: the published figures of the same setting with the difference, as `published.yaml` has them.
        not_asked: names with ground truth that the model was not asked for; all of theirs count as missed.
    """

    protocol: Literal["instance AP", "semantic hIoU"]
    dataset: DatasetCard
    model: str
    figures: InstanceAP | None = None
    sections: Mapping[str, Section] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    results: str = ""
    command: str = ""
    label: str | None = None
    published: Mapping[str, Any] | None = None
    not_asked: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `report.json` holds them."""
        sections = {name: section.to_dict() for name, section in self.sections.items()}
        if self.figures is not None:
            sections = {INSTANCE_AP: self.figures.to_dict(), **sections}
        return {
            "format": FORMAT,
            "protocol": self.protocol,
            "label": self.label,
            "dataset": vars(self.dataset),
            "model": self.model,
            "results": self.results,
            "settings": dict(self.settings),
            "sections": sections,
            "published": self.published,
            "notes": self.notes(),
            "versions": versions(),
            "command": self.command,
        }

    def save(self, folder: Path) -> Path:
        """Write `report.json`, whole or not at all, and return its path; the folder is made where missing."""
        path = folder / REPORT
        write_text(path, json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        return path

    def notes(self) -> list[str]:
        """Return what has to be known to read the figures, one sentence each."""
        return self.own_notes() + [line for section in self.sections.values() for line in section.notes()]

    def own_notes(self) -> list[str]:
        """Return what has to be known whatever section is read, and to read the instance AP."""
        lines = []
        if self.dataset.scored < self.dataset.pictures:
            lines.append(
                f"A quick look: {self.dataset.scored:,} of {self.dataset.pictures:,} pictures; truth and results of "
                "the others are left out."
            )
        if self.figures is not None:
            lines += _notes_on_ap(self.figures)
        if self.not_asked:
            names = ", ".join(self.not_asked[:5]) + (" ..." if len(self.not_asked) > 5 else "")
            lines.append(
                f"{len(self.not_asked):,} annotated names are not in the set's hierarchy.yaml: the model was not asked "
                f"for them and misses them ({names})."
            )
        return lines


def versions() -> dict[str, str]:
    """Return the versions of what the figures depend on."""
    found = {"python": platform.python_version()}
    for name in VERSIONS:
        try:
            found[name] = packages.version(name)
        except packages.PackageNotFoundError:
            continue
    return found


def _notes_on_ap(figures: InstanceAP) -> list[str]:
    lines = []
    if figures.per_picture:
        limit = figures.max_detections
        lines.append(f"The best {limit} results of a picture count, over all names together, as in LVIS.")
    if figures.federated:
        lines.append(
            "Each picture was searched for some names only: results of other names count neither as right nor as wrong "
            f"({figures.set_aside:,} set aside)."
        )
    elif not figures.exhaustive:
        lines.append(
            "The truth is not exhaustive: results of a name that is not annotated in their picture count neither "
            f"as right nor as wrong ({figures.set_aside:,} set aside). Recall tells more here than AP."
        )
    if figures.without_truth:
        lines.append(f"{figures.without_truth:,} results of names that are annotated nowhere are in no figure.")
    if figures.mask is None:
        lines.append("The truth has instances without a mask: box figures only.")
    return lines
