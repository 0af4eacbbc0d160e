"""Conformal prediction sets: sets of classes that contain the true class at a chosen rate.

Split conformal prediction (Vovk et al. 2005; Angelopoulos & Bates 2021, arXiv:2107.07511) excludes
a class from the set of an image if it fits the image worse than all but a fraction alpha of the
held-out images fit their own label. The set then contains the true class with probability at least
1 - alpha, whatever the classifier, **for images that are exchangeable with the held-out ones**.
Images from another laboratory are not exchangeable, and the guarantee does not hold for them.

There are three kinds of thresholds, each with one number per class:

- `marginal`: One threshold for all classes. Coverage holds on average, but may be lower for rare
  classes.
- `class`: Computed from the images of the class (Mondrian; Vovk 2012). Coverage of 1 - alpha holds
  within each class, and hence for any class priors. A class with fewer than 1 / alpha - 1 images is
  never excluded.
- `label_shift`: Weights the held-out images by the target priors (Podkopaev & Ramdas 2021,
  arXiv:2103.03323). Coverage holds on average over the target if only its priors differ.

Nonconformity scores:

- `lac`: 1 - p. The smallest sets on average (Sadinle et al. 2019, arXiv:1609.00451).
- `aps`: Total probability of the classes that are at least as likely (Romano et al. 2020,
  arXiv:2006.02544), without the random tie-break, so that sets are deterministic.
- `raps`: `aps` plus a penalty on the rank (Angelopoulos et al. 2021, arXiv:2009.14193).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from hf_wbc.evaluation.calibration import NEVER, Floats, checked_labels, checked_logits
from hf_wbc.evaluation.label_shift import checked_priors
from hf_wbc.text import did_you_mean

SCORES = ("lac", "aps", "raps")
KINDS = ("marginal", "class", "label_shift")
RANK_PENALTY = 0.1
"""Penalty of RAPS for each rank beyond FREE_RANKS."""
FREE_RANKS = 2
ROUNDING = 1e-12
"""Relative tolerance when a sum of weights is compared with a level."""


@dataclass(frozen=True)
class ConformalSets:
    """Thresholds that decide which classes are in the set of an image."""

    score: str
    kind: str
    alpha: float
    """Maximum fraction of exchangeable images whose set lacks the true class."""
    thresholds: tuple[float | None, ...]
    """Largest score that is included, for each class (C,); None includes the class in every set."""

    def sets(self, logits: ArrayLike) -> NDArray[np.bool_]:
        """Return whether each class is in the set of each image.

        Args:
            logits: Logits (N, C).

        Returns:
            Mask (N, C). A set may be empty. Classes that the classifier was not trained on, which
            have the logit NEVER, are in no set.
        """
        scores = nonconformity(logits, self.score)
        limits = np.array([np.inf if limit is None else limit for limit in self.thresholds])
        if scores.shape[1] != len(limits):
            raise ValueError(
                f"logits have {scores.shape[1]} classes, but there are {len(limits)} thresholds"
            )
        within: NDArray[np.bool_] = (scores <= limits) & (np.asarray(logits) > NEVER / 2)
        return within

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "thresholds": list(self.thresholds)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Create an instance from the result of `to_dict`."""
        return cls(**{**values, "thresholds": tuple(values["thresholds"])})


def conformal_sets(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: float = 0.1,
    score: str = "lac",
    kind: str = "marginal",
    priors: ArrayLike | None = None,
) -> ConformalSets:
    """Compute thresholds from held-out images.

    Args:
        logits: Held-out logits (N, C).
        labels: Class ids (N,).
        alpha: Maximum fraction of images whose set lacks the true class.
        score: One of SCORES.
        kind: One of KINDS.
        priors: Class priors of the target (C,); required for `label_shift`, which never excludes a
            class without held-out images because its scores are unknown.

    Raises:
        ValueError: If logits, labels, priors or an option are invalid.

    Examples:
        >>> found = conformal_sets([[2.0, 0.0]] * 19, [0] * 19, kind="class")
        >>> found.sets([[2.0, 0.0], [0.0, 2.0]]).tolist()
        [[True, True], [False, True]]
    """
    _check(alpha, kind, priors)
    scores = nonconformity(logits, score)
    true = checked_labels(labels, scores)
    num_classes = scores.shape[1]
    own = scores[np.arange(len(true)), true]
    counts = np.bincount(true, minlength=num_classes)
    if kind == "marginal":
        limits = [threshold(own, alpha)] * num_classes
    elif kind == "class":
        limits = [threshold(own[true == c], alpha) for c in range(num_classes)]
    else:
        assert priors is not None
        target_priors = checked_priors(priors, num_classes)
        if target_priors[counts == 0].any():
            raise ValueError(
                "priors of classes without a held-out image must be 0, as `estimate_priors` "
                f"returns them; they sum to {target_priors[counts == 0].sum():g}"
            )
        weights = target_priors / np.maximum(counts, 1) * len(true)
        limits = [
            threshold(own, alpha, weights[true], weights[c]) if counts[c] else None
            for c in range(num_classes)
        ]
    return ConformalSets(score, kind, alpha, tuple(limits))


