"""Deep embedded validation predicts the target risk from source labels alone."""

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from hf_wbc.evaluation import target_risk as module
from hf_wbc.evaluation.target_risk import dev, importance_weights, weighted_risk


def gaussians(num, shift, seed=0, d=3):
    """Source N(0, 1), target N(shift, 1) along the first axis; the ratio is exp(shift x - .../2)"""
    rng = np.random.default_rng(seed)
    f_s, f_t = rng.normal(size=(2, num, d))
    f_t[:, 0] += shift
    return f_s, f_t


def test_weighted_risk_matches_formula_of_paper():
    rng = np.random.default_rng(0)
    losses, weights = rng.random(40), rng.lognormal(size=40)
    weighted = losses * weights
    covariance = np.cov(weighted, weights, ddof=1)
    eta = -covariance[0, 1] / covariance[1, 1]
    expected = weighted.mean() + eta * weights.mean() - eta
    assert weighted_risk(losses, weights) == pytest.approx(expected)


def test_constant_loss_has_same_risk_for_any_weights():
    weights = np.random.default_rng(0).lognormal(size=20)
    assert weighted_risk(np.full(20, 0.7), weights) == pytest.approx(0.7)


def test_equal_weights_give_plain_mean():
    losses = np.arange(5.0)
    assert weighted_risk(losses, np.ones(5)) == pytest.approx(2)


def test_control_variate_lowers_variance():
    plain, controlled = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=50)
        weights, losses = np.exp(0.8 * x - 0.32), (x > 0).astype(float)
        plain.append((weights * losses).mean())
        controlled.append(weighted_risk(losses, weights))
    truth = 0.5 * (1 + math.erf(0.8 / math.sqrt(2)))
    assert np.std(controlled) < 0.7 * np.std(plain)
    assert np.mean(controlled) == pytest.approx(truth, abs=0.03)


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0])
def test_weights_match_density_ratio(shift, monkeypatch):
    monkeypatch.setattr(module, "MAX_DEV_IMAGES", 10**6)
    f_s, f_t = gaussians(20_000, shift)
    off = np.log(importance_weights(f_s, f_t)) - (shift * f_s[:, 0] - shift**2 / 2)
    assert np.sqrt((off**2).mean()) < 0.06


def test_image_is_weighted_by_a_classifier_not_trained_on_it():
    f_s, f_t = gaussians(200, 0.0, d=300)
    assert importance_weights(f_s, f_t).mean() > 0.9


def test_weights_account_for_domain_sizes(monkeypatch):
    monkeypatch.setattr(module, "MAX_DEV_IMAGES", 10**6)
    f_s, f_t = gaussians(8000, 0.5)
    weights = importance_weights(f_s, f_t[:1000])
    assert weights.mean() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("shift", [0.0, 0.6, -1.2])
def test_dev_predicts_target_risk(shift):
    f_s, f_t = gaussians(3000, shift, d=8)
    losses_s, losses_t = ((np.sin(f[:, 0]) + 1) / 2 for f in (f_s, f_t))
    assert -dev(f_s, losses_s, f_t) == pytest.approx(losses_t.mean(), abs=0.05)
    if shift:
        assert abs(losses_s.mean() - losses_t.mean()) > 0.1


def test_dev_of_a_better_classifier_is_higher():
    f_s, f_t = gaussians(500, 0.5)
    good = (f_s[:, 0] > 2).astype(float)
    bad = (f_s[:, 0] > 0).astype(float)
    assert dev(f_s, good, f_t) > dev(f_s, bad, f_t)


@pytest.mark.parametrize("penalty", [0.3, 0.03, 0.003])
def test_logistic_regression_matches_sklearn(penalty):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(80, 5))
    labels = (inputs[:, 0] + rng.normal(size=80) > 0.5).astype(float)
    found = module._logistic(inputs, labels, penalty, np.zeros(6))
    theirs = LogisticRegression(C=1 / (penalty * 80), tol=1e-10, max_iter=1000).fit(inputs, labels)
    np.testing.assert_allclose(found[:-1], theirs.coef_[0], atol=2e-3)
    assert found[-1] == pytest.approx(theirs.intercept_[0], abs=2e-3)


def test_features_may_have_any_scale_and_a_constant():
    f_s, f_t = gaussians(400, 0.8)
    plain = importance_weights(f_s, f_t)
    scaled = [np.c_[100 * f + 7, np.full(400, 3.0)] for f in (f_s, f_t)]
    np.testing.assert_allclose(importance_weights(*scaled), plain, rtol=1e-6)


def test_importance_weights_are_deterministic():
    f_s, f_t = gaussians(1300, 0.3)
    assert (importance_weights(f_s, f_t) == importance_weights(f_s, f_t)).all()


@pytest.mark.parametrize(("num_s", "num_t"), [(1, 1), (1, 30), (30, 1), (2, 2), (3, 50)])
def test_few_images_give_finite_risk(num_s, num_t):
    f_s, f_t = gaussians(50, 0.5)
    assert math.isfinite(dev(f_s[:num_s], np.ones(num_s), f_t[:num_t]))


def test_disjoint_domains_give_finite_risk():
    f_s, f_t = gaussians(100, 1e6)
    assert math.isfinite(dev(f_s, (f_s[:, 0] > 0).astype(float), f_t))
