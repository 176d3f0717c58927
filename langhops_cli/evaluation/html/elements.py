"""HTML as nested calls: text is escaped where it goes in, so that no name can become markup."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from html import escape
from pathlib import Path

_HERE = Path(__file__).parent
_VOID = frozenset({"meta", "img", "br"})


class Markup(str):
    """Text that is HTML already; only `element` and `joined` make it."""

    __slots__ = ()


Content = Markup | str | int


def element(name: str, /, *content: Content, **attributes: str | float | bool | None) -> Markup:
    """An element.

    Args:
        name: of the tag.
        content: what is inside; whatever is no `Markup` is escaped.
        attributes: by name, with `_` for `-` and one at the end left out (`class_`); None and False are left out,
            True stands for the name alone.
    """
    parts = [name]
    for key, value in attributes.items():
        title = key.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(title)
        elif value is not None and value is not False:
            text = f"{value:.6g}" if isinstance(value, float) else str(value)
            parts.append(f'{title}="{escape(text, quote=True)}"')
    inside = "" if name in _VOID else f"{joined(content)}</{name}>"
    return Markup(f"<{' '.join(parts)}>{inside}")


def joined(content: Iterable[Content]) -> Markup:
    """Pieces one after the other; whatever is no `Markup` is escaped."""
    return Markup("".join(piece if isinstance(piece, Markup) else escape(str(piece), quote=False) for piece in content))


def table(
    head: Sequence[Content],
    rows: Iterable[Sequence[Content]],
    *,
    caption: str,
    words: int = 1,
    class_: str | None = None,
    sortable: bool = False,
    tall: bool = False,
) -> Markup:
    """A table; the first cell of a row names it, figures stand to the right.

    Args:
        head: titles of the columns.
        rows: cells; one that is a `td` or `th` already is taken as it is.
        caption: what the table shows.
        words: so many columns from the left hold words.
        class_: for the style sheet.
        sortable: whether a press on a column's title sorts by it.
        tall: whether a long one scrolls under its head instead of filling the page.
    """
    titles = [
        element(
            "th", element("button", title, type="button") if sortable else title, scope="col", class_=_side(n, words)
        )
        for n, title in enumerate(head)
    ]
    body = [element("tr", *(_cell(cell, n, words) for n, cell in enumerate(row))) for row in rows]
    inside = element(
        "table",
        element("caption", caption) if caption else Markup(),
        element("thead", element("tr", *titles)),
        element("tbody", *body),
        class_=" ".join(filter(None, (class_, "sortable" if sortable else None))) or None,
    )
    return element(
        "div", inside, class_="scroll tall" if tall else "scroll", tabindex=0, role="region", aria_label=caption or None
    )


def _cell(cell: Content, number: int, words: int) -> Markup:
    if isinstance(cell, Markup) and cell.startswith(("<td", "<th")):
        return cell
    if number == 0:
        return element("th", cell, scope="row", class_=_side(number, words))
    return element("td", cell, class_=_side(number, words))


def _side(number: int, words: int) -> str | None:
    return None if number < words else "figure"


def section(title: str, *content: Content, name: str) -> Markup:
    """A part of a page under a heading; `name` is its address on the page."""
    heading = element("h2", title, id=f"{name}-title")
    return element("section", heading, *content, id=name, aria_labelledby=f"{name}-title")


def details(summary: str, *content: Content) -> Markup:
    """Something to unfold."""
    return element("details", element("summary", summary), *content)


def page(title: str, *content: Content) -> str:
    """A whole page that holds its style and its script and may load nothing."""
    style, script = _asset("style.css"), _asset("script.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(style)),
    )
    body = element("body", element("main", *content), element("script", Markup(script)))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


@lru_cache
def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """What a browser compares the page's own style and script with before it takes them."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
