"""Assign rows to train, validation and test by class and domain without dividing groups.

Groups are ordered by the SHA-256 of seed and group name, so a split depends neither on the order of
rows nor on a library's random numbers.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.schema import SPLITS

FRACTIONS = (0.7, 0.1, 0.2)
"""Shares of train, validation and test."""


def assign_splits(
    labels: Sequence[int],
    groups: Sequence[str],
    domains: Sequence[str] | None = None,
    *,
    train_only: Sequence[bool] | None = None,
    seed: int = 0,
    fractions: tuple[float, float, float] = FRACTIONS,
) -> NDArray[np.str_]:
    """Assign each of N rows to "train", "validation" or "test".

    A stratum is a class of a domain. Rows of one group share a split. A stratum with three or more
    groups of its own occurs in all three splits. If its groups are single rows, its sizes are the
    nearest whole numbers to `fractions`.

    Args:
        labels: Class ids (N,).
        groups: Names of what has to stay together (N,).
        domains: Domain names (N,); None for one domain.
        train_only: Rows whose group must be in train (N,).
        seed: Seed of the order in which groups are assigned.
        fractions: Shares of train, validation and test, which sum to 1.

    Returns:
        Names of splits (N,).

    Raises:
        ValueError: The fractions do not sum to 1, or the lengths of the arguments differ.
    """
    for name, values in (("groups", groups), ("domains", domains), ("train_only", train_only)):
        if values is not None and len(values) != len(labels):
            raise ValueError(f"{len(labels)} labels but {len(values)} {name}; give one for each")
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(f"fractions are {fractions}; use three positive numbers that sum to 1")
    keys = list(zip(domains or [""] * len(labels), labels, strict=True))
    strata = {key: number for number, key in enumerate(sorted(set(keys)))}
    names, group_of = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    content = np.zeros((len(names), len(strata)), dtype=np.int64)
    np.add.at(content, (group_of, np.array([strata[key] for key in keys])), 1)
    fixed = np.zeros(len(names), dtype=bool)
    if train_only is not None:
        fixed[group_of[np.flatnonzero(train_only)]] = True
    order = sorted(
        range(len(names)), key=lambda group: (-content[group].sum(), _rank(seed, str(names[group])))
    )
    split_of = _deal(content[order], fixed[order], fractions)
    by_group = np.empty(len(names), dtype=np.int64)
    by_group[order] = split_of
    of_row: NDArray[np.str_] = np.asarray(SPLITS)[by_group[group_of]]
    return of_row


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()


def _deal(
    content: NDArray[np.int64], fixed: NDArray[np.bool_], fractions: tuple[float, float, float]
) -> NDArray[np.int64]:
    """Return the split number of each group, given its rows by stratum (groups, strata).

    The stratum with the fewest unassigned groups comes first. Its groups, largest first, go to the
    split that lacks the most rows; the last ones go to a split that would otherwise have none of
    it.
    """
    quota = np.stack([_quota(int(rows), fractions) for rows in content.sum(axis=0)], axis=1)
    split_of = np.where(fixed, 0, -1)
    missing = quota.copy()
    missing[0] -= content[fixed].sum(axis=0)
    undealt = ((split_of < 0)[:, None] & (content > 0)).sum(axis=0)
    present = np.zeros(quota.shape, dtype=bool)
    present[0] = content[fixed].sum(axis=0) > 0
    while (split_of < 0).any():
        stratum = int(np.where(undealt > 0, undealt, len(content) + 1).argmin())
        for group in np.flatnonzero((split_of < 0) & (content[:, stratum] > 0)):
            absent = ~present[:, stratum]
            allowed = absent if 0 < absent.sum() >= undealt[stratum] else np.ones(3, dtype=bool)
            need = (missing * (content[group] > 0) / quota.sum(axis=0)).sum(axis=1)
            split = int(np.where(allowed, need, -np.inf).argmax())
            split_of[group] = split
            missing[split] -= content[group]
            present[split] |= content[group] > 0
            undealt -= content[group] > 0
    return split_of


def _quota(rows: int, fractions: tuple[float, float, float]) -> NDArray[np.int64]:
    """Round `fractions * rows` to whole numbers that sum to `rows`; none is 0 from 3 rows on."""
    exact = np.asarray(fractions) * rows
    quota: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    quota[np.argsort(-(exact - quota), kind="stable")[: rows - quota.sum()]] += 1
    while rows >= len(quota) and quota.min() == 0:
        quota[quota.argmax()] -= 1
        quota[quota.argmin()] += 1
    return quota
