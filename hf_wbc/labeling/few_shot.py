"""Heads from few labels, on embeddings: they take milliseconds, and start from the source head.

Three families, each with a strength:

- `logistic`: logistic regression whose weights are drawn towards the source head instead of zero.
  In a direction without labels, the source decides. (A Gaussian prior around a pre-trained
  solution: Li et al. 2018, "Explicit inductive bias for transfer learning", arXiv:1802.01483.)
- `prototypes`: means of the labeled features, mixed with the source's prototypes, compared by
  cosine (Snell et al. 2017, arXiv:1703.05175).
- `cache`: the source's logits plus the labels of similar cells (Tip-Adapter; Zhang et al. 2022,
  arXiv:2207.09519). It is not linear, so it cannot be saved as a plain transformers model.

Features are centered and scaled by the unlabeled pool, which is an affine map and therefore folds
into a linear head. Shapes: n labeled cells, d features, 11 classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from hf_wbc.data.labels_file import FEWEST_NEW
from hf_wbc.evaluation.calibration import NEVER
from hf_wbc.evaluation.validators import unit_rows
from hf_wbc.labeling.pool import Floats, Ids, Pool
from hf_wbc.taxonomy import NUM_CLASSES

__all__ = [
    "FAMILIES",
    "CacheHead",
    "FewShotProblem",
    "Head",
    "LinearFewShotHead",
    "Settings",
    "class_weights",
    "logistic",
    "logits_in_chunks",
    "make_problem",
]

_SPREAD = 1e-3
"""Added to standard deviations, so that constant features count for nothing."""
_PRECISION = {"maxiter": 100, "ftol": 1e-6, "gtol": 1e-4}
_INTERCEPT = 0.1
"""Strength of the prior on intercepts relative to that on weights."""
CHUNK = 8192
"""Cells whose features are held in float64 at a time."""


class Head(Protocol):
    """What few labels give: a classifier of the cells of a pool."""

    def logits(self, features: Floats) -> Floats:
        """Return logits (N, 11) of features (N, d)."""

    def pool_logits(self, pool: Pool) -> Floats:
        """Return logits (N, 11) of the cells of a pool."""


class LinearFewShotHead(NamedTuple):
    """A linear head of raw features."""

    weight: Floats
    """Weights (11, d)."""
    bias: Floats
    """Biases (11,)."""

    def logits(self, features: Floats) -> Floats:
        """Return logits (N, 11) of features (N, d)."""
        found: Floats = features @ self.weight.T + self.bias
        return found

    def pool_logits(self, pool: Pool) -> Floats:
        """Return logits (N, 11) of the cells of a pool."""
        return logits_in_chunks(self, pool.features)


@dataclass(frozen=True, eq=False)
class CacheHead:
    """The source's logits plus the labels of similar cells."""

    source: LinearFewShotHead
    keys: Floats
    """Centered features of unit length (n, d)."""
    values: Floats
    """Weighted one-hot labels (n, 11)."""
    mean: Floats
    std: Floats
    sharpness: float

    def logits(self, features: Floats) -> Floats:
        """Return logits (N, 11) of features (N, d)."""
        similar = unit_rows((features - self.mean) / self.std) @ self.keys.T
        votes = np.exp(-self.sharpness * (1 - similar)) @ self.values
        found: Floats = self.source.logits(features) + votes
        return found

    def pool_logits(self, pool: Pool) -> Floats:
        """Return logits (N, 11) of the cells of a pool."""
        return logits_in_chunks(self, pool.features)


