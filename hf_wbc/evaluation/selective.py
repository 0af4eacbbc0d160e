"""What a human's review of some of the cells is worth: risk against coverage, blasts against work.

Selective classification (Geifman & El-Yaniv 2017, arXiv:1705.08500): the least certain images go to
a human, and the risk is the mean loss over those that do not. Its mean over all coverages is the
AURC. Ties are taken as they would come in random order, so that no order of the images matters.

A reject option: is this one of the cells that the classifier was taught at all?

The score is the energy, -log sum exp(logits) (Liu et al. 2020, arXiv:2010.03759): an image that no
class claims has small logits. Images beyond a threshold, which turns away a fixed share of held-out
source images, are rejected. It is a weak protection: see `tests/bench/RESULTS.md` for how many
platelets pass. Of the scores tried there (largest probability, entropy, energy, cosine to the class
means, Mahalanobis distance), energy was best on average and needs nothing but the logits."""

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
"""The loss (11, 11) of a true class taken for another: 0 right, 1/3 one step of maturation off, 2/3
the wrong cell of the right lineage, 1 the wrong lineage."""
RATES = (0.05, 0.1, 0.2)
"""Of cells that a human looks at."""
RECALLS = (0.9, 0.95, 0.99)
CURVE = tuple(i / 20 for i in range(21))
"""Review rates at which a curve is recorded."""


@dataclass(frozen=True)
class ReviewThreshold:
    """Which cells a human has to see so that few of the wanted ones are missed."""

    wanted: tuple[int, ...]
    """The class ids whose summed probability decides."""
    recall: float
    """The share of the wanted cells that are found, if they are exchangeable with the held-out."""
    threshold: float | None
    """The smallest probability that is reviewed; None reviews all: too few were held out."""

    def reviews(self, logits: ArrayLike) -> NDArray[np.bool_]:
        """Whether each image (N,) goes to a human; logits (N, C)."""
        limit = -np.inf if self.threshold is None else self.threshold
        goes: NDArray[np.bool_] = wanted_probability(logits, self.wanted) >= limit
        return goes


def review(
    logits: ArrayLike, labels: ArrayLike, wanted: Sequence[int], recall: float = 0.95
) -> ReviewThreshold:
    """The threshold from the wanted ones among held-out images; logits (N, C), labels (N,)."""
    if not 0 < recall < 1:
        raise ValueError(f"recall is {recall}; it must lie between 0 and 1")
    chances = wanted_probability(logits, wanted)[np.isin(np.asarray(labels), list(wanted))]
    limit = threshold(-chances, 1 - recall)
    return ReviewThreshold(tuple(wanted), recall, None if limit is None else -limit)


def wanted_probability(logits: ArrayLike, wanted: Sequence[int]) -> Floats:
    """The probability (N,) of being one of the wanted class ids; logits (N, C)."""
    total: Floats = softmax(checked_logits(logits, ""), axis=1)[:, list(wanted)].sum(1)
    return total


def risk_coverage(confidence: ArrayLike, losses: ArrayLike) -> tuple[Floats, Floats]:
    """Coverage k / N for k = 1 to N, and the mean loss of the k most confident images.

    >>> risk_coverage([0.9, 0.5], [0, 1])[1].tolist()
    [0.0, 0.5]
    """
    kept = np.arange(1, np.size(losses) + 1)
    return kept / len(kept), _running_sum(confidence, losses) / kept


def aurc(confidence: ArrayLike, losses: ArrayLike) -> float:
    """Area under the risk-coverage curve: the mean risk over all coverages k / N."""
    return float(risk_coverage(confidence, losses)[1].mean())


def recall_at(scores: ArrayLike, wanted: ArrayLike, rates: Sequence[float]) -> list[float]:
    """The share of the wanted (N,) among the floor(rate N) highest scores (N,), for each rate."""
    found = np.append(0.0, _running_sum(scores, _some(wanted)))
    places = [int(np.floor(rate * (len(found) - 1) + 1e-9)) for rate in rates]
    return [float(found[place] / found[-1]) for place in places]


