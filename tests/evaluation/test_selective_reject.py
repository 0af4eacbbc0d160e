"""The reject option rejects the nominal share, and its ranking equals the ROC AUC."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hf_wbc.evaluation.selective import Rejection, auroc, energy, rejection


def test_energy_is_negative_logsumexp_without_overflow():
    logits = np.random.default_rng(0).normal(size=(20, 5))
    assert energy(logits) == pytest.approx(-np.log(np.exp(logits).sum(1)))
    assert energy([[5000.0, 0.0]]) == pytest.approx([-5000])


def test_nominal_share_of_exchangeable_images_is_rejected():
    generator = np.random.default_rng(0)
    away = [
        rejection(generator.normal(size=(99, 3)), 0.05).rejects(generator.normal(size=(40, 3)))
        for _ in range(500)
    ]
    assert np.mean(away) == pytest.approx(0.05, abs=0.006)


def test_image_unlike_all_classes_is_rejected():
    generator = np.random.default_rng(0)
    taught = generator.normal(size=(200, 4)) + 8 * np.eye(4)[generator.integers(4, size=200)]
    found = rejection(taught)
    assert found.rejects(np.zeros((1, 4))).all()
    assert not found.rejects(8 * np.eye(4)).any()


def test_too_few_images_reject_nothing():
    found = rejection(np.zeros((18, 2)))
    assert found == Rejection(0.05, None)
    assert not found.rejects([[-1000.0, -1000.0]]).any()
    assert rejection(np.zeros((19, 2))).threshold is not None


def test_images_tied_with_threshold_are_accepted():
    assert not rejection(np.zeros((50, 2))).rejects(np.zeros((5, 2))).any()


def test_auroc_matches_sklearn_including_ties():
    generator = np.random.default_rng(1)
    for spread in (1, 5, 1000):
        inside, outside = generator.integers(0, spread, 40), generator.integers(0, spread, 25) + 1
        truth = np.repeat([0, 1], [40, 25])
        expected = roc_auc_score(truth, np.concatenate([inside, outside]))
        assert auroc(inside, outside) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_invalid_rate_is_refused(rate):
    with pytest.raises(ValueError, match="rate is"):
        rejection(np.zeros((9, 2)), rate)


def test_nan_and_empty_input_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        rejection([[np.nan, 0.0]])
    with pytest.raises(ValueError, match="scores outside must be"):
        auroc([0.0], [np.nan])
    with pytest.raises(ValueError, match="scores inside must be"):
        auroc([], [1.0])
