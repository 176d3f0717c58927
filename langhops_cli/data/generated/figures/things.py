"""Things of a house, and the house."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from langhops_cli.data.generated.figures.outlines import (
    Figure,
    Outline,
    bar,
    box,
    detail,
    ellipse,
    mirrored,
    part,
    polygon,
    smooth,
    tube,
)


def bottle(draw: np.random.Generator) -> Figure:
    """A body that narrows to a mouth, perhaps with a label."""
    wide, neck = draw.uniform(0.1, 0.18), draw.uniform(0.035, 0.06)
    shoulder, top = draw.uniform(-0.16, 0.06), draw.uniform(-0.5, -0.36)
    start = top + draw.uniform(0.1, 0.18)
    waist = draw.uniform(0.8, 1.0) * wide
    trunk = mirrored([(neck, start), (neck, start), (1.1 * neck, 0.5 * (start + shoulder)),
                      (0.92 * wide, shoulder + 0.03), (waist, 0.2), (wide, 0.42), (wide, 0.47),
                      (0.6 * wide, 0.49)])  # fmt: skip
    ring = draw.uniform(0.0, 0.015)
    mouth = mirrored(
        [(neck + ring, top), (neck + ring, top + 0.05), (neck, top + 0.06), (neck, start + 0.02)], rounded=False
    )
    label = box(-0.8 * waist, shoulder + 0.12, 0.8 * waist, 0.36)
    band = (
        detail(draw.uniform(0, 1), label)
        if draw.random() < 0.5
        else detail(0.95, ellipse(-0.6 * wide, 0.15, 0.015, 0.15))
    )
    return [part("body", trunk), band, part("mouth", mouth)]


def cup(draw: np.random.Generator) -> Figure:
    """A body with an opening, and a handle on its side."""
    top, foot, high = draw.uniform(0.2, 0.3), draw.uniform(0.12, 0.24), draw.uniform(0.16, 0.3)
    tilt = draw.uniform(0.03, 0.09)
    trunk = smooth([(-top, -high), (-top, -high), (top, -high), (top, -high),
                    (0.5 * (top + foot) + 0.02, 0.3 * high), (foot, high), (0, high + 0.7 * tilt), (-foot, high),
                    (-0.5 * (top + foot) - 0.02, 0.3 * high)])  # fmt: skip
    out, y = draw.uniform(0.12, 0.2), draw.uniform(-0.15, 0.1) * high
    loop = ellipse(top - 0.02, y, out, draw.uniform(0.5, 0.75) * high)
    hollow = (loop - (top - 0.02, y)) * draw.uniform(0.55, 0.72) + (top - 0.02, y)
    return [
        part("handle", loop, holes=[hollow]),
        part("body", trunk, ellipse(0, -high, top, tilt)),
        detail(draw.uniform(0.05, 0.35), ellipse(0, -high, 0.92 * top, 0.8 * tilt)),
    ]


def teapot(draw: np.random.Generator) -> Figure:
    """A round body under a lid, a handle behind and a spout, its mouth, before."""
    wide, high = draw.uniform(0.2, 0.26), draw.uniform(0.16, 0.23)
    rise = draw.uniform(0.1, 0.2)
    spout = tube([(-0.7 * wide, 0.4 * high), (-wide - 0.08, 0.0), (-wide - 0.18, -rise)], (0.15, 0.08, 0.06))
    loop = ellipse(wide - 0.02, -0.05, draw.uniform(0.15, 0.2), 0.75 * high)
    hollow = (loop - (wide - 0.02, -0.05)) * draw.uniform(0.6, 0.74) + (wide - 0.02, -0.05)
    lid = smooth([(-0.55 * wide, -0.85 * high), (0, -1.2 * high), (0.55 * wide, -0.85 * high), (0, -0.75 * high)])
    return [
        part("handle", loop, holes=[hollow]),
        part("mouth", *spout),
        part("body", mirrored([(0.3 * wide, -high), (0.85 * wide, -0.6 * high), (wide, 0.1 * high),
                               (0.7 * wide, 0.85 * high), (0.3 * wide, high)]),
                               box(-0.5 * wide, 0.8 * high, 0.5 * wide, high + 0.03)),
        part("top", lid, ellipse(0, -1.25 * high, 0.035)),
    ]  # fmt: skip


def _legs(places: list[tuple[float, float]], length: float, width: float, splay: float) -> Figure:
    return [part("leg", bar((x, y), (x + (splay if x > 0 else -splay), y + length), width)) for x, y in places]


def chair(draw: np.random.Generator) -> Figure:
    """A seat on four legs, with a back of slats or a panel, seen from a corner."""
    wide, deep, slant = draw.uniform(0.2, 0.26), draw.uniform(0.08, 0.15), draw.uniform(-0.1, 0.1)
    leg, width, splay = draw.uniform(0.26, 0.36), draw.uniform(0.035, 0.06), draw.uniform(0.0, 0.05)
    tall, thick = draw.uniform(0.32, 0.44), draw.uniform(0.02, 0.05)
    seat = polygon((-wide, deep / 2), (wide, deep / 2), (wide + slant, -deep / 2), (-wide + slant, -deep / 2))
    front = polygon((-wide, deep / 2), (wide, deep / 2), (wide, deep / 2 + thick), (-wide, deep / 2 + thick))
    left, right, low = -wide + slant, wide + slant, -deep / 2 + 0.02
    arch = draw.uniform(-0.01, 0.06)
    back = smooth([(left, low), (left, low), (left - 0.01, low - tall), (left - 0.01, low - tall),
                   (slant, low - tall - arch), (right + 0.01, low - tall), (right + 0.01, low - tall), (right, low),
                   (right, low)])  # fmt: skip
    holes: list[Outline] = []
    form = draw.random()
    if form < 0.35:
        edges = np.linspace(left + 0.03, right - 0.03, int(draw.integers(3, 6)))
        holes = [box(float(a) + 0.015, low - tall + 0.06, float(b) - 0.015, low - 0.05) for a, b in pairwise(edges)]
    elif form < 0.65:
        edges = np.linspace(low - tall + 0.07, low - 0.03, int(draw.integers(3, 5)))
        holes = [box(left + 0.04, float(a), right - 0.04, float(b) - 0.04) for a, b in pairwise(edges)]
    behind = [(left + 0.02, -deep / 2), (right - 0.02, -deep / 2)]
    before = [(-wide + 0.02, deep / 2 + 0.01), (wide - 0.02, deep / 2 + 0.01)]
    return [
        *_legs(behind, leg, width, splay),
        part("back", back, holes=holes),
        *_legs(before, leg, width, splay),
        part("seat", seat, front),
        detail(draw.uniform(0.1, 0.9), front),
    ]


def bench(draw: np.random.Generator) -> Figure:
    """A long seat of planks with a long back, on two or three pairs of legs."""
    deep, slant, tall = draw.uniform(0.07, 0.12), draw.uniform(-0.06, 0.06), draw.uniform(0.16, 0.24)
    leg, width = draw.uniform(0.16, 0.22), draw.uniform(0.035, 0.055)
    seat = polygon((-0.48, deep / 2), (0.48, deep / 2), (0.46 + slant, -deep / 2), (-0.46 + slant, -deep / 2))
    front = box(-0.48, deep / 2, 0.48, deep / 2 + 0.03)
    low = -deep / 2 - 0.02
    planks = int(draw.integers(2, 4))
    edges = np.linspace(low - tall, low, planks + 1)
    back = [box(-0.46 + slant, float(a), 0.46 + slant, float(b) - 0.025) for a, b in pairwise(edges)]
    posts = [bar((x + slant, -deep / 2 + 0.02), (x + slant, low - tall), 0.03) for x in (-0.38, 0.38)]
    places = (-0.42, 0.42) if draw.random() < 0.6 else (-0.42, 0.0, 0.42)
    return [
        *_legs([(0.95 * x + slant, -deep / 2) for x in places], leg, width, 0.0),
        part("back", *posts, *back),
        *_legs([(x, deep / 2) for x in places], leg, width, draw.uniform(0, 0.03)),
        part("seat", seat, front),
        detail(draw.uniform(0.1, 0.9), front),
    ]


def table(draw: np.random.Generator) -> Figure:
    """A top, rectangular or round, on four legs or one."""
    wide, deep, thick = draw.uniform(0.36, 0.5), draw.uniform(0.07, 0.16), draw.uniform(0.025, 0.05)
    leg, width, slant = draw.uniform(0.3, 0.45), draw.uniform(0.04, 0.07), draw.uniform(-0.12, 0.12)
    if draw.random() < 0.35:
        top, edge = ellipse(0, 0, wide, deep), ellipse(0, thick, wide, deep)
        foot = tube([(0, 0.05), (0, leg)], (1.4 * width, width, 1.4 * width))
        stand = [part("leg", *foot, ellipse(0, leg + 0.01, 0.45 * wide, 0.4 * deep + 0.02))]
        return [*stand, part("top", top, edge), detail(draw.uniform(0.1, 0.9), top)]
    plate = polygon((-wide, deep), (wide, deep), (0.8 * wide + slant, -deep), (-0.8 * wide + slant, -deep))
    side = box(-wide, deep, wide, deep + thick)
    behind = [(-0.72 * wide + slant, -deep + 0.04), (0.72 * wide + slant, -deep + 0.04)]
    before = [(-0.9 * wide, deep), (0.9 * wide, deep)]
    splay = draw.uniform(-0.02, 0.05)
    return [
        *_legs(behind, leg + 0.5 * deep, 0.85 * width, splay),
        *_legs(before, leg, width, splay),
        part("top", plate, side),
        detail(draw.uniform(0.1, 0.9), side),
    ]


def lamp(draw: np.random.Generator) -> Figure:
    """A shade on a pole that stands on a base: on the table or on the floor."""
    tall, wide = draw.uniform(0.34, 0.8), draw.uniform(0.14, 0.24)
    low, top = tall / 2, -tall / 2
    foot = draw.uniform(0.1, 0.16)
    lean = draw.uniform(-0.12, 0.12) if draw.random() < 0.4 else 0.0
    base = smooth(
        [(-foot, low), (-foot, low), (-0.6 * foot, low - 0.05), (0.6 * foot, low - 0.05), (foot, low), (foot, low)]
    )
    narrow, high = draw.uniform(0.3, 0.9) * wide, draw.uniform(0.16, 0.26)
    bow = draw.uniform(0.0, 0.03)
    shade = smooth([(lean - narrow, top - high), (lean - narrow, top - high), (lean, top - high - bow),
                    (lean + narrow, top - high), (lean + narrow, top - high), (lean + wide, top), (lean + wide, top),
                    (lean, top + bow), (lean - wide, top), (lean - wide, top)])  # fmt: skip
    thick = draw.uniform(0.025, 0.05)
    belly = draw.uniform(1.0, 3.0) if tall < 0.5 else 1.0
    pole = tube([(0, low - 0.03), (0.3 * lean, 0.5 * (low + top)), (lean, top - 0.03)], (thick, belly * thick, thick))
    return [part("pole", *pole), part("base", base), part("shade", shade)]


def house(draw: np.random.Generator) -> Figure:
    """A wall with a door and windows under a roof, perhaps with a chimney."""
    wide, high, rise = draw.uniform(0.28, 0.42), draw.uniform(0.22, 0.4), draw.uniform(0.14, 0.28)
    low = 0.5 * (high + rise)
    eaves, over = low - high, draw.uniform(0.03, 0.08)
    flat = draw.choice((0.0, 0.5, 0.75)) * wide
    roof = polygon(
        (-wide - over, eaves + 0.02), (-flat, eaves - rise), (flat, eaves - rise), (wide + over, eaves + 0.02)
    )
    columns, rows = int(draw.integers(2, 4)), 2 if high > 0.33 else 1
    cell, level = 2 * wide / columns, high / rows
    door = int(draw.integers(columns))
    pane, tall = draw.uniform(0.4, 0.6) * cell, draw.uniform(0.35, 0.5) * level
    arched = draw.random() < 0.3
    windows: Figure = []
    for row in range(rows):
        for column in range(columns):
            x, y = -wide + (column + 0.5) * cell, eaves + (row + 0.47) * level
            if column == door and row == rows - 1:
                continue
            shape = (box(x - pane / 2, y - tall / 2, x + pane / 2, y + tall / 2),)
            windows.append(
                part("window", *shape, *((ellipse(x, y - tall / 2, pane / 2, 0.3 * tall),) if arched else ()))
            )
            tone = draw.uniform(0.1, 0.95)
            cross = (bar((x, y - tall / 2), (x, y + tall / 2), 0.012), bar((x - pane / 2, y), (x + pane / 2, y), 0.012))
            windows.append(detail(tone, *cross))
    x, half = -wide + (door + 0.5) * cell, draw.uniform(0.2, 0.32) * cell
    height = draw.uniform(0.62, 0.8) * level
    chimney: Figure = []
    if draw.random() < 0.65:
        place = draw.uniform(0.3, 0.7) * wide * (1 if draw.random() < 0.5 else -1)
        chimney = [part("chimney", box(place - 0.045, eaves - rise - draw.uniform(0.0, 0.08), place + 0.045, eaves))]
    return [
        *chimney,
        part("wall", box(-wide, eaves, wide, low)),
        *windows,
        part("door", box(x - half, low - height, x + half, low)),
        detail(draw.uniform(0.0, 1.0), ellipse(x + 0.65 * half, low - 0.45 * height, 0.016)),
        part("roof", roof),
    ]
