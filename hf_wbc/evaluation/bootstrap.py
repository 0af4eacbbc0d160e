"""Percentile bootstrap: how far the scores would move with other images of the same kind.

Drawing N images with replacement and counting them is drawing the cells of the confusion matrix
from a multinomial distribution with the observed cells as probabilities, so a resample costs as
many binomial draws as there are cells, whatever N is. Where groups (patients, slides) are known,
whole groups are drawn, because cells of one patient are alike: each resample weights the groups'
own confusion matrices.

A rare class may be absent from a resample, which is then scored over the classes that it has, as
any other set of images; `lacking_a_class` says how often, and with it how far the interval can be
trusted.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_wbc.evaluation.metrics import (
    ConfusionCounts,
    Counts,
    accuracy,
    balanced_accuracy,
    confusion_counts,
    macro_f1,
)

SCORES = {"macro_f1": macro_f1, "accuracy": accuracy, "balanced_accuracy": balanced_accuracy}


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
    """`bootstrap` of N predictions; labels, predictions and groups (N,) as for `tally`.

    >>> intervals([0, 0, 1, 1], [0, 0, 1, 1])["macro_f1"]
    [1.0, 1.0]
    """
    counted = confusion_counts(labels, predictions, merge=merge, classes=classes, groups=groups)
    return bootstrap_scores(counted, num_resamples=num_resamples, level=level, seed=seed)


def bootstrap_scores(
    counted: ConfusionCounts, *, num_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Any]:
    """[low, high] of macro-F1, accuracy and balanced accuracy, as values for JSON.

    ValueError for a level outside (0, 1), no resamples, and groups of which there is one.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1")
    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}; it must be at least 1")
    if counted.grouped and len(counted.confusions) < 2:
        raise ValueError("all scored images are of one group; leave the groups out")
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
    """Confusions (num, K, K) of as many images, drawn with replacement from (1, K, K) counts."""
    counts = confusions.sum(0).ravel()
    filled = np.flatnonzero(counts)
    resamples = np.zeros((num, len(counts)), np.int64)
    total = counts.sum()
    resamples[:, filled] = generator.multinomial(total, counts[filled] / total, size=num)
    return resamples.reshape(num, *confusions.shape[1:])


def draw_groups(confusions: Counts, num: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Confusions (num, K, K) of as many groups, drawn with replacement from (G, K, K) counts."""
    num_groups, *square = confusions.shape
    times = generator.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=num)
    # As floats, which hold these counts exactly and which BLAS multiplies ten times faster.
    resamples = times.astype(float) @ confusions.reshape(num_groups, -1).astype(float)
    drawn: NDArray[np.int64] = resamples.reshape(num, *square).astype(np.int64)
    return drawn
