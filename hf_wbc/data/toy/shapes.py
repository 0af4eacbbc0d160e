"""Outlines: signed distances in um, positive inside, of what a smear is made of."""

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.toy.canvas import Plane

ANGLES = 512
WAVES = np.arange(2, 9)
_TURN = np.exp(2j * np.pi / ANGLES * WAVES[:, None] * np.arange(ANGLES))

Discs = NDArray[np.float32]
"""(M, 3): x, y and radius of each disc, in um."""


def wobble(rng: np.random.Generator, num: int, irregularity: float, ellipticity: float) -> Plane:
    """Radius by angle (num, ANGLES), relative to 1: ellipses with a smooth irregular outline.

    `ellipticity` is the standard deviation of the ellipse's share.
    """
    height = rng.normal(0, irregularity, (num, len(WAVES))) * (3 / WAVES) ** 1.3
    height[:, 0] = rng.normal(0, ellipticity, num)
    waves = height * np.exp(1j * rng.uniform(0, 2 * np.pi, height.shape))
    return np.asarray(1 + np.einsum("nw,wa->na", waves, _TURN).real, np.float32)


def length(x: Plane, y: Plane) -> Plane:
    """Distance from the origin; quicker than numpy.hypot, which guards against overflow."""
    return np.asarray(np.sqrt(x * x + y * y), np.float32)


def polar(x: Plane, y: Plane, outline_um: Plane) -> tuple[Plane, Plane]:
    """Distance from the origin, and radius of the outline in the same direction."""
    turn = np.arctan2(y, x) * np.float32(ANGLES / (2 * np.pi))
    return length(x, y), outline_um[turn.astype(np.int32)]


def union(discs: Discs, x: Plane, y: Plane, blend_um: float = 0.12) -> Plane:
    """Smooth union of discs, signed distance (n, n)."""
    total = np.full(np.broadcast_shapes(x.shape, y.shape), 1e-30, np.float32)
    for cx, cy, radius in discs.astype(np.float32):
        inside = (radius - length(x - cx, y - cy)) * np.float32(1 / blend_um)
        total += np.exp(np.minimum(inside, 80, out=inside), out=inside)
    return np.asarray(np.log(total) * np.float32(blend_um), np.float32)
