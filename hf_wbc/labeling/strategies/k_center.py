"""Cells that cover the pool: each is the farthest from those that are labeled already.

The greedy k-center of Sener & Savarese 2018, "Active learning for convolutional neural networks: a
core-set approach", arXiv:1708.00489. Outliers are the farthest cells, so artifacts are found early.
"""

import numpy as np

from hf_wbc.labeling.strategies import Floats32, Ids, PoolView

__all__ = ["choose", "squared_distances"]

CHUNK = 8192
"""Points whose distances to all labeled cells are in memory at a time."""


def choose(view: PoolView, num: int, rng: np.random.Generator) -> Ids:
    """Choose the farthest cell, `num` times; the first of all is the most central one."""
    points = view.embedding[view.candidates]
    nearest = _nearest_label(points, view.embedding[view.labeled])
    chosen = []
    for _ in range(num):
        if np.isinf(nearest).all():
            place = int(squared_distances(points, points.mean(0)).argmin())
        else:
            place = int(nearest.argmax())
        chosen.append(place)
        np.minimum(nearest, squared_distances(points, points[place]), out=nearest)
        nearest[place] = -1
    return view.candidates[chosen]


def _nearest_label(points: Floats32, labeled: Floats32) -> Floats32:
    """Return the squared distance (M,) of each point to the nearest of L labeled ones (L, k)."""
    nearest = np.full(len(points), np.inf, np.float32)
    squares = np.einsum("ij,ij->i", points, points)
    for start in range(0, len(points) if len(labeled) else 0, CHUNK):
        part = slice(start, start + CHUNK)
        gaps = np.einsum("ij,ij->i", labeled, labeled) - 2 * points[part] @ labeled.T
        nearest[part] = np.maximum(squares[part] + gaps.min(1), 0)
    return nearest


def squared_distances(points: Floats32, center: Floats32) -> Floats32:
    """Return squared Euclidean distances (M,) of points (M, k) to a center (k,)."""
    gaps = points - center
    distances: Floats32 = np.einsum("ij,ij->i", gaps, gaps)
    return distances
