"""Describe where one set of features lies relative to another: principal plane and neighbors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_wbc.evaluation.validators import unit_rows

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class PrincipalPlane:
    """Plane of the first two principal components of features."""

    mean: Floats
    """Mean of the features (d,)."""
    axes: Floats
    """Orthonormal axes (2, d)."""
    share: float
    """Fraction of the variance that the plane explains, in [0, 1]."""

    def project(self, features: Floats) -> NDArray[np.float32]:
        """Project features (N, d) to points (N, 2)."""
        return ((features - self.mean) @ self.axes.T).astype(np.float32)


def principal_plane(features: Floats) -> PrincipalPlane:
    """Compute the principal plane of features (N, d).

    Raises:
        ValueError: If there are fewer than three cells or two features.
    """
    if features.ndim != 2 or len(features) < 3 or features.shape[1] < 2:
        raise ValueError(f"features have shape {features.shape}; a plane needs at least (3, 2)")
    mean = features.mean(0)
    _, sizes, axes = np.linalg.svd(features - mean, full_matrices=False)
    total = float((sizes**2).sum())
    # The sign of a component is arbitrary; make its largest weight positive.
    signs = np.sign(axes[np.arange(2), np.abs(axes[:2]).argmax(1)])
    return PrincipalPlane(
        mean, axes[:2] * signs[:, None], float((sizes[:2] ** 2).sum() / (total or 1.0))
    )


def nearest_neighbors(known: Floats, new: Floats) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the nearest known cell of each new cell by cosine similarity.

    Args:
        known: Features of the known cells (N, d).
        new: Features of the new cells (M, d).

    Returns:
        Index of the nearest known cell (M,), and cosine distance to it (M,).
    """
    similarity = unit_rows(new) @ unit_rows(known).T
    return similarity.argmax(1), np.asarray(1 - similarity.max(1), np.float64)


def own_distances(known: Floats) -> NDArray[np.float64]:
    """Return the cosine distance of each known cell (N, d) to the nearest other one, as (N,)."""
    rows = unit_rows(known)
    similarity = rows @ rows.T
    np.fill_diagonal(similarity, -np.inf)
    return np.asarray(1 - similarity.max(1), np.float64)
