"""Mean and covariance of a domain's colours, and the map that carries one domain's onto another's.

No label is looked at. Class priors move these statistics too (a domain with more lymphocytes is
more purple), so that going only part of the way is the safer choice.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hf_wbc.data.table import Table

MAX_IMAGES = 1024
"""Evenly spaced images that stand for a domain."""
_ROWS_AT_ONCE = 64
_SPREAD = 1 / 255
"""Least standard deviation of a colour, so that a domain of one colour has a map too."""
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ColourStatistics:
    """Of all pixels of a domain, intensities in [0, 1]."""

    mean: tuple[float, float, float]
    covariance: tuple[tuple[float, float, float], ...]
    """(3, 3)."""

    @property
    def std(self) -> tuple[float, float, float]:
        """Of each channel, at least a grey level."""
        red, green, blue = (max(self.covariance[i][i] ** 0.5, _SPREAD) for i in range(3))
        return red, green, blue


def colour_statistics(table: Table, domain: int | None = None) -> ColourStatistics:
    """Statistics of a table of pixels, or of one domain in it by its index.

    Sums of whole numbers, so the same on every machine.
    """
    total, squares, num = np.zeros(3), np.zeros((3, 3)), 0
    rows = np.arange(len(table)) if domain is None else np.flatnonzero(table.domains == domain)
    rows = rows[evenly_spaced(len(rows), MAX_IMAGES)]
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        pixels = table.batch(rows[start : start + _ROWS_AT_ONCE]).numpy()
        colours = pixels.reshape(-1, 3).astype(np.float64)
        total += colours.sum(0)
        squares += colours.T @ colours
        num += len(colours)
    mean = total / num
    covariance = (squares / num - np.outer(mean, mean)) / 255**2
    red, green, blue = (mean / 255).tolist()
    return ColourStatistics((red, green, blue), tuple(map(tuple, covariance.tolist())))


def evenly_spaced(num: int, at_most: int) -> npt.NDArray[np.int64]:
    """Row numbers from the first to the last, in order, all of them when there are few."""
    return np.unique(np.linspace(0, num - 1, min(num, at_most)).round().astype(np.int64))


def carry(source: ColourStatistics, target: ColourStatistics) -> Matrix:
    """The map (3, 4) of colours that gives source pixels the target's mean and covariance.

    Of all linear maps that do it, the one that moves colours least: the Monge-Kantorovitch colour
    transfer (Pitié & Kokaram 2007, "The linear Monge-Kantorovitch linear colour mapping for
    example-based colour transfer", eq. 5). The mean hue goes with the mean.
    """
    c_s, c_t = (np.array(s.covariance) + _SPREAD**2 * np.eye(3) for s in (source, target))
    root = _root(c_s)
    back = np.linalg.inv(root)
    matrix = back @ _root(root @ c_t @ root) @ back
    add = np.array(target.mean) - matrix @ np.array(source.mean)
    return np.concatenate([matrix, add[:, None]], axis=1)


def _root(matrix: Matrix) -> Matrix:
    """The symmetric square root of a positive definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    root: Matrix = (vectors * np.sqrt(values)) @ vectors.T
    return root
