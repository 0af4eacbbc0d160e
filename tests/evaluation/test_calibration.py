"""Calibration recovers exactly the temperature and biases applied to a true posterior."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from hf_wbc.evaluation.calibration import (
    NEVER,
    Calibration,
    calibrate,
    expected_calibration_error,
    negative_log_likelihood,
)


def images(num, shares, seed=0, spread=1.0):
    """Draw log-likelihoods (N, C) of 6-dimensional Gaussian classes, and labels of given shares."""
    means = np.random.default_rng(100).normal(size=(len(shares), 6)) * spread
    generator = np.random.default_rng(seed)
    labels = generator.choice(len(shares), num, p=shares)
    x = means[labels] + generator.normal(size=(num, 6))
    return -((x[:, None] - means) ** 2).sum(2) / 2, labels


def spoilt(logits, temperature, bias):
    return temperature * (logits - np.asarray(bias))


@pytest.mark.parametrize("shares", [[0.25] * 4, [0.7, 0.2, 0.07, 0.03]])
def test_equal_prior_posterior_is_recovered_for_any_source_shares(shares):
    true, labels = images(20_000, shares)
    bias = np.array([0.6, -1.0, 0.5, -0.1])
    calibration = calibrate(spoilt(true, 2.5, bias), labels)
    assert calibration.temperature == pytest.approx(2.5, rel=0.05)
    assert calibration.bias == pytest.approx(bias - bias.mean(), abs=0.2)
    fresh, _ = images(1000, shares, seed=1)
    found = softmax(calibration.apply(spoilt(fresh, 2.5, bias)), axis=1)
    assert np.abs(found - softmax(fresh, axis=1)).mean() < 0.01


def test_fit_maximizes_balanced_likelihood():
    logits, labels = images(400, [0.5, 0.3, 0.2])
    weights = (1 / np.bincount(labels) / 3)[labels]

    def nll(theta):
        scores = log_softmax(logits / theta[0] + np.append(theta[1:], 0), axis=1)
        return -(weights * scores[np.arange(400), labels]).sum()

    best = minimize(nll, [1.0, 0, 0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12})
    found = calibrate(logits, labels)
    bias = np.array(found.bias) - found.bias[2]
    # The ridge penalty shifts it slightly, about as much as one more image.
    assert nll([found.temperature, *bias[:2]]) - best.fun < 1e-5
    assert found.temperature == pytest.approx(best.x[0], rel=0.01)


def test_class_probabilities_are_balanced_at_the_optimum():
    logits, labels = images(20_000, [0.6, 0.3, 0.1])
    logits = spoilt(logits, 3, [1, 0, -1])
    p = softmax(calibrate(logits, labels).apply(logits), axis=1)
    means = np.mean([p[labels == c].mean(0) for c in range(3)], axis=0)
    assert means == pytest.approx([1 / 3] * 3, abs=1e-3)


def test_scale_of_logits_does_not_matter():
    logits, labels = images(300, [0.5, 0.3, 0.2])
    one, thousand = calibrate(logits, labels), calibrate(1000 * logits, labels)
    assert thousand.temperature == pytest.approx(1000 * one.temperature, rel=1e-4)
    assert thousand.bias == pytest.approx(one.bias, abs=1e-4)


def test_unbiased_calibration_fits_only_temperature():
    logits, labels = images(5000, [0.4, 0.4, 0.2])
    found = calibrate(4 * logits, labels, biased=False)
    assert found.bias == (0, 0, 0)
    assert found.temperature == pytest.approx(4, rel=0.1)


def test_class_without_images_gets_zero_probability():
    logits, labels = images(500, [0.5, 0, 0.5])
    found = calibrate(logits, labels)
    assert found.seen.tolist() == [True, False, True]
    assert found.bias[1] == NEVER
    p = softmax(found.apply(logits + np.array([0, 1000, 0])), axis=1)
    assert (p[:, 1] == 0).all() and np.isfinite(p).all()
    others = calibrate(logits[:, [0, 2]], (labels == 2).astype(int))
    assert found.restricted().bias == pytest.approx(others.bias)


def test_class_with_one_image_keeps_a_small_bias():
    logits, labels = images(2000, [0.5, 0.5, 0])
    logits = np.vstack([logits, [[30.0, 0, 0]]])
    found = calibrate(logits, np.append(labels, 2))
    assert np.abs(found.bias).max() < 30
    assert np.isfinite(found.apply(logits)).all()


def test_perfect_split_and_pure_noise_stay_finite():
    eye = np.eye(3)[[0, 1, 2] * 5]
    assert 0 < calibrate(eye, [0, 1, 2] * 5).temperature < 1
    assert calibrate(-eye, [0, 1, 2] * 5).temperature > 100
    assert np.isfinite(calibrate(np.zeros((6, 3)), [0, 1, 2] * 2).temperature)


def test_single_class_is_certain():
    found = calibrate(np.zeros((4, 3)), [1] * 4)
    assert softmax(found.apply(np.zeros((1, 3))), axis=1).tolist() == [[0, 1, 0]]


def test_calibration_lowers_error_of_overconfident_classifier():
    true, labels = images(6000, [0.25] * 4)
    logits = 4 * true
    after = calibrate(logits[:3000], labels[:3000]).apply(logits[3000:])
    before = logits[3000:]
    assert expected_calibration_error(before, labels[3000:]) > 0.05
    assert expected_calibration_error(after, labels[3000:]) < 0.02
    assert negative_log_likelihood(after, labels[3000:]) < negative_log_likelihood(
        before, labels[3000:]
    )


def test_calibration_error_is_the_gap_per_bin():
    # Confidences .6 (right), .6 (wrong), .9 (right): a gap of .1 for two images and .1 for one.
    logits = np.log([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1]])
    found = expected_calibration_error(logits, [0, 1, 0], num_bins=10)
    assert found == pytest.approx((2 * 0.1 + 0.1) / 3)
    assert negative_log_likelihood(logits, [0, 1, 0]) == pytest.approx(
        -np.log([0.6, 0.4, 0.9]).mean()
    )


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([1.0, 2.0], [0, 1], "source logits have shape"),
        (np.zeros((0, 2)), [], "no source logits"),
        ([[1.0, np.nan]], [0], "row 0 are not finite"),
        ([[1.0, 0.0], [np.inf, 0.0]], [0, 1], "row 1 are not finite"),
        ([[1.0, 0.0]], [0, 1], "one label for every image"),
        ([[1.0, 0.0]], [2], "label 2 in row 0 is not a class"),
        ([[1.0, 0.0]], [-1], "unlabeled images must be left out"),
        ([[1.0, 0.0]], [0.5], "label 0.5"),
        ([[1.0, 0.0]], ["basophil"], "give class ids, not names"),
    ],
)
def test_bad_input_is_reported(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        calibrate(logits, labels)


def test_invalid_arguments_are_reported():
    with pytest.raises(ValueError, match="num_bins is 0"):
        expected_calibration_error([[0.0, 1.0]], [0], num_bins=0)
    with pytest.raises(ValueError, match="logits have 3 classes instead of 2"):
        Calibration(1.0, (0.0, 0.0)).apply([[0.0, 1.0, 2.0]])
