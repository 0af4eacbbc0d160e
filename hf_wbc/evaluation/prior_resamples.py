"""How far estimated priors would move with other images of the same kind, source and target alike.

The resamples are Bayesian bootstraps (Rubin 1981): images get random weights, those of the source
within their class, as the estimators do not ask how frequent a class is there. For BBSE and RLLS
that is a Dirichlet draw of each column of the confusion and of the predictions, whatever the number
of images. For EM the calibration of each resample is one Newton step away from the full one, and
EM runs on all target images (none are left out), for all resamples of about the same temperature at
once: their biases only rescale the priors, so the likelihoods are shared.

One image of no known class is added to the target, and for BBSE and RLLS to each class of the
source, because else a single image would be certain of what all others are. Beside a hundred
images nothing is seen of it.
"""

from collections.abc import Callable

import numpy as np
from scipy.special import softmax

from hf_wbc.evaluation.calibration import (
    Calibration,
    Floats,
    Ids,
    balanced,
    penalty,
    standardised,
)
from hf_wbc.evaluation.prior_solvers import em_priors

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
    _, spread = standardised(source)
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
    scaled, spread = standardised(source)
    bias = np.array(calibration.bias)
    slope = spread / calibration.temperature
    p = softmax(slope * scaled + bias, axis=1)
    ones = np.broadcast_to(np.eye(k), (len(p), k, k))
    design = np.concatenate([scaled[:, :, None], ones], axis=2)
    once = balanced(place)[:, None]
    gradients = once * np.einsum("nk,nkd->nd", p - np.eye(k)[place], design)
    mean = np.einsum("nk,nkd->nd", p, design)
    ridge = penalty(np.bincount(place, minlength=k))
    hessian = np.einsum("nk,nkd,nke->de", once * p, design, design, optimize=True)
    hessian += np.diag(ridge) - (once * mean).T @ mean
    drawn = generator.standard_exponential((num, len(place)))
    for c in range(k):
        drawn[:, place == c] /= drawn[:, place == c].mean(1, keepdims=True)
    pushed = (drawn - 1) @ gradients
    steps = -np.linalg.solve(hessian, pushed.T).T
    return np.maximum(slope + steps[:, 0], slope / 10), bias + steps[:, 1:]
