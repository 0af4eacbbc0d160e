"""Class priors: predictions made for others than equal ones, and how far two of them are apart."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import rel_entr

from hf_wbc.evaluation.calibration import NEVER, Calibration, Floats, checked_logits


def correct(logits: ArrayLike, calibration: Calibration, priors: ArrayLike) -> Floats:
    """Calibrated logits (N, C) + log(priors); their softmax is the posterior under the priors."""
    scale, bias = folded(calibration, priors)
    return checked_logits(logits, "", len(bias)) * scale + bias


def folded(calibration: Calibration, priors: ArrayLike) -> tuple[float, Floats]:
    """The scale and the bias (C,) by which `correct` moves logits; finite for a prior of 0 too.

    A linear head is corrected for good by weight * scale and bias * scale + this bias.
    """
    shares = checked_priors(priors, len(calibration.bias))
    log = np.full(len(shares), NEVER)
    np.log(shares, out=log, where=shares > 0)
    return 1 / calibration.temperature, np.maximum(np.array(calibration.bias) + log, NEVER)


def total_variation(a: ArrayLike, b: ArrayLike) -> float:
    """The share of the images that would have to change class, in [0, 1]; priors (C,).

    >>> total_variation([0.5, 0.5], [0.75, 0.25])
    0.25
    """
    p, q = _pair(a, b)
    return float(np.abs(p - q).sum() / 2)


def jensen_shannon(a: ArrayLike, b: ArrayLike) -> float:
    """Jensen-Shannon divergence of priors (C,), in bits: 0 if equal, 1 if no class is shared.

    >>> jensen_shannon([1, 0], [0, 1])
    1.0
    """
    p, q = _pair(a, b)
    middle = (p + q) / 2
    return float((rel_entr(p, middle) + rel_entr(q, middle)).sum() / 2 / np.log(2))


def checked_priors(priors: ArrayLike, num_classes: int) -> Floats:
    """Priors (C,) as floats; ValueError unless they are that many shares with sum 1."""
    shares = np.asarray(priors, dtype=np.float64)
    if shares.shape != (num_classes,):
        raise ValueError(f"priors have shape {shares.shape}; give one for each of {num_classes}")
    if not (np.isfinite(shares) & (shares >= 0)).all():
        raise ValueError(f"priors are {shares.tolist()}; each must be 0 or more, and finite")
    if abs(shares.sum() - 1) > 1e-6:
        raise ValueError(f"priors sum to {shares.sum():g}; divide them by it")
    return shares


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    num = np.size(a)
    return checked_priors(a, num), checked_priors(b, num)
