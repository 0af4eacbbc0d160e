"""Prediction sets reach their nominal coverage on exchangeable images and under label shift."""

import json
import math

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binom

from hf_wbc.evaluation.calibration import NEVER
from hf_wbc.evaluation.conformal import (
    FREE_RANKS,
    RANK_PENALTY,
    SCORES,
    ConformalSets,
    conformal_sets,
    nonconformity,
    set_scores,
    threshold,
)

MEANS = np.random.default_rng(7).normal(size=(4, 3))
RARE = [0.6, 0.3, 0.07, 0.03]


def images(num, shares, generator):
    """Draw logits (N, 4) of a miscalibrated classifier, and labels."""
    labels = generator.choice(4, num, p=shares)
    x = MEANS[labels] + generator.normal(size=(num, 3))
    return -((x[:, None] - MEANS) ** 2).sum(2) * 1.5 + [1.5, 0.5, -1, -1.5], labels


def coverages(kind, score, draws, n, calibration_shares, test_shares, priors=None, alpha=0.1):
    """Count hits and images by class, over draws of new calibration and test images."""
    generator = np.random.default_rng(0)
    hits, nums = np.zeros(4), np.zeros(4)
    for _ in range(draws):
        found = conformal_sets(
            *images(n, calibration_shares, generator),
            alpha=alpha, score=score, kind=kind, priors=priors,
        )  # fmt: skip
        logits, labels = images(50, test_shares, generator)
        hit = found.sets(logits)[np.arange(50), labels]
        hits += np.bincount(labels, hit, minlength=4)
        nums += np.bincount(labels, minlength=4)
    return hits, nums


@pytest.mark.parametrize("score", SCORES)
def test_marginal_coverage_is_barely_above_the_level(score):
    """Expected coverage is ceil((n + 1)(1 - alpha)) / (n + 1) if scores have no ties."""
    hits, nums = coverages("marginal", score, 600, 49, RARE, RARE)
    exact = math.ceil(50 * 0.9) / 50
    # Hits of one draw share thresholds: the spread is that of 600 draws, not 30,000 images.
    assert hits.sum() / nums.sum() == pytest.approx(exact, abs=0.006)


def test_only_class_sets_cover_rare_classes():
    hits, nums = coverages("marginal", "lac", 200, 400, RARE, [0.25] * 4)
    assert (hits / nums).min() < 0.8
    hits, nums = coverages("class", "lac", 200, 400, RARE, [0.25] * 4)
    assert (hits / nums >= 0.9 - 4 * np.sqrt(0.09 / 2000)).all()
    assert (hits / nums)[:2] == pytest.approx([0.9, 0.9], abs=0.02)


def test_weights_restore_coverage_under_label_shift():
    shifted = RARE[::-1]
    hits, nums = coverages("marginal", "lac", 200, 1000, RARE, shifted)
    assert hits.sum() / nums.sum() < 0.8
    hits, nums = coverages("label_shift", "lac", 200, 1000, RARE, shifted, priors=shifted)
    assert hits.sum() / nums.sum() == pytest.approx(0.9, abs=0.015)


def test_source_priors_equal_no_priors():
    logits, labels = images(500, RARE, np.random.default_rng(3))
    own = np.bincount(labels) / 500
    weighted = conformal_sets(logits, labels, kind="label_shift", priors=own)
    assert weighted.thresholds == conformal_sets(logits, labels).thresholds


def test_dominant_single_image_leaves_its_class_undecided():
    """The new image of that class would weigh as much as the whole calibration set."""
    logits = np.random.default_rng(0).normal(size=(20, 2))
    found = conformal_sets(logits, [0] * 19 + [1], kind="label_shift", priors=[0.1, 0.9])
    assert found.thresholds[0] is not None and found.thresholds[1] is None


def test_weighted_threshold_matches_definition():
    """Podkopaev & Ramdas, eq. 10: the smallest score where the weighted CDF reaches 1 - alpha."""
    generator = np.random.default_rng(2)
    for _ in range(50):
        scores, weights = generator.normal(size=30), generator.exponential(size=30)
        own = generator.exponential() * 3
        by_hand = [
            s for s in sorted(scores)
            if weights[scores <= s].sum() / (weights.sum() + own) >= 0.8
        ]  # fmt: skip
        assert threshold(scores, 0.2, weights, own) == (by_hand[0] if by_hand else None)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2, 0.25, 0.5])
