"""What animals have in common: eyes and legs."""

from __future__ import annotations

from langhops_cli.data.generated.figures.outlines import Outline, Piece, Point, detail, ellipse, joints, part, tube


def eyes_at(places: Outline, radius: float) -> list[Piece]:
    """Eyes at these points, (N, 2)."""
    pairs = [(ellipse(0, 0, radius) + place, ellipse(-0.2 * radius, 0, 0.55 * radius) + place) for place in places]
    return [piece for white, pupil in pairs for piece in (detail(0.95, white), detail(0.05, pupil))]


def leg_from(hip: Point, length: float, width: float, swing: float, bend: float, toe: float) -> Piece:
    """A leg of two bones and a foot that points to the left by `toe`."""
    line = joints(hip, (0.5 * length, 0.45 * length), (swing, swing + bend))
    ankle = line[-1]
    line += [(ankle[0] - 0.3 * toe, ankle[1] + 0.05 * length), (ankle[0] - toe, ankle[1] + 0.05 * length)]
    return part("foot", *tube(line, (1.4 * width, 0.9 * width, 0.65 * width, 0.75 * width)))
