"""How much of a model's AP hangs on the exact words that it is asked for.

The pictures and their truth stay; only the vocabulary changes. Names are replaced by synonyms or by plurals, asked for
in another order, or joined by names that stand for nothing in the set. What is found under a changed name is scored
under the set's own. Results of added names are not scored, as they have no truth, but they take their share of the
(name, query) pairs of a picture that are scored and of the objects that parts are looked for in, and that is their
effect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from langhops_cli.evaluation.instances.instance_ap import InstanceAP
from langhops_cli.evaluation.tables import NOTHING, percent
from langhops_cli.evaluation.vocabulary_change import ORDER, VocabularyChange, extend, permute, rename
from langhops_cli.evaluation.words import load_synonyms, more_names, plurals
from langhops_cli.vocabulary import Vocabulary

EXTRA = (10, 100, 1000)
"""So many names are added."""

Predict = Callable[[VocabularyChange | None, Path], None]
"""Writes what a model finds under a changed vocabulary into a file, together with the other processes."""
Score = Callable[[Path], InstanceAP | None]
"""Scores such a file; None on all processes but the first."""


@dataclass(frozen=True)
class Variation:
    """What a model reaches with one vocabulary; AP in 0..1, None where nothing of the level is annotated.

    Args:
        label: what was changed.
        changed: names of the set that are spelt otherwise; added: names that stand for nothing in the set.
        obj, part, all: mask AP, or box AP where there are no masks.
        largest_name: the name of the set whose AP changes most, and largest: by how much, below 0 for a loss; None for
            the set's own vocabulary.
    """

    label: str
    changed: int
    added: int
    obj: float | None
    part: float | None
    all: float | None
    largest_name: str | None = None
    largest: float | None = None


@dataclass(frozen=True)
class Robustness:
    """What a model reaches with a set's own vocabulary and with others.

    Args:
        own: with the set's own.
        variations: with others.
        names: how many names the set's vocabulary has, objects and parts.
        seed: of the order and of the names that were added.
        left_out: changes that this vocabulary does not allow, a sentence each.
    """

    own: Variation
    variations: tuple[Variation, ...]
    names: int
    seed: int
    left_out: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as they go into a JSON file."""
        return asdict(self)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the lines of a table, heads first."""
        rows: list[tuple[str, ...]] = [("AP in percent", "changed", "obj", "part", "all", "largest change")]
        for item in (self.own, *self.variations):
            shares = (percent(share) for share in (item.obj, item.part, item.all))
            changed = f"{item.changed:,} of {self.names:,}" if item.changed else NOTHING
            rows.append((item.label, changed, *shares, _points(item.largest)))
        return rows

    def notes(self) -> list[str]:
        """Return what has to be known to read the figures, one sentence each."""
        lines = [*self.left_out]
        if any(item.added for item in self.variations):
            lines.append(
                "Names that are added have no truth: what is found under them is not scored, but takes its share of "
                "the pairs of name and query that are (max_objects) and of the objects that parts are looked for in."
            )
        if any(item.label == ORDER and item.largest for item in self.variations):
            lines.append(
                "The order of names tells where the kept objects ask for more part queries than there is room for "
                "(max_queries), and in the scores of a language model that reads the queries one after the other."
            )
        worst = min(self.variations, key=lambda item: item.largest or 0.0, default=None)
        if worst is not None and worst.largest is not None and worst.largest < 0:
            lines.append(
                f"Largest change: of one name's AP, in points; the greatest loss is of '{worst.largest_name}' with "
                f"{worst.label}."
            )
        return lines


def measure_robustness(
    predict: Predict,
    score: Score,
    vocabulary: Vocabulary,
    folder: Path,
    *,
    figures: InstanceAP | None,
    seed: int = 0,
    extra: Sequence[int] = EXTRA,
) -> Robustness | None:
    """Ask a model for a set's names in other words, and see what that changes.

    Args:
        predict: writes a model's results into a file; called on all processes.
        score: scores that file.
        vocabulary: the set's own.
        folder: gets the results of one change after the other; they are removed again.
        figures: of the set's own vocabulary; None on all processes but the first.
        seed: of the order and of the names that are added.
        extra: how many names are added.

    Returns:
        The figures; None on all processes but the first.

    Raises:
        UserError: a picture cannot be read.
    """
    changes, left_out = vocabulary_changes(vocabulary, seed=seed, extra=extra)
    found = []
    for number, change in enumerate(changes):
        path = folder / f".vocabulary-{number}.json"
        try:
            predict(change, path)
            found.append((change, score(path)))
        finally:
            if figures is not None:
                path.unlink(missing_ok=True)
    if figures is None:
        return None
    variations = tuple(_variation(change, now, figures) for change, now in found if now is not None)
    levels = figures.main
    own = Variation("the set's own names", 0, 0, levels.obj.ap, levels.part.ap, levels.all.ap)
    names = len(vocabulary.object_names) + len(vocabulary.part_classes)
    return Robustness(own, variations, names, seed, tuple(left_out))


def vocabulary_changes(
    vocabulary: Vocabulary, *, seed: int, extra: Sequence[int] = EXTRA
) -> tuple[list[VocabularyChange], list[str]]:
    """All changes that are tried on a set's vocabulary.

    Returns:
        The changes, and for those that cannot be made a sentence that says why.
    """
    changes, left_out = [], []
    for change, missing in (
        (rename(vocabulary, load_synonyms().of, label="synonyms"), "no synonym is known of any name"),
        (rename(vocabulary, plurals, label="plurals"), "no name has a plural of its own"),
    ):
        if change.changed:
            changes.append(change)
        else:
            left_out.append(f"The vocabulary was not changed to {change.label}: {missing}.")
    permuted = permute(vocabulary, seed=seed)
    if permuted.vocabulary != vocabulary:
        changes.append(permuted)
    else:
        left_out.append("The order was not permuted: the names have but one.")
    names = more_names(vocabulary, max(extra, default=0), seed=seed)
    left_out += [f"Of {count:,} names to add there are {len(names):,}." for count in extra if count > len(names)]
    counts = {min(count, len(names)) for count in extra} - {0}
    return [*changes, *(extend(vocabulary, names[:count]) for count in sorted(counts))], left_out


def _variation(change: VocabularyChange, now: InstanceAP, before: InstanceAP) -> Variation:
    old, new = ap_of_names(before), ap_of_names(now)
    moves = [(new[name] - old[name], name[1]) for name in new if name in old]
    largest, name = max(moves, key=lambda move: abs(move[0]), default=(None, None))
    levels = now.main
    return Variation(
        change.label, change.changed, change.added, levels.obj.ap, levels.part.ap, levels.all.ap, name, largest
    )


def ap_of_names(figures: InstanceAP) -> dict[tuple[str, str], float]:
    """Mask AP of each annotated name, or box AP where there are no masks, by level ("object", "part") and name."""
    shares = {(row.level, row.name): row.box_ap if figures.mask is None else row.mask_ap for row in figures.per_name}
    return {name: share for name, share in shares.items() if share is not None}


def _points(change: float | None) -> str:
    """A change of AP in points, "+1.2"; "0.0" for none that shows."""
    if change is None:
        return NOTHING
    return f"{100 * change:+.1f}" if round(100 * change, 1) else "0.0"
