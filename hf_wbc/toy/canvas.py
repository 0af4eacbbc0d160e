"""The physical canvas on which a toy smear is drawn: planes of dye, measured in um.

Everything is drawn in um on this one lattice and only afterwards sampled at a scanner's scale, so
that 25 um mean the same in every domain. A plane holds the amount of one dye; light is absorbed
by their sum (Beer and Lambert), which is why a stain is a matrix and not a colour.

Outlines: signed distances in um, positive inside, of what a smear is made of.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

Plane = NDArray[np.float32]

FIELD_UM = 37.5
PX_PER_UM = 8
"""An oil objective resolves no more than this shows."""


class Dye(IntEnum):
    """What takes up colour; the index of its plane. An amount of 1 is a typical cell's."""

    HAEMOGLOBIN = 0
    CHROMATIN = 1
    BASOPHILIA = 2
    """RNA of the cytoplasm, blue."""
    ACIDOPHILIA = 3
    """Protein of the mature cytoplasm, pink."""
    AZUROPHILIA = 4
    """Granules, reddish violet."""
    EOSIN = 5
    """The eosinophil's granules, orange."""


def blank(num_px: int) -> Plane:
    """Empty planes (dyes, num_px, num_px)."""
    return np.zeros((len(Dye), num_px, num_px), np.float32)


def axes_um(num_px: int, px_per_um: float = PX_PER_UM) -> tuple[Plane, Plane]:
    """X (1, n) and y (n, 1) of the pixel centres, in um from the middle of a square."""
    line = ((np.arange(num_px) + 0.5 - num_px / 2) / px_per_um).astype(np.float32)
    return line[None, :], line[:, None]


def enlarge(plane: Plane, num_px: int) -> Plane:
    """A coarser square plane, interpolated to (num_px, num_px)."""
    fine = Image.fromarray(plane).resize((num_px, num_px), Image.Resampling.BICUBIC)
    return np.asarray(fine, np.float32)


def noise(
    rng: np.random.Generator, num_px: int, grain_um: float, px_per_um: float = PX_PER_UM
) -> Plane:
    """Smooth isotropic noise of mean 0 and variance 1, (num_px, num_px), with spots of grain_um."""
    step_um = max(grain_um / 3, 1 / px_per_um)
    coarse_px = max(4, round(num_px / px_per_um / step_um))
    white = rng.standard_normal((coarse_px, coarse_px), dtype=np.float32)
    sigma = grain_um / 4 / step_um
    kernel = np.exp(-0.5 * (np.arange(-3, 4) / sigma) ** 2)
    white *= np.float32(kernel.sum() ** 2 / (kernel**2).sum())
    return enlarge(gaussian_filter(white, sigma, mode="wrap", radius=3), num_px)


def coverage(inside_um: Plane, edge_um: float = 0.12) -> Plane:
    """How much of each pixel a shape covers, 0 to 1, from the signed distance to its outline."""
    soft = np.clip(inside_um * np.float32(0.5 / edge_um) + np.float32(0.5), 0, 1)
    return np.asarray(soft * soft * (3 - 2 * soft), np.float32)


def bump(distance_um: Plane, width_um: float) -> Plane:
    """A Gaussian hill of height 1 about a distance of 0."""
    return np.asarray(np.exp(np.square(distance_um) * np.float32(-0.5 / width_um**2)), np.float32)


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
