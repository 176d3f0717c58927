"""What a training keeps of the names that it never heard of: AP on them, against the checkpoint that it started from.

A vocabulary is open only as long as names that a fine-tuning does not mention still work afterwards. Both checkpoints
are asked for all names of the set; the figures of the names that were held out are means over these names alone.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from langhops_cli.errors import DATA, UserError
from langhops_cli.evaluation.instances.instance_ap import InstanceAP
from langhops_cli.evaluation.robustness import ap_of_names
from langhops_cli.evaluation.tables import NOTHING, percent
from langhops_cli.vocabulary import Vocabulary
from langhops_cli.vocabulary.tree import name_key

Name = tuple[str, str]
"""Level, "object" or "part", and name."""

LEVELS = {"obj": ("object",), "part": ("part",), "all": ("object", "part")}


@dataclass(frozen=True)
class Kept:
    """AP of some names before and after a training; in 0..1, None where none of them is annotated.

    Args:
        names: how many of them are annotated in the pictures.
        initial: mean AP of the initial checkpoint; now: of the trained one.
        drop: `initial` less `now` in points of percent; below 0 for a gain.
    """

    names: int
    initial: float | None
    now: float | None
    drop: float | None


@dataclass(frozen=True)
class Retention:
    """AP of the held-out names, and beside it of all others of the set.

    Args:
        held_out: names of objects, whose parts go along, and of single parts, "car wheel".
        unheard, heard: figures of the held-out names and of the others, by "obj", "part" and "all".
    """

    held_out: tuple[str, ...]
    unheard: Mapping[str, Kept]
    heard: Mapping[str, Kept]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as they go into a JSON file."""
        return asdict(self)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the lines of a table, heads first."""
        rows: list[tuple[str, ...]] = [("AP in percent", "names", "initial", "now", "drop")]
        for title, figures in (("held out", self.unheard), ("other names", self.heard)):
            for level in LEVELS:
                kept = figures[level]
                drop = NOTHING if kept.drop is None else f"{kept.drop:.1f}"
                rows.append((f"{title}, {level}", f"{kept.names:,}", percent(kept.initial), percent(kept.now), drop))
        return rows

    def notes(self) -> list[str]:
        """Return what has to be known to read the figures, one sentence each."""
        shown = ", ".join(self.held_out[:5]) + (" ..." if len(self.held_out) > 5 else "")
        lines = [f"Held out of the training: {shown}."]
        if not self.unheard["all"].names:
            lines.append("None of the held-out names is annotated in these pictures.")
        return lines


def held_out_names(vocabulary: Vocabulary, record: Mapping[str, Any], given: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of a set that a training never heard of, neither as something to find nor as something absent.

    Args:
        vocabulary: of the set that is evaluated on.
        record: what the trained checkpoint's `config.json` says; `vocabulary` and `recipe` are read.
        given: names of objects, or of parts with their object ("car wheel"), to take instead.

    Returns:
        Names of objects, whose parts go along, and of parts of other objects, "car wheel".

    Raises:
        UserError: the set has no such name, the checkpoint does not say what it was trained on, or it heard all names.
    """
    objects, parts = vocabulary.object_names, [part.text for part in vocabulary.part_classes]
    if given:
        known = {name_key(name): name for name in (*parts, *objects)}
        for name in given:
            if name_key(name) not in known:
                close = difflib.get_close_matches(name, known.values(), n=1)
                hint = f"did you mean '{close[0]}'?" if close else f"it has {', '.join(objects[:10])}"
                raise UserError(f"--held-out {name}: the set has no such name; {hint}")
        return tuple(dict.fromkeys(known[name_key(name)] for name in given))
    tree = record.get("vocabulary")
    if not isinstance(tree, Mapping) or not tree:
        raise UserError(
            "the checkpoint does not say which names it was trained on; name some with --held-out", code=DATA
        )
    heard = {name_key(str(name)): _below(below) for name, below in tree.items()}
    heard |= {name_key(name): set() for name in _absent(record) if name_key(name) not in heard}
    held_out = [name for name in objects if name_key(name) not in heard]
    held_out += [
        part.text
        for part in vocabulary.part_classes
        if (owner := name_key(objects[part.object])) in heard and name_key(part.name) not in heard[owner]
    ]
    if not held_out:
        raise UserError("this checkpoint was trained on all names of the set; name some with --held-out", code=DATA)
    return tuple(held_out)


def measure_retention(
    now: InstanceAP, initial: InstanceAP, vocabulary: Vocabulary, held_out: Sequence[str]
) -> Retention:
    """Compare a trained checkpoint with the one that it started from, on names that were held out.

    Args:
        now, initial: figures of the two on the same pictures, asked for the same names.
        vocabulary: of the set.
        held_out: names of objects, whose parts go along, and of parts, "car wheel".
    """
    chosen = set(held_out)
    owners = vocabulary.object_names
    unheard = {("object", name) for name in owners if name in chosen}
    unheard |= {("part", part.text) for part in vocabulary.part_classes if {part.text, owners[part.object]} & chosen}
    before, after = ap_of_names(initial), ap_of_names(now)
    heard = before.keys() - unheard
    return Retention(
        tuple(held_out),
        *({level: _kept(before, after, names, kinds) for level, kinds in LEVELS.items()} for names in (unheard, heard)),
    )


def _kept(
    before: Mapping[Name, float], after: Mapping[Name, float], names: Collection[Name], kinds: Sequence[str]
) -> Kept:
    """Means over the annotated ones of some names; COCO gives every name the same weight."""
    # In the figures' order, so that sums are the same whatever the order of the names.
    scored = [name for name in before if name in names and name in after and name[0] in kinds]
    if not scored:
        return Kept(0, None, None, None)
    initial, now = (math.fsum(figures[name] for name in scored) / len(scored) for figures in (before, after))
    return Kept(len(scored), initial, now, 100 * (initial - now))


def _below(tree: object) -> set[str]:
    """All names of parts in a tree of names, at any depth."""
    if not isinstance(tree, Mapping):
        return set()
    return {key for name, below in tree.items() for key in (name_key(str(name)), *_below(below))}


def _absent(record: Mapping[str, Any]) -> list[str]:
    """Objects that a training was told of as absent from its pictures."""
    try:
        return [str(name) for item in record["recipe"]["data"]["train"] for name in item.get("absent", ())]
    except (KeyError, TypeError, AttributeError):
        return []
