"""Certainty and diversity scores match their formulas, and reach 1 or 0 in limiting cases."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hf_wbc.evaluation.validators import (
    agreement,
    bnm,
    bnm_prior,
    entropy,
    info_max,
    info_max_prior,
    softmax_corr,
    softmax_corr_prior,
)

C = 11
UNIFORM = np.full(C, 1 / C)
SKEWED = np.array([0.3, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05, 0.04, 0.03, 0.02, 0.01])


def draw(num, seed=0, num_classes=C, sharpness=0.3):
    return np.random.default_rng(seed).dirichlet(np.full(num_classes, sharpness), num)


def one_hot(counts):
    return np.eye(len(counts))[np.repeat(np.arange(len(counts)), counts)]


def reference_corr(p, diagonal):
    """Compute the cosine of two matrices, entry by entry."""
    num, k = p.shape
    c = [[sum(p[n, i] * p[n, j] for n in range(num)) / num for j in range(k)] for i in range(k)]
    dot = sum(c[i][i] * diagonal[i] for i in range(k))
    norm = math.sqrt(sum(c[i][j] ** 2 for i in range(k) for j in range(k)))
    return dot / norm / math.sqrt(sum(d * d for d in diagonal))


@pytest.mark.parametrize(("num", "k"), [(40, C), (5, C), (1, C), (30, 2)])
def test_scores_match_formulas(num, k):
    p, q = draw(num, num_classes=k), draw(1, seed=1, num_classes=k, sharpness=5.0)[0]
    mean_entropy = np.mean([stats.entropy(row) for row in p])
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(p.T @ p), 0))
    scaled = np.sqrt(np.maximum(np.linalg.eigvalsh((k * p.T @ p) * np.sqrt(np.outer(q, q))), 0))
    assert entropy(p) == pytest.approx(-mean_entropy)
    assert info_max(p) == pytest.approx(stats.entropy(p.mean(0)) - mean_entropy)
    assert info_max_prior(p, q) == pytest.approx(-stats.entropy(p.mean(0), q) - mean_entropy)
    assert bnm(p) == pytest.approx(singular.sum() / math.sqrt(num * k), rel=1e-5)
    assert bnm_prior(p, q) == pytest.approx(scaled.sum() / math.sqrt(num * k), rel=1e-5)
    assert softmax_corr(p) == pytest.approx(reference_corr(p, [1] * k))
    assert softmax_corr_prior(p, q) == pytest.approx(reference_corr(p, q))


def test_balanced_certain_predictions_are_best():
    p = one_hot([6] * C)
    assert entropy(p) == 0
    assert info_max(p) == pytest.approx(math.log(C))
    assert bnm(p) == pytest.approx(1)
    assert softmax_corr(p) == pytest.approx(1)


def test_uniform_predictions_are_worst():
    p = np.full((50, C), 1 / C)
    assert entropy(p) == pytest.approx(-math.log(C))
    assert info_max(p) == pytest.approx(0, abs=1e-12)
    assert bnm(p) == pytest.approx(1 / C)
    assert softmax_corr(p) == pytest.approx(1 / math.sqrt(C))


def test_certain_predictions_of_one_class_maximize_only_entropy():
    p = one_hot([30] + [0] * (C - 1))
    assert entropy(p) == 0
    assert info_max(p) == pytest.approx(0, abs=1e-12)
    assert bnm(p) == pytest.approx(1 / math.sqrt(C))
    assert softmax_corr(p) == pytest.approx(1 / math.sqrt(C))


def test_certain_predictions_with_prior_shares_are_best():
    p = one_hot((100 * SKEWED).round().astype(int))
    assert info_max_prior(p, SKEWED) == pytest.approx(0, abs=1e-9)
    assert bnm_prior(p, SKEWED) == pytest.approx(1)
    assert softmax_corr_prior(p, SKEWED) == pytest.approx(1)


def test_plain_scores_prefer_balance_and_corrected_ones_the_truth():
    right, balanced = one_hot((100 * SKEWED).round().astype(int)), one_hot([9] * C)
    for plain in (info_max, bnm, softmax_corr):
        assert plain(balanced) > plain(right)
    for corrected in (info_max_prior, bnm_prior, softmax_corr_prior):
        assert corrected(right, SKEWED) > corrected(balanced, SKEWED)


def test_bnm_prior_is_bhattacharyya_coefficient_if_certain():
    counts = np.array([5, 9, 0, 2, 1, 1, 1, 1, 20, 3, 7])
    expected = np.sqrt(SKEWED * counts / counts.sum()).sum()
    assert bnm_prior(one_hot(counts), SKEWED) == pytest.approx(expected)


@given(seed=st.integers(0, 500), num=st.integers(1, 30), sharpness=st.sampled_from([0.01, 0.3, 5]))
def test_scores_stay_in_bounds_and_match_with_uniform_priors(seed, num, sharpness):
    p, q = draw(num, seed, sharpness=sharpness), draw(1, seed + 1)[0]
    tiny = 1e-9
    assert -math.log(C) - tiny <= entropy(p) <= 0
    assert -tiny <= info_max(p) <= math.log(C) + tiny
    assert info_max_prior(p, q) <= tiny
    assert 0 < bnm(p) <= 1 + tiny and 0 < bnm_prior(p, q) <= 1 + tiny
    assert 1 / math.sqrt(C) - tiny <= softmax_corr(p) <= 1 + tiny
    assert 0 <= softmax_corr_prior(p, q) <= 1 + tiny
    assert info_max_prior(p, UNIFORM) == pytest.approx(info_max(p) - math.log(C))
    assert bnm_prior(p, UNIFORM) == pytest.approx(bnm(p))
    assert softmax_corr_prior(p, UNIFORM) == pytest.approx(softmax_corr(p))


@pytest.mark.parametrize("priors", [np.eye(C)[0], np.r_[np.zeros(6), np.full(5, 0.2)]])
def test_unexpected_class_has_finite_cost(priors):
    p = one_hot([1] * C)
    assert -10 < info_max_prior(p, priors) < 0
    assert 0 < bnm_prior(p, priors) < 1
    assert 0 < softmax_corr_prior(p, priors) < 1


def test_agreement_is_a_fraction_of_images():
    p = one_hot([1] * C)
    ensemble = np.roll(p, 1, axis=1)
    ensemble[:4] = 0.5 * p[:4] + 0.5 / C
    assert agreement(p, ensemble) == pytest.approx(4 / C)
    assert agreement(p, p) == 1
    assert agreement(p, None) == 0
