"""The physical canvas of a toy smear: planes of dye, measured in um.

Everything is drawn in um on one lattice and then sampled at a scanner's scale, so that 25 um are
the same in every domain. A plane contains the amount of one dye; their sum absorbs the light
(Beer-Lambert), so a stain is a matrix rather than a color.

Outlines are signed distances in um, positive inside.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

Plane = NDArray[np.float32]

FIELD_UM = 37.5
PX_PER_UM = 8
"""Sufficient for the resolution of an oil immersion objective."""


class Dye(IntEnum):
    """Dyes and their plane indices. An amount of 1 is typical of a cell."""

    HEMOGLOBIN = 0
    CHROMATIN = 1
    BASOPHILIA = 2
    """RNA of the cytoplasm; blue."""
    ACIDOPHILIA = 3
    """Protein of the mature cytoplasm; pink."""
    AZUROPHILIA = 4
    """Granules; reddish violet."""
    EOSIN = 5
    """Granules of eosinophils; orange."""


def blank(num_px: int) -> Plane:
    """Return empty planes (dyes, num_px, num_px)."""
    return np.zeros((len(Dye), num_px, num_px), np.float32)


def axes_um(num_px: int, px_per_um: float = PX_PER_UM) -> tuple[Plane, Plane]:
    """Return x (1, n) and y (n, 1) of the pixel centers, in um from the center of a square."""
    line = ((np.arange(num_px) + 0.5 - num_px / 2) / px_per_um).astype(np.float32)
    return line[None, :], line[:, None]


def enlarge(plane: Plane, num_px: int) -> Plane:
    """Interpolate a coarser square plane to (num_px, num_px)."""
    fine = Image.fromarray(plane).resize((num_px, num_px), Image.Resampling.BICUBIC)
    return np.asarray(fine, np.float32)


def noise(
    rng: np.random.Generator, num_px: int, grain_um: float, px_per_um: float = PX_PER_UM
) -> Plane:
    """Return smooth isotropic noise (num_px, num_px) of mean 0, variance 1 and grain `grain_um`."""
    step_um = max(grain_um / 3, 1 / px_per_um)
    coarse_px = max(4, round(num_px / px_per_um / step_um))
    white = rng.standard_normal((coarse_px, coarse_px), dtype=np.float32)
    sigma = grain_um / 4 / step_um
    kernel = np.exp(-0.5 * (np.arange(-3, 4) / sigma) ** 2)
    white *= np.float32(kernel.sum() ** 2 / (kernel**2).sum())
    return enlarge(gaussian_filter(white, sigma, mode="wrap", radius=3), num_px)


def coverage(inside_um: Plane, edge_um: float = 0.12) -> Plane:
    """Return the covered fraction of each pixel from the signed distance to the outline."""
    soft = np.clip(inside_um * np.float32(0.5 / edge_um) + np.float32(0.5), 0, 1)
    return np.asarray(soft * soft * (3 - 2 * soft), np.float32)


def bump(distance_um: Plane, width_um: float) -> Plane:
    """Return a Gaussian of the distance, with height 1."""
    return np.asarray(np.exp(np.square(distance_um) * np.float32(-0.5 / width_um**2)), np.float32)


ANGLES = 512
WAVES = np.arange(2, 9)
_TURN = np.exp(2j * np.pi / ANGLES * WAVES[:, None] * np.arange(ANGLES))

Discs = NDArray[np.float32]
"""(M, 3): x, y and radius of each disc, in um."""


def wobble(rng: np.random.Generator, num: int, irregularity: float, ellipticity: float) -> Plane:
    """Return relative radii by angle (num, ANGLES) of ellipses with a smooth irregular outline.

    `ellipticity` is the standard deviation of the elliptic component.
    """
    height = rng.normal(0, irregularity, (num, len(WAVES))) * (3 / WAVES) ** 1.3
    height[:, 0] = rng.normal(0, ellipticity, num)
    waves = height * np.exp(1j * rng.uniform(0, 2 * np.pi, height.shape))
    return np.asarray(1 + np.einsum("nw,wa->na", waves, _TURN).real, np.float32)


def length(x: Plane, y: Plane) -> Plane:
    """Return the distance from the origin; faster than numpy.hypot, which avoids overflow."""
    return np.asarray(np.sqrt(x * x + y * y), np.float32)


def polar(x: Plane, y: Plane, outline_um: Plane) -> tuple[Plane, Plane]:
    """Return the distance from the origin, and the outline's radius in the same direction."""
    turn = np.arctan2(y, x) * np.float32(ANGLES / (2 * np.pi))
    return length(x, y), outline_um[turn.astype(np.int32)]


def union(discs: Discs, x: Plane, y: Plane, blend_um: float = 0.12) -> Plane:
    """Return the signed distance (n, n) to a smooth union of discs."""
    total = np.full(np.broadcast_shapes(x.shape, y.shape), 1e-30, np.float32)
    for cx, cy, radius in discs.astype(np.float32):
        inside = (radius - length(x - cx, y - cy)) * np.float32(1 / blend_um)
        total += np.exp(np.minimum(inside, 80, out=inside), out=inside)
    return np.asarray(np.log(total) * np.float32(blend_um), np.float32)
