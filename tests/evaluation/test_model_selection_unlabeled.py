"""Unlabeled-target statistics that a run passes to its selection rules."""

import math

import numpy as np
import pytest

from hf_wbc.evaluation.model_selection import (
    RULES,
    ValidationOutputs,
    criterion_values,
    unlabeled_scores,
)
from hf_wbc.evaluation.target_risk import dev
from hf_wbc.evaluation.validators import info_max_prior, snd

PRIORS = np.linspace(1, 3, 11) / np.linspace(1, 3, 11).sum()


def outputs(num, seed=0, noise=1.0, d=16, logit_scale=1.0, shift=0.0):
    """Draw outputs of a linear head on noisy class centers, with labels."""
    centers = 2 * np.random.default_rng(99).normal(size=(11, d))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 11, num)
    features = (centers[labels] + noise * rng.normal(size=(num, d)) + shift).astype(np.float32)
    logits = logit_scale * (features @ centers.T - (centers**2).sum(1) / 2)
    return ValidationOutputs(features, logits.astype(np.float32), labels)


def without_labels(found):
    return ValidationOutputs(found.features, found.logits)


def softmax(logits):
    e = np.exp(logits.astype(float) - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


SOURCE, TARGET = outputs(120, seed=1), without_labels(outputs(90, seed=2, shift=0.3))


def test_every_unlabeled_target_rule_has_a_score():
    scores = unlabeled_scores(SOURCE, TARGET, PRIORS, softmax(TARGET.logits))
    assert set(scores) == {each.name for each in RULES if each.sees == "unlabeled target"}
    assert set(criterion_values({"step": 1, "unlabeled": {"t": scores}})) == {"last", *scores}
    assert all(type(score) is float for score in scores.values())


def test_corrected_scores_are_omitted_without_priors():
    scores = unlabeled_scores(SOURCE, TARGET)
    assert not [name for name in scores if name.endswith("_prior")]
    assert scores["agreement"] == 0


def test_scores_use_probabilities_and_features():
    scores = unlabeled_scores(SOURCE, TARGET, PRIORS)
    p = softmax(TARGET.logits)
    errors = (SOURCE.logits.argmax(1) != SOURCE.labels).astype(float)
    assert scores["im_prior"] == pytest.approx(info_max_prior(p, PRIORS))
    assert scores["snd"] == pytest.approx(snd(p))
    assert scores["dev"] == dev(SOURCE.features, errors, TARGET.features)


def test_better_classifier_has_higher_scores():
    good = unlabeled_scores(outputs(300, 1, 1.0), without_labels(outputs(300, 2, 1.0)), PRIORS)
    bad_s, bad_t = (outputs(300, seed, 6.0, logit_scale=0.05) for seed in (1, 2))
    bad = unlabeled_scores(bad_s, without_labels(bad_t), PRIORS)
    assert not [name for name in good if good[name] <= bad[name] and name != "agreement"]


@pytest.mark.parametrize("num_s", [1, 2, 40])
@pytest.mark.parametrize("num_t", [1, 2, 40])
@pytest.mark.parametrize("logit_scale", [0.0, 1.0, 1e4])
def test_scores_are_finite_for_any_size_and_confidence(num_s, num_t, logit_scale):
    source = outputs(num_s, 1, logit_scale=logit_scale)
    target = without_labels(outputs(num_t, 2, logit_scale=logit_scale))
    scores = unlabeled_scores(source, target, np.eye(11)[0], np.eye(11)[np.zeros(num_t, int)])
    assert all(map(math.isfinite, scores.values()))


def test_scores_of_one_predicted_class_are_finite():
    one = np.tile(np.eye(11)[3] * 50, (30, 1))
    target = ValidationOutputs(TARGET.features[:30], one)
    scores = unlabeled_scores(SOURCE, target, PRIORS)
    assert all(map(math.isfinite, scores.values()))
    assert scores["class_ami"] == 0 and scores["im"] == pytest.approx(0, abs=1e-9)


def test_collapse_is_detected_by_target_priors_only():
    collapsed = ValidationOutputs(TARGET.features, np.tile(np.eye(11)[3] * 50, (90, 1)))
    right = unlabeled_scores(SOURCE, TARGET, PRIORS)
    seen = unlabeled_scores(SOURCE, collapsed, PRIORS)
    hidden = unlabeled_scores(SOURCE, collapsed, np.eye(11)[3])
    for name in ("im_prior", "bnm_prior", "softmax_corr_prior"):
        assert seen[name] < right[name] < hidden[name]


def test_target_labels_are_not_accepted():
    with pytest.raises(AssertionError):
        unlabeled_scores(SOURCE, outputs(30))