def rate_for(scores: ArrayLike, wanted: ArrayLike, recalls: Sequence[float]) -> list[float]:
    """The least share of all images, highest scores first, that holds each share of the wanted."""
    found = np.append(0.0, _running_sum(scores, _some(wanted)))
    levels = np.array(recalls) * found[-1] - 1e-9
    return [float(place / (len(found) - 1)) for place in found.searchsorted(levels)]


def review_scores(scores: ArrayLike, wanted: ArrayLike) -> dict[str, Any] | None:
    """Recall at rates, rates for recalls and the curve, for JSON; None where none is wanted."""
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
    """How grave each confusion is, in [0, 1]; class ids (N,), of the eleven."""
    losses: Floats = LINEAGE_LOSS[labels, predicted]
    return losses


def _running_sum(scores: ArrayLike, values: ArrayLike) -> Floats:
    """Sums (N,) of the values of the 1 to N highest scores; those that tie count as their mean."""
    order_by, summed = np.asarray(scores, np.float64), np.asarray(values, np.float64)
    if order_by.ndim != 1 or order_by.shape != summed.shape or not len(order_by):
        raise ValueError(
            f"scores have shape {order_by.shape}, what they order {summed.shape}; give one of "
            "each for every image, and at least one image"
        )
    if np.isnan(order_by).any() or np.isnan(summed).any():
        raise ValueError("scores and what they order must be numbers; some are NaN")
    _, tie, counts = np.unique(-order_by, return_inverse=True, return_counts=True)
    means = np.bincount(tie, summed) / counts
    sums: Floats = np.cumsum(np.repeat(means, counts))
    return sums


def _some(wanted: ArrayLike) -> NDArray[np.bool_]:
    flags = np.asarray(wanted, dtype=bool)
    if not flags.any():
        raise ValueError("no image is wanted, so none can be found")
    return flags


@dataclass(frozen=True)
class Rejection:
    """Which images are turned away as no cell of the known classes."""

    rate: float
    """The share of exchangeable images that may be turned away."""
    threshold: float | None
    """The largest energy that is accepted; None accepts all, as too few images were held out."""

    def rejects(self, logits: ArrayLike) -> NDArray[np.bool_]:
        """Whether each image (N,) is turned away; logits (N, C)."""
        limit = np.inf if self.threshold is None else self.threshold
        away: NDArray[np.bool_] = energy(logits) > limit
        return away


def rejection(logits: ArrayLike, rate: float = 0.05) -> Rejection:
    """The threshold that turns away at most a share `rate` of images like those of logits (N, C).

    >>> rejection([[float(i), 0.0] for i in range(19)]).rejects([[0.5, 0.0], [-9.0, -9.0]]).tolist()
    [False, True]
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate is {rate}; it must lie between 0 and 1")
    return Rejection(rate, threshold(energy(logits), rate))


def energy(logits: ArrayLike) -> Floats:
    """-log sum exp of logits (N, C), (N,): the higher, the stranger."""
    values: Floats = -logsumexp(checked_logits(logits, ""), axis=1)
    return values


def auroc(inside: ArrayLike, outside: ArrayLike) -> float:
    """The chance that an outsider scores above an insider, ties counting half; (N,) and (M,).

    >>> auroc([0.0, 1.0], [1.0, 2.0])
    0.875
    """
    from scipy.stats import rankdata  # takes most of a second to load

    sides = [np.asarray(side, dtype=np.float64) for side in (inside, outside)]
    for side, what in zip(sides, ("inside", "outside"), strict=True):
        if side.ndim != 1 or not len(side) or np.isnan(side).any():
            raise ValueError(f"scores {what} must be a vector of numbers, at least one and no NaN")
    num_in, num_out = map(len, sides)
    ranks = rankdata(np.concatenate(sides))[num_in:]
    return float((ranks.sum() - num_out * (num_out + 1) / 2) / (num_in * num_out))
