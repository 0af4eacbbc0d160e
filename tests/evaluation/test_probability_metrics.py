"""Scores of probabilities equal scikit-learn's, resample by resample."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import average_precision_score, roc_auc_score

from hf_wbc.evaluation import probability_metrics
from hf_wbc.evaluation.calibration import expected_calibration_error
from hf_wbc.evaluation.probability_metrics import (
    probability_intervals,
    probability_scores,
    scored_probabilities,
)

RNG = np.random.default_rng(0)
LABELS = RNG.choice([0, 1, 2, 5, 9], 300, p=[0.5, 0.2, 0.15, 0.1, 0.05])
LOGITS = RNG.normal(size=(300, 11)) + 1.5 * np.eye(11)[LABELS]
PROBABILITIES = softmax(LOGITS.round(1), axis=1)  # rounding makes ties
PRESENT = [0, 1, 2, 5, 9]


def test_scores_match_sklearn() -> None:
    labels = LABELS.astype(float)  # as the library `evaluate` passes them
    found = probability_scores(scored_probabilities(PROBABILITIES, labels))
    kept = PROBABILITIES[:, PRESENT]
    one_hot = LABELS[:, None] == PRESENT
    rest = [roc_auc_score(one_hot[:, i], kept[:, i]) for i in range(5)]
    assert found["auroc_ovr"] == pytest.approx(np.mean(rest))
    assert found["auprc"] == pytest.approx(average_precision_score(one_hot, kept, average="macro"))
    assert found["ece"] == pytest.approx(expected_calibration_error(LOGITS.round(1), LABELS))
    every = scored_probabilities(np.eye(11)[:, [0, *range(1, 11)]] * 0.5 + 0.5 / 11, np.arange(11))
    assert probability_scores(every)["auroc_ovo"] == 1.0


def test_one_vs_one_matches_sklearn_with_all_classes() -> None:
    labels = np.arange(220) % 11
    probabilities = softmax(RNG.normal(size=(220, 11)) + np.eye(11)[labels], axis=1)
    found = probability_scores(scored_probabilities(probabilities, labels))
    expected = roc_auc_score(labels, probabilities, multi_class="ovo", average="macro")
    assert found["auroc_ovo"] == pytest.approx(expected)


def test_resamples_match_sklearn_with_weights() -> None:
    found = scored_probabilities(PROBABILITIES, LABELS)
    weights = RNG.multinomial(300, np.full(300, 1 / 300), size=3).astype(float)
    for weight, *own in zip(
        weights,
        *(
            probability_metrics._RESAMPLED[name](found, weights)
            for name in ("auroc_ovr", "auprc", "auroc_ovo")
        ),
        strict=True,
    ):
        columns = [(each == LABELS, PROBABILITIES[:, each]) for each in PRESENT]
        rest = [roc_auc_score(*each, sample_weight=weight) for each in columns]
        precision = [average_precision_score(*each, sample_weight=weight) for each in columns]
        pairs = [
            roc_auc_score(LABELS[of] == a, PROBABILITIES[of, a], sample_weight=weight[of])
            for a in PRESENT
            for b in PRESENT
            if a != b
            for of in [(a == LABELS) | (b == LABELS)]
        ]
        assert own == pytest.approx([np.mean(rest), np.mean(precision), np.mean(pairs)])


def test_intervals_contain_scores_and_widen_with_few_groups() -> None:
    found = scored_probabilities(PROBABILITIES, LABELS)
    scores, drawn = probability_scores(found), probability_intervals(found, num_resamples=300)
    for name in ("auroc_ovr", "auroc_ovo", "auprc"):
        low, high = drawn[name]
        assert low < scores[name] < high
    groups = np.repeat(["p1", "p2", "p3"], 100)
    right = np.repeat([True, False, True], 100)  # a patient whose cells are all wrong
    shuffled = np.where(right[:, None], PROBABILITIES, PROBABILITIES[:, ::-1])
    by_cell = probability_intervals(scored_probabilities(shuffled, LABELS), num_resamples=300)
    by_group = probability_intervals(
        scored_probabilities(shuffled, LABELS, groups=groups), num_resamples=300
    )
    assert np.diff(by_group["auroc_ovr"]) > 2 * np.diff(by_cell["auroc_ovr"])


def test_merged_probabilities_are_summed_and_others_left_out() -> None:
    pair = "monocyte=erythroblast"
    found = scored_probabilities(
        PROBABILITIES, np.append(LABELS[:-1], -1), merge=[pair], classes=["erythroblast"]
    )
    kept = np.isin(LABELS[:-1], [2, 9])
    assert len(found.true) == kept.sum() and found.names[found.true[0]] == "erythroblast"
    summed = PROBABILITIES[:-1][kept][:, [2, 9]].sum(1)
    assert found.probabilities[:, found.names.index("erythroblast")] == pytest.approx(summed)
    assert probability_scores(found)["auroc_ovr"] is None  # only one class is left
    assert probability_intervals(found, num_resamples=20)["auroc_ovr"] is None


def test_invalid_probabilities_are_reported() -> None:
    with pytest.raises(ValueError, match=r"row 0 .* softmax"):
        scored_probabilities(LOGITS, LABELS)
    with pytest.raises(ValueError, match=r"shape \(300, 5\)"):
        scored_probabilities(PROBABILITIES[:, :5], LABELS)
