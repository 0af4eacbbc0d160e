"""Cells that are probably of a class with few labels: rare classes and blasts first.

The classes take turns, the one with the fewest labels first; each takes the unlabeled cell that is
most probably of this class, relative to how probable the class is in the pool. Similar in spirit to
class-balanced active learning (Bengar et al. 2022, arXiv:2110.04543).
"""

import numpy as np

from hf_wbc.labeling.strategies import Ids, PoolView
from hf_wbc.taxonomy import BLAST_EQUIVALENTS

__all__ = ["choose"]

BLAST_BONUS = 0.5
"""A class of blasts takes its turn as if it had this many labels fewer."""
POSSIBLE = 1e-3
"""Largest probability in the pool below which a class takes no turn."""


def choose(view: PoolView, num: int, rng: np.random.Generator) -> Ids:
    """Choose the most probable cell of the class with the fewest labels, `num` times."""
    p = view.probabilities[view.candidates]
    counts = np.bincount(view.labels, minlength=p.shape[1]).astype(np.float64)
    counts[list(BLAST_EQUIVALENTS)] -= BLAST_BONUS
    counts[p.max(0) < POSSIBLE] = np.inf
    shares, is_free = p.mean(0), np.ones(len(p), bool)
    chosen: list[int] = []
    for _ in range(num):
        fewest = np.flatnonzero(counts == counts.min())
        target = int(fewest[shares[fewest].argmin()])  # the rarest of them
        place = int(np.where(is_free, p[:, target], -1).argmax())
        chosen.append(place)
        is_free[place] = False
        counts[target] += 1
    return view.candidates[chosen]
