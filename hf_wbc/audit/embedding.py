"""Map all cells before any training, and measure how their nearest neighbors mix.

The map is UMAP (McInnes et al. 2018, arXiv:1802.03426) on the first principal components. The
neighbors are searched once, exactly, and are used for both the map and the mixing.
"""

import warnings
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NUM_COMPONENTS = 50
NUM_NEIGHBORS = 15
FEWEST_CELLS = 5
"""Fewest cells of a map."""


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """N cells in the plane, and their neighbors in the space of principal components."""

    xy: NDArray[np.float32]
    """Positions (N, 2)."""
    neighbors: NDArray[np.int64]
    """Rows of the nearest other cells (N, k), nearest first."""


def embed(features: NDArray[np.float32], seed: int = 0) -> EmbeddingMap | None:
    """Map N cells by their features (N, d); the result depends only on the features and the seed.

    Returns None if there are too few cells for a map, or if all of them are alike.
    """
    num, width = features.shape
    k = min(NUM_NEIGHBORS, num - 1)
    if num < FEWEST_CELLS or not np.ptp(features, axis=0).any():
        return None
    from sklearn.decomposition import PCA
    from sklearn.neighbors import NearestNeighbors

    size = min(NUM_COMPONENTS, num - 1, width)
    reduce = PCA(size, svd_solver="randomized", iterated_power=3, random_state=seed)
    points = reduce.fit_transform(features.astype(np.float32))
    search = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(points)
    distances, found = search.kneighbors(points)
    used = min(k + 1, num - 1)  # UMAP takes no more
    xy = _umap(points, found[:, :used], distances[:, :used], seed)
    return EmbeddingMap(xy, _without_self(found))


def _umap(
    points: NDArray[np.float32],
    neighbors: NDArray[np.int64],
    distances: NDArray[np.float32],
    seed: int,
) -> NDArray[np.float32]:
    # numba, on which UMAP is built, obeys a `.numba_config.yaml` in the current folder.
    with chdir(Path(__file__).parent), warnings.catch_warnings():
        # The warning says that new cells cannot be added to the map, which is not needed here.
        warnings.filterwarnings("ignore", "precomputed_knn", UserWarning)
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        from umap import UMAP

        mapper = UMAP(
            n_neighbors=neighbors.shape[1],
            init="pca",
            random_state=seed,
            n_jobs=1,
            precomputed_knn=(neighbors, distances),
        )
        xy: NDArray[np.float32] = mapper.fit_transform(points)
    return xy


def _without_self(found: NDArray[np.int64]) -> NDArray[np.int64]:
    """Remove the cell itself from its neighbors (N, k); identical cells may precede it."""
    is_self = found == np.arange(len(found))[:, None]
    is_self[~is_self.any(axis=1), -1] = True
    others: NDArray[np.int64] = found[~is_self].reshape(len(found), -1)
    return others


@dataclass(frozen=True)
class DomainMixing:
    """How often the nearest neighbors of a cell are of its own kind."""

    alike: float
    """Share of the neighbors that are of the cell's own kind."""
    by_chance: float
    """The same share for random neighbors."""


def domain_mixing(neighbors: NDArray[np.int64], kinds: NDArray[np.int64]) -> DomainMixing | None:
    """Measure how much cells of one kind cluster.

    Args:
        neighbors: Rows of each cell's nearest neighbors (N, k).
        kinds: Kind of each cell (N,), such as its class; -1 for unknown.

    Returns:
        None if there are fewer than two kinds.
    """
    known = kinds >= 0
    shares = np.bincount(kinds[known]) / max(1, known.sum())
    if (shares > 0).sum() < 2:
        return None
    near = kinds[neighbors[known]]
    counted = near >= 0
    alike = (near == kinds[known][:, None]) & counted
    return DomainMixing(
        alike=float(alike.sum() / max(1, counted.sum())),
        by_chance=float((shares**2).sum()),
    )


def balanced_sample(domains: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Sample at most `most` rows, balanced over the domains as far as possible.

    Args:
        domains: Domain of each row (N,).
        most: Maximum number of rows.

    Returns:
        Sorted row indices (n,).

    Examples:
        >>> balanced_sample(np.array([0, 0, 0, 0, 1]), 3).tolist()[-1]
        4
    """
    rng, kept, left = np.random.default_rng(0), [], most
    sizes = sorted((int((domains == d).sum()), int(d)) for d in np.unique(domains))
    for place, (size, domain) in enumerate(sizes):
        share = min(size, left // (len(sizes) - place))
        rows = np.flatnonzero(domains == domain)
        kept.append(np.sort(rng.permutation(rows)[:share]))
        left -= share
    found: NDArray[np.int64] = np.sort(np.concatenate(kept))
    return found