def nonconformity(logits: ArrayLike, score: str = "lac") -> Floats:
    """Return how badly each class fits each image (N, C); classes of equal logits score alike."""
    if score not in SCORES:
        raise ValueError(f"unknown conformal score {score!r}; {did_you_mean(score, SCORES)}")
    p = softmax(checked_logits(logits, ""), axis=1)
    if score == "lac":
        rest: Floats = 1 - p
        return rest
    order = np.argsort(-p, axis=1, kind="stable")
    sorted_p = np.take_along_axis(p, order, axis=1)
    # Tied classes all get the rank and the cumulative mass of the last of them.
    place = (sorted_p[:, None, :] >= p[:, :, None]).sum(2)
    mass: Floats = np.take_along_axis(np.cumsum(sorted_p, axis=1), place - 1, axis=1)
    if score == "raps":
        mass = mass + RANK_PENALTY * np.maximum(place - FREE_RANKS, 0)
    return mass


def threshold(
    scores: Floats, alpha: float, weights: Floats | None = None, own: float = 1.0
) -> float | None:
    """Return the smallest score at or below which 1 - alpha of the total weight lies.

    With equal weights this is the ceil((N + 1)(1 - alpha))-th smallest score.

    Args:
        scores: Scores (N,).
        alpha: Fraction of the weight that may lie above the threshold.
        weights: Weights (N,); 1 each by default.
        own: Weight of the new image, which counts as lying above all scores.

    Returns:
        The threshold, or None if there are too few scores.

    Examples:
        >>> [threshold(np.arange(1.0, n + 1), 0.1) for n in (8, 9, 19)]
        [None, 9.0, 18.0]
    """
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite to choose a threshold")
    weights = np.ones(len(scores)) if weights is None else weights
    order = np.argsort(scores, kind="stable")
    below = np.cumsum(weights[order])
    level = (1 - alpha) * (weights.sum() + own)
    place = int(np.searchsorted(below, level * (1 - ROUNDING)))
    return float(scores[order[place]]) if place < len(scores) else None


def set_scores(sets: NDArray[np.bool_], labels: ArrayLike) -> dict[str, Any]:
    """Evaluate prediction sets (N, C) against labels (N,).

    Returns:
        JSON values: coverage (fraction of images whose set contains the true class) overall and
        within each class (None for a class without images), the mean set size, and the fractions of
        empty and of single-class sets.
    """
    if sets.ndim != 2 or not len(sets):
        raise ValueError(f"sets have shape {sets.shape}; give (images, classes)")
    true = checked_labels(labels, sets.astype(np.float64))
    hit = sets[np.arange(len(true)), true]
    sizes = sets.sum(1)
    counts = np.bincount(true, minlength=sets.shape[1])
    hits = np.bincount(true, hit, minlength=sets.shape[1])
    return {
        "coverage": float(hit.mean()),
        "mean_size": float(sizes.mean()),
        "empty": float((sizes == 0).mean()),
        "single": float((sizes == 1).mean()),
        "class_coverage": [float(h / n) if n else None for h, n in zip(hits, counts, strict=True)],
    }


def _check(alpha: float, kind: str, priors: ArrayLike | None) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1")
    if kind not in KINDS:
        raise ValueError(f"unknown kind of threshold {kind!r}; {did_you_mean(kind, KINDS)}")
    if (priors is not None) != (kind == "label_shift"):
        raise ValueError(
            f"kind is {kind!r}; only 'label_shift' takes priors, and it requires priors"
        )
