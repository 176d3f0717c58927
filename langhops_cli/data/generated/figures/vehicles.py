"""Things that drive, swim and fly; they look to the left."""

from __future__ import annotations

import numpy as np

from langhops_cli.data.generated.figures.outlines import (
    Figure,
    Outline,
    Piece,
    bar,
    box,
    detail,
    ellipse,
    mirrored,
    moved,
    part,
    polygon,
    smooth,
    tube,
)


def _tire(x: float, y: float, radius: float, draw: np.random.Generator) -> Figure:
    """A wheel with a rim and perhaps spokes."""
    rim = draw.uniform(0.45, 0.65) * radius
    start, number = draw.uniform(0, np.pi), int(draw.integers(3, 7))
    spokes = [
        moved((box(-rim, -0.1 * rim, rim, 0.1 * rim),), start + np.pi * n / number, x, y)[0] for n in range(number)
    ]
    light = draw.uniform(0.55, 0.95)
    found = [part("tire", ellipse(x, y, radius)), detail(light, ellipse(x, y, rim))]
    if draw.random() < 0.6:
        found += [detail(light - 0.4, *spokes), detail(light, ellipse(x, y, 0.3 * rim))]
    return found


def car(draw: np.random.Generator) -> Figure:
    """A body with a cabin on two tires, and a side mirror: saloon, hatchback, coupe or van."""
    roof, sill = draw.uniform(0.13, 0.25), 0.14
    front, back = draw.uniform(-0.22, -0.06), draw.uniform(0.1, 0.3)
    hood, boot = draw.uniform(-0.06, 0.0), draw.uniform(-0.08, 0.0)
    slope = draw.uniform(0.06, 0.16)
    rear = min(0.46, back + draw.uniform(0.03, 0.18))
    shell = smooth(
        [(-0.49, sill), (-0.49, sill), (-0.5, 0.04), (-0.44, hood), (front - slope, hood - 0.02),
         (front - slope, hood - 0.02), (front, -roof), (0.5 * (front + back), -roof - 0.02), (back, -roof),
         (rear, boot - 0.02), (rear, boot - 0.02), (0.47, boot + 0.02), (0.49, 0.06), (0.48, sill), (0.48, sill)]
    )  # fmt: skip
    top, waist = -roof + 0.025, min(hood, boot) + 0.01
    pillar = front + draw.uniform(0.4, 0.6) * (back - front)
    glass = draw.uniform(0.1, 0.9)
    windows = [
        polygon((front - 0.6 * slope, waist), (front + 0.015, top), (pillar - 0.015, top), (pillar - 0.015, waist)),
        polygon((pillar + 0.015, waist), (pillar + 0.015, top), (back, top), (0.6 * back + 0.4 * rear, waist)),
    ]
    radius = draw.uniform(0.08, 0.115)
    wheels = [(draw.uniform(-0.33, -0.27), sill), (draw.uniform(0.26, 0.33), sill)]
    mirror = front - 0.5 * slope
    return [
        part("body", shell),
        detail(glass, *windows),
        detail(0.15, *(ellipse(x, y, 1.15 * radius) for x, y in wheels)),
        detail(0.9, ellipse(-0.46, 0.02, 0.025, 0.02)),
        *[piece for x, y in wheels for piece in _tire(x, y, radius, draw)],
        part("side mirror", smooth([(mirror - 0.055, waist - 0.03), (mirror, waist - 0.045), (mirror + 0.02, waist),
                                    (mirror - 0.045, waist + 0.025)])),
    ]  # fmt: skip


