"""Turn predictions into the scores and per-image tables of a run folder."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.special import softmax

from hf_wbc.data.dataset import DomainSplit
from hf_wbc.engine.features import fixed_rows
from hf_wbc.engine.forward import Predictions
from hf_wbc.evaluation.bootstrap import bootstrap_intervals
from hf_wbc.evaluation.metrics import score
from hf_wbc.evaluation.probability_metrics import (
    probability_intervals,
    probability_scores,
    scored_probabilities,
)
from hf_wbc.taxonomy import NAMES, UNLABELED

HEADLINE = ("macro_f1", "accuracy", "balanced_accuracy")


def score_predictions(
    domains: Sequence[DomainSplit],
    predicted: npt.NDArray[np.int64],
    merge: Sequence[str],
    classes: Sequence[str],
    seed: int,
) -> dict[str, Any] | None:
    """Return all scores of the domains' images, with bootstrap intervals.

    If the group of every image is known, the bootstrap resamples groups.

    Args:
        domains: Splits with N images in total.
        predicted: Predicted classes (N,).
        merge: Classes to score as one, as FROM=INTO.
        classes: Classes to score; if empty, those present.
        seed: Seed of the bootstrap.

    Returns:
        The scores; None if no image has a label.
    """
    labels = np.concatenate([domain.labels for domain in domains])
    if (labels == UNLABELED).all():
        return None
    groups = known_groups(domains, labels != UNLABELED)
    return {
        **score(labels, predicted, merge=merge, classes=classes),
        "intervals": bootstrap_intervals(
            labels, predicted, merge=merge, classes=classes, groups=groups, seed=seed
        ),
    }


def score_probabilities(
    domains: Sequence[DomainSplit],
    logits: npt.NDArray[np.float32],
    merge: Sequence[str],
    classes: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """Return AUROC, AUPRC and calibration error of the domains' images, with their intervals.

    Arguments are those of `score_predictions`, with logits (N, 11); some image must have a label.
    """
    labels = np.concatenate([domain.labels for domain in domains])
    found = scored_probabilities(
        softmax(logits.astype(np.float64), axis=1),
        labels,
        merge=merge,
        classes=classes,
        groups=known_groups(domains, labels != UNLABELED),
    )
    return {**probability_scores(found), "intervals": probability_intervals(found, seed=seed)}


def known_groups(
    domains: Sequence[DomainSplit], is_scored: npt.NDArray[np.bool_]
) -> npt.NDArray[np.str_] | None:
    """Return the group of each image (N,).

    None if the group of any image is unknown, or all scored images belong to one group.
    """
    known = [domain.groups for domain in domains if domain.groups is not None]
    if len(known) < len(domains):
        return None
    groups: npt.NDArray[np.str_] = np.concatenate(known)
    return groups if len(np.unique(groups[is_scored])) > 1 else None


def headline(
    domain: DomainSplit,
    predicted: npt.NDArray[np.int64],
    merge: Sequence[str],
    classes: Sequence[str],
    seed: int,
) -> dict[str, Any] | None:
    """Return the main scores with the interval of macro-F1; None if no image has a label."""
    whole = score_predictions([domain], predicted, merge, classes, seed)
    if whole is None:
        return None
    shown = {name: whole[name] for name in (*HEADLINE, "num_classes")}
    return {**shown, "interval": whole["intervals"]["macro_f1"]}


def prediction_rows(domain: DomainSplit, predictions: Predictions) -> pa.Table:
    """Return one row per image: image id, label (-1 if unknown), logits and class probabilities."""
    shifted = predictions.logits - predictions.logits.max(1, keepdims=True)
    odds = np.exp(shifted.astype(np.float64))
    probabilities = odds / odds.sum(1, keepdims=True)
    return pa.table(
        {
            **_keys(domain),
            "group": pa.array(
                [None] * len(domain) if domain.groups is None else domain.groups, pa.string()
            ),
            "label": domain.labels,
            "predicted": predictions.classes,
            "logits": fixed_rows(predictions.logits),
            **{f"p_{name}": probabilities[:, i] for i, name in enumerate(NAMES)},
        }
    )


def feature_rows(domain: DomainSplit, predictions: Predictions) -> pa.Table:
    """Return one row per image: image id and penultimate features."""
    return pa.table({**_keys(domain), "features": fixed_rows(predictions.features)})


def _keys(domain: DomainSplit) -> dict[str, Any]:
    num = len(domain.labels)
    return {
        "domain": pa.array([domain.name] * num, pa.string()),
        "split": pa.array([domain.split] * num, pa.string()),
        "image_id": pa.array(domain.image_ids, pa.string()),
    }
