"""From confusions or likelihoods to class priors: the three estimators as plain mathematics.

BBSE (Lipton et al. 2018, arXiv:1802.03916) solves `confusion @ priors = predicted`, RLLS
(Azizzadenesheli et al. 2019, arXiv:1903.09734) does so with a pull towards the source's priors, and
EM (Saerens et al. 2002; MLLS in arXiv:1901.06852) finds the priors under which the target's images
are likeliest. All give priors on the simplex.

How far estimated priors would move with other images of the same kind, source and target alike.

The resamples are Bayesian bootstraps (Rubin 1981): images get random weights, those of the source
within their class, as the estimators do not ask how frequent a class is there. For BBSE and RLLS
that is a Dirichlet draw of each column of the confusion and of the predictions, whatever the number
of images. For EM the calibration of each resample is one Newton step away from the full one, and
EM runs on all target images (none are left out), for all resamples of about the same temperature at
once: their biases only rescale the priors, so the likelihoods are shared.

One image of no known class is added to the target, and for BBSE and RLLS to each class of the
source, because else a single image would be certain of what all others are. Beside a hundred
images nothing is seen of it."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.special import softmax

from hf_wbc.evaluation.calibration import (
    Calibration,
    Ids,
    class_balanced_weights,
    prior_penalty,
    standardized,
)

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


TEMPERATURES = 8
"""Groups of resamples that share one temperature, and with it the likelihoods."""


def confusion_resamples(
    solve: Callable[[Floats, Floats], Floats],
    counts: Floats,
    predicted: Floats,
    num: int,
    generator: np.random.Generator,
) -> Floats:
    """Priors (num, K) of `solve(confusion, predicted)` under the resamples of two counts.

    Source images `counts` (K, K), prediction first, and target images `predicted` (K,).
    """
    k = len(predicted)
    confusions = generator.standard_gamma(counts + 1 / k, size=(num, k, k))
    confusions /= confusions.sum(1, keepdims=True)
    shares = generator.dirichlet(predicted + 1 / k, size=num)
    return np.stack([solve(*drawn) for drawn in zip(confusions, shares, strict=True)])


def likelihood_resamples(
    calibration: Calibration,
    source: Floats,
    place: Ids,
    target: Floats,
    num: int,
    generator: np.random.Generator,
) -> Floats:
    """Priors (num, K) of EM; logits (N_s, K) and (N_t, K), labels (N_s,), none without an image."""
    k = source.shape[1]
    _, spread = standardized(source)
    bias = np.array(calibration.bias)
    slopes, biases = _calibrations(calibration, source, place, num, generator)
    priors = np.empty((num, k))
    for rows in np.array_split(np.argsort(slopes), min(TEMPERATURES, num)):
        shared = slopes[rows].mean()
        scores = shared * target / spread + bias
        likelihoods = np.exp(scores - scores.max(1, keepdims=True))
        unknown = generator.standard_gamma(1 / k, size=(len(rows), k))
        weights = generator.standard_exponential((len(rows), len(target)), dtype=np.float32)
        priors[rows] = em_priors(
            np.vstack([likelihoods, np.eye(k)]).astype(np.float32),
            np.hstack([weights, unknown]).astype(np.float32),
            np.exp(np.clip(biases[rows] - bias, -20, 20)).astype(np.float32),
            tolerance=1e-5,
            max_steps=200,
        )
    return priors


def _calibrations(
    calibration: Calibration,
    source: Floats,
    place: Ids,
    num: int,
    generator: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Slopes (num,) and biases (num, K) of the resamples.

    One Newton step on the loss of `calibrate` with other weights.
    """
    k = source.shape[1]
    scaled, spread = standardized(source)
    bias = np.array(calibration.bias)
    slope = spread / calibration.temperature
    p = softmax(slope * scaled + bias, axis=1)
    ones = np.broadcast_to(np.eye(k), (len(p), k, k))
    design = np.concatenate([scaled[:, :, None], ones], axis=2)
    once = class_balanced_weights(place)[:, None]
    gradients = once * np.einsum("nk,nkd->nd", p - np.eye(k)[place], design)
    mean = np.einsum("nk,nkd->nd", p, design)
    ridge = prior_penalty(np.bincount(place, minlength=k))
    hessian = np.einsum("nk,nkd,nke->de", once * p, design, design, optimize=True)
    hessian += np.diag(ridge) - (once * mean).T @ mean
    drawn = generator.standard_exponential((num, len(place)))
    for c in range(k):
        drawn[:, place == c] /= drawn[:, place == c].mean(1, keepdims=True)
    pushed = (drawn - 1) @ gradients
    steps = -np.linalg.solve(hessian, pushed.T).T
    return np.maximum(slope + steps[:, 0], slope / 10), bias + steps[:, 1:]
