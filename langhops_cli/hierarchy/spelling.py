"""When two spellings are one name: case, hyphens, plural, British and American letters, a repeated object's name."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from langhops_cli.vocabulary import clean_name
from langhops_cli.vocabulary.plurals import plural

_REMARK = re.compile(r"^(.*\S)\s*\(([^)]*)\)$")
_AMERICAN = {
    "aeroplane": "airplane",
    "aluminium": "aluminum",
    "axe": "ax",
    "centre": "center",
    "colour": "color",
    "doughnut": "donut",
    "fibre": "fiber",
    "grey": "gray",
    "jewellery": "jewelry",
    "licence": "license",
    "mould": "mold",
    "moustache": "mustache",
    "plough": "plow",
    "pyjamas": "pajamas",
    "tyre": "tire",
    "vapour": "vapor",
}
OPPOSITES = (
    ("left", "right"),
    ("front", "back", "rear", "hind", "side"),
    ("upper", "lower", "middle"),
    ("top", "bottom"),
    ("inner", "outer", "inside", "outside"),
    ("first", "second", "third", "fourth"),
    ("open", "closed"),
    ("big", "small", "large", "little"),
    ("male", "female"),
    ("man", "woman", "boy", "girl"),
)
"""Words that tell two names apart which are alike otherwise: a left and a right mirror are not one thing."""


def bare(name: str) -> tuple[str, str]:
    """A name in clean English without its remark in brackets, and the remark: ("bat", "animal")."""
    clean = clean_name(name)
    found = _REMARK.match(clean)
    return (found[1], found[2]) if found else (clean, "")


@lru_cache(maxsize=65_536)
def spelling_key(name: str) -> str:
    """What the spellings of one name have in common: "T-Shirts", "t shirt" and "tshirt" have one key.

    The remark in brackets counts, as it tells names apart: "bow (weapon)", "bow (decorative ribbon)".
    """
    plain, remark = bare(unicodedata.normalize("NFKC", name))
    words = [_AMERICAN.get(word, word) for word in re.split(r"[\s\-]+", plain)]
    words = [word for word in words if word not in ("the", "a", "an")] or words
    joined = " ".join([*words[:-1], singular(words[-1])])
    key = re.sub(r"[\W_]+", "", _AMERICAN.get(joined, joined))
    return f"{key or plain}({remark})" if remark else key or plain


@lru_cache(maxsize=65_536)
def singular(name: str) -> str:
    """The singular of an English plural: "wheels" -> "wheel"; any other name as it is.

    A word is a plural if it is what `plural` makes of a shorter one and has no plural itself. "Glasses" are no glass.
    """
    head, of, rest = name.partition(" of ")
    if of:
        return singular(head) + of + rest
    start = max(name.rfind(" "), name.rfind("-")) + 1
    word = name[start:]
    if word == "glasses" or word.endswith(("is", "us", "ss")) or plural(word) is not None:
        return name
    for ending, instead in _ENDINGS:
        candidate = word.removesuffix(ending) + instead
        if word.endswith(ending) and len(candidate) > 1 and plural(candidate) == word:
            return name[:start] + candidate
    return name


_ENDINGS = (
    ("ies", "y"),
    ("ves", "f"),
    ("ves", "fe"),
    ("men", "man"),
    ("people", "person"),
    ("children", "child"),
    ("feet", "foot"),
    ("teeth", "tooth"),
    ("geese", "goose"),
    ("mice", "mouse"),
    ("buses", "bus"),
    *((f"{base}es", base) for base in ("x", "z", "ch", "sh", "ss")),
    ("s", ""),
)


def without_owner(part: str, *owners: str) -> str:
    """A part's name without the object's in front: "bicycle wheel" of a bicycle, "bird's foot" of a bird.

    Args:
        part: name of a part.
        owners: names of its object.
    """
    for owner in owners:
        for front in (f"{owner}'s ", f"{owner} "):
            if part.startswith(front) and len(part) > len(front):
                return part[len(front) :]
    return part


@lru_cache(maxsize=65_536)
def marks(name: str) -> frozenset[str]:
    """The words of a name that tell it from names that are alike otherwise: those of `OPPOSITES`."""
    return frozenset(re.split(r"[\s\-]+", name.lower())) & _MARKS


_MARKS = frozenset(word for row in OPPOSITES for word in row)


def told_apart(one: str, other: str) -> bool:
    """Whether two names have different marks: "left mirror" and "right mirror", also "mirror" and "left mirror"."""
    return marks(one) != marks(other)
