"""The paired bootstrap uses the same draws for all methods and controls false positives."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from hf_wbc.comparison.statistics import Scoring, differences, holm, normal_p, resampled_macro_f1
from hf_wbc.evaluation.metrics import score

CLASSES = ("basophil", "eosinophil", "monocyte")


def images(num: int, skills: tuple[float, ...], seed: int = 0) -> tuple[np.ndarray, ...]:
    """Draw labels (num,) of four classes, and predictions with accuracies of `skills`."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 8, 9], num, p=[0.1, 0.2, 0.3, 0.4])
    wrong = rng.choice(11, (len(skills), num))
    right = rng.random((len(skills), num)) < np.array(skills)[:, None]
    return labels, *np.where(right, labels, wrong)


@pytest.mark.parametrize(
    ("merge", "classes"),
    [((), ()), (("eosinophil=basophil",), ()), ((), CLASSES)],
)
def test_observed_scores_match_metric(merge: tuple[str, ...], classes: tuple[str, ...]) -> None:
    labels, *predictions = images(200, (0.5, 0.8))
    labels[:5] = -1
    observed, _ = resampled_macro_f1(Scoring(labels, merge, classes), predictions, 2)
    expected = [score(labels, p, merge=merge, classes=classes)["macro_f1"] for p in predictions]
    assert observed == pytest.approx(expected)


def naive_macro_f1(labels: np.ndarray, found: np.ndarray) -> float:
    """Average the F1 of the classes present; scikit-learn is too slow for thousands of draws."""
    counts = [
        (((labels == c) & (found == c)).sum(), (labels == c).sum() + (found == c).sum())
        for c in np.unique(labels)
    ]
    return float(np.mean([2 * correct / both for correct, both in counts]))


def test_resampling_draws_images_with_replacement() -> None:
    labels, *predictions = images(150, (0.4, 0.7))
    _, drawn = resampled_macro_f1(Scoring(labels, (), ()), predictions, 3000, seed=1)
    rng = np.random.default_rng(7)
    naive = np.empty((1000, 2))
    for r in range(len(naive)):
        rows = rng.integers(0, 150, 150)
        y = labels[rows]
        naive[r] = [naive_macro_f1(y, p[rows]) for p in predictions]
    assert drawn.mean(0) == pytest.approx(naive.mean(0), abs=0.005)
    assert drawn.std(0) == pytest.approx(naive.std(0), rel=0.1)
    gaps = [(each[:, 1] - each[:, 0]).std() for each in (drawn, naive)]
    assert gaps[0] == pytest.approx(gaps[1], rel=0.1)


def test_identical_predictions_do_not_differ() -> None:
    labels, one, _ = images(100, (0.5, 0.5))
    observed, drawn = resampled_macro_f1(Scoring(labels, (), ()), [one, one.copy()], 200)
    (found,) = differences(drawn, observed, [(0, 1)])
    assert (found.value, found.low, found.high, found.p) == (
        0,
        0,
        0,
        1,
    ) and not found.is_significant


def test_reversed_difference_has_opposite_sign() -> None:
    labels, *predictions = images(100, (0.5, 0.8))
    observed, drawn = resampled_macro_f1(Scoring(labels, (), ()), predictions, 200)
    one, other = differences(drawn, observed, [(0, 1), (1, 0)])
    assert one.value == pytest.approx(-other.value) and one.p == pytest.approx(other.p)
    assert one.low == pytest.approx(-other.high)


def test_false_positive_rate_is_five_percent() -> None:
    p = []
    for seed in range(300):
        labels, *predictions = images(200, (0.6, 0.6), seed)
        observed, drawn = resampled_macro_f1(Scoring(labels, (), ()), predictions, 200, seed)
        p.append(differences(drawn, observed, [(0, 1)])[0].p)
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_correlated_cells_of_a_patient_widen_the_interval() -> None:
    labels, one, other = images(60, (0.5, 0.8))
    labels, one, other = (np.repeat(each, 5) for each in (labels, one, other))
    patients = np.repeat(np.arange(60), 5).astype(str)
    errors = []
    for groups in (None, patients):
        _, drawn = resampled_macro_f1(Scoring(labels, (), (), groups), [one, other], 2000)
        errors.append((drawn[:, 0] - drawn[:, 1]).std())
    assert errors[1] == pytest.approx(errors[0] * np.sqrt(5), rel=0.1)


def test_class_missing_from_a_draw_is_not_counted() -> None:
    labels = np.array([0, 9, 9, 9])
    _, drawn = resampled_macro_f1(Scoring(labels, (), ()), [np.full(4, 9)], 500)
    assert (drawn == 1).any(), "draws of monocytes alone are all right"
    lacking = (3 / 4) ** 4
    assert np.mean(drawn == 1) == pytest.approx(lacking, abs=0.07)


def test_p_value_matches_normal_distribution() -> None:
    values, errors = np.array([0.0, 1.0, -2.5, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])
    expected = [1, 2 * stats.norm.sf(1), 2 * stats.norm.sf(2.5), 0]
    assert normal_p(values, errors) == pytest.approx(expected)


@example([0.04, 0.045])
@given(st.lists(st.floats(0, 0.1), min_size=1, max_size=12))
def test_holm_matches_step_down_procedure(p: list[float]) -> None:
    corrected = holm(np.array(p))
    for level in (0.01, 0.05, 0.2):
        rejected, left = set(), sorted(range(len(p)), key=lambda i: p[i])
        while left and p[left[0]] * len(left) < level:
            rejected.add(left.pop(0))
        assert set(np.flatnonzero(corrected < level)) == rejected
