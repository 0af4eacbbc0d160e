"""Deep embedded validation: the target's risk from labelled source images that resemble it.

You et al. 2019 (Towards accurate model selection in deep unsupervised domain adaptation, ICML).
Source validation losses are weighted by p_t(f) / p_s(f), read off a classifier that tells target
from source features; a control variate lowers the variance. Under label shift the weights still
hold, as long as features of a class look alike in both domains.

The classifier is a logistic regression instead of the paper's small network. Each half of the
images is weighted by one that was trained on the other half, since only validation images are at
hand; the strength of its ridge is chosen by the likelihood of what it was not trained on.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from hf_wbc.evaluation.neighbours import evenly

Floats = NDArray[np.floating[Any]]
MOST = 500
"""Images of each domain to train one classifier on, at most."""
PENALTIES = (0.3, 0.03, 0.003)
LARGEST = 20.0
"""Log-odds are cut here, so that weights stay finite."""


def dev(features_s: Floats, losses_s: Floats, features_t: Floats) -> float:
    """Minus the estimated risk on the target: features (N_s, d), (N_t, d), losses (N_s,)."""
    return -weighted_risk(losses_s, importance_weights(features_s, features_t))


def weighted_risk(losses: Floats, weights: Floats) -> float:
    """mean(w l) + eta (mean(w) - 1), eta = -cov(w l, w) / var(w); losses and weights (N,).

    The mean weight is 1 in expectation, so the second term is 0 in expectation; eta is what
    makes the variance of the sum the least.
    """
    weighted, off = weights * losses, weights - weights.mean()
    variance = float(off @ off)
    eta = -float(off @ weighted) / variance if variance > 0 else 0.0
    return float(weighted.mean() + eta * (weights.mean() - 1))


def importance_weights(features_s: Floats, features_t: Floats) -> NDArray[np.float64]:
    """p_t / p_s at the source features (N_s, d), of target features (N_t, d); ones for N < 2."""
    weights = np.ones(len(features_s))
    if min(len(features_s), len(features_t)) < 2:
        return weights
    halves = [(features_s[i::2], features_t[i::2]) for i in (0, 1)]
    odds = [_log_odds(halves[1 - i], halves[i]) for i in (0, 1)]
    losses = [sum(_loss(*pair[k]) for pair in odds) for k in range(len(PENALTIES))]
    best = int(np.argmin(losses))
    for i in (0, 1):
        odds_s, _ = odds[i][best]
        weights[i::2] = np.exp(np.clip(odds_s, -LARGEST, LARGEST))
    return weights


def _log_odds(
    train: tuple[Floats, Floats], seen: tuple[Floats, Floats]
) -> list[tuple[Floats, Floats]]:
    """ln(p_t / p_s) at the seen source and target features, for each penalty."""
    fit_s, fit_t = (features[evenly(len(features), MOST)] for features in train)
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
    """Coefficients (d + 1,), the bias last: least mean logistic loss + penalty |w|^2 / 2."""

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
    """Mean logistic loss, both domains alike."""
    return float(np.logaddexp(0, odds_s).mean() + np.logaddexp(0, -odds_t).mean())
