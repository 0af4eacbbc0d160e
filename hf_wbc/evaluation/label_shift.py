"""A target's class priors from unlabelled images, with an interval.

Valid under label shift: p(image | class) is that of the source, only the shares of the classes
differ. Where the images themselves look different too, the estimates are wrong, and the interval,
which knows nothing but the number of images, does not say so; `misfit` does: above its limit,
neither priors nor corrected predictions are to be trusted.

A class without a source-validation image cannot be told from any other: its prior is 0, it has no
interval, and the others are shares of the identifiable classes. Target images of such a class are
counted as whatever they resemble.

Class priors: predictions made for them, how far two are apart, and whether only they differ."""

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
    """Calibrated logits (N, C) + log(priors); their softmax is the posterior under the priors."""
    scale, bias = prior_correction(calibration, priors)
    return checked_logits(logits, "", len(bias)) * scale + bias


def prior_correction(calibration: Calibration, priors: ArrayLike) -> tuple[float, Floats]:
    """The scale and the bias (C,) by which `correct` moves logits; finite for a prior of 0 too.

    A linear head is corrected for good by weight * scale and bias * scale + this bias.
    """
    shares = checked_priors(priors, len(calibration.bias))
    log = np.full(len(shares), NEVER)
    np.log(shares, out=log, where=shares > 0)
    return 1 / calibration.temperature, np.maximum(np.array(calibration.bias) + log, NEVER)


def total_variation(a: ArrayLike, b: ArrayLike) -> float:
    """The share of the images that would have to change class, in [0, 1]; priors (C,).

    >>> total_variation([0.5, 0.5], [0.75, 0.25])
    0.25
    """
    p, q = _pair(a, b)
    return float(np.abs(p - q).sum() / 2)


def jensen_shannon(a: ArrayLike, b: ArrayLike) -> float:
    """Jensen-Shannon divergence of priors (C,), in bits: 0 if equal, 1 if no class is shared.

    >>> jensen_shannon([1, 0], [0, 1])
    1.0
    """
    p, q = _pair(a, b)
    middle = (p + q) / 2
    return float((rel_entr(p, middle) + rel_entr(q, middle)).sum() / 2 / np.log(2))


def label_shift_ks(
    source: Floats, labels: Ids, target: Floats, priors: Floats
) -> tuple[float, float]:
    """How far the target is from the source with other priors, and what chance explains, in [0, 1].

    Under label shift, source images weighted to the target's priors (K,) are spread over the
    confidences as the target's are; the misfit is the largest gap between the two cumulative
    shares (Kolmogorov-Smirnov), and chance alone exceeds the limit in 5 % of the cases. Logits
    (N_s, K) and (N_t, K) corrected for the priors, labels (N_s,), none of them without an image.
    """
    weights = (priors / np.bincount(labels, minlength=len(priors)))[labels]
    sides = [softmax(logits, axis=1).max(1) for logits in (source, target)]
    at = np.concatenate(sides)
    order = np.argsort(sides[0])
    below = np.append(0, np.cumsum(weights[order]))[sides[0][order].searchsorted(at, "right")]
    gap = below - np.sort(sides[1]).searchsorted(at, "right") / len(target)
    # A weighted sample is worth as many images as one of equal weights with its variance.
    limit = 1.358 * np.sqrt((weights**2).sum() / weights.sum() ** 2 + 1 / len(target))
    return float(np.abs(gap).max()), float(min(limit, 1))


def checked_priors(priors: ArrayLike, num_classes: int) -> Floats:
    """Priors (C,) as floats; ValueError unless they are that many shares with sum 1."""
    shares = np.asarray(priors, dtype=np.float64)
    if shares.shape != (num_classes,):
        raise ValueError(f"priors have shape {shares.shape}; give one for each of {num_classes}")
    if not (np.isfinite(shares) & (shares >= 0)).all():
        raise ValueError(f"priors are {shares.tolist()}; each must be 0 or more, and finite")
    if abs(shares.sum() - 1) > 1e-6:
        raise ValueError(f"priors sum to {shares.sum():g}; divide them by it")
    return shares


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    num = np.size(a)
    return checked_priors(a, num), checked_priors(b, num)


