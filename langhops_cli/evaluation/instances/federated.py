"""What is known of a picture: which names were looked for in it, so that a result of theirs can be wrong."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Knowledge:
    """Which names a picture was searched for.

    Three kinds of truth are told apart:

    - An exhaustive one: every instance of every name is annotated, and a result that matches none is wrong.
    - One that is not (`info.exhaustive` is false): a name that is annotated in the picture counts as always, and
      results of other names are set aside, since what is unlabelled there is unknown and not background.
    - A federated one, as LVIS and PACO have it, where each picture has lists of its own: names that are annotated in
      the picture or known to be absent from it are scored, results of other names are set aside; of a name that is
      annotated but not exhaustively, a result that matches no instance is neither right nor wrong.

    Args:
        annotated: category ids that the picture has annotations of, crowds among them.
        checked: category ids of which every instance in the picture is annotated, be there none; None where the
            picture has no lists.
        exhaustive: whether the truth says so of all names, for a picture without lists.

    Source: LVIS, arXiv 1908.03195, section 3 and its evaluation; PACO, arXiv 2301.01795, follows it.
    """

    annotated: frozenset[Any]
    checked: frozenset[Any] | None
    exhaustive: bool

    def counts(self, category_id: Any) -> bool:
        """Whether results of this name are scored in this picture."""
        if self.checked is not None:
            return category_id in self.annotated or category_id in self.checked
        return self.exhaustive or category_id in self.annotated

    def can_be_wrong(self, category_id: Any) -> bool:
        """Whether a result of this name that matches no instance is a wrong one."""
        return self.counts(category_id) and (self.checked is None or category_id in self.checked)


def is_federated(image: Mapping[str, Any]) -> bool:
    """Whether a picture says which names it was searched for."""
    lists = ("checked_category_ids", "neg_category_ids", "not_exhaustive_category_ids")
    return any(image.get(key) is not None for key in lists)


def knowledge(image: Mapping[str, Any], annotated: Collection[Any], *, exhaustive: bool) -> Knowledge:
    """Read what is known of a picture from its entry.

    A prepared set lists `checked_category_ids`; LVIS and PACO list `neg_category_ids`, which are absent, and
    `not_exhaustive_category_ids`. A picture that has only the first of those two says of no annotated name that every
    instance is there.

    Args:
        image: an image entry of the truth.
        annotated: category ids of its annotations.
        exhaustive: what the truth says of pictures without lists.
    """
    named = frozenset(annotated)
    if image.get("checked_category_ids") is not None:
        return Knowledge(named, frozenset(image["checked_category_ids"]), exhaustive)
    absent, unsure = image.get("neg_category_ids"), image.get("not_exhaustive_category_ids")
    if absent is None and unsure is None:
        return Knowledge(named, None, exhaustive)
    known = frozenset(absent or ()) | (named if unsure is not None else frozenset())
    return Knowledge(named, known - frozenset(unsure or ()), exhaustive)
