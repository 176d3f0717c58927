"""Trees and flowers."""

from __future__ import annotations

import numpy as np

from langhops_cli.data.generated.figures.outlines import (
    Figure,
    Outline,
    ellipse,
    joints,
    moved,
    part,
    polygon,
    smooth,
    tube,
)


def tree(draw: np.random.Generator) -> Figure:
    """A trunk with branches below a leafy, a pointed or a palm's crown."""
    wide, fork = draw.uniform(0.05, 0.11), draw.uniform(0.0, 0.12)
    stem = tube([(draw.uniform(-0.05, 0.05), 0.5), (0.01, 0.2), (0, -0.1)], (1.5 * wide, wide, 0.7 * wide))
    boughs = (*tube([(0, 0.12), (-fork - 0.06, -0.08)], (0.5 * wide, 0.3 * wide)),
              *tube([(0, 0.06), (fork + 0.05, -0.1)], (0.5 * wide, 0.3 * wide)))  # fmt: skip
    form = int(draw.integers(3))
    if form == 0:
        turn = np.arange(9) * 2 * np.pi / 9
        away = draw.uniform(0.2, 0.3, size=9)
        middle = [ellipse(float(x), float(y), draw.uniform(0.1, 0.17)) for x, y in
                  zip(away * np.cos(turn) * 0.75, away * np.sin(turn) * 0.7 - 0.2, strict=True)]  # fmt: skip
        return [part("trunk", *stem, *boughs), part("crown", ellipse(0, -0.2, 0.22, 0.2), *middle)]
    if form == 1:
        tiers = int(draw.integers(2, 5))
        spread = draw.uniform(0.2, 0.34)
        cones = [
            polygon((0, -0.5 + 0.6 * n / tiers), (spread * (n + 1.4) / (tiers + 0.4), -0.5 + 0.6 * (n + 1.5) / tiers),
                    (-spread * (n + 1.4) / (tiers + 0.4), -0.5 + 0.6 * (n + 1.5) / tiers))
            for n in range(tiers)
        ]  # fmt: skip
        return [part("trunk", *stem), part("crown", *cones)]
    fronds: list[Outline] = []
    for angle in np.linspace(1.1, 5.2, int(draw.integers(5, 8))) + draw.uniform(-0.15, 0.15):
        x, y = joints((0.0, -0.14), (draw.uniform(0.28, 0.38),), (float(angle),))[-1]
        fronds += tube([(0, -0.12), (0.55 * x, 0.7 * y - 0.12), (x, y + 0.12)], (0.04, 0.1, 0.01))
    return [part("trunk", *stem), part("crown", *fronds)]


def flower(draw: np.random.Generator) -> Figure:
    """Petals around a head on a stem with leaves."""
    number, length = int(draw.integers(5, 9)), draw.uniform(0.15, 0.22)
    wide, lean = draw.uniform(0.8, 1.15) * np.pi * length / number, draw.uniform(-0.1, 0.1)
    start = draw.uniform(0, 2 * np.pi)
    petals = []
    for angle in start + np.arange(number) * 2 * np.pi / number:
        shape = smooth([(0.03, 0), (0.4 * length, -0.75 * wide), (0.85 * length, -0.7 * wide), (length * 1.08, 0),
                        (0.85 * length, 0.7 * wide), (0.4 * length, 0.75 * wide)])  # fmt: skip
        petals.append(part("petal", *moved((shape,), float(angle), 0, -0.26)))
    leaves = []
    for side in (-1, 1)[: int(draw.integers(1, 3))]:
        blade = smooth([(0, 0), (0, 0), (0.1, -0.06), (0.26, -0.02), (0.26, -0.02), (0.12, 0.05)])
        turned = moved((blade,), draw.uniform(-0.9, 0.1), 0, 0)
        height = draw.uniform(0.12, 0.36)
        leaves.append(part("leaf", *(outline * (side, 1) + (0.5 * lean, height) for outline in turned)))
    return [
        part("stem", *tube([(0, -0.24), (lean, 0.1), (0.3 * lean, 0.5)], (0.025, 0.035, 0.04))),
        *leaves,
        *petals,
        part("head", ellipse(0, -0.26, draw.uniform(0.3, 0.5) * length)),
    ]
