"""A reject option: is this one of the cells that the classifier was taught at all?

The score is the energy, -log sum exp(logits) (Liu et al. 2020, arXiv:2010.03759): an image that no
class claims has small logits. Images beyond a threshold, which turns away a fixed share of held-out
source images, are rejected. It is a weak protection: see `tests/bench/RESULTS.md` for how many
platelets pass. Of the scores tried there (largest probability, entropy, energy, cosine to the class
means, Mahalanobis distance), energy was best on average and needs nothing but the logits.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from hf_wbc.evaluation.calibration import Floats, checked_logits
from hf_wbc.evaluation.conformal import threshold


@dataclass(frozen=True)
class Rejection:
    """Which images are turned away as no cell of the known classes."""

    rate: float
    """The share of exchangeable images that may be turned away."""
    threshold: float | None
    """The largest energy that is accepted; None accepts all, as too few images were held out."""

    def rejects(self, logits: ArrayLike) -> NDArray[np.bool_]:
        """Whether each image (N,) is turned away; logits (N, C)."""
        limit = np.inf if self.threshold is None else self.threshold
        away: NDArray[np.bool_] = energy(logits) > limit
        return away


def rejection(logits: ArrayLike, rate: float = 0.05) -> Rejection:
    """The threshold that turns away at most a share `rate` of images like those of logits (N, C).

    >>> rejection([[float(i), 0.0] for i in range(19)]).rejects([[0.5, 0.0], [-9.0, -9.0]]).tolist()
    [False, True]
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate is {rate}; it must lie between 0 and 1")
    return Rejection(rate, threshold(energy(logits), rate))


def energy(logits: ArrayLike) -> Floats:
    """-log sum exp of logits (N, C), (N,): the higher, the stranger."""
    values: Floats = -logsumexp(checked_logits(logits, ""), axis=1)
    return values


def auroc(inside: ArrayLike, outside: ArrayLike) -> float:
    """The chance that an outsider scores above an insider, ties counting half; (N,) and (M,).

    >>> auroc([0.0, 1.0], [1.0, 2.0])
    0.875
    """
    from scipy.stats import rankdata  # takes most of a second to load

    sides = [np.asarray(side, dtype=np.float64) for side in (inside, outside)]
    for side, what in zip(sides, ("inside", "outside"), strict=True):
        if side.ndim != 1 or not len(side) or np.isnan(side).any():
            raise ValueError(f"scores {what} must be a vector of numbers, at least one and no NaN")
    num_in, num_out = map(len, sides)
    ranks = rankdata(np.concatenate(sides))[num_in:]
    return float((ranks.sum() - num_out * (num_out + 1) / 2) / (num_in * num_out))
