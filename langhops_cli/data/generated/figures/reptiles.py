"""Snakes, reptiles and dragons."""

from __future__ import annotations

import numpy as np

from langhops_cli.data.generated.figures.limbs import eyes_at, leg_from
from langhops_cli.data.generated.figures.outlines import (
    Figure,
    detail,
    ellipse,
    joints,
    moved,
    part,
    polygon,
    smooth,
    tube,
)


def snake(draw: np.random.Generator) -> Figure:
    """A long body in bends or coils, and a head."""
    steps = np.linspace(0, 1, 13)
    if draw.random() < 0.6:
        bends, swing = draw.uniform(1.1, 2.4), draw.uniform(0.1, 0.22)
        phase = draw.uniform(0, 2 * np.pi)
        line = np.stack([steps - 0.5, swing * (0.6 + 0.5 * steps) * np.sin(2 * np.pi * bends * steps + phase)], axis=1)
    else:
        turns = draw.uniform(0.9, 1.5)
        angle, away = 2 * np.pi * turns * steps + draw.uniform(0, 2 * np.pi), 0.42 - 0.26 * steps
        line = np.stack([away * np.cos(angle), 0.8 * away * np.sin(angle)], axis=1)
    width = draw.uniform(0.055, 0.1)
    ahead = line[0] - line[1]
    turn = float(np.arctan2(-ahead[1], -ahead[0])) + draw.uniform(-0.3, 0.3)
    long = draw.uniform(1.2, 1.7) * width
    face = smooth([(-long, -0.3 * width), (-0.2 * long, -0.8 * width), (0.7 * long, -0.45 * width),
                   (0.7 * long, 0.45 * width), (-0.2 * long, 0.8 * width), (-long, 0.3 * width)])  # fmt: skip
    tongue = polygon((-long, -0.06 * width), (-1.6 * long, -0.3 * width), (-1.4 * long, 0), (-1.6 * long, 0.3 * width),
                     (-long, 0.06 * width))  # fmt: skip
    shapes = moved((face, tongue) if draw.random() < 0.5 else (face,), turn, *line[0])
    (places,) = moved((polygon((-0.3 * long, -0.42 * width), (-0.3 * long, 0.42 * width)),), turn, *line[0])
    return [
        part("body", *tube(line, (0.8 * width, width, 1.1 * width, width, 0.7 * width, 0.15 * width))),
        part("head", *shapes),
        *eyes_at(places, 0.2 * width),
    ]


def reptile(draw: np.random.Generator) -> Figure:
    """A lizard or crocodile seen from above, or a turtle."""
    return _turtle(draw) if draw.random() < 0.35 else _lizard(draw)


def _lizard(draw: np.random.Generator) -> Figure:
    wide, bow = draw.uniform(0.07, 0.12), draw.uniform(-0.1, 0.1)
    spine = [(-0.22, bow), (0.0, -0.3 * bow), (0.2, 0.0)]
    curl = draw.uniform(-0.9, 0.9)
    line = joints((0.17, 0.0), (0.16, 0.16, 0.16), np.pi / 2 + np.array([0.2, 0.8, 1.6]) * curl)
    feet = []
    for x, y, side, lean in (
        (-0.15, 0.5 * bow, -1, -0.5),
        (-0.15, 0.5 * bow, 1, -0.5),
        (0.14, 0, -1, 0.5),
        (0.14, 0, 1, 0.5),
    ):
        angle = np.pi / 2 - side * np.pi / 2 + side * (lean + draw.uniform(-0.5, 0.5))
        away = joints((x, y + side * 0.5 * wide), (0.1, 0.1), (angle, angle - side * draw.uniform(0.3, 1.0)))
        toes = [
            tube([away[-1], joints(away[-1], (0.045,), (angle + spread - side * 0.4,))[-1]], (0.025, 0.012))
            for spread in (-0.7, 0.0, 0.7)
        ]
        feet.append(part("foot", *tube(away, (0.06, 0.05, 0.035)), *(outline for toe in toes for outline in toe)))
    snout, cheek = draw.uniform(0.1, 0.2), draw.uniform(0.6, 0.95) * wide
    face = smooth([(0.05, -0.5 * cheek), (-0.05, -cheek), (-snout, -0.35 * cheek), (-snout, 0.35 * cheek),
                   (-0.05, cheek), (0.05, 0.5 * cheek)])  # fmt: skip
    turn = draw.uniform(-0.4, 0.4)
    (shape,) = moved((face,), turn, -0.27, 1.1 * bow)
    (places,) = moved((polygon((-0.05, -0.65 * cheek), (-0.05, 0.65 * cheek)),), turn, -0.27, 1.1 * bow)
    return [
        *feet,
        part("tail", *tube(line, (1.3 * wide, 0.75 * wide, 0.08 * wide))),
        part("body", *tube(spine, (1.2 * wide, 2.1 * wide, 1.5 * wide))),
        part("head", shape),
        *eyes_at(places, 0.22 * cheek),
    ]


