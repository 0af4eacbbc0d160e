"""Typical cells of the largest clusters without a label, for the very first labels.

Hacohen et al. 2022, "Active learning on a budget: opposite strategies suit high and low budgets",
arXiv:2202.02794. The pool is divided into as many clusters as there will be labels; from each of
the largest clusters without a label, the cell with the nearest neighbors is chosen.
"""

import numpy as np

from hf_wbc.evaluation.validators import k_means
from hf_wbc.labeling.strategies import Floats32, Ids, PoolView

__all__ = ["MAX_CLUSTERED", "choose"]

MAX_CLUSTERED = 4000
"""Cells that are clustered; more are drawn at random."""
NUM_NEIGHBORS = 20


def choose(view: PoolView, num: int, rng: np.random.Generator) -> Ids:
    """Choose the most typical cell of each of the `num` largest clusters without a label."""
    free = view.candidates
    if len(free) > MAX_CLUSTERED:
        free = np.sort(rng.choice(free, MAX_CLUSTERED, replace=False))
    rows = np.concatenate([free, view.labeled])
    points = view.embedding[rows]
    of = k_means(points, min(len(view.labeled) + num, len(rows)))
    taken = np.bincount(of[len(free) :], minlength=of.max() + 1)
    sizes = np.bincount(of[: len(free)], minlength=of.max() + 1)
    order = np.lexsort((-sizes, taken))  # fewest labels first, then the largest
    chosen: list[int] = []
    while len(chosen) < num:
        for cluster in order:
            members = np.setdiff1d(np.flatnonzero(of[: len(free)] == cluster), chosen)
            if len(members) and len(chosen) < num:
                chosen.append(int(members[_typicality(points[members]).argmax()]))
    return free[chosen]


def _typicality(points: Floats32) -> Floats32:
    """Return the inverse mean distance (M,) of each point to its nearest neighbors."""
    if len(points) == 1:
        return np.ones(1, np.float32)
    squares = np.einsum("ij,ij->i", points, points)
    gaps = squares[:, None] + squares - 2 * points @ points.T
    distances = np.sqrt(np.maximum(gaps, 0))
    np.fill_diagonal(distances, np.inf)
    k = min(NUM_NEIGHBORS, len(points) - 1)
    nearest = np.partition(distances, k - 1, axis=1)[:, :k]
    typicality: Floats32 = 1 / (nearest.mean(1) + 1e-6)
    return typicality
