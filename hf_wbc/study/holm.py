"""Holm's step-down correction: p values that stay honest when many are looked at at once.

Holm (1979), "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
Statistics 6:65-70.
"""

import numpy as np
from numpy.typing import NDArray


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corrected p values (P,) of as many tests: below a level, the chance of one false alarm is.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    factors = len(p) - np.arange(len(p))
    stepped = np.maximum.accumulate(p[order] * factors)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1)
    return corrected
