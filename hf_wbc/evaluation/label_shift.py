"""Label shift: estimate the class priors of a target from unlabeled images, with intervals.

Label shift means that p(image | class) is the same for source and target, and only the class priors
differ. If the images also look different, the estimates are wrong. The intervals account only for
the number of images and do not show this, but `label_shift_ks` does: above its limit, trust neither
the priors nor the corrected predictions.

A class without source validation images is not identifiable: its prior is 0, it has no interval,
and the priors of the other classes are relative to the identifiable classes. Target images of such
a class are counted as whatever class they resemble.

The module also adapts logits to given priors, and measures the distance between two priors.
"""

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr, softmax

from hf_wbc.evaluation.calibration import (
    NEVER,
    Calibration,
    Floats,
    Ids,
    calibrate,
    checked_labels,
    checked_logits,
)
from hf_wbc.evaluation.prior_estimators import (
    bbse_priors,
    confusion_resamples,
    em_priors,
    likelihood_resamples,
    rlls_priors,
)
from hf_wbc.taxonomy import NAMES
from hf_wbc.text import did_you_mean


def correct_priors(logits: ArrayLike, calibration: Calibration, priors: ArrayLike) -> Floats:
    """Return calibrated logits (N, C) + log(priors).

    Their softmax is the posterior under the priors (C,).
    """
    scale, bias = prior_correction(calibration, priors)
    return checked_logits(logits, "", len(bias)) * scale + bias


def prior_correction(calibration: Calibration, priors: ArrayLike) -> tuple[float, Floats]:
    """Return the scale and the bias (C,) that `correct_priors` applies to logits.

    Both are finite even for a prior of 0. To correct a linear head permanently, use weight * scale
    as the new weight and bias * scale + this bias as the new bias.
    """
    shares = checked_priors(priors, len(calibration.bias))
    log = np.full(len(shares), NEVER)
    np.log(shares, out=log, where=shares > 0)
    return 1 / calibration.temperature, np.maximum(np.array(calibration.bias) + log, NEVER)


def total_variation(a: ArrayLike, b: ArrayLike) -> float:
    """Return the total variation distance of two priors (C,), in [0, 1].

    This is the fraction of images that would have to change class.

    Examples:
        >>> total_variation([0.5, 0.5], [0.75, 0.25])
        0.25
    """
    p, q = _pair(a, b)
    return float(np.abs(p - q).sum() / 2)


def jensen_shannon(a: ArrayLike, b: ArrayLike) -> float:
    """Return the Jensen-Shannon divergence of two priors (C,) in bits, in [0, 1].

    It is 0 for equal priors and 1 for priors without a common class.

    Examples:
        >>> jensen_shannon([1, 0], [0, 1])
        1.0
    """
    p, q = _pair(a, b)
    middle = (p + q) / 2
    return float((rel_entr(p, middle) + rel_entr(q, middle)).sum() / 2 / np.log(2))


def label_shift_ks(
    source: Floats, labels: Ids, target: Floats, priors: Floats
) -> tuple[float, float]:
    """Test whether the domains differ in more than their priors (Kolmogorov-Smirnov).

    Under label shift, the confidences of the source images, weighted to the target priors, have the
    same distribution as those of the target images. The statistic is the largest gap between the
    two cumulative distributions.

    Args:
        source: Source logits (N_s, K), corrected for the priors.
        labels: Class ids of the source images (N_s,); every class occurs.
        target: Target logits (N_t, K), corrected for the priors.
        priors: Class priors of the target (K,).

    Returns:
        The statistic, and the limit that chance alone exceeds in 5 % of the cases; both in [0, 1].
    """
    weights = (priors / np.bincount(labels, minlength=len(priors)))[labels]
    sides = [softmax(logits, axis=1).max(1) for logits in (source, target)]
    at = np.concatenate(sides)
    order = np.argsort(sides[0])
    below = np.append(0, np.cumsum(weights[order]))[sides[0][order].searchsorted(at, "right")]
    gap = below - np.sort(sides[1]).searchsorted(at, "right") / len(target)
    # Effective sample size: an unweighted sample of this size has the same variance.
    limit = 1.358 * np.sqrt((weights**2).sum() / weights.sum() ** 2 + 1 / len(target))
    return float(np.abs(gap).max()), float(min(limit, 1))


