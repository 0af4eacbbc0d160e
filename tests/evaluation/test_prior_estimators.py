"""The estimators as plain mathematics: exact where possible, optimal where intended."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import softmax

from hf_wbc.evaluation import prior_estimators
from hf_wbc.evaluation.prior_estimators import bbse_priors, em_priors, rlls_priors, rlls_strength

TARGET = np.array([0.03, 0.07, 0.1, 0.3, 0.5])


def test_indistinguishable_classes_share_their_sum():
    confusion = np.array([[0.9, 0.1, 0.1], [0.05, 0.45, 0.45], [0.05, 0.45, 0.45]])
    found = bbse_priors(confusion, confusion @ [0.2, 0.7, 0.1], np.array([0.5, 0.25, 0.25]))
    assert found == pytest.approx([0.2, 0.4, 0.4], abs=1e-4)


def test_rlls_minimizes_unsquared_norms():
    generator = np.random.default_rng(0)
    for num in (30, 300, 3000):
        source = generator.dirichlet(np.full(4, 5))
        confusion = 0.5 * np.eye(4) + 0.5 * generator.dirichlet(np.ones(4), size=4).T
        predicted = generator.dirichlet(np.ones(4) * 3)
        joint, rho = confusion * source, rlls_strength(4, num)

        def loss(w, joint=joint, rho=rho, predicted=predicted):
            return np.linalg.norm(joint @ w - predicted) + rho * np.linalg.norm(w - 1)

        starts = generator.uniform(0, 2, size=(10, 4))
        best = min(
            minimize(loss, w, bounds=[(0, None)] * 4, method="SLSQP", options={"ftol": 1e-12}).fun
            for w in starts
        )
        weights = rlls_priors(confusion, predicted, source, num) / source
        # The priors are normalized weights, so compare the loss along their ray.
        scales = np.linspace(0.5, 2, 3001)
        assert min(loss(s * weights) for s in scales) == pytest.approx(best, abs=1e-5)


def test_rlls_needs_few_solves(monkeypatch):
    """Plain reweighting needs 30 to 80 for confusion matrices of a few images."""
    num_solves = 0
    solve = prior_estimators._nonnegative

    def counted(*problem):
        nonlocal num_solves
        num_solves += 1
        return solve(*problem)

    monkeypatch.setattr(prior_estimators, "_nonnegative", counted)
    generator = np.random.default_rng(0)
    for _ in range(20):
        confusion = generator.dirichlet(np.full(11, 0.3), size=11).T
        predicted = generator.dirichlet(np.full(11, 0.5))
        rlls_priors(confusion, predicted, np.full(11, 1 / 11), 22)
    assert num_solves <= 20 * 15


def test_rlls_is_bbse_with_many_images_and_source_with_few():
    confusion = np.array([[0.8, 0.3], [0.2, 0.7]])
    predicted, source = confusion @ [0.9, 0.1], np.array([0.4, 0.6])
    many, few = (rlls_priors(confusion, predicted, source, n) for n in (10**9, 2))
    assert many == pytest.approx([0.9, 0.1], abs=1e-4)
    assert 0.4 <= few[0] < 0.9
    unmoved = rlls_priors(confusion, confusion @ source, source, 100)
    assert unmoved == pytest.approx(source, abs=1e-4)


def test_rlls_strength_matches_paper():
    log = np.log(2 * 11 / 0.05)
    expected = 0.01 * 3 * (2 * log / (3 * 500) + np.sqrt(2 * log / 500))
    assert rlls_strength(11, 500) == pytest.approx(expected)


def test_em_of_exact_posteriors_recovers_shares(images):
    likelihoods, labels = images(200_000, TARGET, spread=1.5)
    realised = np.bincount(labels) / 200_000
    found = em_priors(softmax(likelihoods, axis=1))[0]
    assert found == pytest.approx(realised, abs=1e-3)


def test_em_finds_maximum_likelihood(images):
    likelihoods = np.exp(images(2000, TARGET, spread=0.4)[0])

    def nll(q):
        return -np.log(likelihoods @ q).mean()

    found = em_priors(likelihoods)[0]
    plain = np.full(5, 0.2)
    for _ in range(5000):
        plain = plain * (likelihoods / (likelihoods @ plain)[:, None]).mean(0)
    assert nll(found) <= nll(plain) + 1e-8
    assert found == pytest.approx(plain, abs=1e-4)


def test_em_of_weights_matches_em_of_copies(images):
    likelihoods = np.exp(images(300, TARGET)[0])
    weights = np.random.default_rng(0).integers(0, 3, size=(4, 300)).astype(float)
    factors = np.exp(np.random.default_rng(1).normal(size=(4, 5)))
    found = em_priors(likelihoods, weights, factors)
    for row, w, f in zip(found, weights.astype(int), factors, strict=True):
        copies = np.repeat(likelihoods * f, w, axis=0)
        assert row == pytest.approx(em_priors(copies)[0], abs=1e-4)
