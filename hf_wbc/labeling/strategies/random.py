"""Random cells: the baseline that every strategy has to beat."""

import numpy as np

from hf_wbc.labeling.strategies import Ids, PoolView

__all__ = ["choose"]


def choose(view: PoolView, num: int, rng: np.random.Generator) -> Ids:
    """Choose cells with equal probability."""
    chosen: Ids = rng.choice(view.candidates, num, replace=False)
    return chosen
