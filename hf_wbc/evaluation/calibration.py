"""Calibration of logits: softmax gives probabilities under equal class priors.

Temperature scaling (Guo et al. 2017, arXiv:1706.04599) divides the logits by one number fitted on
held-out source images. Bias-corrected temperature scaling (BCTS; Alexandari et al. 2020,
arXiv:1901.06852) adds one bias per class; without it, estimates of the target priors are wrong.
Every class has the same weight in the fit, whatever its number of images. The calibrated posterior
therefore assumes a uniform prior over the source classes, and adding log(prior) gives the posterior
under any other prior.

A class without images cannot be calibrated and gets zero probability.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

NEVER = -1e4
"""Logit of an impossible class. It is finite because JSON has no infinity and infinite logits lead
to NaN."""

PRIOR_DEVIATION = 3.0
"""Prior standard deviation of a bias (a factor of 20 in odds); it stabilizes classes with few
images."""
PRIOR_SLOPE = 100.0
"""Prior standard deviation of the slope on logits of unit spread; it bounds the confidence when the
classes are perfectly separable."""


@dataclass(frozen=True)
class Calibration:
    """Affine map of the logits: logits / temperature + bias.

    The softmax of the result is the posterior under equal class priors.
    """

    temperature: float
    bias: tuple[float, ...]
    """One bias per class (C,), with mean 0 over the seen classes; NEVER for the others."""

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Mask of the classes (C,) that had an image in the fit."""
        seen: NDArray[np.bool_] = np.array(self.bias) > NEVER / 2
        return seen

    def apply(self, logits: ArrayLike) -> Floats:
        """Return the calibrated logits (N, C)."""
        values = checked_logits(logits, "", len(self.bias))
        calibrated: Floats = values / self.temperature + np.array(self.bias)
        return calibrated

    def restricted(self) -> "Calibration":
        """Return the same calibration for logits of the seen classes only."""
        bias = np.array(self.bias)[self.seen]
        return Calibration(self.temperature, tuple(bias.tolist()))


def calibrate(logits: ArrayLike, labels: ArrayLike, *, biased: bool = True) -> Calibration:
    """Fit BCTS on held-out logits.

    The fit is a ridge regression of one slope and C biases, hence convex. The ridge is a weak
    prior: with a hundred images of a class its effect is negligible.

    Args:
        logits: Held-out logits (N, C).
        labels: Class ids (N,).
        biased: Fit one bias per class; False fits the temperature only.

    Examples:
        >>> calibration = calibrate([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]] * 40, [0, 1, 0] * 40)
        >>> calibration.apply([[0.0, 0.0]]).shape
        (1, 2)
    """
    values = checked_logits(logits, "source ")
    true = checked_labels(labels, values)
    seen, place, counts = np.unique(true, return_inverse=True, return_counts=True)
    if len(seen) == 1:
        return _calibration(1.0, np.zeros(1), seen, values.shape[1])
    scaled, spread = standardized(values[:, seen])
    weights = class_balanced_weights(place)
    ridge = prior_penalty(counts)

    def loss(theta: Floats) -> tuple[float, Floats]:
        logp = log_softmax(theta[0] * scaled + theta[1:], axis=1)
        rest = np.exp(logp)
        rest[np.arange(len(place)), place] -= 1
        rest *= weights[:, None]
        slope, biases = (rest * scaled).sum(), rest.sum(0) * biased
        nll = -(weights * logp[np.arange(len(place)), place]).sum()
        return nll + (ridge * theta**2).sum() / 2, np.append(slope, biases) + ridge * theta

    fit = minimize(
        loss,
        np.append(1.0, np.zeros(len(seen))),
        jac=True,
        method="L-BFGS-B",
        bounds=[(1e-3, None)] + [(None, None)] * len(seen),
        options={"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-9},
    )
    return _calibration(spread / fit.x[0], fit.x[1:], seen, values.shape[1])


def expected_calibration_error(
    logits: ArrayLike, labels: ArrayLike, *, num_bins: int = 15
) -> float:
    """Return the mean gap between confidence and accuracy, in [0, 1]; lower is better.

    Equal-width bins of confidence, as in Guo et al. 2017.

    Args:
        logits: Logits (N, C).
        labels: Class ids (N,).
        num_bins: Number of bins of confidence.
    """
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}; it must be at least 1")
    values = checked_logits(logits, "")
    right = values.argmax(1) == checked_labels(labels, values)
    confidence = softmax(values, axis=1).max(1)
    place = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    gaps = np.bincount(place, confidence - right, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(values))


