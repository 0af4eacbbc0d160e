"""Rules are evaluated by rank correlation with the oracle and by regret."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hf_wbc.evaluation.model_selection import evaluate_criteria, spearman


def row(step, source_val, oracle=None, **unlabeled):
    made = {"step": step, "source_val": {"a": {"macro_f1": source_val}}}
    if oracle is not None:
        made["oracle"] = {"t": {"macro_f1": oracle}}
    return made | ({"unlabeled": {"t": unlabeled}} if unlabeled else {})


HISTORY = [
    row(100, 0.5, 0.40, im=1.0),
    row(200, 0.9, 0.30, im=3.0),
    row(300, 0.9, 0.60, im=2.0),
    row(400, 0.8, 0.50, im=4.0),
]


def test_regret_is_difference_to_best_oracle_score():
    found = evaluate_criteria(HISTORY)
    assert found["im"]["step"] == 400 and found["im"]["regret"] == pytest.approx(0.1)
    assert found["last"]["step"] == 400 and found["last"]["score"] == 0.5
    assert found["oracle"]["regret"] == 0 and found["oracle"]["correlation"] == pytest.approx(1)
    assert set(found) == {"source_val", "last", "im", "oracle"}


def test_ties_keep_the_earlier_evaluation():
    found = evaluate_criteria(HISTORY)["source_val"]
    assert (found["row"], found["step"], found["regret"]) == (1, 200, pytest.approx(0.3))


def test_several_runs_are_pooled():
    other = [row(100, 0.95, 0.7), row(200, 0.1, 0.2)]
    found = evaluate_criteria([*HISTORY, *other])
    assert (found["source_val"]["row"], found["source_val"]["step"]) == (4, 100)
    assert found["im"]["num_evaluations"] == 4
    assert found["im"]["regret"] == pytest.approx(0.7 - 0.5)


def test_evaluation_without_oracle_is_skipped():
    found = evaluate_criteria([*HISTORY, row(500, 0.99, im=9.0)])
    assert found["im"]["step"] == 400 and found["last"]["num_evaluations"] == 4


def test_nan_is_never_chosen():
    found = evaluate_criteria([row(1, 0.2, 0.1), row(2, float("nan"), 0.9)])
    assert found["source_val"]["step"] == 1 and found["source_val"]["correlation"] is None


def test_result_is_plain_json():
    assert json.loads(json.dumps(evaluate_criteria(HISTORY))) == evaluate_criteria(HISTORY)


def test_history_without_oracle_is_refused():
    with pytest.raises(ValueError, match=r"none of the 1 evaluations .* --oracle"):
        evaluate_criteria([row(1, 0.5)])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=30))
def test_spearman_matches_scipy(pairs):
    a, b = np.array(pairs).T
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert spearman(a, b) is None
    else:
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)


def test_spearman_of_one_evaluation_is_none():
    assert spearman([1.0], [2.0]) is None