def test_threshold_is_exact_order_statistic(alpha):
    for n in range(0, 60):
        scores = np.random.default_rng(n).permutation(n).astype(float)
        # In integers: the least k with k / (n + 1) >= 1 - alpha.
        twentieths = round(20 * (1 - alpha))
        k = -(-(n + 1) * twentieths // 20)
        assert threshold(scores, alpha) == (k - 1.0 if k <= n else None), (n, alpha)


def test_coverage_of_tiny_sample_is_exact():
    """Nine calibration images at alpha .1: nine of ten images stay below the largest score."""
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(4000):
        scores = generator.normal(size=10)
        hits += scores[9] <= threshold(scores[:9], 0.1)
    assert binom.cdf(hits, 4000, 0.9) > 1e-3 and binom.sf(hits, 4000, 0.9) > 1e-3


def test_class_with_too_few_images_is_in_every_set():
    logits, labels = images(200, [0.5, 0.5, 0, 0], np.random.default_rng(0))
    logits = np.vstack([logits, [[0, 0, 9.0, 0]] * 8])
    labels = np.append(labels, [2] * 8)
    found = conformal_sets(logits, labels, kind="class")
    assert found.thresholds[2:] == (None, None), "8 images and none"
    assert found.sets(np.array([[50.0, 0, -50, -50]]))[0].tolist() == [True, False, True, True]


def test_untrained_class_is_in_no_set():
    found = ConformalSets("lac", "class", 0.1, (None, None))
    assert found.sets([[0.0, NEVER], [0.0, NEVER * 0.9], [0.0, -300.0]]).tolist() == [
        [True, False], [True, False], [True, True],
    ]  # fmt: skip


def test_single_class_and_ties_are_covered():
    found = conformal_sets(np.zeros((20, 1)), [0] * 20)
    assert found.sets(np.zeros((3, 1))).all()
    tied = conformal_sets(np.zeros((20, 3)), [0, 1] * 10)
    assert tied.sets(np.zeros((2, 3))).all(), "classes that tie enter together"


def test_scores_match_formulas_of_papers():
    logits = np.random.default_rng(1).normal(size=(40, 5)) * 2
    p = softmax(logits, axis=1)
    for row, image in enumerate(p):
        order = list(np.argsort(-image))
        for c in range(5):
            place = order.index(c)
            mass = sum(image[order[: place + 1]])
            late = RANK_PENALTY * max(0, place + 1 - FREE_RANKS)
            expected = {"lac": 1 - image[c], "aps": mass, "raps": mass + late}
            for score, value in expected.items():
                assert nonconformity(logits, score)[row, c] == pytest.approx(value, abs=1e-12)


def test_tied_classes_have_one_score_in_any_order():
    logits = np.log([[0.4, 0.2, 0.2, 0.2]])
    for score in SCORES:
        values = nonconformity(logits, score)[0]
        assert values[1:] == pytest.approx(values[[1] * 3], abs=1e-12)
        assert nonconformity(logits[:, ::-1], score)[0] == pytest.approx(values[::-1], abs=1e-12)


def test_set_scores_match_manual_count():
    sets = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 1, 1]], dtype=bool)
    assert set_scores(sets, [0, 1, 0, 1]) == {
        "coverage": 0.5,
        "mean_size": 1.5,
        "empty": 0.25,
        "single": 0.25,
        "class_coverage": [0.5, 0.5, None],
    }


def test_sets_round_trip_through_json():
    logits, labels = images(30, RARE, np.random.default_rng(0))
    found = conformal_sets(logits, labels, kind="class")
    assert None in found.thresholds
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert ConformalSets.from_dict(json.loads(text)) == found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logits": [[0.0, np.nan]]}, "row 0 are not finite"),
        ({"labels": [2]}, "label 2 in row 0"),
        ({"alpha": 0.0}, "alpha is 0"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"score": "las"}, "unknown conformal score 'las'"),
        ({"kind": "classes"}, "unknown kind of threshold"),
        ({"kind": "label_shift"}, "requires priors"),
        ({"priors": [0.5, 0.5]}, "requires priors"),
        ({"kind": "label_shift", "priors": [0.5, 0.6]}, "priors sum to 1.1"),
        ({"kind": "label_shift", "priors": [0.5, 0.5]}, "they sum to 0.5"),
    ],
)
def test_bad_input_is_reported(changes, message):
    with pytest.raises(ValueError, match=message):
        conformal_sets(**{"logits": [[0.0, 1.0]], "labels": [1], **changes})


def test_invalid_arguments_are_reported():
    with pytest.raises(ValueError, match="logits have 3 classes, but there are 2 thresholds"):
        ConformalSets("lac", "class", 0.1, (None, None)).sets(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="must be finite"):
        threshold(np.array([np.nan]), 0.1)
    with pytest.raises(ValueError, match="sets have shape"):
        set_scores(np.zeros((0, 2), bool), [])
