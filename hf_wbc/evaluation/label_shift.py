"""Class priors: predictions made for them, how far two are apart, and whether only they differ."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import rel_entr, softmax

from hf_wbc.evaluation.calibration import NEVER, Calibration, Floats, Ids, checked_logits


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


def misfit(source: Floats, labels: Ids, target: Floats, priors: Floats) -> tuple[float, float]:
    """How far the target is from the source with other priors, and what chance explains, in [0, 1].

    Under label shift, source images weighted to the target's priors (K,) are spread over the
    confidences as the target's are; the misfit is the largest gap between the two cumulative
    shares (Kolmogorov-Smirnov), and chance alone exceeds the limit in 5 % of the cases. Logits
    (N_s, K) and (N_t, K) corrected for the priors, labels (N_s,), none of them without an image.
    """
    weights = (priors / np.bincount(labels, minlength=len(priors)))[labels]
    sides = [softmax(logits, axis=1).max(1) for logits in (source, target)]
    at = np.concatenate(sides)
    order = np.argsort(sides[0])
    below = np.append(0, np.cumsum(weights[order]))[sides[0][order].searchsorted(at, "right")]
    gap = below - np.sort(sides[1]).searchsorted(at, "right") / len(target)
    # A weighted sample is worth as many images as one of equal weights with its variance.
    limit = 1.358 * np.sqrt((weights**2).sum() / weights.sum() ** 2 + 1 / len(target))
    return float(np.abs(gap).max()), float(min(limit, 1))


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