def truck(draw: np.random.Generator) -> Figure:
    """A cab with a window before a box or a tank, on three to five tires."""
    top, sill, end = draw.uniform(-0.3, -0.16), 0.14, draw.uniform(0.4, 0.5)
    cab = draw.uniform(-0.3, -0.2)
    roof = draw.uniform(-0.2, -0.1)
    nose = draw.uniform(0.0, 0.1)
    front = smooth([(-0.5, sill), (-0.5, sill), (-0.5, 0.0), (-0.48 + nose, -0.04), (-0.46 + nose, roof),
                    (-0.46 + nose, roof), (cab, roof - 0.01), (cab, roof - 0.01), (cab, sill),
                    (cab, sill)])  # fmt: skip
    if draw.random() < 0.3:
        load: Outline = smooth([(cab + 0.02, top + 0.06), (cab + 0.07, top), (end - 0.05, top), (end, top + 0.06),
                                (end, 0.04), (end - 0.05, 0.1), (cab + 0.07, 0.1), (cab + 0.02, 0.04)])  # fmt: skip
    else:
        load = box(cab + 0.02, top, end, 0.1, corner=draw.uniform(0, 0.02))
    radius = draw.uniform(0.065, 0.085)
    places = [-0.4, end - 0.08, end - 0.1 - 2 * radius, -0.4 + 2.2 * radius][: int(draw.integers(2, 5))]
    pane = polygon((-0.45 + nose, -0.03), (-0.435 + nose, roof + 0.03), (cab - 0.03, roof + 0.03), (cab - 0.03, -0.03))
    mirror = draw.uniform(-0.5, -0.47) + nose
    return [
        part("body", box(cab - 0.02, 0.1, end, sill), load),
        part("cab", front),
        detail(0.9, ellipse(-0.485, 0.07, 0.015, 0.025)),
        part("window", pane),
        *[piece for x in sorted(places) for piece in _tire(x, sill + 0.02, radius, draw)],
        part("side mirror", box(mirror - 0.02, roof + 0.05, mirror + 0.015, roof + 0.14, corner=0.01)),
    ]


def bus(draw: np.random.Generator) -> Figure:
    """A long box with a row of windows, a door, tires and a side mirror."""
    top, sill = draw.uniform(-0.24, -0.16), 0.14
    shell = smooth([(-0.5, sill), (-0.5, sill), (-0.5, 0.5 * top), (-0.47, top), (-0.47, top), (0.0, top - 0.01),
                    (0.49, top), (0.49, top), (0.5, 0.0), (0.49, sill), (0.49, sill)])  # fmt: skip
    number, door = int(draw.integers(4, 7)), draw.uniform(0.1, 0.14)
    left = -0.46 + door + 0.03
    wide = (0.47 - left) / number
    panes = [
        part(
            "window",
            box(left + n * wide, top + 0.05, left + (n + 0.85) * wide, top + 0.05 + 0.42 * (sill - top), 0.008),
        )
        for n in range(number)
    ]
    radius = draw.uniform(0.065, 0.085)
    return [
        part("body", shell),
        detail(draw.uniform(0.1, 0.9), box(-0.49, 0.04, 0.49, 0.06)),
        *panes,
        part("door", box(-0.46, top + 0.06, -0.46 + door, sill - 0.01)),
        detail(draw.uniform(0.1, 0.9), box(-0.45, top + 0.08, -0.47 + door, 0.0)),
        *[piece for x in (draw.uniform(-0.28, -0.22), 0.3) for piece in _tire(x, sill, radius, draw)],
        part("side mirror", smooth([(-0.5, top + 0.02), (-0.56, top + 0.05), (-0.565, top + 0.13), (-0.53, top + 0.13),
                                    (-0.53, top + 0.07)])),
    ]  # fmt: skip


def _ring(x: float, y: float, radius: float, width: float) -> Piece:
    return part("tire", ellipse(x, y, radius), holes=[ellipse(x, y, radius - width)])