def checked_priors(priors: ArrayLike, num_classes: int) -> Floats:
    """Validate priors (C,) and return them as floats.

    Raises:
        ValueError: If the shape is wrong, a prior is negative or not finite, or the sum is not 1.
    """
    shares = np.asarray(priors, dtype=np.float64)
    if shares.shape != (num_classes,):
        raise ValueError(
            f"priors have shape {shares.shape}; give one for each of {num_classes} classes"
        )
    if not (np.isfinite(shares) & (shares >= 0)).all():
        raise ValueError(f"priors are {shares.tolist()}; each must be finite and not negative")
    if abs(shares.sum() - 1) > 1e-6:
        raise ValueError(f"priors sum to {shares.sum():g}; divide them by it")
    return shares


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    num = np.size(a)
    return checked_priors(a, num), checked_priors(b, num)


METHODS = ("bbse", "em", "rlls")
SCARCE = 10
"""Minimum number of source validation images of a class for valid intervals, except for BBSE. With
one or two images, nominal 95 % intervals of EM cover 30 to 50 % in simulations, and RLLS never
finds the class."""
DOUBTFUL = ("unidentifiable", "scarce")
SINGULAR = 1e16
"""Replaces an infinite condition number, which JSON cannot represent."""


@dataclass(frozen=True)
class PriorEstimate:
    """Estimated class priors of a target; the tuples have one entry per class (C,)."""

    method: str
    priors: tuple[float, ...]
    """Priors of the identifiable classes, with sum 1; 0 for the others."""
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    """Ends of the interval; None for a class that is not identifiable."""
    condition: float
    """Condition number of the confusion matrix: the factor by which it may amplify an error in the
    predicted class frequencies. Above a few tens, some classes are hardly distinguishable, and the
    split of their sum is a guess."""
    label_shift_ks: float
    """How far the target is from the source with these priors, in [0, 1] (`label_shift_ks`)."""
    label_shift_ks_limit: float
    """Value that chance alone exceeds in 5 % of the cases."""
    num_source: tuple[int, ...]
    """Number of source validation images of each class."""
    num_target: int
    level: float
    num_resamples: int
    seed: int
    calibration: Calibration
    """Calibration under equal priors, fitted on the source validation images."""

    @property
    def unidentifiable(self) -> tuple[int, ...]:
        """Ids of the classes without source validation images."""
        return tuple(i for i, num in enumerate(self.num_source) if not num)

    @property
    def scarce(self) -> tuple[int, ...]:
        """Ids of the classes with at least one but fewer than SCARCE source validation images."""
        return tuple(i for i, num in enumerate(self.num_source) if 0 < num < SCARCE)

    def correct(self, logits: ArrayLike) -> Floats:
        """Return logits (N, C), calibrated and corrected for these priors."""
        return correct_priors(logits, self.calibration, self.priors)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; with eleven classes, unidentifiable and scarce classes are names."""
        names = NAMES if len(self.priors) == len(NAMES) else range(len(self.priors))
        named = {kind: [names[i] for i in getattr(self, kind)] for kind in DOUBTFUL}
        return {**asdict(self), **named}


def estimate_priors(
    method: str,
    source_logits: ArrayLike,
    source_labels: ArrayLike,
    target_logits: ArrayLike,
    *,
    num_resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> PriorEstimate:
    """Estimate the class priors of a target from its unlabeled images.

    Args:
        method: One of METHODS.
        source_logits: Logits (N_s, C) of source images that the classifier was not trained on.
        source_labels: Class ids of the source images (N_s,).
        target_logits: Logits of the target images (N_t, C).
        num_resamples: Number of bootstrap resamples for the intervals.
        level: Nominal coverage of the intervals, in (0, 1).
        seed: Seed of the random numbers.

    Raises:
        ValueError: If the method is unknown, the arrays do not match, or an option is out of range.

    Examples:
        >>> a, b = [2.0, 0.0], [0.0, 2.0]
        >>> found = estimate_priors("bbse", [a, b] * 500, [0, 1] * 500, [a] * 900 + [b] * 100)
        >>> [round(prior, 3) for prior in found.priors]
        [0.9, 0.1]
    """
    return resampled_priors(
        method,
        source_logits,
        source_labels,
        target_logits,
        num_resamples=num_resamples,
        level=level,
        seed=seed,
    )[0]


def resampled_priors(
    method: str,
    source_logits: ArrayLike,
    source_labels: ArrayLike,
    target_logits: ArrayLike,
    *,
    num_resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[PriorEstimate, Floats]:
    """Estimate priors as `estimate_priors` does, and return the resamples (R, C) too.

    The resamples give an interval for any sum of classes.
    """
    _check_options(method, num_resamples, level)
    source = checked_logits(source_logits, "source ")
    labels = checked_labels(source_labels, source)
    target = checked_logits(target_logits, "target ", source.shape[1])
    # Sort the images, so that the resamples do not depend on their order.
    order = np.lexsort((*source.T, labels))
    source, labels, target = source[order], labels[order], target[np.lexsort(target.T)]
    calibration = calibrate(source, labels)
    seen = calibration.seen
    found = _Evidence(
        calibration=calibration.restricted(),
        source=source[:, seen],
        labels=np.cumsum(seen)[labels] - 1,
        target=target[:, seen],
    )
    generator = np.random.default_rng(seed)
    solve = _by_likelihood if method == "em" else partial(_by_confusion, method)
    priors, resamples = solve(found, num_resamples, generator)
    gap, limit = label_shift_ks(
        correct_priors(found.source, found.calibration, priors),
        found.labels,
        correct_priors(found.target, found.calibration, priors),
        priors,
    )
    low, high = np.quantile(resamples, ((1 - level) / 2, (1 + level) / 2), axis=0)
    estimate = PriorEstimate(
        method=method,
        priors=_filled(priors, seen, 0.0),
        low=_filled(np.minimum(low, priors), seen, None),
        high=_filled(np.maximum(high, priors), seen, None),
        condition=float(min(np.linalg.cond(_shares(found.counts())), SINGULAR)),
        label_shift_ks=gap,
        label_shift_ks_limit=limit,
        num_source=tuple(np.bincount(labels, minlength=len(seen)).tolist()),
        num_target=len(target),
        level=level,
        num_resamples=num_resamples,
        seed=seed,
        calibration=calibration,
    )
    whole = np.zeros((num_resamples, len(seen)))
    whole[:, seen] = resamples
    return estimate, whole


bbse = partial(estimate_priors, "bbse")
"""Black-box shift estimation (`estimate_priors`); uses predicted classes only."""
em = partial(estimate_priors, "em")
"""Maximum likelihood by EM (`estimate_priors`); uses calibrated probabilities, and has the lowest
variance where they are right."""
rlls = partial(estimate_priors, "rlls")
"""Regularized learning under label shift (`estimate_priors`): BBSE that shrinks towards the source
priors where data are scarce."""


@dataclass(frozen=True)
class _Evidence:
    """Logits and labels restricted to the K identifiable classes."""

    calibration: Calibration
    source: Floats
    labels: Ids
    target: Floats

    def counts(self) -> Floats:
        """Return the number of source images (K, K): prediction under equal priors, label."""
        k = self.source.shape[1]
        guesses = self.calibration.apply(self.source).argmax(1)
        return np.bincount(guesses * k + self.labels, minlength=k * k).reshape(k, k).astype(float)


def _by_confusion(
    method: str, found: _Evidence, num: int, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return priors (K,) from the predicted class frequencies, and their resamples (num, K)."""
    counts = found.counts()
    share = counts.sum(0) / counts.sum()
    solve = partial(bbse_priors, source=share)
    if method == "rlls":
        solve = partial(rlls_priors, source=share, num_source=len(found.labels))
    guesses = found.calibration.apply(found.target).argmax(1)
    predicted = np.bincount(guesses, minlength=len(share)).astype(float)
    priors = solve(_shares(counts), _shares(predicted))
    return priors, confusion_resamples(solve, counts, predicted, num, generator)


def _by_likelihood(
    found: _Evidence, num: int, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return the maximum likelihood priors (K,), and their resamples (num, K)."""
    priors = em_priors(softmax(found.calibration.apply(found.target), axis=1))[0]
    return priors, likelihood_resamples(
        found.calibration, found.source, found.labels, found.target, num, generator
    )


def _shares(counts: Floats) -> Floats:
    """Normalize counts (K, ...) to sum 1 along the first axis."""
    shares: Floats = counts / counts.sum(0)
    return shares


def _filled(values: Floats, seen: NDArray[np.bool_], rest: Any) -> tuple[Any, ...]:
    """Expand values (K,) of the seen classes to all classes (C,), with `rest` for the others."""
    of_class = iter(values.tolist())
    return tuple(next(of_class) if known else rest for known in seen.tolist())


def _check_options(method: str, num_resamples: int, level: float) -> None:
    if method not in METHODS:
        raise ValueError(f"unknown prior estimator {method!r}; {did_you_mean(method, METHODS)}")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1")
    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}; it must be at least 1")
