"""Reading names as datasets spell them: "person's arm", "car_(automobile):bumper", "Car Back Bumper"."""

from __future__ import annotations

import re
from collections.abc import Collection

_MISSPELT = {"car tier": "car tire", "bicycle tier": "bicycle tire"}
"""Names that a dataset misspells; whole names only, for a cake may well have a tier."""

_SEPARATOR = re.compile(r"['\u2019]s\s|:")


def clean_name(source: str) -> str:
    """Return a dataset's name in clean English: "Car Tier" -> "car tire", "trash_can" -> "trash can".

    Underscores become spaces, case is lowered, runs of space shrink to one, and known misspellings are mended. A remark
    in brackets stays, "car_(automobile)" -> "car (automobile)": it tells apart names such as "bow (weapon)" and
    "bow (decorative ribbons)", and the text encoder reads it.
    """
    name = " ".join(source.replace("_", " ").lower().split())
    return _MISSPELT.get(name, name)


def is_spelt_as_part(source: str) -> bool:
    """Whether a name is spelt as "X's Y" or "x:y", be X known or not."""
    return _SEPARATOR.search(clean_name(source)) is not None


def split_part_name(source: str, objects: Collection[str]) -> tuple[str, str] | None:
    """Split a dataset's name of a part into its object and the part's own name.

    "X's Y" and "x:y" split at the first separator whose left side is a known object, so that "chest of drawers's leg"
    belongs to the chest of drawers. A name without a separator, "Super Part", splits behind the longest known object
    that its first words spell. Only whole words count: an "armchair" is no "chair".

    Args:
        source: the name as the dataset spells it.
        objects: names of the known objects, in any spelling that `clean_name` reads.

    Returns:
        The object as it stands in `objects` and the part's name cleaned; None if the name is an object itself or
        belongs to none.
    """
    known = {clean_name(name): name for name in objects}
    name = clean_name(source)
    if name in known:
        return None
    separators = list(_SEPARATOR.finditer(name))
    for separator in separators:
        left, right = name[: separator.start()].strip(), name[separator.end() :].strip()
        if left in known and right:
            return known[left], right
    if separators:
        return None
    words = name.split(" ")
    for length in range(len(words) - 1, 0, -1):
        left = " ".join(words[:length])
        if left in known:
            return known[left], " ".join(words[length:])
    return None