def bicycle(draw: np.random.Generator) -> Figure:
    """A frame of tubes between two tires, a seat on it, and a head with the handlebar."""
    radius, base = draw.uniform(0.19, 0.23), draw.uniform(0.27, 0.31)
    thick = draw.uniform(0.028, 0.042)
    rear, front, crank = (base, 0.15), (-base, 0.15), (0.04, 0.17)
    saddle, fork = (draw.uniform(0.1, 0.15), -0.16), (-base + draw.uniform(0.05, 0.1), -0.17)
    lines = [(rear, crank), (rear, saddle), (crank, saddle), (crank, fork), (front, fork)]
    if draw.random() < 0.75:
        lines.append(((0.93 * saddle[0], 0.8 * saddle[1]), (fork[0], 0.85 * fork[1])))
    frame = [bar(start, end, thick) for start, end in lines]
    spin = draw.uniform(0, np.pi)
    pedal = (0.09 * float(np.cos(spin)), 0.09 * float(np.sin(spin)))
    arms = bar((crank[0] - pedal[0], crank[1] - pedal[1]), (crank[0] + pedal[0], crank[1] + pedal[1]), 0.025)
    rise, form = draw.uniform(0.07, 0.14), draw.random()
    stem = (fork[0] + 0.02, fork[1] - rise)
    grip = [(stem[0] + 0.1, stem[1] - 0.02), stem, (stem[0] - 0.07, stem[1] - 0.01), (stem[0] - 0.08, stem[1] + 0.06)]
    handle = tube(
        grip if form < 0.5 else [(stem[0] + 0.12, stem[1] + 0.02), (stem[0] + 0.03, stem[1] - 0.03), stem],
        (0.04, 0.035),
    )
    x, y = saddle[0] + 0.01, saddle[1] - 0.06
    return [
        _ring(*rear, radius, draw.uniform(0.03, 0.05)),
        _ring(*front, radius, draw.uniform(0.03, 0.05)),
        part("body", *frame, arms, ellipse(*crank, 0.045), bar(saddle, (x, y), thick)),
        detail(draw.uniform(0, 1), ellipse(*crank, 0.02)),
        part("head", bar(fork, stem, 1.2 * thick), *handle),
        part("seat", smooth([(x - 0.11, y - 0.01), (x - 0.02, y - 0.025), (x + 0.09, y - 0.045), (x + 0.1, y + 0.015),
                             (x, y + 0.02)])),
    ]  # fmt: skip


def motorcycle(draw: np.random.Generator) -> Figure:
    """A tank and a motor between two thick tires, a long seat, and a head with lamp and handlebar."""
    radius, base = draw.uniform(0.15, 0.19), draw.uniform(0.28, 0.33)
    rake = draw.uniform(0.06, 0.12)
    top = (-base + rake, -0.16)
    tank = smooth([(-0.16, -0.12), (-0.08, -0.19), (0.06, -0.14), (0.08, -0.06), (-0.1, -0.04)])
    motor = smooth([(-0.12, -0.04), (0.08, -0.05), (0.12, 0.12), (0.06, 0.19), (-0.1, 0.17)])
    arm, fork = bar((0.06, 0.12), (base, 0.15), 0.06), bar((-base, 0.15), top, 0.045)
    guard = smooth(
        [(base - 0.16, -0.05), (base + 0.02, -0.08), (base + 0.12, 0.02), (base, -0.02), (base - 0.12, 0.02)]
    )
    pipe = tube([(-0.02, 0.18), (0.16, 0.2), (base + 0.1, 0.17)], (0.035, 0.05))
    thick = draw.uniform(0.06, 0.085)
    grip = tube([(top[0] + 0.13, top[1] - 0.08), (top[0] + 0.05, top[1] - 0.1), top], (0.035, 0.035))
    return [
        _ring(base, 0.15, radius, thick),
        _ring(-base, 0.15, radius, thick),
        part("body", arm, fork, tank, motor, guard, *pipe, bar(top, (-0.1, -0.12), 0.06)),
        detail(draw.uniform(0, 1), ellipse(0.0, 0.08, 0.055)),
        part("seat", smooth([(0.03, -0.11), (0.14, -0.13), (base + 0.02, -0.19), (base + 0.05, -0.13), (0.14, -0.05)])),
        part("head", *grip, ellipse(top[0] - 0.04, top[1] + 0.01, 0.055, 0.06)),
        detail(0.95, ellipse(top[0] - 0.065, top[1] + 0.01, 0.025, 0.04)),
    ]


