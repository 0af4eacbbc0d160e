"""Nuclei as unions of discs along a spine, in units of the cell's radius.

One family leads from the myelocyte's oval over the kidney to the band: an arc whose span grows as
its thickness shrinks. Lobes are thick stretches of a spine that a strand joins.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from hf_wbc.data.toy.shapes import Discs

Rng = np.random.Generator


def arc(radius: float, span: float, num: int) -> Discs:
    """Centres (num, 3) along an arc of `span` radians, about their own centroid; radii are 0."""
    angle = np.linspace(-span / 2, span / 2, num)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle), 0 * angle], 1)
    return np.asarray(points - points.mean(0), np.float32)


def round_(rng: Rng, size: float) -> Discs:
    """One nearly round body; `size` is its radius."""
    length = size * rng.uniform(0.05, 0.3)
    discs = arc(10.0, length / 5, 3)
    discs[:, 2] = size - length / 2
    return discs


def oval(rng: Rng, size: float) -> Discs:
    """The myelocyte: an oval with one side flattened at most."""
    discs = arc(size * rng.uniform(0.35, 0.6), rng.uniform(0.9, 1.8), 5)
    discs[:, 2] = size * rng.uniform(0.7, 0.8)
    return discs


def kidney(rng: Rng, size: float) -> Discs:
    """The metamyelocyte: indented up to half of its width."""
    discs = arc(size * rng.uniform(0.6, 0.74), rng.uniform(2.2, 3.2), 8)
    discs[:, 2] = size * rng.uniform(0.44, 0.56)
    return discs


def band(rng: Rng, size: float) -> Discs:
    """A ribbon of nearly even width: a horseshoe, or bent to an S."""
    discs = arc(size * rng.uniform(0.85, 1.0), rng.uniform(3.0, 4.7), 19)
    if rng.random() < 0.25:
        half = len(discs) // 2
        discs[:half, 0] = 2 * discs[half, 0] - discs[:half, 0]
        discs[:, :2] = 0.78 * (discs[:, :2] - discs[:, :2].mean(0))
    waist = 1 - rng.uniform(0, 0.3) * np.cos(np.linspace(-1.5, 1.5, len(discs))) ** 2
    swell = 1 + 0.1 * np.cos(np.linspace(0, rng.uniform(3, 12), len(discs)))
    discs[:, 2] = size * rng.uniform(0.37, 0.46) * waist * swell
    return discs


def segments(rng: Rng, size: float) -> Discs:
    """Two to five lobes, joined by threads."""
    num = int(rng.choice([2, 3, 4, 5], p=[0.17, 0.45, 0.3, 0.08]))
    return lobes(rng, size, num, radius=0.70 - 0.06 * num, strand=0.13)


def bilobed(rng: Rng, size: float) -> Discs:
    """The eosinophil: two plump lobes, rarely three, with a short bridge."""
    num = 2 if rng.random() < 0.85 else 3
    return lobes(rng, size, num, radius=0.72 - 0.07 * num, strand=0.15)


def folded(rng: Rng, size: float) -> Discs:
    """The monocyte: a bulky nucleus, indented, folded or lobulated, no two alike."""
    discs = arc(size * rng.uniform(0.45, 0.75), rng.uniform(1.6, 4.0), 9)
    knobs = 1 + rng.uniform(0.0, 0.25) * np.cos(np.linspace(0, rng.uniform(4, 9), len(discs)))
    discs[:, 2] = size * rng.uniform(0.52, 0.62) * knobs
    return discs


def lobes(rng: Rng, size: float, num: int, radius: float, strand: float) -> Discs:
    """`num` lobes along an open ring, each a short ribbon, and the strands between them."""
    step = rng.uniform(1.9, 2.6) if num == 2 else rng.uniform(3.4, 4.6) / (num - 1)
    angle = step * np.arange(num) + rng.normal(0, 0.15, num)
    reach = size * (0.8 if num < 4 else 0.9) * (1 + rng.normal(0, 0.12, num))
    centres = np.stack([reach * np.cos(angle), reach * np.sin(angle)], 1)
    parts: list[list[float]] = []
    for centre, turn in zip(centres, angle, strict=True):
        thick = size * radius * rng.uniform(0.85, 1.12)
        along = turn + np.pi / 2 + rng.normal(0, 0.6)
        lean = thick * rng.uniform(0.25, 0.75) * np.array([np.cos(along), np.sin(along)])
        for shift in (-1.0, 0.0, 1.0):
            parts.append([*(centre + shift * lean), thick * rng.uniform(0.75, 1.0)])
    for a, b in pairwise(centres):
        bow = 0.12 * size * rng.normal(size=2)
        for t in np.linspace(0.3, 0.7, 5):
            parts.append([*(a + t * (b - a) + bow * np.sin(np.pi * t)), size * strand])
    discs = np.asarray(parts, np.float32)
    discs[:, :2] -= centres.mean(0)
    return discs


SHAPES: dict[str, Callable[[Rng, float], Discs]] = {
    "round": round_,
    "oval": oval,
    "kidney": kidney,
    "band": band,
    "segments": segments,
    "bilobed": bilobed,
    "folded": folded,
}