def logits_in_chunks(head: Head, features: NDArray[np.floating[Any]]) -> Floats:
    """Return logits (N, 11) of features (N, d), without a float64 copy of all features."""
    parts = [
        head.logits(features[start : start + CHUNK].astype(np.float64))
        for start in range(0, len(features), CHUNK)
    ]
    return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class FewShotProblem:
    """What a head is fitted to: labeled cells, the source head and the pool's statistics."""

    features: Floats
    """Raw features (n, d)."""
    labels: Ids
    """Class ids (n,)."""
    source: LinearFewShotHead
    """The source head; classes that it lacks and that have labels start from the mean class."""
    mean: Floats
    """Mean of the pool's features (d,)."""
    std: Floats
    """Standard deviation of the pool's features (d,)."""
    coordinates: Floats
    """Standardized labeled features in the space that they span (n, r)."""
    axes: Floats
    """Axes of that space (r, d)."""
    prototypes: Floats | None = None
    """Mean feature of each class in the source (11, d); rows of NaN are unknown."""

    @property
    def absent(self) -> NDArray[np.bool_]:
        """Classes (11,) that neither the source nor enough labels have."""
        absent: NDArray[np.bool_] = self.source.bias <= NEVER / 2
        return absent


Settings = tuple[float, float]
"""Two numbers that control a family: how much of the source is kept, and how smooth the rest is."""


def make_problem(
    features: Floats,
    labels: Ids,
    source: LinearFewShotHead,
    pool_features: Floats,
    prototypes: Floats | None = None,
) -> FewShotProblem:
    """Prepare a fit.

    Args:
        features: Features of the labeled cells (n, d).
        labels: Class ids (n,). A class that the source lacks needs `FEWEST_NEW` labels.
        source: The source head.
        pool_features: Features of all cells of the laboratory (N, d), without labels.
        prototypes: Source prototypes (11, d).
    """
    mean, std = pool_features.mean(0), pool_features.std(0) + _SPREAD
    scaled = (features - mean) / std / np.sqrt(features.shape[1])
    left, singular, axes = np.linalg.svd(scaled, full_matrices=False)
    kept = singular > 1e-8 * max(singular.max(initial=0), 1e-300)
    return FewShotProblem(
        features, labels, _opened(source, labels), mean, std,
        left[:, kept] * singular[kept], axes[kept], prototypes,
    )  # fmt: skip


def class_weights(labels: Ids) -> Floats:
    """Return weights (n,) that sum to 1; a class counts as the square root of its number."""
    counts = np.bincount(labels, minlength=NUM_CLASSES).astype(np.float64)
    weights = counts[labels] ** -0.5
    found: Floats = weights / weights.sum()
    return found


def logistic(problem: FewShotProblem, rows: Ids, settings: Settings) -> LinearFewShotHead:
    """Fit logistic regression around the source head.

    Args:
        problem: The labeled cells.
        rows: Rows of the labeled cells to fit.
        settings: Scale of the source's logits, and strength of the prior.
    """
    scale, strength = settings
    features = np.c_[problem.coordinates[rows], np.ones(len(rows))]
    offsets = scale * problem.source.logits(problem.features[rows])
    labels, weights = problem.labels[rows], class_weights(problem.labels[rows])
    width = features.shape[1]
    penalty = np.full(width, strength)
    penalty[-1] *= _INTERCEPT
    each = np.arange(len(rows))

    def loss(flat: Floats) -> tuple[float, Floats]:
        change = flat.reshape(NUM_CLASSES, width)
        logits = offsets + features @ change.T
        logits -= logits.max(1, keepdims=True)
        p = np.exp(logits)
        total = p.sum(1)
        value = weights @ (np.log(total) - logits[each, labels])
        p /= total[:, None]
        p[each, labels] -= 1
        p *= weights[:, None]
        shrunk = penalty * change
        return float(value + 0.5 * np.vdot(shrunk, change)), (p.T @ features + shrunk).ravel()

    fit = minimize(
        loss, np.zeros(NUM_CLASSES * width), jac=True, method="L-BFGS-B", options=_PRECISION
    )
    change = fit.x.reshape(NUM_CLASSES, width)
    added = change[:, :-1] @ problem.axes / problem.std / np.sqrt(problem.features.shape[1])
    added[problem.absent] = 0
    bias = scale * problem.source.bias + change[:, -1] - added @ problem.mean
    bias[problem.absent] = NEVER
    return LinearFewShotHead(scale * problem.source.weight + added, bias)


