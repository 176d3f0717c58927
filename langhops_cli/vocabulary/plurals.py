"""English plurals of the names of things."""

from __future__ import annotations

import re

_IRREGULAR = {
    "person": "people",
    "man": "men",
    "woman": "women",
    "child": "children",
    "foot": "feet",
    "tooth": "teeth",
    "goose": "geese",
    "mouse": "mice",
    "ox": "oxen",
    "knife": "knives",
    "life": "lives",
    "wife": "wives",
    "leaf": "leaves",
    "loaf": "loaves",
    "sheaf": "sheaves",
    "thief": "thieves",
    "shelf": "shelves",
    "half": "halves",
    "calf": "calves",
    "wolf": "wolves",
    "elf": "elves",
    "scarf": "scarves",
    "hoof": "hooves",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "mango": "mangoes",
    "buffalo": "buffaloes",
    "mosquito": "mosquitoes",
    "torpedo": "torpedoes",
    "hero": "heroes",
    "cactus": "cacti",
    "stomach": "stomachs",
    "quiz": "quizzes",
}
"""Words whose plural follows no rule below; what ends in one of these after a word of its own, such as bookshelf or
snowman, has the same plural."""
_LIKE_IRREGULAR = ("man", "woman", "child", "foot", "tooth", "knife", "leaf", "shelf")
_NOT_LIKE_IRREGULAR = {"human", "german", "roman", "ottoman", "talisman", "caiman", "shaman", "mongoose"}
_SAME = {
    *("sheep", "deer", "fish", "goldfish", "jellyfish", "swordfish", "starfish", "shellfish", "bison", "moose"),
    *("shrimp", "squid", "aircraft", "salmon", "series", "species", "offspring", "chassis", "crawfish"),
    *("hair", "skin", "fur", "cloth", "fabric", "bread", "rice", "meat", "garlic", "corn", "asparagus", "broccoli"),
    *("lettuce", "celery", "butter", "cheese", "soap", "luggage", "baggage", "toilet paper", "tissue paper", "paper"),
    *("pasta", "sushi", "baozi", "ice cream", "ice", "milk", "water", "vegetation", "grass", "equipment", "furniture"),
    *("tennis", "table tennis", "soccer", "american football", "curling", "billiards", "formula 1", "underwear"),
    *("clothing", "footwear", "jewelry", "pottery", "infrastructure", "embroidery", "lining", "text"),
    *("beef", "cocoa", "hummus", "dental floss", "notepaper", "cosmetics", "canned", "skis", "men", "women", "people"),
    *("children", "feet", "teeth", "geese", "mice", "oxen", "cacti"),
}
"""Words that are their own plural, that are not counted, or that are plurals already without ending in s."""
_SINGULAR_IN_S = {"lens", "gas", "atlas", "canvas", "thermos", "rhinoceros", "christmas", "iris", "pelvis"}
"""Words that end in s, in neither ss nor us, and are no plurals."""
_REMARK = re.compile(r"\s*\([^)]*\)$")


def plural(name: str) -> str | None:
    """Return the plural of a name, or None where it is its own plural, is a plural already or is not counted.

    The last word counts, "traffic light" -> "traffic lights"; before an "of" the one in front of it, "chest of
    drawers" -> "chests of drawers"; a remark in brackets stays, "car (automobile)" -> "cars (automobile)"; of two names
    both count, "cabinet/shelf" -> "cabinets/shelves".

    Args:
        name: as vocabularies hold it.
    """
    remark = _REMARK.search(name)
    if remark and remark.start():
        bare = plural(name[: remark.start()])
        return None if bare is None else bare + name[remark.start() :]
    head, of, rest = name.partition(" of ")
    if of:
        first = plural(head)
        return None if first is None else first + of + rest
    if "/" in name:
        both = [(part, plural(part)) for part in name.split("/")]
        return "/".join(many or part for part, many in both) if any(many for _, many in both) else None
    if name.lower() in _SAME:
        return None
    start = max(name.rfind(" "), name.rfind("-")) + 1
    last = _plural_word(name[start:])
    return None if last is None else name[:start] + last


def _plural_word(word: str) -> str | None:
    low = word.lower()
    if low in _SAME or not low or not low[-1].isalpha():
        return None
    if low in _IRREGULAR:
        return _IRREGULAR[low] if word == low else _IRREGULAR[low].capitalize()
    for ending in _LIKE_IRREGULAR:
        if low.endswith(ending) and low not in _NOT_LIKE_IRREGULAR:
            return word[: -len(ending)] + _IRREGULAR[ending]
    if low.endswith("s") and not low.endswith(("ss", "us", "is")) and low not in _SINGULAR_IN_S:
        return None
    if low.endswith("y") and len(low) > 1 and low[-2] not in "aeiou":
        return word[:-1] + "ies"
    if low.endswith("sis"):
        return word[:-2] + "es"
    if low.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    return word + "s"
