"""The figures of the generated scenes: each kind of object as named parts, drawn from simple outlines.

The names follow the tree of PartImageNet. A figure lives in a square of about -0.5..0.5, x to the right, y down.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Outline = np.ndarray
"""Corner points, (N, 2) as (x, y)."""
Figure = list[tuple[str, Outline]]
"""Part names with outlines, from the farthest to the nearest; a part may stand several times."""


def ellipse(x: float, y: float, rx: float, ry: float, angle: float = 0.0) -> Outline:
    """An ellipse around (x, y), turned by `angle` in radians."""
    turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    points = np.stack([rx * np.cos(turn), ry * np.sin(turn)], axis=1)
    return points @ rotation(angle).T + (x, y)


def limb(x: float, y: float, length: float, width: float, angle: float) -> Outline:
    """A tapered bar that hangs from (x, y), turned by `angle` in radians, with a rounded end."""
    turn = np.linspace(0, np.pi, 8)
    end = np.stack([0.4 * width * np.cos(turn), length + 0.4 * width * np.sin(turn)], axis=1)
    points = np.concatenate([[[-0.5 * width, 0.0], [0.5 * width, 0.0]], end])
    return points @ rotation(angle).T + (x, y)


def peaked(outline: Outline, place: int, tip: tuple[float, float]) -> Outline:
    """An outline whose corner number `place` is drawn out to a tip, as an ear or a beak."""
    return np.concatenate([outline[:place], [tip], outline[place + 1 :]])


def rotation(angle: float) -> np.ndarray:
    """The matrix that turns points (x, y) by `angle` in radians."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def quadruped(draw: np.random.Generator) -> Figure:
    """Four legs below a long body."""
    swing = draw.uniform(-0.35, 0.35, size=4)
    feet = [
        ("foot", limb(x, 0.06, draw.uniform(0.26, 0.34), 0.09, angle))
        for x, angle in zip((-0.17, 0.27, -0.27, 0.17), swing, strict=True)
    ]
    nod = draw.uniform(-0.1, 0.06)
    return [
        *feet[:2],
        ("tail", limb(0.34, -0.06, draw.uniform(0.2, 0.34), 0.06, -draw.uniform(0.6, 2.2))),
        ("body", ellipse(0, 0, 0.36, draw.uniform(0.13, 0.19))),
        *feet[2:],
        ("head", peaked(ellipse(-0.4, -0.16 + nod, 0.13, 0.1, 0.4), 20, (-0.36, -0.35 + nod))),
    ]


def biped(draw: np.random.Generator) -> Figure:
    """A head on a body with two arms that end in hands, and two legs."""
    reach = draw.uniform(0.3, 1.5, size=2)
    return [
        ("foot", limb(-0.07, 0.1, 0.32, 0.1, draw.uniform(0, 0.35))),
        ("foot", limb(0.07, 0.1, 0.32, 0.1, -draw.uniform(0, 0.35))),
        ("hand", limb(-0.1, -0.16, 0.26, 0.07, reach[0])),
        ("hand", limb(0.1, -0.16, 0.26, 0.07, -reach[1])),
        ("body", ellipse(0, -0.02, draw.uniform(0.12, 0.17), 0.2)),
        ("head", ellipse(draw.uniform(-0.03, 0.03), -0.33, 0.11, draw.uniform(0.11, 0.14))),
    ]


def fish(draw: np.random.Generator) -> Figure:
    """A body between a head and a tail, with fins above and below."""
    high = draw.uniform(0.13, 0.21)
    spread = draw.uniform(0.13, 0.24)
    return [
        ("tail", np.array([[0.24, 0.0], [0.48, -spread], [0.42, 0.0], [0.48, spread]])),
        ("fin", np.array([[-0.1, -0.6 * high], [0.16, -0.6 * high], [0.14, -high - draw.uniform(0.08, 0.16)]])),
        ("fin", np.array([[-0.06, 0.6 * high], [0.12, 0.6 * high], [0.14, high + draw.uniform(0.06, 0.14)]])),
        ("body", ellipse(0, 0, 0.32, high)),
        ("head", ellipse(-0.27, 0, 0.13, 0.78 * high)),
    ]


