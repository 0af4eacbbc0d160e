"""Soft neighborhood density matches the paper for any chunk size."""

import math

import numpy as np
import pytest

from hf_wbc.evaluation import validators
from hf_wbc.evaluation.validators import evenly_spaced, snd


def reference(features, temperature):
    """Compute it image by image in float64."""
    unit = [row / np.linalg.norm(row) for row in features.astype(float)]
    total = 0.0
    for i, one in enumerate(unit):
        weights = [math.exp(one @ other / temperature) for j, other in enumerate(unit) if j != i]
        shares = [weight / sum(weights) for weight in weights]
        total -= sum(share * math.log(share) for share in shares if share)
    return total / len(unit)


@pytest.mark.parametrize(("num", "d", "temperature"), [(3, 2, 0.05), (40, 11, 0.05), (25, 64, 0.5)])
def test_snd_matches_formula(num, d, temperature):
    features = np.random.default_rng(num).normal(size=(num, d))
    assert snd(features, temperature) == pytest.approx(reference(features, temperature), rel=1e-4)


def test_snd_is_independent_of_chunks_and_order(monkeypatch):
    features = np.random.default_rng(0).dirichlet(np.ones(5), 103)
    whole = snd(features)
    assert snd(features[::-1]) == pytest.approx(whole, rel=1e-5)
    monkeypatch.setattr(validators, "SND_CHUNK", 10)
    assert snd(features) == pytest.approx(whole, rel=1e-5)


def test_snd_of_equal_rows_is_maximal():
    assert snd(np.ones((30, 4))) == pytest.approx(math.log(29))


def test_snd_counts_others_of_same_class():
    features = np.eye(5)[np.repeat(np.arange(5), 8)]
    assert snd(features) == pytest.approx(math.log(7), rel=1e-4)


def test_snd_prefers_tight_clusters():
    rng = np.random.default_rng(0)
    centers, noise = np.eye(32)[rng.integers(0, 6, 200)], rng.normal(size=(200, 32))
    assert snd(centers + 0.02 * noise) > snd(centers + 0.1 * noise) > snd(centers + 0.2 * noise)


def test_snd_is_misled_by_collapse():
    assert snd(np.full((40, 11), 1 / 11)) > snd(np.eye(11)[np.arange(40) % 11])


@pytest.mark.parametrize("num", [1, 2])
def test_snd_of_too_few_rows_is_zero(num):
    assert snd(np.eye(2)[:num]) == 0


def test_snd_of_zero_rows_is_finite():
    assert math.isfinite(snd(np.zeros((5, 3))))


def test_snd_subsamples_evenly_spaced_rows(monkeypatch):
    features = np.random.default_rng(0).normal(size=(100, 3))
    monkeypatch.setattr(validators, "MAX_SND_IMAGES", 40)
    assert snd(features) == snd(features[evenly_spaced(100, 40)])
    taken = evenly_spaced(100, 40)
    assert len(set(taken.tolist())) == 40 and set(np.diff(taken).tolist()) == {2, 3}
