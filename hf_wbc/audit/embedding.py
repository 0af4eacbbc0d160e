"""A map of all cells before any training, and how their nearest neighbours are mixed.

UMAP (McInnes et al. 2018, arXiv:1802.03426) on the first principal components. The neighbours are
searched once, exactly, and serve the map and the numbers beside it.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_COMPONENTS = 50
NUM_NEIGHBOURS = 15


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """N cells in the plane, and their neighbours in the space before it."""

    xy: NDArray[np.float32]
    """(N, 2)."""
    neighbours: NDArray[np.int64]
    """Rows of the nearest other cells (N, k), the nearest first."""


def embed(features: NDArray[np.float32], seed: int = 0) -> EmbeddingMap | None:
    """Map N cells by their features (N, d); the same seed draws the same map.

    None for fewer cells than a map needs.
    """
    num, width = features.shape
    k = min(NUM_NEIGHBOURS, num - 1)
    if k < 4:
        return None
    from sklearn.decomposition import PCA
    from sklearn.neighbors import NearestNeighbors

    size = min(NUM_COMPONENTS, num - 1, width)
    reduce = PCA(size, svd_solver="randomized", iterated_power=3, random_state=seed)
    points = reduce.fit_transform(features.astype(np.float32))
    search = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(points)
    distances, found = search.kneighbors(points)
    return EmbeddingMap(_umap(points, found, distances, seed), _without_self(found))


def _umap(
    points: NDArray[np.float32],
    neighbours: NDArray[np.int64],
    distances: NDArray[np.float32],
    seed: int,
) -> NDArray[np.float32]:
    with warnings.catch_warnings():
        # It says that new cells could not be added to the map, and none will be.
        warnings.filterwarnings("ignore", "precomputed_knn", UserWarning)
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        from umap import UMAP

        mapper = UMAP(
            n_neighbors=neighbours.shape[1],
            init="pca",
            random_state=seed,
            n_jobs=1,
            precomputed_knn=(neighbours, distances),
        )
        xy: NDArray[np.float32] = mapper.fit_transform(points)
    return xy


def _without_self(found: NDArray[np.int64]) -> NDArray[np.int64]:
    """Neighbours (N, k) without the cell itself; identical cells may stand before it."""
    is_self = found == np.arange(len(found))[:, None]
    is_self[~is_self.any(axis=1), -1] = True
    others: NDArray[np.int64] = found[~is_self].reshape(len(found), -1)
    return others


@dataclass(frozen=True)
class DomainMixing:
    """Whom the nearest neighbours of a cell are like."""

    alike: float
    """Part of the neighbours that are of the cell's own kind."""
    by_chance: float
    """The same if neighbours were drawn at random."""


def domain_mixing(neighbours: NDArray[np.int64], kinds: NDArray[np.int64]) -> DomainMixing | None:
    """How much cells of a kind (N,) keep to themselves; -1 has no kind. None below two kinds."""
    known = kinds >= 0
    shares = np.bincount(kinds[known]) / max(1, known.sum())
    if (shares > 0).sum() < 2:
        return None
    near = kinds[neighbours[known]]
    counted = near >= 0
    alike = (near == kinds[known][:, None]) & counted
    return DomainMixing(
        alike=float(alike.sum() / max(1, counted.sum())),
        by_chance=float((shares**2).sum()),
    )