METHODS = ("bbse", "em", "rlls")
SCARCE = 10
"""Source-validation images that a class needs for the intervals to hold, except BBSE's: with one
or two, the nominal 95 % of EM were 30 to 50 % in simulations, and RLLS finds the class nowhere."""
DOUBTFUL = ("unidentifiable", "scarce")
SINGULAR = 1e16
"""Stands for an infinite condition, which is not JSON."""


@dataclass(frozen=True)
class PriorEstimate:
    """Class priors of a target; the tuples have one entry per class (C,)."""

    method: str
    priors: tuple[float, ...]
    """Shares of the identifiable classes, with sum 1; 0 for the others."""
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    """The interval; None for a class that is not identifiable."""
    condition: float
    """Of the confusion: by how much it may enlarge an error in the shares of the predictions. From
    some tens on, classes are hardly told apart, and how they divide their sum is a guess."""
    misfit: float
    """How far the target is from being the source with these priors, in [0, 1] (`misfit`)."""
    misfit_limit: float
    """What chance alone exceeds in 5 % of the cases."""
    num_source: tuple[int, ...]
    """Source-validation images of each class."""
    num_target: int
    level: float
    num_resamples: int
    seed: int
    calibration: Calibration
    """Under equal priors; it was fitted on the source-validation images."""

    @property
    def unidentifiable(self) -> tuple[int, ...]:
        """The ids of the classes without a source-validation image."""
        return tuple(i for i, num in enumerate(self.num_source) if not num)

    @property
    def scarce(self) -> tuple[int, ...]:
        """The ids of the classes with some, but fewer than SCARCE source-validation images."""
        return tuple(i for i, num in enumerate(self.num_source) if 0 < num < SCARCE)

    def correct(self, logits: ArrayLike) -> Floats:
        """Logits (N, C), calibrated and corrected for these priors."""
        return correct_priors(logits, self.calibration, self.priors)

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON, with the unidentifiable and scarce by name where classes are eleven."""
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
    """Priors of a target from its logits (N_t, C) and held-out source logits (N_s, C) and labels.

    The source images must be none that the classifier learned from. ValueError for an unknown
    method, arrays that do not fit each other, and options out of range.

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
    """As `estimate_priors`, with the resamples (R, C) from which any sum gets its interval."""
    _check_options(method, num_resamples, level)
    source = checked_logits(source_logits, "source ")
    labels = checked_labels(source_labels, source)
    target = checked_logits(target_logits, "target ", source.shape[1])
    # In an order of their own, so that the resamples do not depend on the order of the images.
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
        misfit=gap,
        misfit_limit=limit,
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
"""Black-box shift estimation, from predictions alone."""
em = partial(estimate_priors, "em")
"""Maximum likelihood, from calibrated probabilities; the sharpest where they are right."""
rlls = partial(estimate_priors, "rlls")
"""Regularised learning under label shift: BBSE that stays near the source where little is known."""


@dataclass(frozen=True)
class _Evidence:
    """Logits and labels of the K identifiable classes alone."""

    calibration: Calibration
    source: Floats
    labels: Ids
    target: Floats

    def counts(self) -> Floats:
        """Source images (K, K) by prediction under equal priors, and label."""
        k = self.source.shape[1]
        guesses = self.calibration.apply(self.source).argmax(1)
        return np.bincount(guesses * k + self.labels, minlength=k * k).reshape(k, k).astype(float)


def _by_confusion(
    method: str, found: _Evidence, num: int, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Priors (K,) from how often each class is predicted, and their resamples (num, K)."""
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
    """Priors (K,) under which the target's logits are likeliest, and their resamples (num, K)."""
    priors = em_priors(softmax(found.calibration.apply(found.target), axis=1))[0]
    return priors, likelihood_resamples(
        found.calibration, found.source, found.labels, found.target, num, generator
    )


def _shares(counts: Floats) -> Floats:
    """Counts (K, ...) over their sum along the first axis."""
    shares: Floats = counts / counts.sum(0)
    return shares


def _filled(values: Floats, seen: NDArray[np.bool_], rest: Any) -> tuple[Any, ...]:
    """Values (K,) of the classes that were seen among all (C,)."""
    of_class = iter(values.tolist())
    return tuple(next(of_class) if known else rest for known in seen.tolist())


def _check_options(method: str, num_resamples: int, level: float) -> None:
    if method not in METHODS:
        raise ValueError(f"unknown prior estimator {method!r}; {did_you_mean(method, METHODS)}")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1")
    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}; it must be at least 1")
