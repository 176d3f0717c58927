"""The figures of the generated scenes: each kind of object as named parts, drawn from smooth outlines.

The first eleven kinds and their parts are the tree of PartImageNet. A figure is drawn around the origin, in about a
square of side 1, x to the right, y down; it is fitted, turned and moved into its scene later.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from langhops_cli.data.generated.figures import animals, plants, reptiles, things, vehicles
from langhops_cli.data.generated.figures.outlines import Figure, Outline, Piece

__all__ = ["HELD_OUT", "KINDS", "PARTS", "SEEN", "Figure", "Outline", "Piece"]

KINDS: dict[str, Callable[[np.random.Generator], Figure]] = {
    "quadruped": animals.quadruped,
    "biped": animals.biped,
    "fish": animals.fish,
    "bird": animals.bird,
    "snake": reptiles.snake,
    "reptile": reptiles.reptile,
    "car": vehicles.car,
    "bicycle": vehicles.bicycle,
    "boat": vehicles.boat,
    "aeroplane": vehicles.aeroplane,
    "bottle": things.bottle,
    "truck": vehicles.truck,
    "helicopter": vehicles.helicopter,
    "chair": things.chair,
    "table": things.table,
    "lamp": things.lamp,
    "cup": things.cup,
    "house": things.house,
    "tree": plants.tree,
    "flower": plants.flower,
    "dragon": reptiles.dragon,
    "motorcycle": vehicles.motorcycle,
    "bus": vehicles.bus,
    "rocket": vehicles.rocket,
    "teapot": things.teapot,
    "bench": things.bench,
}
"""Object name -> how it is drawn."""
HELD_OUT = ("dragon", "motorcycle", "bus", "rocket", "teapot", "bench")
"""Kinds that only the split `novel` shows; each of their part names is that of a seen kind, too."""
SEEN = tuple(kind for kind in KINDS if kind not in HELD_OUT)
"""Kinds that every split shows."""
PARTS: dict[str, tuple[str, ...]] = {
    "quadruped": ("head", "body", "foot", "tail"),
    "biped": ("head", "body", "hand", "foot", "tail"),
    "fish": ("head", "body", "fin", "tail"),
    "bird": ("head", "body", "wing", "foot", "tail"),
    "snake": ("head", "body"),
    "reptile": ("head", "body", "foot", "tail"),
    "car": ("body", "tire", "side mirror"),
    "bicycle": ("head", "body", "seat", "tire"),
    "boat": ("body", "sail"),
    "aeroplane": ("head", "body", "wing", "engine", "tail"),
    "bottle": ("mouth", "body"),
    "truck": ("cab", "body", "window", "tire", "side mirror"),
    "helicopter": ("body", "window", "tail", "rotor"),
    "chair": ("back", "seat", "leg"),
    "table": ("top", "leg"),
    "lamp": ("shade", "pole", "base"),
    "cup": ("body", "handle"),
    "house": ("roof", "wall", "door", "window", "chimney"),
    "tree": ("crown", "trunk"),
    "flower": ("head", "petal", "stem", "leaf"),
    "dragon": ("head", "body", "wing", "foot", "tail"),
    "motorcycle": ("head", "body", "seat", "tire"),
    "bus": ("body", "window", "door", "tire", "side mirror"),
    "rocket": ("head", "body", "fin", "window", "engine"),
    "teapot": ("body", "top", "handle", "mouth"),
    "bench": ("back", "seat", "leg"),
}
"""Object name -> its part names, in the order of their class numbers."""
