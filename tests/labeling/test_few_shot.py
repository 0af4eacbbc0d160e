"""Heads from few labels start from the source head and fold into a linear layer where they can."""

import numpy as np
import pytest

from hf_wbc.evaluation.calibration import NEVER
from hf_wbc.labeling.few_shot import FAMILIES, CacheHead, FewShotProblem, make_problem
from hf_wbc.labeling.pool import Ids
from tests.support.shifted_laboratory import MYELOBLAST, SEGMENTED, laboratory, source_head


def problem(num: int = 60, labels: Ids | None = None) -> FewShotProblem:
    pool = laboratory(num)
    features = pool.features.astype(np.float64)
    given = pool.labels if labels is None else labels
    return make_problem(features, given, source_head(), features)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_beats_source_on_new_cells(family: str) -> None:
    fit, grid = FAMILIES[family]
    new, known = laboratory(400, seed=5), problem()
    features = new.features.astype(np.float64)
    before = (source_head().logits(features).argmax(1) == new.labels).mean()
    after = (fit(known, np.arange(60), grid[-1]).logits(features).argmax(1) == new.labels).mean()
    assert before < 0.75 < 0.9 < after


def test_strong_prior_keeps_source_head() -> None:
    head = FAMILIES["logistic"][0](problem(), np.arange(60), (1.0, 1e6))
    assert not isinstance(head, CacheHead)
    assert np.allclose(head.weight, source_head().weight, atol=1e-4)


def test_solution_is_optimal_in_full_feature_space() -> None:
    """The fit in the span of the labeled cells is the one of the whole feature space."""
    known, strength = problem(30), 0.01
    head = FAMILIES["logistic"][0](known, np.arange(30), (1.0, strength))
    assert not isinstance(head, CacheHead)
    scale = known.std * np.sqrt(len(known.mean))
    change = (head.weight - known.source.weight) * scale
    logits = head.logits(known.features)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    counts = np.bincount(known.labels, minlength=11)
    weights = counts[known.labels] ** -0.5
    weights /= weights.sum()
    errors = (p - np.eye(11)[known.labels]) * weights[:, None]
    slope = errors.T @ ((known.features - known.mean) / scale) + strength * change
    assert np.abs(slope[np.arange(11) != MYELOBLAST]).max() < 2e-3


@pytest.mark.parametrize(("num", "predicted"), [(2, False), (3, True)])
def test_class_missing_from_source_needs_three_labels(num: int, predicted: bool) -> None:
    pool = laboratory(60)
    labels = pool.labels.copy()
    labels[np.flatnonzero(labels == SEGMENTED)[:num]] = MYELOBLAST
    known = problem(60, labels)
    assert (known.source.bias[MYELOBLAST] > NEVER / 2) == predicted


def test_absent_class_stays_absent_in_every_linear_head() -> None:
    for family in ("logistic", "prototypes"):
        fit, grid = FAMILIES[family]
        for settings in grid:
            head = fit(problem(), np.arange(60), settings)
            assert not isinstance(head, CacheHead)
            assert head.bias[MYELOBLAST] == NEVER and not head.weight[MYELOBLAST].any()
