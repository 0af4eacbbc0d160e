"""Selective classification, human review and rejection of unknown cells.

Selective classification (Geifman & El-Yaniv 2017, arXiv:1705.08500) sends the least confident
images to a human; the risk is the mean loss over the remaining images. The mean risk over all
coverages is the AURC. Ties count as their average over random orders, so results do not depend on
the order of the images.

The reject option detects images that are not cells of a known class. Its score is the energy, -log
sum exp(logits) (Liu et al. 2020, arXiv:2010.03759): an image that fits no class has small logits.
Images above a threshold, which rejects a fixed fraction of held-out source images, are rejected.
This is weak protection: `tests/bench/RESULTS.md` lists how many platelets pass. Among the scores
tested there (maximum probability, entropy, energy, cosine similarity to the class means,
Mahalanobis distance), energy is best on average and needs only the logits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp, softmax

from hf_wbc.evaluation.calibration import Floats, Ids, checked_logits
from hf_wbc.evaluation.conformal import threshold
from hf_wbc.taxonomy import NUM_CLASSES, Relation, relation

LINEAGE_LOSS: Floats = np.array(
    [[relation(a, b) for b in range(NUM_CLASSES)] for a in range(NUM_CLASSES)], dtype=np.float64
) / max(Relation)
"""Loss (11, 11) by true and predicted class: 0 if correct, 1/3 for one maturation step, 2/3 for the
wrong cell of the right lineage, 1 for the wrong lineage."""
RATES = (0.05, 0.1, 0.2)
"""Fractions of cells sent to human review."""
RECALLS = (0.9, 0.95, 0.99)
CURVE = tuple(i / 20 for i in range(21))
"""Review rates at which a curve is recorded."""


@dataclass(frozen=True)
class ReviewThreshold:
    """Threshold that sends cells to human review so that few wanted cells are missed."""

    wanted: tuple[int, ...]
    """Class ids whose summed probability is compared with the threshold."""
    recall: float
    """Fraction of wanted cells that is found, if they are exchangeable with the held-out ones."""
    threshold: float | None
    """Smallest probability that is reviewed; None reviews all, because too few images were held
    out."""

    def reviews(self, logits: ArrayLike) -> NDArray[np.bool_]:
        """Return whether each image (N,) is sent to review; logits (N, C)."""
        limit = -np.inf if self.threshold is None else self.threshold
        goes: NDArray[np.bool_] = wanted_probability(logits, self.wanted) >= limit
        return goes


def review(
    logits: ArrayLike, labels: ArrayLike, wanted: Sequence[int], recall: float = 0.95
) -> ReviewThreshold:
    """Compute the review threshold from the wanted images among held-out ones.

    Args:
        logits: Held-out logits (N, C).
        labels: Class ids (N,).
        wanted: Class ids that must not be missed.
        recall: Fraction of the wanted images to find, in (0, 1).
    """
    if not 0 < recall < 1:
        raise ValueError(f"recall is {recall}; it must lie between 0 and 1")
    chances = wanted_probability(logits, wanted)[np.isin(np.asarray(labels), list(wanted))]
    limit = threshold(-chances, 1 - recall)
    return ReviewThreshold(tuple(wanted), recall, None if limit is None else -limit)


def wanted_probability(logits: ArrayLike, wanted: Sequence[int]) -> Floats:
    """Return the probability (N,) of belonging to one of the wanted classes; logits (N, C)."""
    total: Floats = softmax(checked_logits(logits, ""), axis=1)[:, list(wanted)].sum(1)
    return total


def risk_coverage(confidence: ArrayLike, losses: ArrayLike) -> tuple[Floats, Floats]:
    """Return the risk-coverage curve.

    Args:
        confidence: Confidence (N,).
        losses: Loss of each image (N,).

    Returns:
        Coverage k / N for k = 1 to N, and the mean loss of the k most confident images.

    Examples:
        >>> risk_coverage([0.9, 0.5], [0, 1])[1].tolist()
        [0.0, 0.5]
    """
    kept = np.arange(1, np.size(losses) + 1)
    return kept / len(kept), _running_sum(confidence, losses) / kept


def aurc(confidence: ArrayLike, losses: ArrayLike) -> float:
    """Return the area under the risk-coverage curve, the mean risk over all coverages k / N.

    Lower is better.
    """
    return float(risk_coverage(confidence, losses)[1].mean())


def recall_at(scores: ArrayLike, wanted: ArrayLike, rates: Sequence[float]) -> list[float]:
    """Return the fraction of wanted images found at each review rate.

    Args:
        scores: Scores (N,); higher scores are reviewed first.
        wanted: Whether each image is wanted (N,).
        rates: Fractions of the images that are reviewed, rounded down to whole images.
    """
    found = np.append(0.0, _running_sum(scores, _some(wanted)))
    places = [int(np.floor(rate * (len(found) - 1) + 1e-9)) for rate in rates]
    return [float(found[place] / found[-1]) for place in places]


def rate_for(scores: ArrayLike, wanted: ArrayLike, recalls: Sequence[float]) -> list[float]:
    """Return the smallest review rate that reaches each recall.

    Args:
        scores: Scores (N,); higher scores are reviewed first.
        wanted: Whether each image is wanted (N,).
        recalls: Fractions of the wanted images to find.
    """
    found = np.append(0.0, _running_sum(scores, _some(wanted)))
    levels = np.array(recalls) * found[-1] - 1e-9
    return [float(place / (len(found) - 1)) for place in found.searchsorted(levels)]


def review_scores(scores: ArrayLike, wanted: ArrayLike) -> dict[str, Any] | None:
    """Return recall by review rate, review rate by recall, and the curve as JSON values.

    None if no image is wanted.
    """
    if not np.any(wanted):
        return None
    named = {
        f"{rate:g}": found
        for rate, found in zip(RATES, recall_at(scores, wanted, RATES), strict=True)
    }
    needed = zip(RECALLS, rate_for(scores, wanted, RECALLS), strict=True)
    return {
        "num": int(np.sum(np.asarray(wanted))),
        "recall_at_rate": named,
        "rate_for_recall": {f"{recall:g}": rate for recall, rate in needed},
        "curve": {"rate": list(CURVE), "recall": recall_at(scores, wanted, CURVE)},
    }


def lineage_losses(labels: Ids, predicted: Ids) -> Floats:
    """Return the severity of each error in [0, 1], for class ids (N,) of the eleven classes."""
    losses: Floats = LINEAGE_LOSS[labels, predicted]
    return losses


def _running_sum(scores: ArrayLike, values: ArrayLike) -> Floats:
    """Return sums (N,) of the values of the 1 to N highest scores; tied scores share their mean."""
    order_by, summed = np.asarray(scores, np.float64), np.asarray(values, np.float64)
    if order_by.ndim != 1 or order_by.shape != summed.shape or not len(order_by):
        raise ValueError(
            f"scores have shape {order_by.shape} and errors {summed.shape}; give one of each per "
            "image, for at least one image"
        )
    if np.isnan(order_by).any() or np.isnan(summed).any():
        raise ValueError("scores and errors must be numbers; some are NaN")
    _, tie, counts = np.unique(-order_by, return_inverse=True, return_counts=True)
    means = np.bincount(tie, summed) / counts
    sums: Floats = np.cumsum(np.repeat(means, counts))
    return sums


def _some(wanted: ArrayLike) -> NDArray[np.bool_]:
    flags = np.asarray(wanted, dtype=bool)
    if not flags.any():
        raise ValueError("no image is of a wanted class, so recall is undefined")
    return flags


@dataclass(frozen=True)
class Rejection:
    """Threshold on the energy above which an image is rejected as not a cell of a known class."""

    rate: float
    """Maximum fraction of exchangeable images that is rejected."""
    threshold: float | None
    """Largest energy that is accepted; None accepts all, because too few images were held out."""

    def rejects(self, logits: ArrayLike) -> NDArray[np.bool_]:
        """Return whether each image (N,) is rejected; logits (N, C)."""
        limit = np.inf if self.threshold is None else self.threshold
        away: NDArray[np.bool_] = energy(logits) > limit
        return away


def rejection(logits: ArrayLike, rate: float = 0.05) -> Rejection:
    """Compute the threshold that rejects at most a fraction `rate` of the held-out images.

    Args:
        logits: Held-out logits (N, C).
        rate: Fraction of images to reject, in (0, 1).

    >>> rejection([[float(i), 0.0] for i in range(19)]).rejects([[0.5, 0.0], [-9.0, -9.0]]).tolist()
    [False, True]
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate is {rate}; it must lie between 0 and 1")
    return Rejection(rate, threshold(energy(logits), rate))


def energy(logits: ArrayLike) -> Floats:
    """Return the energy -log sum exp of logits (N, C), as (N,); higher for less familiar images."""
    values: Floats = -logsumexp(checked_logits(logits, ""), axis=1)
    return values


def auroc(inside: ArrayLike, outside: ArrayLike) -> float:
    """Return the area under the ROC curve for separating outliers from inliers; higher is better.

    This is the probability that an outlier scores higher than an inlier, with ties counted as half.

    Args:
        inside: Scores of inliers (N,).
        outside: Scores of outliers (M,).

    Examples:
        >>> auroc([0.0, 1.0], [1.0, 2.0])
        0.875
    """
    from scipy.stats import rankdata  # imported here because it takes most of a second

    sides = [np.asarray(side, dtype=np.float64) for side in (inside, outside)]
    for side, what in zip(sides, ("inside", "outside"), strict=True):
        if side.ndim != 1 or not len(side) or np.isnan(side).any():
            raise ValueError(f"scores {what} must be a vector of numbers, at least one and no NaN")
    num_in, num_out = map(len, sides)
    ranks = rankdata(np.concatenate(sides))[num_in:]
    return float((ranks.sum() - num_out * (num_out + 1) / 2) / (num_in * num_out))
