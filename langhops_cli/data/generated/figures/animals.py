"""Beasts, people, fish and birds, in a pose of their own each time; those that have a side look to the left."""

from __future__ import annotations

import numpy as np

from langhops_cli.data.generated.figures.limbs import eyes_at, leg_from
from langhops_cli.data.generated.figures.outlines import (
    Figure,
    Outline,
    detail,
    ellipse,
    flipped,
    joints,
    mirrored,
    moved,
    part,
    polygon,
    smooth,
    tube,
)


def _ears(radius: float, draw: np.random.Generator) -> tuple[Outline, ...]:
    """Ears on a head around the origin: pointed, round, hanging or long."""
    form = int(draw.integers(4))
    if form == 0:
        high = draw.uniform(1.6, 2.3) * radius
        return (
            polygon((-0.3 * radius, -0.7 * radius), (0.0, -high), (0.4 * radius, -0.8 * radius)),
            polygon((0.3 * radius, -0.8 * radius), (0.8 * radius, -0.95 * high), (0.9 * radius, -0.3 * radius)),
        )
    if form == 1:
        return (ellipse(-0.25 * radius, -radius, 0.42 * radius), ellipse(0.65 * radius, -0.8 * radius, 0.42 * radius))
    if form == 2:
        return (ellipse(0.75 * radius, 0.2 * radius, 0.35 * radius, draw.uniform(0.8, 1.2) * radius, -0.2),)
    high = draw.uniform(1.5, 2.2) * radius
    return (
        ellipse(0.1 * radius, -high, 0.26 * radius, high - 0.4 * radius, draw.uniform(-0.2, 0.2)),
        ellipse(0.6 * radius, -0.95 * high, 0.26 * radius, high - 0.5 * radius, draw.uniform(0.2, 0.6)),
    )


def _beast_head(x: float, y: float, radius: float, draw: np.random.Generator) -> Figure:
    """A head with a snout, ears and an eye."""
    snout, deep = draw.uniform(1.2, 2.3) * radius, draw.uniform(0.3, 0.55) * radius
    face = smooth(
        [(radius, -0.2 * radius), (0.5 * radius, -radius), (-0.4 * radius, -0.9 * radius), (-0.8 * snout, -0.7 * deep),
         (-snout, 0.1 * deep), (-0.8 * snout, deep), (-0.3 * radius, 0.85 * radius), (0.6 * radius, 0.75 * radius)]
    )  # fmt: skip
    tilt = draw.uniform(-0.45, 0.25)
    shapes = moved((face, *_ears(radius, draw)), tilt, x, y)
    (eye,) = moved((polygon((-0.3 * radius, -0.35 * radius)),), tilt, x, y)
    (nose,) = moved((ellipse(-0.93 * snout, -0.1 * deep, 0.13 * radius),), tilt, x, y)
    return [part("head", *shapes), *eyes_at(eye, draw.uniform(0.16, 0.26) * radius), detail(0.05, nose)]


def quadruped(draw: np.random.Generator) -> Figure:
    """Four legs below a long body: anything from a dachshund to a giraffe."""
    long, high = draw.uniform(0.25, 0.36), draw.uniform(0.11, 0.18)
    leg, width = draw.uniform(0.18, 0.38), draw.uniform(0.055, 0.1)
    swing, bend = draw.uniform(-0.4, 0.4, size=4), draw.uniform(-0.35, 0.35, size=4)
    hips = [
        (-0.62 * long, 0.45 * high),
        (0.85 * long, 0.4 * high),
        (-0.85 * long, 0.4 * high),
        (0.68 * long, 0.5 * high),
    ]
    legs = [leg_from(hips[n], leg + 0.4 * high, width, swing[n], bend[n], draw.uniform(0.02, 0.07)) for n in range(4)]
    trunk = smooth(
        [(-long, -0.55 * high), (-0.5 * long, -0.95 * high), (0, -high * draw.uniform(0.7, 1.05)),
         (0.6 * long, -high), (1.02 * long, -0.55 * high), (1.06 * long, 0.3 * high), (0.7 * long, 0.8 * high),
         (0, high * draw.uniform(0.6, 1.0)), (-0.7 * long, 0.95 * high), (-1.08 * long, 0.2 * high)]
    )  # fmt: skip
    rise, reach = draw.uniform(0.2, 1.25), draw.uniform(0.12, 0.32)
    radius = draw.uniform(0.075, 0.11)
    x, y = -0.85 * long - reach * float(np.cos(rise)), -0.3 * high - reach * float(np.sin(rise))
    neck = tube([(-0.7 * long, -0.2 * high), (x, y)], (1.5 * high, 1.5 * radius))
    return [
        *legs[:2],
        part("tail", *_beast_tail(long, high, draw)),
        part("body", trunk, *neck),
        *legs[2:],
        *_beast_head(x, y, radius, draw),
    ]