def boat(draw: np.random.Generator) -> Figure:
    """A hull with a mast under one to three sails."""
    high, deck = draw.uniform(0.5, 0.66), draw.uniform(0.14, 0.18)
    bow, keel = draw.uniform(-0.5, -0.4), draw.uniform(0.3, 0.36)
    hull = smooth([(bow, deck - 0.03), (bow, deck - 0.03), (-0.2, deck), (0.2, deck), (0.44, deck - 0.02),
                   (0.44, deck - 0.02), (0.36, keel), (0.1, keel + 0.02), (-0.3, keel)])  # fmt: skip
    x, top = draw.uniform(-0.08, 0.06), deck - high
    mast = bar((x, deck + 0.02), (x, top - 0.03), 0.022)
    belly = draw.uniform(0.02, 0.09)
    if draw.random() < 0.3:
        levels = np.linspace(top + 0.02, deck - 0.08, int(draw.integers(2, 4)))
        sails = [
            part("sail", smooth([(x - w, y0), (x - w, y0), (x + w, y0), (x + w, y0), (x + w - 0.03, (y0 + y1) / 2),
                                 (x + w + 0.02, y1 - 0.02), (x + w + 0.02, y1 - 0.02), (x - w - 0.02, y1 - 0.02),
                                 (x - w - 0.02, y1 - 0.02), (x - w - 0.05, (y0 + y1) / 2)]))
            for y0, y1, w in zip(levels[:-1], levels[1:], np.linspace(0.14, 0.24, len(levels) - 1), strict=True)
        ]  # fmt: skip
    else:
        boom, low = draw.uniform(0.24, 0.38), deck - draw.uniform(0.04, 0.09)
        sails = [part("sail", smooth([(x + 0.02, low), (x + 0.02, low), (x + 0.015, top), (x + 0.015, top),
                                      (x + 0.5 * boom + belly, 0.5 * (top + low)), (x + boom, low),
                                      (x + boom, low)]))]  # fmt: skip
        if draw.random() < 0.7:
            jib, tip = min(-bow, draw.uniform(0.24, 0.4)), top + draw.uniform(0.0, 0.12)
            sails.append(part("sail", smooth([(x - 0.02, low), (x - 0.02, low), (x - 0.015, tip), (x - 0.015, tip),
                                              (x - 0.6 * jib - 0.3 * belly, 0.5 * (tip + low)), (x - jib, low),
                                              (x - jib, low)])))  # fmt: skip
    stripe = polygon((bow + 0.02, deck + 0.03), (0.43, deck + 0.03), (0.42, deck + 0.06), (bow + 0.05, deck + 0.06))
    return [part("body", mast, hull), detail(draw.uniform(0, 1), stripe), *sails]


def aeroplane(draw: np.random.Generator) -> Figure:
    """A long body between a head and a tail, with wings and engines; from the side or from above."""
    return _from_above(draw) if draw.random() < 0.5 else _from_the_side(draw)


