"""Paired bootstrap: would the one method still be ahead of the other on other images of the kind?

All models that were scored on the same images are scored again on the same draws of them, with
replacement: whole groups (patients, slides) where they are known. What an easy or a hard draw does
to both cancels in their difference (Koehn 2004, "Statistical significance tests for machine
translation evaluation"). Seeds are averaged within each draw.

p and interval are those of a normal distribution with the bootstrap's standard error: counting
draws could not go below 1 / draws, which a correction for hundreds of pairs needs. Images are
drawn, trainings are not: a difference that is real here holds for these weights.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_wbc.evaluation.metrics import merged
from hf_wbc.study.holm import holm
from hf_wbc.taxonomy import NAMES, UNLABELLED

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
Z = 1.959963984540054
"""Of the normal distribution, two-sided, for 95 %."""
_CELLS_AT_ONCE = 2**18


@dataclass(frozen=True)
class Difference:
    """Macro-F1 of one of a table's entries minus that of another."""

    one: int
    other: int
    """Both by their place in the table."""
    value: float
    low: float
    """End of the 95 % interval."""
    high: float
    p: float
    """Two-sided, of no difference."""
    p_holm: float
    """The same, corrected for all differences that were asked for (Holm 1979)."""

    @property
    def is_real(self) -> bool:
        """Whether it survives the correction at a level of 0.05."""
        return self.p_holm < 0.05


@dataclass(frozen=True)
class Scoring:
    """The scored images of a sheet: what is right, and how they belong together."""

    labels: Ids
    """Class ids (N,)."""
    merge: tuple[str, ...]
    classes: tuple[str, ...]
    groups: NDArray[np.str_] | None = None
    """Of each image (N,), where all are known."""


def resampled_macro_f1(
    scoring: Scoring, predictions: Sequence[Ids], num_resamples: int = 2000, seed: int = 0
) -> tuple[Floats, Floats]:
    """Macro-F1 of M models' predictions (N,): (M,) as observed, and (R, M) on draws of the images.

    All models meet the same draws. One is scored over the classes that it has, as any other set of
    images is.
    """
    into = merged(scoring.merge)
    true = np.where(scoring.labels == UNLABELLED, UNLABELLED, into[scoring.labels])
    kept = true != UNLABELLED
    if scoring.classes:
        kept &= np.isin(true, [NAMES.index(name) for name in scoring.classes])
    true, present = true[kept], np.unique(true[kept])
    is_true = true[:, None] == present
    called = [into[each[kept]][:, None] == present for each in predictions]
    columns = [is_true, *(part for each in called for part in (each, each & is_true))]
    counted = np.concatenate(columns, 1).astype(np.float32)
    if scoring.groups is not None:
        places = np.unique(scoring.groups[kept], return_inverse=True)[1]
        summed = np.zeros((places.max() + 1, counted.shape[1]), np.float32)
        np.add.at(summed, places, counted)
        counted = summed
    total = counted.sum(0, dtype=np.float64)[None]
    found = [
        _macro_f1((times @ counted).astype(np.float64), len(present))
        for times in _draws(len(counted), num_resamples, max(counted.shape), seed)
    ]
    return _macro_f1(total, len(present))[0], np.concatenate(found)


def differences(
    resampled: Floats, observed: Floats, pairs: Sequence[tuple[int, int]]
) -> list[Difference]:
    """The differences of pairs of K entries, corrected for as many as there are.

    `resampled` (R, K) and `observed` (K,) are scores, means over seeds.
    """
    values = np.array([observed[a] - observed[b] for a, b in pairs])
    errors = np.array([(resampled[:, a] - resampled[:, b]).std(ddof=1) for a, b in pairs])
    p = normal_p(values, errors)
    return [
        Difference(a, b, float(value), float(value - Z * error), float(value + Z * error), *both)
        for (a, b), value, error, *both in zip(
            pairs, values, errors, p.tolist(), holm(p).tolist(), strict=True
        )
    ]


def normal_p(values: Floats, errors: Floats) -> Floats:
    """Two-sided p of values (P,) with these standard errors; 1 where both are zero."""
    from scipy.special import ndtr

    z = np.zeros_like(values)
    with np.errstate(divide="ignore"):
        np.divide(np.abs(values), errors, out=z, where=values != 0)
    p: Floats = 2 * ndtr(-z)
    return p


def _draws(num: int, num_resamples: int, width: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """How often each of `num` images or groups is drawn, a few resamples (r, num) at a time.

    So few that an array of `width` columns stays in the processor's cache.
    """
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // width)
    for start in range(0, num_resamples, at_once):
        r = min(at_once, num_resamples - start)
        drawn = rng.integers(0, num, (r, num)) + num * np.arange(r)[:, None]
        yield np.bincount(drawn.ravel(), minlength=r * num).reshape(r, num).astype(np.float32)


def _macro_f1(counts: Floats, k: int) -> Floats:
    """Macro-F1 (R, M) of counts (R, k + 2 k M): images of each class, then called so and hits."""
    support = counts[:, None, :k]
    called, hits = np.moveaxis(counts[:, k:].reshape(len(counts), -1, 2, k), 2, 0)
    f1 = np.divide(2 * hits, support + called, out=np.zeros_like(hits), where=hits > 0)
    scores: Floats = f1.sum(-1) / (support > 0).sum(-1)
    return scores
