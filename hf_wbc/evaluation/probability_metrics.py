"""Scores of probabilities: AUROC, AUPRC and calibration error, with bootstrap intervals.

AUROC one-vs-rest and AUPRC (average precision) are means over the classes present in the
references; AUROC one-vs-one is the mean over all pairs of them (Hand & Till 2001, doi
10.1023/A:1010920819831), which does not depend on the class shares.

A bootstrap resample is a vector of weights, the number of times that each image is drawn. Images
are sorted once, and the scores of all resamples follow from cumulative sums of the weights. They
equal scikit-learn's with `sample_weight`, at a fraction of the cost. Where groups (patients,
slides) are known, whole groups are drawn.

Shape suffixes: N images, K classes after merging, P classes present, R resamples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_wbc.evaluation.metrics import confusion_counts, merged_labels
from hf_wbc.taxonomy import NAMES, NUM_CLASSES, UNLABELED, class_id

__all__ = [
    "ScoredProbabilities",
    "calibration_error",
    "probability_intervals",
    "probability_scores",
    "scored_probabilities",
]

Floats = NDArray[np.float64]
NUM_BINS = 15
"""Bins of confidence of the calibration error, as in Guo et al. 2017 (arXiv:1706.04599)."""
_VALUES_AT_ONCE = 2**24
"""Limit on weights in memory at a time."""


@dataclass(frozen=True, eq=False)
class ScoredProbabilities:
    """Probabilities of the N labeled and scored images, after merging classes."""

    names: tuple[str, ...]
    """Names of the K classes that remain after merging."""
    probabilities: Floats
    """Probabilities (N, K)."""
    true: NDArray[np.int64]
    """True classes (N,), as positions among the K."""
    groups: NDArray[np.int64] | None
    """Number of the group of each image (N,), from 0; None draws images."""

    @property
    def present(self) -> list[int]:
        """Positions of the P classes that occur in the references."""
        found: list[int] = np.unique(self.true).tolist()
        return found


def scored_probabilities(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    merge: Sequence[str] = (),
    classes: Sequence[str] = (),
    groups: ArrayLike | None = None,
) -> ScoredProbabilities:
    """Select the labeled and scored images, and sum the probabilities of merged classes.

    Args:
        probabilities: Probabilities (N, 11), in rows that sum to 1.
        labels: Class ids (N,); -1 for unlabeled images, which are left out.
        merge: Classes to score as one, as FROM=INTO pairs.
        classes: Names of the classes to score; if empty, those present.
        groups: Patient or slide of each image (N,), of any type.

    Raises:
        ValueError: If a shape, an id, a name or a merge is invalid, a value is not a probability,
            or no image is left to score.
    """
    values, true = np.asarray(probabilities, np.float64), np.asarray(labels)
    if values.ndim != 2 or values.shape[1] != NUM_CLASSES:
        raise ValueError(
            f"probabilities have shape {values.shape}; give one of each of the {NUM_CLASSES} "
            "classes for every image"
        )
    valid = np.isfinite(values).all(1) & (values >= 0).all(1)
    valid &= np.abs(values.sum(1) - 1) < 1e-3
    if not valid.all():
        raise ValueError(
            f"row {int(np.argmin(valid))} of the probabilities does not sum to 1; apply softmax "
            "to logits first"
        )
    confusion_counts(true, values.argmax(1), merge=merge, classes=classes, groups=groups)
    true, into = true.astype(np.int64), merged_labels(merge)
    kept, place = np.unique(into, return_inverse=True)
    ids = [class_id(name) for name in classes] or kept.tolist()
    scored = (true != UNLABELED) & np.isin(into[true], ids)
    summed = np.stack([values[:, into == each].sum(1) for each in kept], 1)
    grouped = None
    if groups is not None:
        names = np.asarray(groups, object)[scored].astype(str)
        grouped = np.unique(names, return_inverse=True)[1]
    return ScoredProbabilities(
        tuple(NAMES[each] for each in kept), summed[scored], place[true[scored]], grouped
    )


def calibration_error(found: ScoredProbabilities) -> float:
    """Return the expected calibration error in [0, 1], with 15 equal-width bins of confidence."""
    weights = np.ones((1, len(found.true)))
    return float(_calibration_errors(found, weights)[0])


def probability_scores(found: ScoredProbabilities) -> dict[str, float | None]:
    """Compute auroc_ovr, auroc_ovo, auprc and ece.

    The first three are None if only one class is present, for which they are not defined.
    """
    once = np.ones((1, len(found.true)))
    values = {name: float(of(found, once)[0]) for name, of in _RESAMPLED.items()}
    return {name: None if np.isnan(value) else value for name, value in values.items()}


def probability_intervals(
    found: ScoredProbabilities, *, num_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Any]:
    """Compute [low, high] of each score of `probability_scores`; None where it has no value.

    A resample that lacks a class is scored over the classes that it has. Resamples with a single
    class have no AUROC and are left out of its interval.
    """
    tails = ((1 - level) / 2, (1 + level) / 2)
    parts: dict[str, list[Floats]] = {name: [] for name in _RESAMPLED}
    generator = np.random.default_rng(seed)
    remaining, at_once = num_resamples, max(1, _VALUES_AT_ONCE // len(found.true))
    while remaining:
        weights = _draw(found, min(at_once, remaining), generator)
        remaining -= len(weights)
        for name, of in _RESAMPLED.items():
            parts[name].append(of(found, weights))
    joined = {name: np.concatenate(each) for name, each in parts.items()}
    return {
        name: None if np.isnan(each).all() else np.nanquantile(each, tails).tolist()
        for name, each in joined.items()
    }


def _draw(found: ScoredProbabilities, num: int, generator: np.random.Generator) -> Floats:
    """Draw weights (num, N): how often each image is in a resample."""
    groups = np.arange(len(found.true)) if found.groups is None else found.groups
    total = int(groups.max()) + 1
    times = generator.multinomial(total, np.full(total, 1 / total), size=num)
    weights: Floats = times[:, groups].astype(np.float64)
    return weights


def _areas(found: ScoredProbabilities, weights: Floats) -> Floats:
    """Return the mean AUROC one-vs-rest (R,)."""
    by_class = [
        _area(found.probabilities[:, each], found.true == each, weights) for each in found.present
    ]
    return _mean(by_class)


def _pair_areas(found: ScoredProbabilities, weights: Floats) -> Floats:
    """Return the mean AUROC over ordered pairs of classes (R,)."""
    areas = []
    for a, b in permutations(found.present, 2):
        pair = np.flatnonzero((found.true == a) | (found.true == b))
        values = found.probabilities[pair, a]
        areas.append(_area(values, found.true[pair] == a, weights[:, pair]))
    return _mean(areas)


def _precisions(found: ScoredProbabilities, weights: Floats) -> Floats:
    """Return the mean average precision (R,); NaN with a single class."""
    if len(found.present) < 2:
        return np.full(len(weights), np.nan)
    by_class = []
    for each in found.present:
        positive, negative = _counts_above(
            found.probabilities[:, each], found.true == each, weights
        )
        total = positive[:, -1:]
        gains = np.diff(positive, axis=1, prepend=0)
        above = positive + negative
        precision = np.divide(positive, above, out=np.zeros_like(above), where=above > 0)
        with np.errstate(invalid="ignore"):
            by_class.append((gains * precision).sum(1) / total[:, 0])
    return _mean(by_class)


def _area(values: Floats, is_positive: NDArray[np.bool_], weights: Floats) -> Floats:
    """Return the area under the ROC curve (R,); NaN without positives or negatives."""
    positive, negative = _counts_above(values, is_positive, weights)
    steps = np.diff(negative, axis=1, prepend=0)
    middles = positive - np.diff(positive, axis=1, prepend=0) / 2
    with np.errstate(invalid="ignore"):
        area: Floats = (steps * middles).sum(1) / (positive[:, -1] * negative[:, -1])
    return area


def _counts_above(
    values: Floats, is_positive: NDArray[np.bool_], weights: Floats
) -> tuple[Floats, Floats]:
    """Return the weight of positives and of negatives at or above each threshold, (R, T) each.

    Thresholds are the distinct values, highest first.
    """
    order = np.argsort(-values, kind="stable")
    last = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    sorted_weights, sides = weights[:, order], is_positive[order]
    positive = np.cumsum(sorted_weights * sides, axis=1)[:, last]
    return positive, np.cumsum(sorted_weights * ~sides, axis=1)[:, last]


def _calibration_errors(found: ScoredProbabilities, weights: Floats) -> Floats:
    """Return the expected calibration error (R,)."""
    confidence = found.probabilities.max(1)
    gap = confidence - (found.probabilities.argmax(1) == found.true)
    place = np.clip(np.ceil(confidence * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    in_bin = place[:, None] == np.arange(NUM_BINS)
    gaps: Floats = np.abs(weights @ (gap[:, None] * in_bin)).sum(1) / weights.sum(1)
    return gaps


def _mean(parts: Sequence[Floats]) -> Floats:
    """Return the mean over the parts that are defined (R,); NaN where none is."""
    if not parts:
        return np.array([np.nan])
    values = np.stack(parts)
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(known, values, 0).sum(0) / known.sum(0)
    return mean


_RESAMPLED: dict[str, Callable[[ScoredProbabilities, Floats], Floats]] = {
    "auroc_ovr": _areas,
    "auroc_ovo": _pair_areas,
    "auprc": _precisions,
    "ece": _calibration_errors,
}
