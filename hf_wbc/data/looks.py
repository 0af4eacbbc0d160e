"""How a 25 um square looks, in seven numbers that no label and no model has a say in.

Mean and standard deviation of optical density in red, green and blue tell stain, light and camera;
the sharpness is that of `hf_wbc.data.sharpness`. Squares are always measured at the same size, so
that looks of one model's images compare with those of another's.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.sharpness import sharpness, spectrum
from hf_wbc.data.square import Geometry
from hf_wbc.data.table import Table

LOOK = Geometry(size=128, resample=3)
"""At which squares are measured."""
NUM_COLOURS = 6
FARTHER = 1.25
"""A stain is unlike a source when it lies so much farther from it than nearly all of its cells."""
NEARLY_ALL = 0.995
LESS_SHARP = 0.85
"""A cell is blurred when it is so much less sharp than nearly all of every source's."""
_DARKEST = 1.0
_RIDGE = 1e-4
Floats = NDArray[np.float64]


def look_of(square: NDArray[np.uint8]) -> Floats:
    """Colours (6) and sharpness (1), (7,), of a square of LOOK's size; NaN where nothing is."""
    density = -np.log(np.maximum(square, _DARKEST).reshape(-1, 3) / 255.0)
    return np.array([*density.mean(0), *density.std(0), _sharpness(square)])


def _sharpness(square: NDArray[np.uint8]) -> float:
    """In cycles per um; NaN for a plain square, which has none."""
    try:
        return sharpness(spectrum(Table.unlabelled(square[None])))
    except ValueError:
        return float("nan")


@dataclass(frozen=True, eq=False)
class Looks:
    """How the cells of some sources look, and what is too far from all of them."""

    means: Floats
    """Of the colours, for each source (S, 6)."""
    inverses: Floats
    """Of their covariances (S, 6, 6)."""
    limits: Floats
    """Distances (S,) beyond which a stain is another."""
    blurred_per_um: float
    """Sharpness below which a cell is blurred."""

    def is_foreign(self, look: Floats) -> bool:
        """Whether the stain is unlike that of every source."""
        gaps = look[:NUM_COLOURS] - self.means
        return bool((_distances(gaps, self.inverses) > self.limits).all())

    def is_blurred(self, look: Floats) -> bool:
        """Whether the cell is less sharp than the sources' are."""
        return bool(look[NUM_COLOURS] < self.blurred_per_um)


def looks_of_sources(looks: Floats, sources: NDArray[np.str_]) -> Looks:
    """From looks (N, 7) of cells and the source (N,) of each."""
    found = []
    for name in np.unique(sources):
        mine = looks[sources == name]
        colours = mine[:, :NUM_COLOURS]
        covariance = np.asarray(np.cov(colours.T), np.float64) + _RIDGE * np.eye(NUM_COLOURS)
        mean = colours.mean(0)
        inverse = np.asarray(np.linalg.inv(covariance), np.float64)
        limit = FARTHER * np.quantile(_distances(colours - mean, inverse), NEARLY_ALL)
        sharp = np.nanquantile(mine[:, NUM_COLOURS], 1 - NEARLY_ALL)
        found.append((mean, inverse, limit, sharp))
    means, inverses, limits, sharps = (np.array(part) for part in zip(*found, strict=True))
    return Looks(means, inverses, limits, LESS_SHARP * float(sharps.min()))


def _distances(gaps: Floats, inverses: Floats) -> Floats:
    """Mahalanobis distances (N,) of gaps (N, 6)."""
    distances: Floats = np.sqrt(np.einsum("...i,...ij,...j->...", gaps, inverses, gaps))
    return distances
