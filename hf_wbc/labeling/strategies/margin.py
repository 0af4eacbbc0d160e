"""Cells between two classes: the smallest difference of the two largest probabilities.

Scheffer et al. 2001, "Active hidden Markov models for information extraction".
"""

import numpy as np

from hf_wbc.labeling.strategies import Ids, PoolView

__all__ = ["choose"]


def choose(view: PoolView, num: int, rng: np.random.Generator) -> Ids:
    """Choose the cells with the smallest margins."""
    order = np.argsort(view.margins, kind="stable")
    chosen: Ids = view.candidates[order[:num]]
    return chosen
