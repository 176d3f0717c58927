"""Colours of names: far apart, and the same for one vocabulary in every picture."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

Colour = tuple[int, int, int]

_PALETTE: tuple[Colour, ...] = (
    (239, 71, 111), (38, 166, 255), (255, 196, 0), (0, 190, 140), (157, 101, 255), (255, 127, 39),
    (0, 205, 220), (232, 75, 214), (140, 205, 40), (84, 110, 255), (255, 155, 165), (30, 150, 80),
    (200, 150, 255), (190, 110, 40), (120, 225, 190), (215, 40, 50), (250, 235, 120), (40, 110, 160),
    (170, 40, 120), (150, 150, 60),
)  # fmt: skip
_STEP = 7
"""Shares no factor with the palette's length, so that stepping by it visits every colour."""


def colours_of(names: Iterable[str]) -> dict[str, Colour]:
    """Give each name a colour.

    A name has its own place in the palette; where two fall on one place the later moves on, so that the first twenty
    names all differ. Further names repeat the palette, darker or lighter.

    Args:
        names: names in an order that is the same for every picture; repetitions do not count.
    """
    taken: dict[str, Colour] = {}
    used: set[int] = set()
    for count, name in enumerate(dict.fromkeys(names)):
        if count % len(_PALETTE) == 0:
            used.clear()
        place = zlib.crc32(name.casefold().encode("utf-8", "replace")) % len(_PALETTE)
        while place in used:
            place = (place + _STEP) % len(_PALETTE)
        used.add(place)
        taken[name] = _shade(_PALETTE[place], count // len(_PALETTE))
    return taken


def ink_on(background: Colour) -> Colour:
    """Return near black or white, whichever reads better on the background."""
    red, green, blue = ((value / 255) ** 2.2 for value in background)
    return (20, 20, 24) if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else (255, 255, 255)


def _shade(colour: Colour, turn: int) -> Colour:
    """The same hue darker on odd turns and lighter on even ones; as it is on turn 0."""
    if turn == 0:
        return colour
    target, share = (0, 0.35) if turn % 2 else (255, 0.45)
    red, green, blue = (round(value + (target - value) * share) for value in colour)
    return red, green, blue
