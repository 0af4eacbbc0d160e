"""How certain and how diverse predictions are: scores of N unlabelled images, higher is better.

A score that rewards diversity takes a target with equally many images of every class for granted.
Each has a form for known or estimated priors, which for uniform priors orders evaluations as the
plain one does. `probabilities` (N, C) have rows that sum to 1, and so have `priors` (C,).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, rel_entr

Floats = NDArray[np.floating[Any]]
RAREST = 1e-3
"""Estimated priors are raised to this, as a class of which none is expected may yet occur."""


def entropy(probabilities: Floats) -> float:
    """Minus the mean entropy, in [-ln C, 0] (Morerio et al. 2018, arXiv:1711.10288).

    >>> entropy(np.array([[1.0, 0.0], [1.0, 0.0]]))
    0.0
    """
    return 0.0 - float(entr(probabilities).sum(1).mean())


def info_max(probabilities: Floats) -> float:
    """H(mean p) - mean H(p), in [0, ln C]: the mutual information of image and prediction.

    Information maximisation is SHOT's loss (Liang et al. 2020, arXiv:2002.08546), and a validator
    in Musgrave et al. 2022 (arXiv:2208.07360).
    """
    return float(entr(probabilities.mean(0)).sum()) + entropy(probabilities)


def info_max_prior(probabilities: Floats, priors: Floats) -> float:
    """-KL(mean p || priors) - mean H(p), at most 0; for uniform priors `info_max` - ln C."""
    return entropy(probabilities) - float(rel_entr(probabilities.mean(0), _raised(priors)).sum())


def bnm(probabilities: Floats) -> float:
    """Nuclear norm over sqrt(N C), in (0, 1] (Cui et al. 2020, arXiv:2003.12237).

    1 for certain predictions that are spread over all classes alike, 1 / sqrt(C) when they are all
    of one class, 1 / C when they are all uniform.
    """
    return float(np.linalg.norm(probabilities, "nuc") / np.sqrt(probabilities.size))


def bnm_prior(probabilities: Floats, priors: Floats) -> float:
    """`bnm` of the columns times sqrt(C prior), in (0, 1].

    Of certain predictions it is the Bhattacharyya coefficient of their shares and the priors, so it
    is 1 just where these are equal.
    """
    scale = np.sqrt(probabilities.shape[1] * _raised(priors))
    return bnm(probabilities * scale)


def softmax_corr(probabilities: Floats) -> float:
    """Cosine of the classes' correlation P^T P / N and the identity, in [1 / sqrt(C), 1].

    SoftmaxCorr (Tu et al. 2024, arXiv:2406.09908). 1 for certain predictions that are spread over
    all classes alike; 1 / sqrt(C) when they are all of one class, or all the same.
    """
    return _corr(probabilities, np.ones(probabilities.shape[1]))


def softmax_corr_prior(probabilities: Floats, priors: Floats) -> float:
    """The same with the priors on the diagonal: 1 for certain predictions in their shares."""
    return _corr(probabilities, _raised(priors))


def agreement(probabilities: Floats, ensemble: Floats | None) -> float:
    """Fraction of the images on which the ensemble predicts the same class; 0 without ensemble.

    `ensemble` (N, C) is the mean prediction of all earlier evaluations. That disagreement foretells
    error: Jiang et al. 2022 (arXiv:2106.13799).
    """
    if ensemble is None:
        return 0.0
    return float((probabilities.argmax(1) == ensemble.argmax(1)).mean())


def _corr(probabilities: Floats, diagonal: Floats) -> float:
    correlation = probabilities.T @ probabilities
    norms = np.linalg.norm(correlation) * np.linalg.norm(diagonal)
    return float(np.diagonal(correlation) @ diagonal / norms)


def _raised(priors: Floats) -> NDArray[np.float64]:
    raised: NDArray[np.float64] = np.maximum(np.asarray(priors, np.float64), RAREST)
    raised /= raised.sum()
    return raised