def _beast_tail(long: float, high: float, draw: np.random.Generator) -> tuple[Outline, ...]:
    length, lift = draw.uniform(0.2, 0.36), draw.uniform(0.5, 2.6)
    line = joints((0.97 * long, -0.5 * high), (0.4 * length, 0.35 * length, 0.25 * length),
                  (lift, lift + draw.uniform(-0.6, 0.6), lift + draw.uniform(-1.2, 1.2)))  # fmt: skip
    form = int(draw.integers(3))
    if form == 0:
        return tube(line, (0.05, 0.1, 0.12, 0.03))
    if form == 1:
        return (*tube(line, (0.04, 0.03, 0.025)), ellipse(*line[-1], 0.04, 0.06, -lift))
    return tube(line, (0.07, 0.05, 0.02))


def biped(draw: np.random.Generator) -> Figure:
    """An upright body seen from the front, with arms that end in hands, two legs and a tail."""
    wide, tall = draw.uniform(0.1, 0.16), draw.uniform(0.2, 0.27)
    limb = draw.uniform(0.06, 0.095)
    trunk = mirrored([(0.4 * wide, -tall), (wide, -0.8 * tall), (draw.uniform(0.7, 1.1) * wide, 0.1 * tall),
                      (draw.uniform(0.9, 1.25) * wide, 0.75 * tall), (0.5 * wide, tall)])  # fmt: skip
    feet, hands = [], []
    for side in (-1, 1):
        spread, bend = draw.uniform(0.02, 0.5), draw.uniform(-0.5, 0.15)
        knee = joints((side * 0.55 * wide, 0.7 * tall), (0.17, 0.17), (side * spread, side * (spread + bend)))
        toe = (knee[-1][0] + side * 0.07, knee[-1][1] + 0.02)
        feet.append(part("foot", *tube([*knee, toe], (1.3 * limb, limb, 0.8 * limb, 0.9 * limb))))
        lift, fold = draw.uniform(0.25, 2.4), draw.uniform(-0.2, 1.4)
        elbow = joints((side * 0.8 * wide, -0.72 * tall), (0.15, 0.15), (side * lift, side * (lift + fold)))
        arm = tube(elbow, (limb, 0.75 * limb, 0.6 * limb))
        hands.append(part("hand", *arm, ellipse(*elbow[-1], 0.6 * limb, 0.65 * limb)))
    side = 1 if draw.random() < 0.5 else -1
    line = joints((0, 0.8 * tall), (0.16, 0.14, 0.14), tuple(side * draw.uniform((0.9, 1.2, 1.8), (1.5, 2.6, 4.0))))
    front = int(draw.integers(1, 3)) if draw.random() < 0.6 else 0
    head = _face(0.0, -tall - 0.09, draw.uniform(0.085, 0.125), draw)
    return [
        part("tail", *tube(line, (0.07, 0.055, 0.025))),
        *feet,
        *hands[front:],
        part("body", trunk),
        *hands[:front],
        *head,
    ]


def _face(x: float, y: float, radius: float, draw: np.random.Generator) -> Figure:
    """A head from the front, with ears or horns, eyes and a mouth."""
    skull = ellipse(0, 0, radius, radius * draw.uniform(0.95, 1.25))
    form = int(draw.integers(3))
    if form == 0:
        ear: Outline = ellipse(0.95 * radius, -0.1 * radius, 0.35 * radius)
    elif form == 1:
        ear = polygon((0.3 * radius, -0.8 * radius), (0.85 * radius, -1.7 * radius), (0.95 * radius, -0.3 * radius))
    else:
        ear = ellipse(0.55 * radius, -1.3 * radius, 0.25 * radius, 0.8 * radius, 0.3)
    turn = draw.uniform(-0.25, 0.25)
    gaze = draw.uniform(-0.2, 0.2) * radius
    shapes = moved((skull, ear, *flipped([ear])), turn, x, y)
    (places,) = moved((polygon((gaze - 0.4 * radius, -0.02), (gaze + 0.4 * radius, -0.02)),), turn, x, y)
    (mouth,) = moved((ellipse(gaze, 0.5 * radius, 0.35 * radius, 0.12 * radius),), turn, x, y)
    size = draw.uniform(0.14, 0.22) * radius
    return [part("head", *shapes), *eyes_at(places, size), detail(0.1, mouth)]


