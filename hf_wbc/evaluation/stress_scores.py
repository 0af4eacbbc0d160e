"""Scores of a model on corrupted cells: curves over severity, and the mean corruption error.

The error of a condition is 1 - macro-F1. The corruption error of Hendrycks & Dietterich 2019
(arXiv:1903.12261, sec. 4.1) divides a model's error, summed over the severities of a corruption, by
that of a baseline model; the mean corruption error (mCE) is the mean over the corruptions. A value
below 1 means fewer errors than the baseline. The relative mCE divides the increases over the error
on clean cells, and so compares robustness apart from accuracy.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from hf_wbc.evaluation.bootstrap import bootstrap_intervals
from hf_wbc.evaluation.metrics import score
from hf_wbc.evaluation.probability_metrics import calibration_error, scored_probabilities

__all__ = ["condition_scores", "corruption_errors", "summarize_stress"]

_SMALLEST_INCREASE = 0.01
"""Increase of the baseline's error, summed over severities, below which no ratio is given."""


def condition_scores(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    merge: Sequence[str] = (),
    classes: Sequence[str] = (),
    groups: NDArray[np.str_] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute the scores of N labeled cells under one condition.

    Args:
        logits: Logits (N, 11).
        labels: Class ids (N,).
        merge: Classes to score as one, as FROM=INTO.
        classes: Classes to score; if empty, those present.
        groups: Patient or slide of each cell (N,); whole groups are then drawn for the interval.
        seed: Seed of the bootstrap.

    Returns:
        JSON values: macro_f1 and its interval, accuracy, ece, num_classes, num_images, worst_class
        and F1 by class.
    """
    predicted = logits.argmax(1)
    found = score(labels, predicted, merge=merge, classes=classes)
    drawn = bootstrap_intervals(
        labels, predicted, merge=merge, classes=classes, groups=groups, seed=seed
    )
    probabilities = scored_probabilities(
        softmax(logits.astype(np.float64), axis=1), labels, merge=merge, classes=classes
    )
    return {
        "macro_f1": found["macro_f1"],
        "interval": drawn["macro_f1"],
        "accuracy": found["accuracy"],
        "ece": calibration_error(probabilities),
        "num_classes": found["num_classes"],
        "num_images": found["num_images"],
        "worst_class": found["worst_class"],
        "f1": {name: each["f1"] for name, each in found["per_class"].items()},
    }


def summarize_stress(
    clean: Mapping[str, Any], curves: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """Summarize the scores over corruptions and severities.

    Args:
        clean: Scores of the unchanged cells, from `condition_scores`.
        curves: Scores at the severities 1 to 4, by corruption.

    Returns:
        JSON values: `macro_f1` and `ece` are means over all corruptions and severities, `retained`
        is that mean as a share of the clean macro-F1, `worst_corruption` the one with the lowest
        mean macro-F1, and `worst_class` the class with the lowest mean F1.
    """
    means = {name: _mean(each, "macro_f1") for name, each in curves.items()}
    every = [scores for each in curves.values() for scores in each]
    by_class = {
        name: float(np.mean([scores["f1"][name] for scores in every])) for name in clean["f1"]
    }
    worst, class_name = min(means, key=means.__getitem__), min(by_class, key=by_class.__getitem__)
    macro_f1 = _mean(every, "macro_f1")
    return {
        "macro_f1": macro_f1,
        "retained": macro_f1 / clean["macro_f1"] if clean["macro_f1"] else 0.0,
        "ece": _mean(every, "ece"),
        "by_corruption": means,
        "by_class": by_class,
        "worst_corruption": {"name": worst, "macro_f1": means[worst]},
        "worst_class": {"name": class_name, "f1": by_class[class_name]},
    }


def corruption_errors(record: Mapping[str, Any], baseline: Mapping[str, Any]) -> dict[str, Any]:
    """Compute corruption errors relative to a baseline's.

    Args:
        record: `clean` and `curves` of the model, as in the record of a stress test.
        baseline: The same of the baseline, on the same cells and corruptions.

    Returns:
        JSON values: `by_corruption` has the corruption errors, `mce` their mean; `relative_mce` is
        the mean of the ratios of the increases, over the corruptions that raise the baseline's
        error at all, and None if there are none.
    """
    errors: dict[str, float] = {}
    increases = []
    clean, other_clean = (1 - each["clean"]["macro_f1"] for each in (record, baseline))
    for name, curve in record["curves"].items():
        own = _total_error(curve)
        other = _total_error(baseline["curves"][name])
        if other:
            errors[name] = own / other
        gain = other - other_clean * len(curve)
        if gain > _SMALLEST_INCREASE:
            increases.append((own - clean * len(curve)) / gain)
    return {
        "by_corruption": errors,
        "mce": float(np.mean(list(errors.values()))) if errors else None,
        "relative_mce": float(np.mean(increases)) if increases else None,
    }


def _total_error(curve: Sequence[Mapping[str, Any]]) -> float:
    return float(sum(1 - scores["macro_f1"] for scores in curve))


def _mean(scores: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(np.mean([each[name] for each in scores]))
