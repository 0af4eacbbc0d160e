"""Rank test: is a method ahead of another over all directions and seeds, or was it one of them?

Friedman's test says whether any differ, Nemenyi's how far two mean ranks must be apart (Demsar
2006, "Statistical comparisons of classifiers over multiple data sets", JMLR 7:1-30, section 3.2.2).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
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
