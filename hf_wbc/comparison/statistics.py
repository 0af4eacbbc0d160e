"""Significance tests: paired bootstrap, Holm's correction, and rank tests.

The paired bootstrap asks whether one method would still be better than another on other images of
the same kind. All models that were scored on the same images are scored again on the same
resamples: of whole groups (patients, slides) where they are known, of images otherwise. Variation
due to easy or hard images cancels in the difference (Koehn 2004, "Statistical significance tests
for machine translation evaluation"). Seeds are averaged within each resample.

p-values and intervals assume a normal distribution with the standard error of the bootstrap:
counting resamples cannot give p-values below 1 / resamples, which a correction for hundreds of
pairs needs. The resampling covers images but not training, so a significant difference holds for
these weights.

Holm's step-down procedure corrects p-values for multiple tests (Holm 1979, "A simple sequentially
rejective multiple test procedure", Scandinavian Journal of Statistics 6:65-70).

The rank test asks whether a method is better over all directions and seeds. Friedman's test shows
whether any methods differ, Nemenyi's how far two mean ranks must be apart (Demsar 2006,
"Statistical comparisons of classifiers over multiple data sets", JMLR 7:1-30, section 3.2.2).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_wbc.evaluation.metrics import merged_labels
from hf_wbc.taxonomy import NAMES, UNLABELED

Floats = NDArray[np.float64]


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values (P,) corrected by Holm's method, which controls the family-wise error rate.

    Examples:
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
"""Quantile of the normal distribution for a two-sided 95 % interval."""
_CELLS_AT_ONCE = 2**18


@dataclass(frozen=True)
class Difference:
    """Macro-F1 of one entry of a table minus that of another."""

    one: int
    other: int
    """Indices of the two entries in the table."""
    value: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    p: float
    """Two-sided p-value of the hypothesis of no difference."""
    p_holm: float
    """p-value corrected for all requested differences (Holm 1979)."""

    @property
    def is_significant(self) -> bool:
        """Whether the difference is significant at 0.05 after the correction."""
        return self.p_holm < 0.05


@dataclass(frozen=True)
class Scoring:
    """Labels and groups of the scored images of an evaluation setting."""

    labels: Ids
    """Class ids (N,)."""
    merge: tuple[str, ...]
    classes: tuple[str, ...]
    groups: NDArray[np.str_] | None = None
    """Group of each image (N,), if all are known."""


def resampled_macro_f1(
    scoring: Scoring, predictions: Sequence[Ids], num_resamples: int = 2000, seed: int = 0
) -> tuple[Floats, Floats]:
    """Compute the macro-F1 of M models on the same bootstrap resamples.

    A resample is scored over the classes that it contains, as any set of images is.

    Args:
        scoring: Labels and groups of N images.
        predictions: Predicted class ids (N,) of each model.
        num_resamples: Number of resamples R.
        seed: Seed of the random numbers.

    Returns:
        Observed scores (M,), and scores on the resamples (R, M).
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
    """Test the differences of pairs of K entries, corrected for the number of pairs.

    Args:
        resampled: Scores on the resamples (R, K), averaged over seeds.
        observed: Observed scores (K,), averaged over seeds.
        pairs: Indices of the two entries of each pair.
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
    """Return two-sided p-values (P,) of values with these standard errors; 1 for values of 0."""
    from scipy.special import ndtr

    z = np.zeros_like(values)
    with np.errstate(divide="ignore"):
        np.divide(np.abs(values), errors, out=z, where=values != 0)
    p: Floats = 2 * ndtr(-z)
    return p


def _draws(num: int, num_resamples: int, width: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """Yield how often each of `num` images or groups is drawn, as blocks of resamples (r, num).

    Blocks are small enough that an array with `width` columns fits into the processor cache.
    """
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // width)
    for start in range(0, num_resamples, at_once):
        r = min(at_once, num_resamples - start)
        drawn = rng.integers(0, num, (r, num)) + num * np.arange(r)[:, None]
        yield np.bincount(drawn.ravel(), minlength=r * num).reshape(r, num).astype(np.float32)


def _macro_f1(counts: Floats, k: int) -> Floats:
    """Return macro-F1 (R, M) from counts (R, k + 2 k M).

    The first k columns are the support of each class. For each model, k columns with the number of
    predictions and k with the number of correct ones follow.
    """
    support = counts[:, None, :k]
    called, hits = np.moveaxis(counts[:, k:].reshape(len(counts), -1, 2, k), 2, 0)
    f1 = np.divide(2 * hits, support + called, out=np.zeros_like(hits), where=hits > 0)
    scores: Floats = f1.sum(-1) / (support > 0).sum(-1)
    return scores


LEVEL = 0.05


@dataclass(frozen=True)
class Ranking:
    """K methods ranked on N blocks; rank 1 is the best."""

    names: tuple[str, ...]
    """Names sorted by mean rank."""
    mean_ranks: tuple[float, ...]
    num_blocks: int
    statistic: float
    """Friedman's chi-square with K - 1 degrees of freedom."""
    p: float
    """p-value of the hypothesis that all methods are equal."""
    critical_difference: float
    """Difference of mean ranks above which two methods differ (Nemenyi, level 0.05, all pairs
    jointly)."""
    letters: tuple[str, ...]
    """Methods that share a letter do not differ significantly."""

    def differ(self, one: int, other: int) -> bool:
        """Return whether two methods, given by index, differ significantly."""
        return abs(self.mean_ranks[one] - self.mean_ranks[other]) > self.critical_difference


