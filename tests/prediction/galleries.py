"""Galleries of small made-up scenes, and a reader of the page's plain content."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from langhops_cli.prediction.gallery import GalleryWriter
from langhops_cli.prediction.results import Detection, Prediction
from langhops_cli.vocabulary import parse_vocabulary

VOCABULARY = parse_vocabulary("car:wheel*4,door; 犬:head(ear); cat")
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    '"><img src=x onerror=alert(1)>',
    "it's & \u2028 naïve 犬 🐕",
    "imgs/caf\udce9.jpg",
]


class Page(HTMLParser):
    """Elements with their attributes, and the text of scripts and styles."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str, str]] = []
        self.styles: list[str] = []
        self._inside = ""
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs).get("class", ""), ""))

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)
        elif self._inside == "style":
            self.styles.append(data)

    def values(self, kind):
        return [json.loads(text) for name, text in self.scripts if name == kind]


def noise(size, seed, share=0.5):
    return np.random.default_rng(seed).random(size) < share


def disc(size, centre, radius):
    rows, columns = np.ogrid[: size[0], : size[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def picture(size, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def scene(name="imgs/car.jpg", size=(60, 80)):
    """A car with two wheels and a door, a dog whose head has an ear, and a cat below them in score."""
    height, width = size
    items = (
        Detection.from_mask(("car",), 0.9, disc(size, (height // 2, width // 4), height // 3)),
        Detection.from_mask(("car", "wheel"), 0.8, disc(size, (height // 2, width // 5), height // 12), parent=0),
        Detection.from_mask(("car", "wheel"), 0.35, noise(size, 3, 0.02), parent=0),
        Detection.from_mask(("car", "door"), 0.6, disc(size, (height // 2, width // 3), height // 9), parent=0),
        Detection.from_mask(("犬",), 0.7, disc(size, (height // 2, width * 3 // 4), height // 4)),
        Detection.from_mask(("犬", "head"), 0.5, disc(size, (height // 2, width * 3 // 4), height // 6), parent=4),
        Detection.from_mask(
            ("犬", "head", "ear"), 0.4, disc(size, (height // 2, width * 3 // 4), height // 15), parent=5
        ),
        Detection.from_mask(("cat",), 0.2, noise(size, 5, 0.5)),
    )
    return picture(size), Prediction(name, size, items)


def write(path, *pairs, vocabulary=VOCABULARY, **settings):
    with GalleryWriter(path, vocabulary, **settings) as writer:
        for image, prediction in pairs:
            writer.add(image, prediction)
    return path
