"""Summaries of stress tests, and corruption errors against a baseline."""

from typing import Any

import numpy as np
import pytest

from hf_wbc.evaluation.stress_scores import (
    condition_scores,
    corruption_errors,
    summarize_stress,
)


def scores(macro_f1: float, **f1: float) -> dict[str, Any]:
    return {"macro_f1": macro_f1, "ece": 0.1, "f1": f1 or {"monocyte": macro_f1}}


CLEAN = scores(0.9, basophil=1.0, monocyte=0.8)
CURVES = {
    "noise": [scores(0.8, basophil=1.0, monocyte=0.6)] * 4,
    "blur": [scores(0.6, basophil=0.2, monocyte=1.0)] * 4,
}


def test_summary_names_worst_corruption_and_class() -> None:
    found = summarize_stress(CLEAN, CURVES)
    assert found["macro_f1"] == pytest.approx(0.7)
    assert found["retained"] == pytest.approx(0.7 / 0.9)
    assert found["worst_corruption"] == {"name": "blur", "macro_f1": pytest.approx(0.6)}
    assert found["worst_class"] == {"name": "basophil", "f1": pytest.approx(0.6)}


def test_corruption_errors_follow_hendrycks_and_dietterich() -> None:
    record = {"clean": CLEAN, "curves": CURVES}
    other = {
        "clean": scores(0.7),
        "curves": {"noise": [scores(0.6)] * 4, "blur": [scores(0.7)] * 4},
    }
    found = corruption_errors(record, other)
    assert found["by_corruption"] == pytest.approx({"noise": 0.2 / 0.4, "blur": 0.4 / 0.3})
    assert found["mce"] == pytest.approx((0.2 / 0.4 + 0.4 / 0.3) / 2)
    assert found["relative_mce"] == pytest.approx(0.1 / 0.1)  # blur does not hurt the baseline
    own = corruption_errors(record, record)
    assert own["mce"] == pytest.approx(1) and own["relative_mce"] == pytest.approx(1)


def test_condition_scores_use_merged_classes() -> None:
    labels = np.array([7, 8, 9, 9])
    logits = 10 * np.eye(11, dtype=np.float32)[[8, 7, 9, 0]]
    apart = condition_scores(logits, labels)
    merged = condition_scores(logits, labels, merge=["neutrophil_banded=neutrophil_segmented"])
    assert (apart["accuracy"], merged["accuracy"]) == (0.25, 0.75)
    assert merged["ece"] == pytest.approx(0.25, abs=0.01)
    assert merged["num_classes"] == 2 and set(merged["f1"]) == {"neutrophil_segmented", "monocyte"}
