"""A font for any name: the first one on this machine that has all its characters."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_FAMILIES = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial.ttf",
    "arial.ttf",
    "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
    "malgun.ttf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
)
"""Searched for by name in the system's font folders: Latin, Greek and Cyrillic first, then other scripts."""

_NO_CHARACTER = "\U0010ffff"
"""Never assigned, so that every font draws its sign for a missing character."""


def font_for(text: str, size: int) -> Font:
    """Return a font of this size in pixels that can draw the text, or the one that can draw most of it."""
    fonts = _fonts(size)
    return min(fonts, key=lambda font: _missing(font, text))


def text_box(text: str, font: Font) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of the drawn text in pixels, relative to where it is drawn."""
    left, top, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).textbbox((0, 0), drawable(text, font), font=font)
    return int(left), int(top), int(right) + 1, int(bottom) + 1


def drawable(text: str, font: Font) -> str:
    """Return the text on one line, as far as the font knows it; a bitmap font knows Latin-1 only."""
    line = " ".join(text.split())
    if isinstance(font, ImageFont.FreeTypeFont):
        return line.encode("utf-8", "replace").decode()
    return line.encode("latin-1", "replace").decode("latin-1")


@lru_cache(maxsize=64)
def _fonts(size: int) -> list[Font]:
    found: list[Font] = []
    for name in _FAMILIES:
        try:
            found.append(ImageFont.truetype(name, size))
        except (OSError, ImportError):
            continue
    try:
        found.append(ImageFont.load_default(size))
    except (OSError, ImportError):
        found.append(ImageFont.load_default())
    return found


def _missing(font: Font, text: str) -> int:
    return sum(_lacks(font, character) for character in set(text) if not character.isspace())


@lru_cache(maxsize=16_384)
def _lacks(font: Font, character: str) -> bool:
    if not isinstance(font, ImageFont.FreeTypeFont):
        return ord(character) > 255
    try:
        return bytes(font.getmask(character)) == bytes(font.getmask(_NO_CHARACTER))
    except (OSError, ValueError, UnicodeError):
        return True