def bird(draw: np.random.Generator) -> Figure:
    """A body on two feet, with wings, a tail, and a head with a beak."""
    lift, cock = draw.uniform(-0.9, 0.5), draw.uniform(-0.06, 0.06)
    return [
        ("wing", ellipse(0.08, -0.12, 0.26, 0.08, lift - 0.5)),
        ("tail", np.array([[0.2, -0.04], [0.48, -0.08 + cock], [0.46, 0.1 + cock], [0.2, 0.08]])),
        ("foot", limb(-0.05, 0.12, 0.24, 0.045, draw.uniform(-0.2, 0.2))),
        ("foot", limb(0.06, 0.12, 0.24, 0.045, draw.uniform(-0.2, 0.2))),
        ("body", ellipse(0, 0, 0.27, 0.16, 0.15)),
        ("wing", ellipse(0.07, -0.03, 0.2, 0.09, lift)),
        ("head", peaked(ellipse(-0.28, -0.17, 0.1, 0.1), 14, (-0.47, -0.15))),
    ]


def car(draw: np.random.Generator) -> Figure:
    """A body with a cabin on two tires, and a side mirror."""
    roof = draw.uniform(0.14, 0.24)
    front, back = draw.uniform(-0.24, -0.12), draw.uniform(0.14, 0.3)
    body = [[-0.48, 0.14], [-0.48, -0.01], [front - 0.12, -0.05], [front, -roof], [back, -roof], [back + 0.1, -0.05],
            [0.48, 0.0], [0.48, 0.14]]  # fmt: skip
    radius = draw.uniform(0.09, 0.12)
    return [
        ("body", np.array(body)),
        ("tire", ellipse(-0.28, 0.14, radius, radius)),
        ("tire", ellipse(0.28, 0.14, radius, radius)),
        ("side mirror", ellipse(front - 0.03, -0.06, 0.05, 0.035)),
    ]


def bottle(draw: np.random.Generator) -> Figure:
    """A body that narrows to a mouth."""
    wide, neck = draw.uniform(0.11, 0.18), draw.uniform(0.05, 0.08)
    shoulder = draw.uniform(-0.2, -0.02)
    left = [[-wide, 0.45], [-wide, shoulder], [-neck, shoulder - 0.12]]
    body = [*left, *([-x, y] for x, y in reversed(left))]
    top = shoulder - draw.uniform(0.2, 0.26)
    mouth = [[-neck - 0.01, shoulder - 0.1], [-neck - 0.01, top], [neck + 0.01, top], [neck + 0.01, shoulder - 0.1]]
    return [("body", np.array(body)), ("mouth", np.array(mouth))]


def boat(draw: np.random.Generator) -> Figure:
    """A hull under one or two sails."""
    high = draw.uniform(0.32, 0.46)
    sails = [("sail", np.array([[0.02, 0.14], [0.02, -high], [0.34, 0.12]]))]
    if draw.random() < 0.6:
        sails.append(("sail", np.array([[-0.03, 0.14], [-0.03, -0.8 * high], [-0.28, 0.12]])))
    return [*sails, ("body", np.array([[-0.45, 0.16], [0.47, 0.14], [0.32, 0.34], [-0.33, 0.34]]))]


KINDS: dict[str, Callable[[np.random.Generator], Figure]] = {
    "quadruped": quadruped,
    "biped": biped,
    "fish": fish,
    "bird": bird,
    "car": car,
    "bottle": bottle,
    "boat": boat,
}
"""Object name -> how it is drawn."""
PARTS: dict[str, tuple[str, ...]] = {
    "quadruped": ("head", "body", "foot", "tail"),
    "biped": ("head", "body", "hand", "foot"),
    "fish": ("head", "body", "fin", "tail"),
    "bird": ("head", "body", "wing", "foot", "tail"),
    "car": ("body", "tire", "side mirror"),
    "bottle": ("mouth", "body"),
    "boat": ("body", "sail"),
}
"""Object name -> its part names, in the order of their class numbers."""
