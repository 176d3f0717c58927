"""What a generated scene shows and where: decided by its seed alone, whatever size it is drawn at.

Coordinates are shares of the picture's side, 0..1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import numpy as np

from langhops_cli.data.generated.figures import KINDS
from langhops_cli.data.generated.figures.outlines import (
    Figure,
    Outline,
    Piece,
    ellipse,
    part,
    rotation,
    smooth,
    stencil,
    tube,
)
from langhops_cli.data.generated.paint import Paint, mix_colour, mix_paint, plain

OBJECTS = np.cumsum([0.18, 0.26, 0.22, 0.16, 0.11, 0.07])
"""How often a scene is meant to hold one, two .. six objects; where there is no room it holds fewer."""
MOST_OBJECTS = len(OBJECTS)
LEAST_SEEN = 0.45
"""Things are placed so that at least this share of what each object shows of itself stays in sight."""
LEAST_INSIDE = 0.6
"""At least this share of an object lies inside the picture."""
ATTEMPTS = 6
GRID = 64
"""Cells a side in which it is measured what hides what."""


@dataclass(frozen=True)
class Thing:
    """An object, or something unnamed that is only in the way.

    Args:
        kind: name of the object; None for something unnamed.
        pieces: from the farthest to the nearest.
        paints: one for each piece.
        centre: where its patterns start, (2,); scale: the side of a unit of them.
        relief: how rounded its pieces look, 0..1.
        line: how dark their edges are drawn, 0..1.
    """

    kind: str | None
    pieces: tuple[Piece, ...]
    paints: tuple[Paint, ...]
    centre: np.ndarray
    scale: float
    relief: float
    line: float


@dataclass(frozen=True)
class Composition:
    """A scene before it is drawn.

    Args:
        backdrops: paints of the background with the height that each starts at.
        behind: unnamed things of the background.
        haze: how much the background is blurred, as a share of the side.
        things: objects and unnamed things from back to front.
        light: where light comes from, (2,), of length 1.
        glow: how much brighter the lit side of the picture is, 0..1.
        shadow: how dark shadows are, 0..1.
        grain: the most that noise changes a pixel by, 0..255; seed: decides it.
    """

    backdrops: tuple[tuple[Paint, float], ...]
    behind: tuple[Thing, ...]
    haze: float
    things: tuple[Thing, ...]
    light: np.ndarray
    glow: float
    shadow: float
    grain: float
    seed: int


def compose(draw: np.random.Generator, kinds: Sequence[str], *, first: str, most: int = MOST_OBJECTS) -> Composition:
    """Decide a scene: a background, and one to six objects and what hides them from back to front.

    Args:
        draw: decides all.
        kinds: what its objects may be.
        first: the kind that it holds at least once.
        most: how many objects it holds at most.
    """
    wanted = min(1 + int(np.searchsorted(OBJECTS, draw.random() * OBJECTS[-1])), most)
    chosen = [first, *(kinds[int(draw.integers(len(kinds)))] for _ in range(wanted - 1))]
    ground = mix_colour(draw, vivid=0.6)
    backdrops = [(mix_paint(draw, ground), 0.0)]
    if draw.random() < 0.4:
        backdrops.append((mix_paint(draw, mix_colour(draw, vivid=0.6)), draw.uniform(0.35, 0.8)))
    plan = _Plan()
    things: list[Thing] = []
    for number, kind in enumerate(chosen):
        if draw.random() < 0.3 and number:
            _try(plan, things, partial(_in_front, draw, things))
        _try(plan, things, partial(_placed, draw, _object(draw, kind, ground), wanted))
    if draw.random() < 0.5:
        _try(plan, things, partial(_in_front, draw, things))
    angle = draw.uniform(0, 2 * np.pi)
    behind = [
        _blot(draw, draw.uniform(-0.05, 1.05, size=2), 0.06 * 10 ** draw.random())
        for _ in range(int(draw.integers(0, 12)))
    ]
    return Composition(
        tuple(backdrops),
        tuple(behind),
        haze=draw.uniform(0.003, 0.025) if draw.random() < 0.35 else 0.0,
        things=tuple(things),
        light=np.array([np.cos(angle), np.sin(angle)]),
        glow=draw.uniform(0, 0.35),
        shadow=draw.uniform(0.2, 0.5) if draw.random() < 0.6 else 0.0,
        grain=draw.uniform(1, 16) if draw.random() < 0.6 else 0.0,
        seed=int(draw.integers(2**32)),
    )


class _Plan:
    """Who is seen in which cell of a coarse grid, the picture in the middle of a larger one."""

    def __init__(self) -> None:
        self.owner = np.full((GRID, GRID), -1)
        self.whole: list[int] = []

    def take(self, thing: Thing) -> bool:
        """Put a thing in front of all others, unless it hides too much of one or shows too little of itself."""
        cells = np.asarray(stencil(thing.pieces, (2 * GRID, 2 * GRID), scale=GRID, shift=np.full(2, 0.5))) > 0
        covered = cells[GRID // 2 : -GRID // 2, GRID // 2 : -GRID // 2]
        inside = int(covered.sum())
        if inside < LEAST_INSIDE * cells.sum() or inside < 12:
            return False
        left = np.bincount(self.owner[(self.owner >= 0) & ~covered], minlength=len(self.whole))
        if any(seen < LEAST_SEEN * area for seen, area in zip(left, self.whole, strict=True)):
            return False
        if thing.kind is None:
            self.owner[covered] = -1
        else:
            self.owner[covered] = len(self.whole)
            self.whole.append(inside)
        return True


def _try(plan: _Plan, things: list[Thing], make: Callable[[], Thing]) -> None:
    """Add a thing where there is room for it, and the first object anyhow."""
    for _ in range(ATTEMPTS):
        thing = make()
        if plan.take(thing):
            things.append(thing)
            return
    if not plan.whole:
        away = 0.5 - thing.centre
        centred = replace(thing, pieces=_moved(thing.pieces, lambda points: points + away), centre=thing.centre + away)
        plan.take(centred)
        things.append(centred)


def _moved(pieces: Sequence[Piece], move: Callable[[Outline], Outline]) -> tuple[Piece, ...]:
    """The pieces with all their points moved."""
    outlines = [outline for piece in pieces for outline in (*piece.outlines, *piece.holes)]
    ends = np.cumsum([len(outline) for outline in outlines])
    split = iter(np.split(move(np.concatenate(outlines)), ends[:-1]))
    return tuple(
        Piece(piece.name, tuple(islice(split, len(piece.outlines))), tuple(islice(split, len(piece.holes))), piece.tone)
        for piece in pieces
    )


def _object(draw: np.random.Generator, kind: str, ground: np.ndarray) -> Thing:
    """An object with its longer side 1, around the origin."""
    figure = KINDS[kind](draw)
    points = np.concatenate([outline for piece in figure for outline in piece.outlines])
    low, high = points.min(axis=0), points.max(axis=0)
    middle, longest = (low + high) / 2, (high - low).max()
    pieces = _moved(figure, lambda points: (points - middle) / longest)
    line = draw.uniform(0.3, 0.9) if draw.random() < 0.45 else 0.0
    return Thing(kind, pieces, _paints(draw, figure, ground), np.zeros(2), 1.0, draw.uniform(0.2, 1.0), line)


def _placed(draw: np.random.Generator, thing: Thing, crowd: int) -> Thing:
    """An object seen from somewhere: mirrored, turned, stretched, sheared, in perspective, near or far."""
    scale = min(0.95, 0.6 * 2.0 ** draw.uniform(-1, 1) / crowd**0.25)
    turn = draw.normal(0, 0.16) if draw.random() < 0.85 else draw.uniform(-np.pi, np.pi)
    mirror = -1.0 if draw.random() < 0.5 else 1.0
    across, down = draw.uniform((0.8, 0.85), (1.2, 1.15))
    lean, slant = draw.normal(0, 0.08, size=2)
    matrix = (scale * rotation(turn) @ np.array([[mirror * across, lean], [slant, down]])).T
    vanish = draw.uniform(-0.3, 0.3, size=2)
    centre = draw.uniform(-0.02, 1.02, size=2) if crowd > 1 else draw.uniform(0.25, 0.75, size=2)
    pieces = _moved(thing.pieces, lambda points: (points / (1 + points @ vanish)[:, None]) @ matrix + centre)
    return replace(thing, pieces=pieces, centre=centre, scale=scale)


def _paints(draw: np.random.Generator, figure: Figure, ground: np.ndarray) -> tuple[Paint, ...]:
    """Paints of an object: its parts alike, akin or different; parts of one name mostly share one."""
    base = mix_colour(draw, unlike=ground)
    form, shared = draw.random(), draw.random() < 0.85
    whole = mix_paint(draw, base)
    known: dict[str, Paint] = {}
    paints: list[Paint] = []
    for piece in figure:
        if piece.tone is not None:
            paints.append(plain(np.clip(255 * piece.tone * draw.uniform(0.85, 1.1, size=3), 0, 255)))
            continue
        if piece.name not in known or not shared:
            if form < 0.25:
                known[piece.name] = whole
            elif form < 0.5:
                known[piece.name] = mix_paint(
                    draw, np.clip(base * draw.uniform(0.6, 1.4) + draw.normal(0, 15, 3), 0, 255)
                )
            else:
                known[piece.name] = mix_paint(draw, mix_colour(draw, unlike=ground))
        paints.append(known[piece.name])
    return tuple(paints)


def _in_front(draw: np.random.Generator, things: Sequence[Thing]) -> Thing:
    """Something unnamed, mostly where it hides a little of what is there."""
    centre = draw.uniform(-0.05, 1.05, size=2)
    if draw.random() < 0.7:
        hidden = things[int(draw.integers(len(things)))]
        centre = hidden.centre + draw.normal(0, 0.3 * hidden.scale, size=2)
    return _blot(draw, centre, draw.uniform(0.08, 0.35))


def _blot(draw: np.random.Generator, centre: np.ndarray, scale: float) -> Thing:
    """Something unnamed: a blob, a polygon, a disc, a ring, a bar or a bent band."""
    form = int(draw.integers(6))
    if form == 0:
        angles = np.linspace(0, 2 * np.pi, int(draw.integers(5, 10)), endpoint=False)
        away = draw.uniform(0.2, 0.5, size=len(angles))
        piece = part("", smooth(np.stack([away * np.cos(angles), away * np.sin(angles)], axis=1)))
    elif form == 1:
        angles = np.sort(draw.uniform(0, 2 * np.pi, size=int(draw.integers(3, 7))))
        piece = part("", 0.5 * np.stack([np.cos(angles), np.sin(angles)], axis=1))
    elif form in (2, 3):
        rx, ry, turn = draw.uniform(0.2, 0.5), draw.uniform(0.2, 0.5), draw.uniform(0, np.pi)
        rim = ellipse(0, 0, rx, ry, turn)
        piece = part("", rim, holes=[rim * draw.uniform(0.4, 0.8)] if form == 3 else ())
    elif form == 4:
        wide = draw.uniform(0.03, 0.3)
        piece = part(
            "", np.array([(-0.5, -wide), (0.5, -wide), (0.5, wide), (-0.5, wide)]) @ rotation(draw.uniform(0, np.pi))
        )
    else:
        piece = part("", *tube(draw.uniform(-0.5, 0.5, size=(4, 2)), draw.uniform(0.03, 0.25, size=3)))
    placed = _moved([piece], lambda points: points * scale + centre)
    line = draw.uniform(0.3, 0.9) if draw.random() < 0.35 else 0.0
    return Thing(None, placed, (mix_paint(draw, mix_colour(draw)),), centre, scale, draw.uniform(0, 1), line)
