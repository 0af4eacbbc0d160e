"""Bootstrap intervals have coverage, ignore the order, and report when they are undefined."""

import json

import numpy as np
import pytest

from hf_wbc.evaluation.bootstrap import bootstrap_intervals, bootstrap_scores
from hf_wbc.evaluation.metrics import (
    accuracy,
    balanced_accuracy,
    cohen_kappa,
    confusion_counts,
    macro_f1,
    matthews_correlation,
)

SCORES = {
    "macro_f1": macro_f1,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "mcc": matthews_correlation,
    "kappa": cohen_kappa,
}


def images(num, seed=0, right=0.7, classes=(0, 4, 8, 9)):
    """Draw labels with unequal class sizes, and partly wrong predictions."""
    generator = np.random.default_rng(seed)
    share = 0.5 ** np.arange(1, len(classes) + 1)
    true = generator.choice(classes, num, p=share / share.sum())
    wrong = generator.choice(classes, num)
    return true, np.where(generator.random(num) < right, true, wrong)


def naive(true, predicted, num, seed):
    """Run the textbook bootstrap: draw rows with replacement and count them."""
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, len(true), (num, len(true)))
    return np.stack([confusion_counts(true[row], predicted[row]).confusion for row in rows])


@pytest.mark.parametrize("num", [40, 400])
def test_resampling_counts_matches_resampling_images(num):
    true, predicted = images(num)
    resamples = naive(true, predicted, 3000, seed=1)
    found = bootstrap_intervals(true, predicted, num_resamples=3000, seed=2)
    for name, of in SCORES.items():
        expected = np.quantile(of(resamples), (0.025, 0.975))
        width = expected[1] - expected[0]
        assert found[name] == pytest.approx(expected, abs=0.06 * width + 1.01 / num)


@pytest.mark.slow
@pytest.mark.ci
def test_intervals_have_nominal_coverage():
    true, predicted = images(200_000)
    truth = {name: of(confusion_counts(true, predicted).confusion) for name, of in SCORES.items()}
    covered = dict.fromkeys(SCORES, 0)
    for seed in range(300):
        rows = np.random.default_rng(seed).integers(0, len(true), 300)
        found = bootstrap_intervals(true[rows], predicted[rows], num_resamples=400, seed=seed)
        for name in SCORES:
            covered[name] += found[name][0] <= truth[name] <= found[name][1]
    for times in covered.values():
        assert 0.91 <= times / 300 <= 0.98


def test_grouped_copies_add_no_certainty():
    true, predicted = images(100)
    groups = np.arange(100)
    one_each = bootstrap_intervals(true, predicted, num_resamples=3000)
    copied = [np.repeat(values, 5) for values in (true, predicted, groups)]
    grouped = bootstrap_intervals(*copied[:2], groups=copied[2], num_resamples=3000, seed=1)
    fooled = bootstrap_intervals(*copied[:2], num_resamples=3000)
    for name in SCORES:
        width = one_each[name][1] - one_each[name][0]
        assert grouped[name] == pytest.approx(one_each[name], abs=0.06 * width + 0.0101)
        assert fooled[name][1] - fooled[name][0] < 0.6 * width


def test_groups_of_unequal_size_are_resampled_whole():
    true, predicted = np.array([0, 0, 0, 9]), np.array([0, 0, 0, 0])
    found = bootstrap_intervals(true, predicted, groups=["a", "a", "a", "b"], num_resamples=2000)
    # Two draws: a and a (accuracy 1), a and b (3/4), b and b (0), with odds 1 : 2 : 1.
    assert found["accuracy"] == [0, 1]
    assert found["unit"] == "group"
    resamples = bootstrap_intervals(
        true, predicted, groups=list("aaab"), num_resamples=2000, level=0.4
    )
    assert resamples["accuracy"] == [0.75, 0.75]


def test_perfect_classifier_has_zero_width():
    true, _ = images(50)
    found = bootstrap_intervals(true, true)
    assert found["macro_f1"] == found["accuracy"] == found["balanced_accuracy"] == [1, 1]


def test_resamples_without_a_rare_class_are_counted():
    true = np.array([0] * 99 + [9])
    found = bootstrap_intervals(true, np.zeros(100, int), num_resamples=4000)
    assert found["lacking_a_class"] == pytest.approx(0.99**100, abs=0.03)
    # Without the class it never predicts, the resample scores as a perfect classifier.
    assert found["macro_f1"][1] == 1


def test_seed_determines_intervals():
    true, predicted = images(60)
    assert bootstrap_intervals(true, predicted, seed=3) == bootstrap_intervals(
        true, predicted, seed=3
    )
    assert bootstrap_intervals(true, predicted, seed=3) != bootstrap_intervals(
        true, predicted, seed=4
    )


def test_higher_level_is_wider():
    true, predicted = images(60)
    narrow, wide = (
        bootstrap_intervals(true, predicted, level=level)["macro_f1"] for level in (0.5, 0.99)
    )
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_intervals_are_json_values():
    found = bootstrap_intervals(*images(60))
    assert json.loads(json.dumps(found)) == found
    assert (found["level"], found["num_resamples"], found["unit"]) == (0.95, 1000, "image")


def test_merge_and_classes_apply_to_resamples():
    merge = ["neutrophil_banded=neutrophil_segmented"]
    assert bootstrap_intervals([7, 8, 7], [8, 7, 7], merge=merge)["accuracy"] == [1, 1]
    assert bootstrap_intervals([0, 0, 9], [0, 0, 0], classes=["basophil"])["accuracy"] == [1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 0}, "level is 0"),
        ({"level": 95}, "level is 95"),
        ({"num_resamples": 0}, "num_resamples is 0"),
        ({"groups": ["a", "a"]}, "belong to one group"),
        ({"groups": ["a"]}, "1 groups"),
    ],
)
def test_bad_options_are_reported(options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_intervals([0, 1], [0, 1], **options)


def test_bootstrap_of_counts_matches_that_of_rows():
    true, predicted = images(60)
    assert bootstrap_scores(confusion_counts(true, predicted), seed=5) == bootstrap_intervals(
        true, predicted, seed=5
    )
