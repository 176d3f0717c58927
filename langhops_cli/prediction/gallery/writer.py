"""Pictures and predictions in one HTML file, written as they come and put in place whole."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from string import Template
from typing import Any

from PIL import Image

from langhops_cli import __version__
from langhops_cli.checkpoint.files import WholeText
from langhops_cli.prediction.colours import colours_of, ink_on
from langhops_cli.prediction.gallery.picture import details, shown_size, summary
from langhops_cli.prediction.results import NamePath, Prediction, title, vocabulary_ids
from langhops_cli.vocabulary import Vocabulary

MOST = 200
"""Pictures in a gallery: at about 150 KiB each, 30 MB are what a browser still opens at once."""
SHOWN, THUMBNAIL = 1024, 240
"""Longer side of a picture and of its thumbnail in pixels."""
LARGEST = 8192
"""Longest side that can be asked for: the page reads run lengths with 32 bits."""
_PAGE = Path(__file__).resolve().parent / "page"
_SCRIPTS = ("masks", "drawing", "pictures", "sheet", "labels", "view", "tree", "keys", "main")
_HERE = "<!-- pictures -->"


class GalleryWriter(WholeText):
    """Writes the gallery while pictures are predicted; it holds one picture in memory at a time.

    Used as a context manager; see `WholeText`. The page loads nothing from anywhere.

    Args:
        path: the HTML file; its folder exists.
        vocabulary: what was looked for; its order of names gives the colours, the same as on the overlays.
        most: pictures that are shown, at least 1; those after them are counted only.
        longest: longer side of a picture on the page in pixels, 16..8192; a smaller picture stays as it is.
        elsewhere: where the page says that all results are.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        path: Path,
        vocabulary: Vocabulary,
        *,
        most: int = MOST,
        longest: int = SHOWN,
        elsewhere: str = "predictions.json",
    ) -> None:
        if most < 1:
            raise ValueError(f"a gallery shows at least 1 picture, got {most}")
        if not 16 <= longest <= LARGEST:
            raise ValueError(f"the longer side of a picture in the gallery must be in 16..{LARGEST}, got {longest}")
        super().__init__(path)
        self.most = most
        self.longest = longest
        self.pictures = 0
        self._numbers = vocabulary_ids(vocabulary)
        self._about = {
            "version": __version__,
            "vocabulary": str(vocabulary),
            "elsewhere": elsewhere,
            "categories": _categories(vocabulary, list(self._numbers)),
        }
        self._tail = ""

    def _begin(self) -> None:
        start, _, self._tail = _page().partition(_HERE)
        self.file.write(start)
        self._write("about", self._about)

    def add(self, image: Image.Image, prediction: Prediction) -> None:
        """Write one picture with what was found in it; beyond the first `most` it is only counted.

        Args:
            image: the picture as it came, of the prediction's size.
            prediction: its result; one with names that are not in the vocabulary is refused.

        Raises:
            KeyError: an instance has a name that the vocabulary has not.
            ValueError: the picture is not of the prediction's size, or the writer is not open.
        """
        _ = self.file  # must be open, also beyond the last picture that is shown
        if image.size != tuple(reversed(prediction.size)):
            height, width = prediction.size
            given = f"{image.width} x {image.height}"
            raise ValueError(f"{prediction.picture}: the picture is {given}, its prediction {width} x {height} pixels")
        if self.pictures < self.most:
            shown = shown_size(image.size, self.longest)
            small = summary(image, prediction, self._numbers, shown=shown, thumbnail=THUMBNAIL)
            large = details(image, prediction, shown=shown)
            self._write("summary", small)
            self._write("details", large)
        self.pictures += 1

    def _end(self) -> None:
        self._write("totals", {"pictures": self.pictures})
        self.file.write(self._tail)

    def _write(self, kind: str, value: Any) -> None:
        self.file.write(f'<script type="application/json" class="{kind}">{script_json(value)}</script>\n')


def script_json(value: Any) -> str:
    """Write a value as JSON that is harmless inside a script element, whatever names it holds.

    Without "<" no name can end the element or open a comment; ASCII also keeps half characters of broken file names.
    """
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _categories(vocabulary: Vocabulary, paths: list[NamePath]) -> list[dict[str, Any]]:
    colours = colours_of(vocabulary.names)
    return [
        {"path": path, "title": title(path), "colour": colours[path[-1]], "ink": ink_on(colours[path[-1]])}
        for path in paths
    ]


def _page() -> str:
    """The page without its pictures; it allows its own script and style and nothing else."""
    script = "\n".join((_PAGE / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)
    style = (_PAGE / "style.css").read_text(encoding="utf-8")
    template = Template((_PAGE / "template.html").read_text(encoding="utf-8"))
    return template.substitute(
        script=script, style=style, script_hash=_content_hash(script), style_hash=_content_hash(style)
    )


def _content_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