def _turtle(draw: np.random.Generator) -> Figure:
    high, reach = draw.uniform(0.2, 0.3), draw.uniform(0.06, 0.14)
    shell = smooth([(-0.3, 0.06), (-0.3, 0.06), (-0.24, -0.6 * high), (-0.05, -high), (0.14, -0.85 * high), (0.3, 0.04),
                    (0.3, 0.04), (0.2, 0.12), (-0.2, 0.12)])  # fmt: skip
    legs = [
        leg_from((x, 0.06), draw.uniform(0.16, 0.22), 0.085, draw.uniform(-0.4, 0.4), draw.uniform(-0.2, 0.2), 0.06)
        for x in (-0.2, 0.16, -0.12, 0.24)
    ]
    x, y, radius = -0.32 - reach, draw.uniform(-0.1, 0.05), draw.uniform(0.06, 0.085)
    rim = smooth([(-0.3, 0.05), (0.0, 0.02), (0.3, 0.03), (0.29, 0.08), (0.0, 0.07), (-0.29, 0.1)])
    return [
        *legs[:2],
        part(
            "tail",
            *tube([(0.26, 0.06), (0.36, draw.uniform(0.05, 0.12)), (0.44, draw.uniform(0.02, 0.18))], (0.08, 0.02)),
        ),
        part("head", *tube([(-0.22, 0.06), (x, y)], (0.09, 0.08)), ellipse(x, y, 1.35 * radius, radius)),
        *eyes_at(polygon((x - 0.4 * radius, y - 0.25 * radius)), 0.22 * radius),
        part("body", shell),
        detail(draw.uniform(0.1, 0.8), rim),
        *legs[2:],
    ]


def dragon(draw: np.random.Generator) -> Figure:
    """A long-necked beast with the wings of a bat, horns, and a tail that ends in a point."""
    fat, leg = draw.uniform(0.09, 0.13), draw.uniform(0.16, 0.24)
    trunk = smooth([(-0.2, -0.02), (-0.08, -fat), (0.12, -0.9 * fat), (0.24, 0.0), (0.1, fat), (-0.1, 1.1 * fat)])
    rise = draw.uniform(0.12, 0.28)
    x, y = draw.uniform(-0.42, -0.3), -0.08 - rise
    neck = tube([(-0.12, 0.0), (-0.24, -0.4 * rise), (x + 0.04, y)], (1.5 * fat, 0.9 * fat, 0.07))
    snout = draw.uniform(0.1, 0.15)
    face = smooth([(0.06, -0.03), (0.0, -0.06), (-0.6 * snout, -0.03), (-snout, -0.03), (-snout, 0.02),
                   (-0.5 * snout, 0.045), (0.04, 0.05)])  # fmt: skip
    horns = (polygon((-0.01, -0.04), (0.14, -0.15), (0.04, -0.03)), polygon((0.02, -0.03), (0.15, -0.08), (0.05, 0.0)))
    turn = draw.uniform(-0.4, 0.3)
    (eye,) = moved((polygon((-0.02, -0.02)),), turn, x, y)
    span, lift = draw.uniform(0.34, 0.46), draw.uniform(-0.4, 0.4)
    wing = [(0, 0), (0, 0), (0.02, -0.6 * span), (0.08, -span), (0.08, -span), (0.17, -0.66 * span), (0.3, -0.8 * span),
            (0.3, -0.8 * span), (0.29, -0.45 * span), (0.42, -0.4 * span), (0.42, -0.4 * span), (0.26, -0.15 * span),
            (0.14, 0.03), (0.14, 0.03)]  # fmt: skip
    curl = draw.uniform(-0.5, 0.7)
    line = joints((0.18, 0.02), (0.14, 0.14, 0.14, 0.1), np.pi / 2 - np.array([-0.4, 0.0, 1.0, 1.8]) * curl)
    ahead = np.subtract(line[-1], line[-2])
    (tip,) = moved(
        (polygon((-0.02, -0.06), (0.1, 0), (-0.02, 0.06)),), float(np.arctan2(ahead[1], ahead[0])), *line[-1]
    )
    legs = [
        leg_from((hip, 0.5 * fat), leg, 0.07, draw.uniform(-0.4, 0.4), draw.uniform(-0.4, 0.4), 0.06)
        for hip in (-0.02, 0.18, -0.12, 0.1)
    ]
    return [
        part("wing", *moved((smooth(wing),), lift + 0.35, 0.02, -0.04)),
        *legs[:2],
        part("tail", *tube(line, (1.4 * fat, fat, 0.6 * fat, 0.03)), tip),
        part("body", trunk, *neck),
        *legs[2:],
        part("head", *moved((face, *horns), turn, x, y)),
        *eyes_at(eye, 0.018),
        part("wing", *moved((smooth(wing),), lift - 0.25, 0.0, -0.02)),
    ]