def fish(draw: np.random.Generator) -> Figure:
    """A body between a head and a tail, with fins above, below and on the side."""
    high, back = draw.uniform(0.1, 0.22), draw.uniform(0.2, 0.28)
    bow = draw.uniform(-0.05, 0.05)
    trunk = smooth(
        [(-0.38, 0.02), (-0.3, -0.55 * high), (-0.08, -high), (0.12, -0.75 * high), (back + 0.06, -0.03 + bow),
         (back + 0.06, 0.03 + bow), (0.12, 0.75 * high), (-0.08, high), (-0.3, 0.6 * high)]
    )  # fmt: skip
    gill = draw.uniform(0.45, 0.8) * high
    face = smooth([(-0.4, 0.02), (-0.3, -0.57 * high), (-0.18, -0.86 * high), (-0.13 - 0.02, -0.4 * gill),
                   (-0.13, 0.1 * gill), (-0.18, 0.88 * high), (-0.3, 0.62 * high)])  # fmt: skip
    spread, deep = draw.uniform(0.12, 0.26), draw.uniform(0.02, 0.1)
    end = (back, bow)
    tail = smooth([end, end, (back + 0.1, bow - 0.5 * spread), (0.48, bow - spread), (0.48, bow - spread),
                   (0.48 - deep, bow), (0.48, bow + spread), (0.48, bow + spread),
                   (back + 0.1, bow + 0.5 * spread)])  # fmt: skip
    rise, sweep = draw.uniform(0.08, 0.2), draw.uniform(0.0, 0.14)
    fins = [
        part("fin", smooth([(-0.16, -0.8 * high), (-0.06 + sweep, -high - rise), (0.06 + sweep, -high - 0.7 * rise),
                            (0.16, -0.6 * high), (0.0, -0.5 * high)])),
        part("fin", smooth([(-0.06, 0.7 * high), (0.04 + sweep, high + 0.8 * rise), (0.12 + sweep, high + 0.4 * rise),
                            (0.15, 0.55 * high)])),
    ]  # fmt: skip
    flap = moved(
        (smooth([(0, 0), (0.1, -0.05), (0.15, 0.02), (0.09, 0.07)]),), draw.uniform(-0.3, 0.8), -0.1, 0.2 * high
    )
    return [
        part("tail", tail),
        *fins,
        part("body", trunk),
        part("head", face),
        *eyes_at(polygon((-0.29, -0.12 * high)), draw.uniform(0.018, 0.03)),
        part("fin", *flap),
    ]


def bird(draw: np.random.Generator) -> Figure:
    """A body with wings, a tail, two feet, and a head with a beak; it stands or flies."""
    fat, tilt = draw.uniform(0.1, 0.16), draw.uniform(0.0, 0.45)
    trunk = smooth([(-0.27, -0.05), (-0.12, -fat), (0.1, -0.9 * fat), (0.28, -0.01), (0.12, 0.8 * fat), (-0.12, fat)])
    fan, length = draw.uniform(0.04, 0.12), draw.uniform(0.14, 0.26)
    tail = smooth([(0.18, -0.03), (0.24 + length, -fan), (0.24 + length, -fan), (0.26 + length, 0.02),
                   (0.24 + length, fan), (0.24 + length, fan), (0.18, 0.05)])  # fmt: skip
    flying = draw.random() < 0.45
    span = draw.uniform(0.32, 0.46)
    wing = [(-0.08, 0.02), (0.0, -0.3 * span), (0.1, -0.75 * span), (0.24, -span), (0.26, -0.8 * span),
            (0.28, -0.5 * span), (0.22, -0.2 * span), (0.14, 0.04)]  # fmt: skip
    folded = [
        (-0.14, -0.03),
        (0.0, -0.6 * fat),
        (0.16, -0.35 * fat),
        (0.36, 0.1),
        (0.12, 0.4 * fat),
        (-0.08, 0.35 * fat),
    ]
    neck = draw.uniform(0.02, 0.14)
    radius = draw.uniform(0.065, 0.095)
    x, y = -0.27 - 0.6 * neck, -0.1 - neck
    turn = moved((trunk, tail), -tilt * 0.4)
    lift = draw.uniform(-1.0, 0.8)
    behind = moved((smooth(wing),), lift + draw.uniform(0.2, 0.5), 0.0, -0.02)
    before = moved((smooth(wing),), lift - 0.1, 0.04, 0.02) if flying else moved((smooth(folded),), -tilt * 0.4)
    stretch = 0.5 if flying else 1.0
    legs = []
    for hip in (-0.02, 0.07):
        swing, length = (1.0, 0.12) if flying else (draw.uniform(-0.25, 0.25), draw.uniform(0.16, 0.3))
        knee, ankle = joints((hip, 0.7 * fat), (0.5 * length, 0.5 * length), (swing + 0.25, swing - 0.2))[1:]
        toes = tube([(ankle[0] - 0.07 * stretch, ankle[1] + 0.01), ankle, (ankle[0] + 0.03, ankle[1])], (0.022, 0.022))
        legs.append(part("foot", *tube([(hip, 0.6 * fat), knee, ankle], (0.05, 0.026, 0.024)), *toes))
    beak = draw.uniform(0.06, 0.16)
    bill = smooth([(x - 0.7 * radius, y - 0.4 * radius), (x - radius - beak, y + 0.15 * radius),
                   (x - radius - beak, y + 0.15 * radius), (x - 0.7 * radius, y + 0.55 * radius)])  # fmt: skip
    throat = tube([(-0.18, -0.02), (x, y)], (1.1 * fat, 1.3 * radius))
    return [
        *([part("wing", *behind)] if flying else []),
        *legs,
        part("tail", turn[1]),
        part("body", turn[0], *throat),
        part("head", ellipse(x, y, radius), bill),
        detail(draw.uniform(0.1, 0.9), bill),
        *eyes_at(polygon((x - 0.25 * radius, y - 0.25 * radius)), 0.25 * radius),
        part("wing", *before),
    ]
