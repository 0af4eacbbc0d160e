"""Percentile bootstrap intervals: how much the scores would vary over other images of this kind.

Drawing N images with replacement is the same as drawing the cells of the confusion matrix from a
multinomial distribution with the observed frequencies. The cost of a resample therefore depends on
the number of cells and not on N. Where groups (patients, slides) are known, whole groups are drawn,
because cells of one patient are correlated: each resample is a weighted sum of the groups'
confusion matrices.

A resample may lack a rare class; it is then scored over the classes that it has. `lacking_a_class`
is the fraction of such resamples: if it is large, do not rely on the interval.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .metrics import (
    ConfusionCounts,
    Counts,
    accuracy,
    balanced_accuracy,
    cohen_kappa,
    confusion_counts,
    macro_f1,
    matthews_correlation,
)

__all__ = ["bootstrap_intervals", "bootstrap_scores", "draw_groups", "draw_images"]

SCORES = {
    "macro_f1": macro_f1,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "mcc": matthews_correlation,
    "kappa": cohen_kappa,
}


def bootstrap_intervals(
    labels: ArrayLike,
    predictions: ArrayLike,
    *,
    merge: Sequence[str] = (),
    classes: Sequence[str] = (),
    groups: ArrayLike | None = None,
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute bootstrap intervals of N predictions.

    Args:
        labels: True class ids (N,); -1 for unlabeled images.
        predictions: Predicted class ids (N,).
        merge: Classes to score as one, as FROM=INTO pairs.
        classes: Names of the classes to score; empty: all that occur.
        groups: Patient or slide of each image (N,); whole groups are then drawn.
        num_resamples: Number of bootstrap resamples.
        level: Nominal coverage of the intervals, in (0, 1).
        seed: Seed of the random numbers.

    Returns:
        See `bootstrap_scores`.

    Examples:
        >>> bootstrap_intervals([0, 0, 1, 1], [0, 0, 1, 1])["macro_f1"]
        [1.0, 1.0]
    """
    counted = confusion_counts(labels, predictions, merge=merge, classes=classes, groups=groups)
    return bootstrap_scores(counted, num_resamples=num_resamples, level=level, seed=seed)


def bootstrap_scores(
    counted: ConfusionCounts, *, num_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Any]:
    """Compute [low, high] of each of SCORES as JSON values.

    Raises:
        ValueError: If the level is outside (0, 1), there is no resample, or only a single group.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1")
    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}; it must be at least 1")
    if counted.grouped and len(counted.confusions) < 2:
        raise ValueError(
            "all scored images belong to one group; omit the groups to resample images"
        )
    draw = draw_groups if counted.grouped else draw_images
    resamples = draw(counted.confusions, num_resamples, np.random.default_rng(seed))
    tails = ((1 - level) / 2, (1 + level) / 2)
    num_present = (resamples.sum(-1) > 0).sum(-1)
    return {
        **{name: np.quantile(of(resamples), tails).tolist() for name, of in SCORES.items()},
        "level": level,
        "num_resamples": num_resamples,
        "unit": "group" if counted.grouped else "image",
        "seed": seed,
        "lacking_a_class": float((num_present < (counted.confusion.sum(-1) > 0).sum()).mean()),
    }


def draw_images(confusions: Counts, num: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw `num` resamples (num, K, K) of the images counted in `confusions` (1, K, K)."""
    counts = confusions.sum(0).ravel()
    filled = np.flatnonzero(counts)
    resamples = np.zeros((num, len(counts)), np.int64)
    total = counts.sum()
    resamples[:, filled] = generator.multinomial(total, counts[filled] / total, size=num)
    return resamples.reshape(num, *confusions.shape[1:])


def draw_groups(confusions: Counts, num: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw `num` resamples (num, K, K) of the G groups counted in `confusions` (G, K, K)."""
    num_groups, *square = confusions.shape
    times = generator.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=num)
    # Floats represent these counts exactly, and BLAS multiplies them ten times faster.
    resamples = times.astype(float) @ confusions.reshape(num_groups, -1).astype(float)
    drawn: NDArray[np.int64] = resamples.reshape(num, *square).astype(np.int64)
    return drawn
