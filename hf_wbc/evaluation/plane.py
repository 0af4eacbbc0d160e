"""The plane of largest variance of known cells' features, in which new ones find their place.

Principal components (Hotelling 1933): unlike UMAP the plane is fixed by the known cells alone, so
that a new cell moves none of them, and is drawn at once.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_wbc.evaluation.neighbours import unit

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane in the space of features."""

    mean: Floats
    """(d,)."""
    axes: Floats
    """(2, d), orthonormal."""
    share: float
    """Of the known cells' variance that it shows."""

    def project(self, features: Floats) -> NDArray[np.float32]:
        """Points (N, 2) of features (N, d)."""
        return ((features - self.mean) @ self.axes.T).astype(np.float32)


def principal_plane(features: Floats) -> Plane:
    """Of features (N, d); ValueError for fewer than three cells or two features."""
    if features.ndim != 2 or len(features) < 3 or features.shape[1] < 2:
        raise ValueError(f"features have shape {features.shape}; a plane needs (3 or more, 2)")
    mean = features.mean(0)
    _, sizes, axes = np.linalg.svd(features - mean, full_matrices=False)
    total = float((sizes**2).sum())
    # A component's sign is nobody's choice: its largest weight is positive.
    signs = np.sign(axes[np.arange(2), np.abs(axes[:2]).argmax(1)])
    return Plane(mean, axes[:2] * signs[:, None], float((sizes[:2] ** 2).sum() / (total or 1.0)))


def nearest(known: Floats, new: Floats) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of each new cell (M, d) the index of the nearest known one (N, d), and 1 - their cosine."""
    similarity = unit(new) @ unit(known).T
    return similarity.argmax(1), np.asarray(1 - similarity.max(1), np.float64)


def own_distances(known: Floats) -> NDArray[np.float64]:
    """Of each known cell (N, d) the distance of the nearest other one, as `nearest` has it."""
    rows = unit(known)
    similarity = rows @ rows.T
    np.fill_diagonal(similarity, -np.inf)
    return np.asarray(1 - similarity.max(1), np.float64)