def prototypes(problem: FewShotProblem, rows: Ids, settings: Settings) -> LinearFewShotHead:
    """Mix the means of labeled cells with the source's prototypes.

    Args:
        problem: The labeled cells.
        rows: Rows of the labeled cells to use.
        settings: Number of cells for which a source prototype counts, and scale of the cosine.
    """
    counted_as, scale = settings
    features = (problem.features[rows] - problem.mean) / problem.std
    labels = problem.labels[rows]
    own = _source_prototypes(problem)
    weight = np.zeros_like(problem.source.weight)
    bias = np.full(NUM_CLASSES, NEVER)
    for c in range(NUM_CLASSES):
        mine = features[labels == c]
        total, num = mine.sum(0), float(len(mine))
        if not np.isnan(own[c]).any():
            total, num = total + counted_as * own[c], num + counted_as
        if num:
            direction = total / max(float(np.linalg.norm(total)), 1e-12)
            weight[c] = scale * direction / problem.std / np.sqrt(len(problem.mean))
            bias[c] = -weight[c] @ problem.mean
    return LinearFewShotHead(weight, bias)


def cache(problem: FewShotProblem, rows: Ids, settings: Settings) -> CacheHead:
    """Add the labels of similar cells to the source's logits.

    Args:
        problem: The labeled cells.
        rows: Rows of the labeled cells to keep.
        settings: Weight of the labels, and sharpness of the similarity.
    """
    weight, sharpness = settings
    keys = unit_rows((problem.features[rows] - problem.mean) / problem.std)
    labels = problem.labels[rows]
    shares = class_weights(labels) * len(labels)
    values = weight * shares[:, None] * np.eye(NUM_CLASSES)[labels]
    return CacheHead(problem.source, keys, values, problem.mean, problem.std, sharpness)


Fit = Callable[[FewShotProblem, Ids, Settings], Head]
FAMILIES: Mapping[str, tuple[Fit, tuple[Settings, ...]]] = {
    "logistic": (
        logistic,
        tuple((scale, strength) for strength in (0.1, 0.01, 0.001) for scale in (1.0, 0.5)),
    ),
    "prototypes": (
        prototypes, tuple((num, scale) for num in (20.0, 5.0, 1.0) for scale in (8.0, 16.0)),
    ),
    "cache": (
        cache, tuple((weight, sharp) for weight in (1.0, 4.0, 16.0) for sharp in (2.0, 6.0)),
    ),
}  # fmt: skip
"""Families of heads: the fit, and its settings from the most to the least cautious."""


def _source_prototypes(problem: FewShotProblem) -> Floats:
    """Return standardized source prototypes (11, d); without any, the directions of the weights."""
    if problem.prototypes is not None:
        lengths = np.linalg.norm(problem.features, axis=1).mean()
        known = unit_rows(problem.prototypes) * lengths
        centered: Floats = (known - np.nanmean(known, 0)) / problem.std
        return centered
    directions = unit_rows(problem.source.weight - problem.source.weight.mean(0))
    found = np.where(problem.absent[:, None], np.nan, directions * np.sqrt(len(problem.mean)))
    return found


def _opened(source: LinearFewShotHead, labels: Ids) -> LinearFewShotHead:
    """Return a source head in which absent classes with enough labels have the mean logit."""
    weight, bias = source.weight.astype(np.float64), source.bias.astype(np.float64)
    absent = bias <= NEVER / 2
    counts = np.bincount(labels, minlength=NUM_CLASSES)
    opened = absent & (counts >= FEWEST_NEW)
    if not absent.all():
        weight[opened] = weight[~absent].mean(0)
        bias[opened] = bias[~absent].mean()
    return LinearFewShotHead(weight, bias)
