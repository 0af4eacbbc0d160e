"""Uncertain cells that differ from each other: clusters of the cells with the smallest margins.

Zhdanov 2019, "Diverse mini-batch active learning", arXiv:1901.05954.
"""

import numpy as np

from hf_wbc.evaluation.validators import k_means
from hf_wbc.labeling.strategies import Ids, PoolView
from hf_wbc.labeling.strategies.k_center import squared_distances

__all__ = ["choose"]

TIMES = 10
"""Uncertain cells that are clustered, for each cell that is chosen."""


def choose(view: PoolView, num: int, rng: np.random.Generator) -> Ids:
    """Choose the cell nearest to the center of each of `num` clusters of uncertain cells."""
    order = np.argsort(view.margins, kind="stable")[: TIMES * num]
    points = view.embedding[view.candidates[order]]
    of = k_means(points, num)
    chosen: list[int] = []
    for cluster in np.unique(of):
        members = np.flatnonzero(of == cluster)
        center = points[members].mean(0)
        chosen.append(int(members[squared_distances(points[members], center).argmin()]))
    rest = np.setdiff1d(np.arange(len(order)), chosen)  # empty clusters leave places
    chosen += rest[: num - len(chosen)].tolist()
    return view.candidates[order[chosen]]
