"""Paired bootstrap: would the one method still be ahead of the other on other images of the kind?

All models that were scored on the same images are scored again on the same draws of them, with
replacement: whole groups (patients, slides) where they are known. What an easy or a hard draw does
to both cancels in their difference (Koehn 2004, "Statistical significance tests for machine
translation evaluation"). Seeds are averaged within each draw.

p and interval are those of a normal distribution with the bootstrap's standard error: counting
draws could not go below 1 / draws, which a correction for hundreds of pairs needs. Images are
drawn, trainings are not: a difference that is real here holds for these weights.

Holm's step-down correction: p values that stay honest when many are looked at at once.

Holm (1979), "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
Statistics 6:65-70.

Rank test: is a method ahead of another over all directions and seeds, or was it one of them?

Friedman's test says whether any differ, Nemenyi's how far two mean ranks must be apart (Demsar
2006, "Statistical comparisons of classifiers over multiple data sets", JMLR 7:1-30,
section 3.2.2)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_wbc.evaluation.metrics import merged_labels
from hf_wbc.taxonomy import NAMES, UNLABELED

Floats = NDArray[np.float64]


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corrected p values (P,) of as many tests: below a level, the chance of one false alarm is.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    factors = len(p) - np.arange(len(p))
    stepped = np.maximum.accumulate(p[order] * factors)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1)
    return corrected


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
    into = merged_labels(scoring.merge)
    true = np.where(scoring.labels == UNLABELED, UNLABELED, into[scoring.labels])
    kept = true != UNLABELED
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


LEVEL = 0.05


@dataclass(frozen=True)
class Ranking:
    """K methods ranked on N blocks, 1 the best."""

    names: tuple[str, ...]
    """By mean rank."""
    mean_ranks: tuple[float, ...]
    num_blocks: int
    statistic: float
    """Friedman's chi square, with K - 1 degrees of freedom."""
    p: float
    """Of all methods being alike."""
    critical_difference: float
    """Of mean ranks, beyond which two methods differ (Nemenyi, level 0.05, all pairs at once)."""
    letters: tuple[str, ...]
    """Methods that share a letter are not told apart."""

    def told_apart(self, one: int, other: int) -> bool:
        """Whether two of the names differ."""
        return abs(self.mean_ranks[one] - self.mean_ranks[other]) > self.critical_difference


def rank(names: Sequence[str], scores: Floats) -> Ranking:
    """Rank K methods by their scores (N, K) on N blocks; ties share their mean rank.

    ValueError for fewer than three methods or two blocks: then nothing can be told.
    """
    num_blocks, k = scores.shape
    if k < 3 or num_blocks < 2:
        raise ValueError(
            f"{k} methods on {num_blocks} blocks cannot be ranked; there must be 3 on 2"
        )
    by_block = block_ranks(scores)
    ranks = by_block.mean(0)
    order = np.lexsort((np.array(names), ranks))
    statistic, p = friedman(by_block)
    q = studentized_range_quantile(1 - LEVEL, k) / math.sqrt(2)
    critical = q * math.sqrt(k * (k + 1) / (6 * num_blocks))
    mean_ranks = tuple(ranks[order].tolist())
    return Ranking(
        names=tuple(names[i] for i in order),
        mean_ranks=mean_ranks,
        num_blocks=num_blocks,
        statistic=statistic,
        p=p,
        critical_difference=critical,
        letters=_letters(mean_ranks, critical),
    )


def block_ranks(scores: Floats) -> Floats:
    """Ranks (N, K) of scores (N, K) within each row, 1 for the highest; ties share their mean."""
    above = (scores[:, None, :] > scores[:, :, None]).sum(2)
    level = (scores[:, None, :] == scores[:, :, None]).sum(2)
    ranks: Floats = above + (level + 1) / 2
    return ranks


def friedman(ranks: Floats) -> tuple[float, float]:
    """Chi square, corrected for ties, and p of ranks (N, K) being of methods that are alike."""
    from scipy.special import chdtrc

    k = ranks.shape[1]
    off = ranks - (k + 1) / 2
    within = float((off**2).sum())
    if not within:
        return 0.0, 1.0
    statistic = (k - 1) * float((off.sum(0) ** 2).sum()) / within
    return statistic, float(chdtrc(k - 1, statistic))


def studentized_range_quantile(level: float, k: int) -> float:
    """Of the range of K standard normal draws: scipy.stats has it too, and takes a second to load.

    The chance of a range below q is k times the integral of phi(z) (Phi(z) - Phi(z - q))^(k - 1).
    """
    from scipy.special import ndtr

    z = np.linspace(-9, 9, 2001)
    phi = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    low, high = 0.0, 20.0
    while high - low > 1e-12:  # by halves: scipy.optimize takes half a second to load
        q = (low + high) / 2
        below = k * float(np.trapezoid(phi * (ndtr(z) - ndtr(z - q)) ** (k - 1), z))
        low, high = (q, high) if below < level else (low, q)
    return (low + high) / 2


def _letters(mean_ranks: Sequence[float], critical: float) -> tuple[str, ...]:
    """For ascending ranks, a letter for each longest run of them that lies within `critical`."""
    spans: list[tuple[int, int]] = []
    for first, low in enumerate(mean_ranks):
        last = max(i for i, high in enumerate(mean_ranks) if high - low <= critical)
        if not spans or last > spans[-1][1]:
            spans.append((first, last))
    return tuple(
        "".join(_letter(n) for n, (first, last) in enumerate(spans) if first <= i <= last)
        for i in range(len(mean_ranks))
    )


def _letter(number: int) -> str:
    """a to z, then A to Z, then numbers in brackets."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return letters[number] if number < len(letters) else f"({number})"