def _from_the_side(draw: np.random.Generator) -> Figure:
    fat = draw.uniform(0.05, 0.08)
    trunk = smooth([(-0.4, -fat), (0.1, -fat), (0.44, -0.6 * fat), (0.46, -0.3 * fat), (0.2, 0.8 * fat), (-0.4, fat)])
    nose = smooth([(-0.34, -fat), (-0.34, -fat), (-0.45, -0.75 * fat), (-0.5, 0.2 * fat), (-0.44, 0.8 * fat),
                   (-0.34, fat), (-0.34, fat)])  # fmt: skip
    rise, sweep = draw.uniform(0.15, 0.22), draw.uniform(0.08, 0.14)
    fin = polygon((0.28, -0.6 * fat), (0.3 + sweep, -rise), (0.4 + sweep, -rise), (0.46, -0.3 * fat), (0.36, 0.2 * fat))
    plane = polygon((0.33, -0.3 * fat), (0.46, 0.1), (0.52, 0.1), (0.45, -0.3 * fat))
    reach, drop = draw.uniform(0.14, 0.26), draw.uniform(0.16, 0.24)
    near = polygon((-0.14, 0.2 * fat), (reach - 0.02, drop), (reach + 0.06, drop), (0.12, 0.3 * fat))
    far = polygon((-0.1, -0.3 * fat), (0.6 * reach, -0.8 * drop), (0.6 * reach + 0.05, -0.8 * drop), (0.1, -0.3 * fat))
    pod = draw.uniform(0.03, 0.045)
    x, y = 0.25 * reach - 0.08, 0.55 * drop
    cells = [ellipse(-0.28 + 0.06 * n, -0.25 * fat, 0.013, 0.02) for n in range(9)]
    pane = polygon((-0.45, -0.5 * fat), (-0.41, -0.7 * fat), (-0.39, -0.1 * fat), (-0.47, -0.05 * fat))
    return [
        part("wing", far),
        part("body", trunk),
        detail(draw.uniform(0.05, 0.95), *cells),
        part("head", nose),
        detail(draw.uniform(0.05, 0.3), pane),
        part("tail", fin, plane),
        part("engine", *tube([(x - 0.03, y + 0.02), (x + 0.09, y + 0.02)], (2 * pod, 1.5 * pod))),
        detail(0.1, ellipse(x - 0.04, y + 0.02, 0.4 * pod, 0.75 * pod)),
        part("wing", near),
    ]


def _from_above(draw: np.random.Generator) -> Figure:
    fat, chord = draw.uniform(0.04, 0.065), draw.uniform(0.1, 0.17)
    sweep, span = draw.uniform(0.02, 0.24), draw.uniform(0.38, 0.48)
    trunk = mirrored([(0.6 * fat, -0.4), (fat, -0.28), (fat, 0.2), (0.35 * fat, 0.46)])
    nose = mirrored([(0.35 * fat, -0.5), (0.85 * fat, -0.42), (0.98 * fat, -0.33)])
    root = draw.uniform(-0.16, -0.08)
    wing = polygon(
        (0.3 * fat, root), (span, root + sweep), (span, root + sweep + 0.35 * chord), (0.3 * fat, root + chord + 0.05)
    )
    rear = mirrored([(0.4 * fat, 0.32), (0.17, 0.4), (0.17, 0.45), (0.4 * fat, 0.46)], rounded=False)
    number, size = int(draw.integers(1, 3)), draw.uniform(0.022, 0.034)
    engines = []
    for n in range(number):
        out = span * (0.36 if n == 0 else 0.64)
        y = root + sweep * out / span
        engines += [part("engine", *tube([(side * out, y - 0.06), (side * out, y + 0.05)], (2 * size, 1.6 * size)))
                    for side in (-1, 1)]  # fmt: skip
    return [
        *engines,
        part("wing", wing),
        part("wing", wing * (-1, 1)),
        part("body", trunk),
        part("head", nose),
        detail(draw.uniform(0.05, 0.3), mirrored([(0.3 * fat, -0.46), (0.6 * fat, -0.42), (0.5 * fat, -0.41)])),
        part("tail", rear, *tube([(0, 0.34), (0, 0.47)], (0.35 * fat, 0.6 * fat))),
    ]