def rank(names: Sequence[str], scores: Floats) -> Ranking:
    """Rank K methods by their scores (N, K) on N blocks; ties share their mean rank.

    Raises:
        ValueError: If there are fewer than three methods or two blocks.
    """
    num_blocks, k = scores.shape
    if k < 3 or num_blocks < 2:
        raise ValueError(
            f"{k} methods on {num_blocks} blocks cannot be ranked; at least 3 methods on 2 blocks "
            "are needed"
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
    """Rank scores (N, K) within each row: 1 for the highest; ties share their mean rank."""
    above = (scores[:, None, :] > scores[:, :, None]).sum(2)
    level = (scores[:, None, :] == scores[:, :, None]).sum(2)
    ranks: Floats = above + (level + 1) / 2
    return ranks


def friedman(ranks: Floats) -> tuple[float, float]:
    """Return Friedman's chi-square, corrected for ties, and its p-value, from ranks (N, K)."""
    from scipy.special import chdtrc

    k = ranks.shape[1]
    off = ranks - (k + 1) / 2
    within = float((off**2).sum())
    if not within:
        return 0.0, 1.0
    statistic = (k - 1) * float((off.sum(0) ** 2).sum()) / within
    return statistic, float(chdtrc(k - 1, statistic))


def studentized_range_quantile(level: float, k: int) -> float:
    """Return a quantile of the range of K standard normal variables.

    The probability of a range below q is k times the integral of phi(z) (Phi(z) - Phi(z - q))^(k -
    1). scipy.stats provides this too, but takes a second to import.
    """
    from scipy.special import ndtr

    z = np.linspace(-9, 9, 2001)
    phi = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    low, high = 0.0, 20.0
    while high - low > 1e-12:  # bisection; importing scipy.optimize takes half a second
        q = (low + high) / 2
        below = k * float(np.trapezoid(phi * (ndtr(z) - ndtr(z - q)) ** (k - 1), z))
        low, high = (q, high) if below < level else (low, q)
    return (low + high) / 2


def _letters(mean_ranks: Sequence[float], critical: float) -> tuple[str, ...]:
    """Return the letters of ascending mean ranks; each longest run within `critical` shares one."""
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
    """Return a to z, then A to Z, then numbers in parentheses."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return letters[number] if number < len(letters) else f"({number})"