def negative_log_likelihood(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean -log p(label) in nats for logits (N, C); lower is better."""
    values = checked_logits(logits, "")
    true = checked_labels(labels, values)
    return float(-log_softmax(values, axis=1)[np.arange(len(true)), true].mean())


def class_balanced_weights(place: Ids) -> Floats:
    """Return weights (N,) that sum to 1 and give each class in `place` (N,) the same total."""
    counts = np.bincount(place)
    return 1 / (counts[place] * np.count_nonzero(counts))


def prior_penalty(counts: Ids) -> Floats:
    """Return the ridge on slope and biases (1 + K,) for the number of images of each class (K,).

    The loss gives a class of n images the weight 1 / K, so each of its images has weight 1 / (n K).
    A Gaussian prior, which adds to the likelihood of single images, is scaled in the same way.
    """
    biases = 1 / (len(counts) * counts * PRIOR_DEVIATION**2)
    return np.append(1 / (counts.sum() * PRIOR_SLOPE**2), biases)


def standardized(logits: Floats) -> tuple[Floats, float]:
    """Center the logits (N, K) on their row means and scale them to unit spread.

    Returns:
        The scaled logits (N, K), and the spread (1 where it is 0).
    """
    centered = logits - logits.mean(1, keepdims=True)
    spread = float(np.sqrt((centered**2).mean())) or 1.0
    return centered / spread, spread


def checked_logits(logits: ArrayLike, what: str, num_classes: int | None = None) -> Floats:
    """Validate logits (N, C) and return them as floats.

    Args:
        logits: Array to validate.
        what: Prefix for error messages, such as "source ".
        num_classes: Required number of classes.

    Raises:
        ValueError: If the shape or the number of classes is wrong, or a value is not finite.
    """
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(f"{what}logits have shape {values.shape}; give (images, classes)")
    if not len(values):
        raise ValueError(f"no {what}logits; there must be at least one image")
    if num_classes not in (None, values.shape[1]):
        raise ValueError(f"{what}logits have {values.shape[1]} classes instead of {num_classes}")
    finite = np.isfinite(values).all(1)
    if not finite.all():
        raise ValueError(f"{what}logits in row {int(np.argmin(finite))} are not finite")
    return values


def checked_labels(labels: ArrayLike, logits: Floats) -> Ids:
    """Validate the labels (N,) of logits (N, C) and return them as int64.

    Raises:
        ValueError: If the shapes differ or a label is not a class id of the logits.
    """
    ids = np.asarray(labels)
    if ids.shape != logits.shape[:1]:
        raise ValueError(
            f"labels have shape {ids.shape}, logits {logits.shape}; give one label for every image"
        )
    if ids.dtype.kind not in "iuf":
        raise ValueError(f"labels are {ids.dtype}; give class ids, not names or masks")
    valid = (ids >= 0) & (ids < logits.shape[1]) & (ids == np.floor(ids))
    if not valid.all():
        row = int(np.argmin(valid))
        raise ValueError(
            f"label {ids[row]:g} in row {row} is not a class of the logits; labels are whole "
            f"numbers from 0 to {logits.shape[1] - 1}, and unlabeled images must be left out"
        )
    return ids.astype(np.int64)


def _calibration(temperature: float, bias: Floats, seen: Ids, num: int) -> Calibration:
    filled = np.full(num, NEVER)
    filled[seen] = bias - bias.mean()
    return Calibration(float(temperature), tuple(filled.tolist()))
