"""Published figures beside ours, where the set, the split, the protocol and the setting are the same, only there."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from langhops_cli.data.manifests import Strict
from langhops_cli.errors import DATA, UserError

PUBLISHED = Path(__file__).with_name("published.yaml")
SLACK = 0.01
"""Share of the published pictures that may be missing or too many: a few that could not be read change little."""
COCO_LIMIT = 100
"""Results a picture and name with which instance AP is published."""

Protocol = Literal["instance AP", "semantic hIoU"]
Setting = Literal["oracle-obj", "pred-all"]


class EvaluatedSet(Strict):
    """What figures were measured on.

    Args:
        kind: as `prepare` writes it into the set's report.json.
        split: of the set.
        pictures: of that split, where they are known.
        objects, parts: names of the set.
    """

    kind: str
    split: str
    pictures: int | None
    objects: int
    parts: int


class Entry(Strict):
    """A method, what it was trained on and its figures in percent, None where it has none."""

    method: str
    trained_on: str | None
    values: list[float | None]


class Table(Strict):
    """Figures of one set, protocol and setting; `evaluated` is None where the source does not say on what."""

    evaluated: str | None
    protocol: Protocol
    setting: Setting | None = None
    figures: list[Literal["obj", "part", "all", "seen", "unseen", "h"]] = Field(min_length=1)
    source: str
    rows: list[Entry] = Field(min_length=1)


class Publications(Strict):
    """The whole of `published.yaml`.

    Args:
        sets: that figures were measured on, by name.
        training: what is trained on, by name: the kinds of sets.
        tables: the figures.
    """

    sets: dict[str, EvaluatedSet]
    training: dict[str, list[str]]
    tables: list[Table]

    @model_validator(mode="after")
    def _refers_to_what_is_there(self) -> Self:
        for table in self.tables:
            if table.evaluated is not None and table.evaluated not in self.sets:
                raise ValueError(f"no set is called {table.evaluated!r}")
            for row in table.rows:
                where = f"{row.method} on {table.evaluated}"
                if len(row.values) != len(table.figures):
                    raise ValueError(f"{where}: {len(row.values)} values for {len(table.figures)} figures")
                if not all(value is None or 0 <= value <= 100 for value in row.values):
                    raise ValueError(f"{where}: a figure is not in 0..100")
                if row.trained_on is not None and row.trained_on not in self.training:
                    raise ValueError(f"{where}: {row.trained_on!r} is not among the training sets")
        return self


@dataclass(frozen=True)
class Published:
    """One published row.

    Args:
        method: its name.
        dataset: the evaluated set's; split: its split; trained_on: what it was trained on, in words.
        training: the same as kinds of sets.
        protocol, setting: how it was measured; the setting is None for instance AP.
        figures: in percent as printed, "obj", "part" and "all" or "seen", "unseen" and "h"; None where there is none.
        source: where it stands.
    """

    method: str
    dataset: str
    split: str
    trained_on: str
    training: frozenset[str]
    protocol: Protocol
    setting: Setting | None
    figures: Mapping[str, float | None]
    source: str


@lru_cache
def publications() -> Publications:
    """Read and check `published.yaml`."""
    import yaml

    return Publications.model_validate(yaml.safe_load(PUBLISHED.read_text(encoding="utf-8")))


def find(
    dataset: str,
    split: str,
    protocol: Protocol,
    setting: Setting | None = None,
    trained_on: Collection[str] | None = None,
) -> list[Published]:
    """Look up what was published of one setting.

    Args:
        dataset: the set's kind, as in its report.json.
        split: of it.
        protocol: how it is measured.
        setting: "oracle-obj" or "pred-all" of semantic hIoU, None for instance AP.
        trained_on: kinds of the training sets; any when left out.

    Returns:
        The rows, in the order of the file; none where nothing comparable was published.
    """
    known = publications()
    found = []
    for table in known.tables:
        if table.evaluated is None or (table.protocol, table.setting) != (protocol, setting):
            continue
        evaluated = known.sets[table.evaluated]
        if (evaluated.kind, evaluated.split) != (dataset, split):
            continue
        for row in table.rows:
            assert row.trained_on is not None
            training = frozenset(known.training[row.trained_on])
            if trained_on is None or training == frozenset(trained_on):
                figures: dict[str, float | None] = dict(zip(table.figures, row.values, strict=True))
                found.append(
                    Published(row.method, table.evaluated, split, row.trained_on, training, protocol, setting, figures,
                              table.source)
                )  # fmt: skip
    return found


def beside(
    folder: Path,
    split: str,
    figures: Mapping[str, float | None],
    *,
    scored: int,
    protocol: Protocol,
    setting: Setting | None = None,
    trained_on: Collection[str] | None = None,
    max_detections: int = COCO_LIMIT,
    benchmark: str | None = None,
) -> dict[str, Any]:
    """Put what was published beside our figures, or say why nothing can be.

    Args:
        folder: of the prepared set; what it is, its report.json says and not its name, which anybody may choose.
        split: that was scored.
        figures: ours, 0..1: "obj", "part" and "all" of instance AP by mask, or "seen", "unseen" and "h" of the
            published score of semantic hIoU.
        scored: pictures that were scored.
        protocol, setting: how.
        trained_on: kinds of the training sets, where they are known; rows of the same ones are only marked, as a
            difference of training is what one wants to see. Of no use for semantic hIoU.
        max_detections: results a picture and name that counted in instance AP.
        benchmark: the published split of seen and unseen names that semantic hIoU was measured with, where it was.

    Returns:
        `dataset` (None where nothing is comparable), `reason` (why not, or what to know), `figures` (the names of the
        columns), `rows` with `method`, `trained_on`, `same_training`, `source`, `published` and `difference` (ours less
        theirs), both in percent.
    """
    reason = _unlike(folder, split, scored) or (
        _unlike_names(folder, max_detections) if protocol == "instance AP" else _unlike_split(folder, benchmark)
    )
    rows = [] if reason else find(_report(folder)["kind"], split, protocol, setting)
    if not rows:
        reason = reason or f"no figure of {protocol}{f', {setting},' if setting else ''} was published for this set"
        return {"dataset": None, "reason": f"Nothing comparable is published: {reason}.", "figures": [], "rows": []}
    known = None if trained_on is None or protocol == "semantic hIoU" else frozenset(trained_on)
    if protocol == "semantic hIoU":
        reason = "The published systems were trained on the seen names of the set."
    elif known is None:
        reason = "What this model was trained on is not recorded: mind the column."
    return {
        "dataset": rows[0].dataset,
        "reason": reason,
        "figures": list(rows[0].figures),
        "rows": [
            {
                "method": row.method,
                "trained_on": row.trained_on,
                "same_training": None if known is None else row.training == known,
                "source": row.source,
                "published": dict(row.figures),
                "difference": {key: _less(figures.get(key), value) for key, value in row.figures.items()},
            }
            for row in rows
        ],
    }


def _less(ours: float | None, published: float | None) -> float | None:
    return None if ours is None or published is None else round(100 * ours - published, 2)


def _unlike_names(folder: Path, max_detections: int) -> str:
    """In what instance AP was not measured on the published names, as it was published."""
    report = _report(folder)
    expected = next(item for item in publications().sets.values() if item.kind == report["kind"])
    names = report["object_names"] + report["part_names"] + len(report["names_without_instances"])
    if names != expected.objects + expected.parts:
        return f"the set has {names} names, the published one {expected.objects} objects and {expected.parts} parts"
    if max_detections != COCO_LIMIT:
        return f"{max_detections} results a picture and name count here, {COCO_LIMIT} in what was published"
    return ""


def _unlike_split(folder: Path, benchmark: str | None) -> str:
    """In what the seen and unseen names are not the published ones."""
    if benchmark != _report(folder)["kind"]:
        return "the unseen names are not those of the published split"
    return ""


def _unlike(folder: Path, split: str, scored: int) -> str:
    """In what a prepared set is not one that figures were published for; "" where it is one."""
    report = _report(folder)
    kind = report["kind"]
    of_kind = [item for item in publications().sets.values() if item.kind == kind]
    if not of_kind:
        return f"this set is of the kind {kind}"
    fitting = [item for item in of_kind if item.split == split]
    if not fitting:
        return f"the figures are for the split {of_kind[0].split}"
    expected, pictures = fitting[0], report["splits"][split]["images"]
    if scored != pictures:
        return f"{scored:,} of {pictures:,} pictures were scored"
    if expected.pictures is not None and abs(pictures - expected.pictures) > SLACK * expected.pictures:
        return f"the split has {pictures:,} pictures, the published one {expected.pictures:,}"
    return ""


def _report(folder: Path) -> dict[str, Any]:
    """What `prepare` says of a set; a set that it did not write is of the kind "unknown".

    Raises:
        UserError: the file is damaged.
    """
    path = folder / "report.json"
    try:
        report = json.loads(path.read_bytes())
        wanted = ("splits", "object_names", "part_names", "names_without_instances")
        return {"kind": report["kind"], **{key: report[key] for key in wanted}}
    except FileNotFoundError:
        return {"kind": "unknown"}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}); prepare the set again.", code=DATA) from None
