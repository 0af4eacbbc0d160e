"""Conformal sets: for each image the classes that may be it, of which the true one is seldom none.

Split conformal prediction (Vovk et al. 2005; Angelopoulos & Bates 2021, arXiv:2107.07511): a class
stays in the set unless it fits worse than all but a share alpha of held-out images fit their own
label. The true class is then in the set with probability 1 - alpha or more, whatever the
classifier, **for images that are exchangeable with the held-out ones**. Another laboratory's
images are not, and nothing is promised for them.

Three kinds of threshold, each one number a class:

- `marginal`: one for all classes. Right on average; a rare class may pay for the others.
- `class`: of the class's own images (Mondrian; Vovk 2012), so 1 - alpha holds within each class,
  and thereby for any class priors. Below 1 / alpha - 1 images a class cannot be left out.
- `label_shift`: held-out images weigh as much as a target's priors ask (Podkopaev & Ramdas 2021,
  arXiv:2103.03323, eq. 10). Right on the target's average where only its priors differ.

Scores of sets: `lac` 1 - p, the smallest sets on average (Sadinle et al. 2019, arXiv:1609.00451);
`aps` the mass of the classes that are as likely or likelier (Romano et al. 2020, arXiv:2006.02544),
without their random tie-break, so that an image has one set; `raps` that and a penalty on ranks
(Angelopoulos et al. 2021, arXiv:2009.14193).
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
"""Of RAPS, for each rank beyond the free ones."""
FREE_RANKS = 2
ROUNDING = 1e-12
"""Relative: what sums of weights may lack of a level that they reach."""


@dataclass(frozen=True)
class ConformalSets:
    """Which classes stay in the set of an image."""

    score: str
    kind: str
    alpha: float
    """The share of exchangeable images whose class may be missing."""
    thresholds: tuple[float | None, ...]
    """The largest score that stays, for each class (C,); None leaves the class in every set."""

    def sets(self, logits: ArrayLike) -> NDArray[np.bool_]:
        """Whether each class is in the set of each image (N, C); logits (N, C). May be empty.

        A class that the classifier was never taught, which is one of logit NEVER, is in no set.
        """
        scores = nonconformity(logits, self.score)
        limits = np.array([np.inf if limit is None else limit for limit in self.thresholds])
        if scores.shape[1] != len(limits):
            raise ValueError(f"logits are of {scores.shape[1]} classes, thresholds {len(limits)}")
        within: NDArray[np.bool_] = (scores <= limits) & (np.asarray(logits) > NEVER / 2)
        return within

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "thresholds": list(self.thresholds)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
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
    """Thresholds from held-out logits (N, C) and labels (N,).

    `label_shift` needs the target's priors (C,), and leaves out no class that has no held-out
    image, as nothing says how it would score. ValueError for what is no logits, labels or level.

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
        asked = checked_priors(priors, num_classes)
        if asked[counts == 0].any():
            raise ValueError(
                "priors of the classes without a held-out image sum to "
                f"{asked[counts == 0].sum():g}; it must be 0, as of what `estimate_priors` gives"
            )
        weights = asked / np.maximum(counts, 1) * len(true)
        limits = [
            threshold(own, alpha, weights[true], weights[c]) if counts[c] else None
            for c in range(num_classes)
        ]
    return ConformalSets(score, kind, alpha, tuple(limits))


def nonconformity(logits: ArrayLike, score: str = "lac") -> Floats:
    """How badly each class fits each image (N, C); classes of equal logits score alike."""
    if score not in SCORES:
        raise ValueError(f"unknown conformal score {score!r}; {did_you_mean(score, SCORES)}")
    p = softmax(checked_logits(logits, ""), axis=1)
    if score == "lac":
        rest: Floats = 1 - p
        return rest
    order = np.argsort(-p, axis=1, kind="stable")
    sorted_p = np.take_along_axis(p, order, axis=1)
    # Of classes that tie each counts all of them: the last one's place and mass.
    place = (sorted_p[:, None, :] >= p[:, :, None]).sum(2)
    mass: Floats = np.take_along_axis(np.cumsum(sorted_p, axis=1), place - 1, axis=1)
    if score == "raps":
        mass = mass + RANK_PENALTY * np.maximum(place - FREE_RANKS, 0)
    return mass


def threshold(
    scores: Floats, alpha: float, weights: Floats | None = None, own: float = 1.0
) -> float | None:
    """The smallest score up to which lies 1 - alpha of the weight, a new image's `own` beyond all.

    Scores (N,), weights (N,) of 1 each unless given. Of equal weights it is the
    ceil((N + 1)(1 - alpha))-th smallest; None where there are too few for any to do.

    >>> [threshold(np.arange(1.0, n + 1), 0.1) for n in (8, 9, 19)]
    [None, 9.0, 18.0]
    """
    if not np.isfinite(scores).all():
        raise ValueError("scores are not all finite; a threshold cannot be found among them")
    weights = np.ones(len(scores)) if weights is None else weights
    order = np.argsort(scores, kind="stable")
    below = np.cumsum(weights[order])
    level = (1 - alpha) * (weights.sum() + own)
    place = int(np.searchsorted(below, level * (1 - ROUNDING)))
    return float(scores[order[place]]) if place < len(scores) else None


def set_scores(sets: NDArray[np.bool_], labels: ArrayLike) -> dict[str, Any]:
    """What sets (N, C) are worth for labels (N,), as values for JSON.

    Coverage (the share of the images whose class is in the set) over all and within each class
    (None for one without an image), the mean number of classes, the shares with none and with one.
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
        raise ValueError(f"kind is {kind!r}; priors go with 'label_shift', and it needs them")
