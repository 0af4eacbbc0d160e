"""Deep embedded validation: the risk on an unlabeled target, estimated from source losses.

`dev` (You et al. 2019, ICML) weights the source losses by p_t(f) / p_s(f) and uses a control
variate. The weights come from a domain classifier: a logistic regression instead of the small
network of the paper, fitted on one half of the images to weight the other half. Under label shift,
the weights are valid if the features of a class have the same distribution in both domains.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from hf_wbc.evaluation.validators import evenly_spaced

Floats = NDArray[np.floating[Any]]

MAX_DEV_IMAGES = 500
"""Maximum number of images of each domain for fitting one domain classifier."""
PENALTIES = (0.3, 0.03, 0.003)
MAX_LOG_ODDS = 20.0
"""Log-odds are clipped to this magnitude, so that weights stay finite."""


def dev(features_s: Floats, losses_s: Floats, features_t: Floats) -> float:
    """Return the negative estimated risk on the target; higher is better.

    Deep embedded validation (You et al. 2019, ICML): importance weighting with a control variate.

    Args:
        features_s: Source features (N_s, d).
        losses_s: Loss of each source image (N_s,).
        features_t: Target features (N_t, d).

    Returns:
        Minus the estimated mean loss on the target.
    """
    return -weighted_risk(losses_s, importance_weights(features_s, features_t))


def weighted_risk(losses: Floats, weights: Floats) -> float:
    """Return mean(w l) + eta (mean(w) - 1) with eta = -cov(w l, w) / var(w); lower is better.

    The mean weight is 1 in expectation, so the second term vanishes in expectation. This eta
    minimizes the variance of the sum.

    Args:
        losses: Losses (N,).
        weights: Importance weights (N,).
    """
    weighted, off = weights * losses, weights - weights.mean()
    variance = float(off @ off)
    eta = -float(off @ weighted) / variance if variance > 0 else 0.0
    return float(weighted.mean() + eta * (weights.mean() - 1))


def importance_weights(features_s: Floats, features_t: Floats) -> NDArray[np.float64]:
    """Estimate the density ratio p_t / p_s at the source features.

    Args:
        features_s: Source features (N_s, d).
        features_t: Target features (N_t, d).

    Returns:
        Weights (N_s,); all 1 if a domain has fewer than two images.
    """
    weights = np.ones(len(features_s))
    if min(len(features_s), len(features_t)) < 2:
        return weights
    halves = [(features_s[i::2], features_t[i::2]) for i in (0, 1)]
    odds = [_log_odds(halves[1 - i], halves[i]) for i in (0, 1)]
    losses = [sum(_loss(*pair[k]) for pair in odds) for k in range(len(PENALTIES))]
    best = int(np.argmin(losses))
    for i in (0, 1):
        odds_s, _ = odds[i][best]
        weights[i::2] = np.exp(np.clip(odds_s, -MAX_LOG_ODDS, MAX_LOG_ODDS))
    return weights


def _log_odds(
    train: tuple[Floats, Floats], seen: tuple[Floats, Floats]
) -> list[tuple[Floats, Floats]]:
    """Return ln(p_t / p_s) at the source and target features `seen`, for each penalty."""
    fit_s, fit_t = (features[evenly_spaced(len(features), MAX_DEV_IMAGES)] for features in train)
    fit = np.concatenate([fit_s, fit_t]).astype(np.float64)
    mean, std = fit.mean(0), fit.std(0)
    std[std == 0] = 1
    is_target = np.repeat([0.0, 1.0], [len(fit_s), len(fit_t)])
    prior = np.log(len(fit_t) / len(fit_s))
    found = []
    start = np.append(np.zeros(fit.shape[1]), prior)
    for penalty in PENALTIES:
        start = _logistic((fit - mean) / std, is_target, penalty, start)
        weight, bias = start[:-1] / std, start[-1] - prior
        odds_s, odds_t = ((features - mean) @ weight + bias for features in seen)
        found.append((odds_s, odds_t))
    return found


def _logistic(
    inputs: NDArray[np.float64], labels: NDArray[np.float64], penalty: float, start: Floats
) -> NDArray[np.float64]:
    """Fit a logistic regression with penalty |w|^2 / 2; return coefficients (d + 1,), bias last."""

    def loss(coefficients: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight = coefficients[:-1]
        logits = inputs @ weight + coefficients[-1]
        value = (np.logaddexp(0, logits) - labels * logits).mean() + penalty * weight @ weight / 2
        wrong = (expit(logits) - labels) / len(labels)
        return float(value), np.append(wrong @ inputs + penalty * weight, wrong.sum())

    options = {"maxiter": 100, "gtol": 1e-4}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x, np.float64)


def _loss(odds_s: Floats, odds_t: Floats) -> float:
    """Return the mean logistic loss, with equal weight for both domains."""
    return float(np.logaddexp(0, odds_s).mean() + np.logaddexp(0, -odds_t).mean())
