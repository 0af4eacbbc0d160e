"""The two dyes of a smear by sparse factorization (Vahadane et al. 2016).

"Structure-preserving color normalization and sparse stain separation for histological images",
doi 10.1109/TMI.2016.2529665: optical densities are a nonnegative combination of two unit dyes, and
an L1 penalty on the amounts asks that most pixels hold one of them. The factorization alternates
between amounts and dyes by block coordinate descent, from the two densest directions.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PENALTY = 0.1
"""Weight of the L1 penalty on the amounts, as in the paper."""
MOST_PIXELS = 4096
FEWEST_PIXELS = 100
NUM_STEPS = 200
_NUM_PASSES = 3
_LEAST_RAD = 0.05


def sparse_dyes(density: Array) -> Array | None:
    """Return unit densities of the nuclear dye, the red cells' dye and the residual, (3, 3).

    Args:
        density: Optical densities of pixels with dye (N, 3), natural logarithm.

    Returns:
        None if the pixels show fewer than two dyes.
    """
    if len(density) < FEWEST_PIXELS:
        return None
    rows = np.linspace(0, len(density) - 1, min(len(density), MOST_PIXELS)).round().astype(int)
    values = density[rows].clip(min=0)
    units = values / np.linalg.norm(values, axis=1, keepdims=True).clip(min=1e-9)
    order = units[:, 2].argsort()
    tenth = len(order) // 10
    dyes = _unit(np.stack([units[order[:tenth]].mean(0), units[order[-tenth:]].mean(0)]))
    amounts = (values @ dyes.T).clip(min=0)
    for _ in range(NUM_STEPS):
        before, overlap = dyes, float(dyes[0] @ dyes[1])
        along = values @ dyes.T - PENALTY
        for _ in range(_NUM_PASSES):
            for one, other in ((0, 1), (1, 0)):
                amounts[:, one] = (along[:, one] - overlap * amounts[:, other]).clip(min=0)
        if not amounts.any(0).all():
            return None
        squares, targets = amounts.T @ amounts, amounts.T @ values
        dyes = dyes.copy()
        for one, other in ((0, 1), (1, 0)):
            rest = targets[one] - squares[one, other] * dyes[other]
            dyes[one] = _unit(rest.clip(min=1e-9)[None])[0]
        if np.abs(dyes - before).max() < 1e-6:
            break
    if np.arccos(np.clip(dyes[0] @ dyes[1], -1, 1)) < _LEAST_RAD:
        return None
    azure, eosin = dyes[dyes[:, 2].argsort()]
    rest = np.cross(azure, eosin)
    return np.stack([azure, eosin, rest / np.linalg.norm(rest)])


def _unit(rows: Array) -> Array:
    found: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found
