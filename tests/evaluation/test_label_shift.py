"""Corrections merge into a head, and distances between priors match textbook definitions."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from scipy.stats import ks_2samp

from hf_wbc.evaluation.calibration import NEVER, Calibration
from hf_wbc.evaluation.label_shift import (
    correct_priors,
    jensen_shannon,
    label_shift_ks,
    prior_correction,
    total_variation,
)

CALIBRATION = Calibration(2.0, (0.5, -0.5, 0.0, NEVER))


def test_corrected_logits_match_bayes_posterior():
    logits = np.random.default_rng(0).normal(size=(50, 4))
    priors = np.array([0.5, 0.2, 0.3, 0])
    equal = softmax(logits / 2 + [0.5, -0.5, 0, -np.inf], axis=1)
    expected = equal * priors / (equal @ priors)[:, None]
    assert softmax(correct_priors(logits, CALIBRATION, priors), axis=1) == pytest.approx(expected)


def test_correction_folds_into_linear_head():
    generator = np.random.default_rng(0)
    features, weight, own = (generator.normal(size=s) for s in ((20, 8), (4, 8), 4))
    scale, bias = prior_correction(CALIBRATION, [0.5, 0.2, 0.3, 0])
    head = features @ (weight * scale).T + (own * scale + bias)
    logits = features @ weight.T + own
    assert head == pytest.approx(correct_priors(logits, CALIBRATION, [0.5, 0.2, 0.3, 0]))


def test_equal_priors_change_no_prediction():
    logits = np.random.default_rng(0).normal(size=(200, 4))
    equal = correct_priors(logits, CALIBRATION, [0.25] * 4).argmax(1)
    assert (equal == CALIBRATION.apply(logits).argmax(1)).all()


def test_zero_prior_is_finite_and_never_predicted():
    scale, bias = prior_correction(CALIBRATION, [1, 0, 0, 0])
    assert np.isfinite(bias).all() and bias[1:].tolist() == [NEVER] * 3
    assert correct_priors([[0.0, 500, 500, 500]], CALIBRATION, [1, 0, 0, 0]).argmax() == 0
    assert scale == 0.5


def test_distances_match_scipy_and_are_symmetric_in_unit_range():
    generator = np.random.default_rng(0)
    for a, b in generator.dirichlet(np.full(11, 0.3), size=(20, 2)):
        assert jensen_shannon(a, b) == pytest.approx(jensenshannon(a, b, base=2) ** 2)
        assert jensen_shannon(a, b) == pytest.approx(jensen_shannon(b, a))
        assert total_variation(a, b) == total_variation(b, a)
        assert 0 <= total_variation(a, b) <= 1
    assert jensen_shannon(a, a) == total_variation(a, a) == 0
    assert jensen_shannon([1, 0], [0, 1]) == total_variation([1, 0], [0, 1]) == 1


def test_ks_statistic_matches_scipy_without_shift():
    generator = np.random.default_rng(0)
    source, target = generator.normal(size=(300, 3)), 2 * generator.normal(size=(200, 3))
    labels = np.repeat([0, 1, 2], 100)
    found, limit = label_shift_ks(source, labels, target, np.full(3, 1 / 3))
    confidences = (softmax(logits, axis=1).max(1) for logits in (source, target))
    assert found == pytest.approx(ks_2samp(*confidences).statistic)
    assert limit == pytest.approx(1.358 * np.sqrt(1 / 300 + 1 / 200))


def test_source_images_are_weighted_by_priors():
    source = np.array([[3.0, 0], [3.0, 0], [0, 1.0]])
    target = np.array([[3.0, 0]] * 3 + [[0, 1.0]] * 7)
    labels = np.array([0, 0, 1])
    assert label_shift_ks(source, labels, target, np.array([0.3, 0.7]))[0] == pytest.approx(0)
    assert label_shift_ks(source, labels, target, np.array([0.5, 0.5]))[0] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        ([0.5, 0.5], "one for each of 4"),
        ([0.5, 0.5, 0.5, -0.5], "must be finite and not negative"),
        ([0.5, 0.5, np.nan, 0], "must be finite and not negative"),
        ([0.5, 0.5, 0.5, 0.5], "sum to 2"),
    ],
)
def test_invalid_priors_are_reported(priors, message):
    with pytest.raises(ValueError, match=message):
        prior_correction(CALIBRATION, priors)
    with pytest.raises(ValueError, match=message):
        total_variation([0.25] * 4, priors)
