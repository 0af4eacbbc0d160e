"""Schematic drawings to scale of the eleven classes, as they appear in a stained smear.

A nucleus is a union of discs: a list of (x, y, radius), in fractions of the cell's radius, can
represent any shape from the round nucleus of a blast to the lobes of a neutrophil.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import cos, hypot, pi, radians, sin, sqrt

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection

Disc = tuple[float, float, float]
CHROMATIN = "#6a4a9c"
EDGE = "#3a2560"
GOLDEN_ANGLE = pi * (3 - sqrt(5))


@dataclass(frozen=True)
class Granules:
    """Dots in the cytoplasm."""

    color: str
    num: int
    radius: float
    over_nucleus: bool = False


@dataclass(frozen=True)
class CellStyle:
    """Appearance of a class."""

    diameter_um: float
    """Typical diameter on a smear in um."""
    cytoplasm: str
    nucleus: tuple[Disc, ...]
    chromatin: str = CHROMATIN
    nucleoli: tuple[Disc, ...] = ()
    granules: Granules | None = None
    vacuoles: tuple[Disc, ...] = ()


def line(start: Disc, end: Disc, num: int = 24) -> tuple[Disc, ...]:
    """Return `num` discs, interpolated from one disc to another."""
    return tuple((float(x), float(y), float(r)) for x, y, r in np.linspace(start, end, num=num))


def arc(
    x: float, y: float, bend: float, first_deg: float, last_deg: float, radius: float
) -> tuple[Disc, ...]:
    """Return discs of equal radius along a circular arc: a kidney, a horseshoe or a band.

    Args:
        x: Center of the circle.
        y: Center of the circle.
        bend: Radius of the circle.
        first_deg: Angle of the first disc in degrees.
        last_deg: Angle of the last disc in degrees.
        radius: Radius of the discs.
    """
    angles = (radians(angle) for angle in np.linspace(first_deg, last_deg, 40))
    return tuple((x + bend * cos(a), y + bend * sin(a), radius) for a in angles)


def lobes(*centers: Disc, strand: float) -> tuple[Disc, ...]:
    """Return the given discs, joined by thin strands of radius `strand`."""
    joints = (line((*a[:2], strand), (*b[:2], strand)) for a, b in pairwise(centers))
    return centers + tuple(disc for joint in joints for disc in joint)


LOOKS = {
    "basophil": CellStyle(
        12.5,
        "#ddd3ec",
        lobes((-0.24, 0.2, 0.44), (0.26, -0.14, 0.42), strand=0.2),
        granules=Granules("#33205c", 46, 0.085, over_nucleus=True),
    ),
    "eosinophil": CellStyle(
        14,
        "#f6dccb",
        lobes((-0.36, 0.16, 0.37), (0.36, 0.16, 0.37), strand=0.11),
        granules=Granules("#e0672f", 88, 0.072),
    ),
    "erythroblast": CellStyle(10.5, "#cbbfd0", ((0, 0, 0.6),), chromatin="#3b2560"),
    "myeloblast": CellStyle(
        16,
        "#9db4dd",
        ((0.06, -0.02, 0.84),),
        chromatin="#8467b3",
        nucleoli=((-0.22, 0.26, 0.15), (0.34, 0.14, 0.13), (0.04, -0.36, 0.13)),
    ),
    "promyelocyte": CellStyle(
        19,
        "#b3c2e4",
        line((-0.24, 0.02, 0.62), (-0.16, 0.12, 0.62), num=2),
        chromatin="#7d60ad",
        nucleoli=((-0.4, 0.26, 0.11), (-0.02, -0.08, 0.1)),
        granules=Granules("#8a2f7c", 120, 0.04),
    ),
    "myelocyte": CellStyle(
        16,
        "#dfd3e8",
        line((-0.36, -0.1, 0.47), (-0.14, 0.26, 0.47)),
        granules=Granules("#b58ab5", 100, 0.032),
    ),
    "metamyelocyte": CellStyle(
        14.5,
        "#eedbe3",
        arc(0.14, 0, 0.42, 105, 255, 0.34),
        granules=Granules("#c79fb9", 90, 0.032),
    ),
    "neutrophil_banded": CellStyle(
        13,
        "#f5e0e1",
        arc(0.05, 0, 0.5, 50, 310, 0.185),
        granules=Granules("#d3a9b4", 90, 0.032),
    ),
    "neutrophil_segmented": CellStyle(
        13,
        "#f8e4e0",
        lobes(
            (0.3, 0.42, 0.25),
            (-0.28, 0.38, 0.27),
            (-0.42, -0.2, 0.26),
            (0.16, -0.42, 0.28),
            strand=0.055,
        ),
        granules=Granules("#d9aeb2", 90, 0.032),
    ),
    "monocyte": CellStyle(
        17.5,
        "#b9c3d6",
        (*arc(0.12, 0.02, 0.43, 75, 290, 0.3), (-0.16, 0.02, 0.3)),
        chromatin="#7659a6",
        vacuoles=((0.66, 0.34, 0.07), (0.78, 0.06, 0.06), (0.5, 0.62, 0.05), (0.66, -0.4, 0.06)),
    ),
    "lymphocyte_typical": CellStyle(9.5, "#a5c8ea", ((-0.05, 0.03, 0.84),), chromatin="#57388f"),
}


def draw_cell(axes: Axes, name: str, x: float, y: float, per_um: float) -> float:
    """Draw a cell of a class.

    Args:
        axes: Axes to draw on.
        name: Class name.
        x: Center of the cell in data units.
        y: Center of the cell in data units.
        per_um: Data units per um.

    Returns:
        Radius of the cell in data units.
    """
    look = LOOKS[name]
    radius = look.diameter_um / 2 * per_um
    rim = 0.035 * 16 / look.diameter_um

    def put(discs: Sequence[Disc], color: str, grow: float = 0.0) -> None:
        if not discs:
            return
        places = [(x + a * radius, y + b * radius) for a, b, _ in discs]
        sizes = [2 * (r + grow) * radius for _, _, r in discs]
        axes.add_collection(
            EllipseCollection(
                sizes,
                sizes,
                np.zeros(len(discs)),
                units="xy",
                offsets=places,
                offset_transform=axes.transData,
                facecolor=color,
                linewidth=0,
                zorder=3,
            )
        )

    put([(0, 0, 1)], EDGE)
    put([(0, 0, 1)], look.cytoplasm, -rim)
    dots = _dots(look)
    if look.granules and not look.granules.over_nucleus:
        put(dots, look.granules.color)
    put(look.nucleus, EDGE, rim)
    put(look.nucleus, look.chromatin)
    put(look.nucleoli, "#b7a3d6")
    put(look.vacuoles, "#f4f6fa")
    if look.granules and look.granules.over_nucleus:
        put(dots, look.granules.color)
    return radius


def _dots(look: CellStyle) -> list[Disc]:
    """Return the visible granules, in a sunflower pattern that fills a disc evenly."""
    granules = look.granules
    if not granules:
        return []
    reach = 0.9 - granules.radius
    spiral = [
        (reach * sqrt((k + 0.5) / granules.num), k * GOLDEN_ANGLE) for k in range(granules.num)
    ]
    dots = [(r * cos(angle), r * sin(angle), granules.radius) for r, angle in spiral]
    if granules.over_nucleus:
        return dots
    gap = granules.radius + 0.03
    return [
        (a, b, r)
        for a, b, r in dots
        if all(hypot(a - x, b - y) > size + gap for x, y, size in look.nucleus)
    ]
