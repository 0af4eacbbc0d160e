"""The metric is an `evaluate.Metric` that agrees with `score`."""

import numpy as np
import pytest

from hf_wbc.evaluation.bootstrap import bootstrap_intervals
from hf_wbc.evaluation.metrics import score
from hf_wbc.evaluation.wbc_macro_f1 import WbcMacroF1

TRUE, PREDICTED = np.random.default_rng(0).integers(0, 11, (2, 80))
OPTIONS = {"merge": ["neutrophil_banded=neutrophil_segmented"], "classes": ["monocyte", "basophil"]}


@pytest.fixture
def metric(tmp_path):
    return WbcMacroF1(cache_dir=str(tmp_path))


def test_metric_matches_score(metric):
    assert metric.compute(predictions=PREDICTED, references=TRUE) == score(TRUE, PREDICTED)
    found = metric.compute(predictions=PREDICTED, references=TRUE, **OPTIONS)
    assert found == score(TRUE, PREDICTED, **OPTIONS)


def test_batches_accumulate(metric):
    for start in range(0, 80, 30):
        rows = slice(start, start + 30)
        metric.add_batch(predictions=PREDICTED[rows], references=TRUE[rows])
    assert metric.compute() == score(TRUE, PREDICTED)


def test_intervals_are_computed_on_request(metric):
    groups = [f"patient {i % 20}" for i in range(80)]
    for more in ({}, {"groups": groups}):
        found = metric.compute(predictions=PREDICTED, references=TRUE, intervals=True, **more)
        assert found["intervals"] == bootstrap_intervals(TRUE, PREDICTED, **more)


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([0.7, 1], "prediction 0.7 in row 0"),
        ([float("nan"), 1], "prediction nan in row 0"),
        ([11, 1], "prediction 11 in row 0"),
        ([1], "Mismatch"),
        (["basophil", "monocyte"], "basophil"),
    ],
)
def test_bad_predictions_are_reported_and_metric_stays_usable(metric, predictions, message):
    with pytest.raises(ValueError, match=message):
        metric.compute(predictions=predictions, references=[0, 1])
    assert metric.compute(predictions=[0, 1], references=[0, 1])["macro_f1"] == 1
