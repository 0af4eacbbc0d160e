"""Cells that cover the pool: each is the farthest from those that are labeled already.

The greedy k-center of Sener & Savarese 2018, "Active learning for convolutional neural networks: a
core-set approach", arXiv:1708.00489. Outliers are the farthest cells, so artifacts are found early.
"""

import numpy as np

from hf_wbc.labeling.strategies import Floats32, Ids, PoolView

__all__ = ["choose", "squared_distances"]


def choose(view: PoolView, num: int, rng: np.random.Generator) -> Ids:
    """Choose the farthest cell, `num` times; the first of all is the most central one."""
    points = view.embedding[view.candidates]
    nearest = np.full(len(points), np.inf, np.float32)
    for row in view.labeled:
        np.minimum(nearest, squared_distances(points, view.embedding[row]), out=nearest)
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


def squared_distances(points: Floats32, center: Floats32) -> Floats32:
    """Return squared Euclidean distances (M,) of points (M, k) to a center (k,)."""
    gaps = points - center
    distances: Floats32 = np.einsum("ij,ij->i", gaps, gaps)
    return distances
