"""Estimators of class priors from confusion matrices or likelihoods, and their bootstraps.

BBSE (Lipton et al. 2018, arXiv:1802.03916) solves `confusion @ priors = predicted`. RLLS
(Azizzadenesheli et al. 2019, arXiv:1903.09734) adds a penalty towards the source priors. EM
(Saerens et al. 2002; MLLS in arXiv:1901.06852) finds the priors that maximize the likelihood of the
target images. All return priors on the simplex.

The resamples show how far the estimates would vary over other source and target images of the same
kind. They are Bayesian bootstraps (Rubin 1981): images get random weights, those of the source
within their class, because the estimators do not use the class frequencies of the source. For BBSE
and RLLS this is a Dirichlet draw of each column of the confusion matrix and of the predictions, at
a cost independent of the number of images. For EM, the calibration of each resample is one Newton
step away from the full one. EM uses all target images and runs jointly for all resamples of about
the same temperature: their biases only rescale the priors, so they share the likelihoods.

One pseudo-image of unknown class is added to the target and, for BBSE and RLLS, to each class of
the source. Otherwise, the estimate from a single image would have no variance. With a hundred
images the effect is negligible.
"""

import math
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
"""Ridge on the priors; it favors the source priors and matters only where the confusion matrix does
not determine the solution."""
RLLS_STRENGTH = 0.01
"""Factor before 3 * delta in the authors' code."""
RLLS_CONFIDENCE = 0.05
MAX_LEAP = 30
"""Largest extrapolation of the RLLS solver, in units of its last step."""
NO_IMAGE = 0.01
"""EM sets the prior of a class with fewer expected images than this to 0."""
FLOOR = 1e-12
"""Lower bound of the priors after an extrapolation; EM cannot leave a prior of exactly 0."""
LEAST = 1e-30
"""Lower bound of the likelihood of an image. In single precision, the likelihood of an image with
weight 0 and a class of prior 0 is 0, which would cause a division by zero."""


def bbse_priors(confusion: Floats, predicted: Floats, source: Floats) -> Floats:
    """Estimate priors by black-box shift estimation (BBSE).

    The paper inverts the confusion matrix and clips negative values. This function takes the
    least-squares solution on the simplex instead. Both agree if no value is negative. If the
    confusion matrix is nearly singular, only the priors of the indistinguishable classes are
    inaccurate, not all; these keep the proportions of the source priors.

    Args:
        confusion: P(prediction | class) (K, K), indexed by prediction first.
        predicted: Predicted class frequencies on the target (K,).
        source: Class priors of the source (K,).

    Returns:
        Class priors of the target (K,).
    """
    return _simplex(_nonnegative(confusion, predicted, RIDGE, source))


def rlls_priors(confusion: Floats, predicted: Floats, source: Floats, num_source: int) -> Floats:
    """Estimate priors by regularized learning under label shift (RLLS).

    Minimizes |C w - predicted| + rho |w - 1| over weights w = priors / source >= 0, where C is the
    joint confusion matrix (eq. 4 of the paper, with rho as in its code). Neither norm is squared;
    the solver is iteratively reweighted least squares, extrapolated after every second step.

    Args:
        confusion: P(prediction | class) (K, K), indexed by prediction first.
        predicted: Predicted class frequencies on the target (K,).
        source: Class priors of the source (K,).
        num_source: Number of source images, which determines rho.

    Returns:
        Class priors of the target (K,).
    """
    joint, rho = confusion * source, rlls_strength(len(source), num_source)
    ones = np.ones(len(source))
    weights, log_ridges = ones, [0.0]
    for _ in range(100):
        before = weights
        weights = _nonnegative(joint, predicted, math.exp(log_ridges[-1]), ones)
        if len(log_ridges) > 1 and np.abs(weights - before).max() < 1e-6:
            break
        residual = float(np.linalg.norm(joint @ weights - predicted))
        ridge = rho * residual / max(float(np.linalg.norm(weights - 1)), 1e-12)
        log_ridges.append(math.log(max(ridge, RIDGE)))
        if len(log_ridges) == 3:
            log_ridges = [_extrapolated(*log_ridges)]
    return _simplex(weights * source)


def _extrapolated(first: float, second: float, third: float) -> float:
    """Return the limit of a geometric sequence (Aitken), at most MAX_LEAP steps further."""
    step, bend = third - second, (third - second) - (second - first)
    if abs(bend) < 1e-12:
        return third
    leap = -(step**2) / bend
    return third + math.copysign(min(abs(leap), MAX_LEAP * abs(step)), leap)


def rlls_strength(num_classes: int, num_source: int) -> float:
    """Return rho = 0.01 * 3 * delta, the penalty factor of RLLS.

    Delta bounds the error of a confusion matrix estimated from `num_source` images.
    """
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
    """Maximize sum_n weights log(priors @ likelihoods) over the priors by EM.

    The objective is concave in the priors, so the start (equal priors) matters only for classes
    with equal likelihoods. Each iteration is two EM steps and an extrapolation (SQUAREM; Varadhan &
    Roland 2008), for all R weightings at once, until no step changes a prior by `tolerance`.

    Args:
        likelihoods: Likelihoods (N, K), each row up to a factor, such as a calibrated posterior
            divided by its prior.
        weights: Weights of the images (R, N); one weighting with equal weights by default.
        factors: Factors of the likelihoods by class (R, K).
        tolerance: Largest change of a prior at convergence.
        max_steps: Maximum number of EM steps.

    Returns:
        Priors (R, K).
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
        priors = _normalized(np.maximum(leap, twice / 10) + FLOOR).astype(kind)
    # EM never reaches exactly 0 for a class without images.
    return _normalized(np.where(twice * total < NO_IMAGE, 0, twice))


def _nonnegative(matrix: Floats, values: Floats, ridge: float, center: Floats) -> Floats:
    """Return the x >= 0 that minimizes |matrix x - values|^2 + ridge |x - center|^2."""
    root = np.sqrt(ridge)
    rows = np.vstack([matrix, root * np.eye(len(center))])
    solution: Floats = nnls(rows, np.append(values, root * center))[0]
    return solution


def _simplex(values: Floats) -> Floats:
    priors: Floats = values / values.sum()
    return priors


def _normalized(values: Floats) -> Floats:
    """Normalize rows (R, K) to sum 1."""
    summed: Floats = values / values.sum(1, keepdims=True)
    return summed


TEMPERATURES = 8
"""Number of groups of resamples that share a temperature, and hence the likelihoods."""


def confusion_resamples(
    solve: Callable[[Floats, Floats], Floats],
    counts: Floats,
    predicted: Floats,
    num: int,
    generator: np.random.Generator,
) -> Floats:
    """Return resampled priors (num, K) of an estimator based on a confusion matrix.

    Args:
        solve: Estimator; maps a confusion matrix (K, K) and class frequencies (K,) to priors (K,).
        counts: Number of source images (K, K), indexed by prediction first.
        predicted: Number of target images predicted as each class (K,).
        num: Number of resamples.
        generator: Source of random numbers.
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
    """Return resampled priors (num, K) of EM.

    Args:
        calibration: Calibration of the K classes.
        source: Source logits (N_s, K).
        place: Class ids of the source images (N_s,); every class occurs.
        target: Target logits (N_t, K).
        num: Number of resamples.
        generator: Source of random numbers.
    """
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
    """Return slopes (num,) and biases (num, K) of the calibrations of the resamples.

    Each is one Newton step on the loss of `calibrate` with resampled weights.
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
