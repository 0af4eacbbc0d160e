"""From confusions or likelihoods to class priors: the three estimators as plain mathematics.

BBSE (Lipton et al. 2018, arXiv:1802.03916) solves `confusion @ priors = predicted`, RLLS
(Azizzadenesheli et al. 2019, arXiv:1903.09734) does so with a pull towards the source's priors, and
EM (Saerens et al. 2002; MLLS in arXiv:1901.06852) finds the priors under which the target's images
are likeliest. All give priors on the simplex.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Floats = NDArray[Any]

RIDGE = 1e-8
"""On priors: it decides only what the confusion leaves open, in favour of the source's priors."""
RLLS_STRENGTH = 0.01
"""The factor before 3 * delta in the authors' code."""
RLLS_CONFIDENCE = 0.05
NO_IMAGE = 0.01
"""EM gives a class of less than this many images the prior 0."""
FLOOR = 1e-12
"""A prior of exactly 0 would stay 0 in EM, so its leaps stop short of it."""
LEAST = 1e-30
"""Of an image's likelihood: in single precision that of a weightless image of a class of prior 0 is
0, by which nothing can be divided."""


def bbse_priors(confusion: Floats, predicted: Floats, source: Floats) -> Floats:
    """Priors (K,) from P(prediction | class) (K, K), prediction first, and shares predicted (K,).

    The paper inverts the confusion and clips what is negative; the least-squares solution on the
    simplex, which is taken here, is the same where nothing is negative, and where the confusion is
    all but singular it errs only on the classes that are not told apart, not on all. Between those
    it keeps the proportions of the `source` priors (K,).
    """
    return _simplex(_nonnegative(confusion, predicted, RIDGE, source))


def rlls_priors(confusion: Floats, predicted: Floats, source: Floats, num_source: int) -> Floats:
    """As `bbse_priors`, with weights w = priors / source that are pulled towards 1.

    Minimises |C w - predicted| + rho |w - 1| over w >= 0 with the joint confusion C (eq. 4 of the
    paper, and the rho of its code, from `num_source` images), by least squares reweighted with the
    two norms until they settle; none of the norms is squared.
    """
    joint, rho = confusion * source, rlls_strength(len(source), num_source)
    ones = np.ones(len(source))
    weights, ridge = ones, 1.0
    for _ in range(100):
        before = weights
        weights = _nonnegative(joint, predicted, ridge, ones)
        if np.abs(weights - before).max() < 1e-6:
            break
        misfit = float(np.linalg.norm(joint @ weights - predicted))
        ridge = max(rho * misfit / max(float(np.linalg.norm(weights - 1)), 1e-12), RIDGE)
    return _simplex(weights * source)


def rlls_strength(num_classes: int, num_source: int) -> float:
    """rho = .01 * 3 * delta, with delta the error of a confusion from `num_source` images."""
    bits = 2 * np.log(2 * num_classes / RLLS_CONFIDENCE) / num_source
    return float(RLLS_STRENGTH * 3 * (bits / 3 + np.sqrt(bits)))


def em_priors(
    likelihoods: Floats,
    weights: Floats | None = None,
    factors: Floats | None = None,
    *,
    tolerance: float = 1e-8,
    max_steps: int = 2000,
) -> Floats:
    """Priors (R, K) that maximise sum_n weights log(priors @ likelihoods), for R weightings (R, N).

    Likelihoods (N, K) up to a factor per image: a calibrated posterior over its prior. `factors`
    (R, K) multiply them. The likelihood is concave in the priors, so that the start (equal priors)
    matters only for classes with equal likelihoods. Each round is two steps of EM and a leap along
    them (SQUAREM; Varadhan & Roland 2008), all R at once, until no step moves a prior by the
    tolerance.
    """
    num, k = likelihoods.shape
    kind = likelihoods.dtype
    weights = np.ones((1, num), kind) if weights is None else weights
    factors = np.ones((len(weights), k), kind) if factors is None else factors
    total = weights.sum(1, keepdims=True)

    def step(priors: Floats) -> Floats:
        scaled = priors * factors
        mixed = np.maximum(scaled @ likelihoods.T, LEAST)
        after: Floats = scaled * ((weights / mixed) @ likelihoods) / total
        return after

    priors = np.full((len(weights), k), 1 / k, kind)
    for _ in range(max_steps // 2):
        once = step(priors)
        twice = step(once)
        if np.abs(twice - once).max() < tolerance:
            break
        change = once - priors
        bend = twice - once - change
        length = np.linalg.norm(change, axis=1, keepdims=True) / np.maximum(
            np.linalg.norm(bend, axis=1, keepdims=True), 1e-30
        )
        length = np.clip(length, 1, 1e4)
        leap = priors + 2 * length * change + length**2 * bend
        priors = _normalised(np.maximum(leap, twice / 10) + FLOOR).astype(kind)
    # What EM leaves of a class without images shrinks towards 0 and never gets there.
    return _normalised(np.where(twice * total < NO_IMAGE, 0, twice))


def _nonnegative(matrix: Floats, values: Floats, ridge: float, centre: Floats) -> Floats:
    """x >= 0 that minimises |matrix x - values|^2 + ridge |x - centre|^2."""
    root = np.sqrt(ridge)
    rows = np.vstack([matrix, root * np.eye(len(centre))])
    solution: Floats = nnls(rows, np.append(values, root * centre))[0]
    return solution


def _simplex(values: Floats) -> Floats:
    priors: Floats = values / values.sum()
    return priors


def _normalised(values: Floats) -> Floats:
    """Rows (R, K) with sum 1."""
    summed: Floats = values / values.sum(1, keepdims=True)
    return summed