def helicopter(draw: np.random.Generator) -> Figure:
    """A round body with a window, a thin tail, and a rotor above."""
    fat, long = draw.uniform(0.11, 0.16), draw.uniform(0.4, 0.5)
    cabin = smooth([(-0.34, 0.04), (-0.26, -0.7 * fat), (-0.08, -fat), (0.1, -0.7 * fat), (0.16, 0.02),
                    (0.04, 0.9 * fat), (-0.2, 0.95 * fat)])  # fmt: skip
    skids = (bar((-0.3, fat + 0.08), (0.12, fat + 0.08), 0.02), bar((-0.18, 0.7 * fat), (-0.2, fat + 0.08), 0.018),
             bar((0.0, 0.7 * fat), (0.02, fat + 0.08), 0.018))  # fmt: skip
    pane = smooth([(-0.31, 0.0), (-0.25, -0.55 * fat), (-0.12, -0.75 * fat), (-0.12, -0.75 * fat), (-0.1, 0.15 * fat),
                   (-0.1, 0.15 * fat)])  # fmt: skip
    tip, rise = (long, -0.5 * fat), draw.uniform(0.08, 0.14)
    boom = tube([(0.1, -0.2 * fat), (0.5 * long, -0.35 * fat), tip], (0.09, 0.05, 0.035))
    fin = polygon(
        (long - 0.06, -0.5 * fat),
        (long, -0.5 * fat - rise),
        (long + 0.05, -0.5 * fat - rise),
        (long + 0.02, -0.3 * fat),
    )
    spin, tilt = draw.uniform(0.25, 0.46), draw.uniform(-0.08, 0.08)
    hub = (-0.06, -fat - 0.07)
    (blades,) = moved((box(-spin, -0.014, draw.uniform(0.25, 0.46), 0.014),), tilt, *hub)
    small = draw.uniform(0, np.pi)
    props = [
        moved((box(-0.08, -0.01, 0.08, 0.01),), small + turn, long + 0.01, -0.5 * fat)[0] for turn in (0.0, np.pi / 2)
    ]
    return [
        part("tail", *boom, fin),
        part("body", cabin, *skids, bar((-0.06, -0.8 * fat), hub, 0.05)),
        part("window", pane),
        part("rotor", blades, ellipse(*hub, 0.03, 0.022)),
        part("rotor", *props),
    ]


def rocket(draw: np.random.Generator) -> Figure:
    """A tall body under a pointed head, with fins, round windows and an engine."""
    wide, low = draw.uniform(0.08, 0.13), draw.uniform(0.24, 0.32)
    trunk = mirrored([(0.85 * wide, -0.22), (wide, -0.05), (0.8 * wide, low), (0.8 * wide, low)])
    nose = mirrored([(0.005, -0.5), (0.005, -0.5), (0.5 * wide, -0.36), (0.88 * wide, -0.2), (0.88 * wide, -0.2)])
    out, drop = draw.uniform(0.1, 0.2), draw.uniform(0.06, 0.16)
    fin = smooth([(0.8 * wide, low - 0.2), (0.8 * wide, low - 0.2), (wide + out, low + 0.3 * drop),
                  (wide + out, low + drop), (wide + out, low + drop), (0.75 * wide, low),
                  (0.75 * wide, low)])  # fmt: skip
    bell = mirrored([(0.35 * wide, low - 0.02), (0.7 * wide, low + 0.1), (0.7 * wide, low + 0.1)])
    holes = np.linspace(-0.1, 0.12, int(draw.integers(1, 4)))
    size = draw.uniform(0.3, 0.42) * wide
    fins = [part("fin", fin), part("fin", fin * (-1, 1))]
    if draw.random() < 0.6:
        fins.append(part("fin", *tube([(0, low - 0.14), (0, low + 0.5 * drop)], (0.2 * wide, 0.35 * wide))))
    return [
        part("engine", bell),
        *fins[:2],
        part("body", trunk),
        part("head", nose),
        *[part("window", ellipse(0, float(y), size)) for y in holes],
        *fins[2:],
    ]
