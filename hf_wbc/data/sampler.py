"""Which rows of a table a step trains on, as a pure function of the step.

Rows are grouped into strata: all rows, the rows of a domain, or those of a class within a
domain. Draws proceed in rounds. Each round visits every stratum once in random order, and each
visit takes the next row of the stratum's own permutation, which is renewed when it is exhausted.
All strata are drawn equally often, and no row repeats before all others of its stratum were drawn.
"""

from typing import Literal, get_args

import numpy as np

from hf_wbc.text import did_you_mean

__all__ = ["Balance", "Sampler"]

Balance = Literal["class_domain", "domain", "none"]
_BLOCK = 1024
"""Minimum number of items to permute at once."""


class Sampler:
    """Balanced random row numbers of a table, as a pure function of the step."""

    def __init__(
        self, labels: np.ndarray, domains: np.ndarray, balance: Balance, seed: int
    ) -> None:
        """Group the rows into strata.

        Args:
            labels: Class ids (N,), int64.
            domains: Domain indices (N,), int64.
            balance: Groups to draw equally often.
            seed: Non-negative seed of all draws.

        Raises:
            ValueError: If there are no rows, or unlabeled rows are to be balanced by class.
        """
        if seed < 0:
            raise ValueError(f"seed is {seed}; it must not be negative")
        if len(labels) == 0:
            raise ValueError("no rows to sample")
        strata = _strata(labels, domains, balance)
        self._visits = _Permutations(np.arange(len(strata)), (seed, 0))
        self._strata = [
            _Permutations(rows, (seed, 1, number)) for number, rows in enumerate(strata)
        ]

    def draw(self, batch_size: int, step: int) -> np.ndarray:
        """Return the row numbers (batch_size,) of a step, counted from 0."""
        num_strata = len(self._strata)
        positions = np.arange(step * batch_size, (step + 1) * batch_size)
        first, stop = int(positions[0]) // num_strata, int(positions[-1]) // num_strata + 1
        visits = self._visits.take(first * num_strata, stop * num_strata)
        rows = np.stack([stratum.take(first, stop) for stratum in self._strata])
        positions -= first * num_strata
        drawn: np.ndarray = rows[visits[positions], positions // num_strata]
        return drawn


class _Permutations:
    """An endless sequence of random permutations of `items`, readable at any position."""

    def __init__(self, items: np.ndarray, seed: tuple[int, ...]) -> None:
        self._items, self._seed = items, seed
        self._per_block = max(1, _BLOCK // len(items))
        self._blocks: dict[int, np.ndarray] = {}

    def take(self, start: int, stop: int) -> np.ndarray:
        """Return the items at positions `start` to `stop` - 1."""
        length = self._per_block * len(self._items)
        first, last = start // length, (stop - 1) // length
        self._blocks = {
            block: self._blocks[block] if block in self._blocks else self._make(block)
            for block in range(first, last + 1)
        }
        items = np.concatenate([*self._blocks.values()])
        return items[start - first * length : stop - first * length]

    def _make(self, block: int) -> np.ndarray:
        rng = np.random.default_rng((*self._seed, block))
        copies = np.tile(self._items, (self._per_block, 1))
        return rng.permuted(copies, axis=1).ravel()


def _strata(labels: np.ndarray, domains: np.ndarray, balance: Balance) -> list[np.ndarray]:
    """Return the row numbers of each non-empty stratum."""
    if balance == "none":
        return [np.arange(len(labels))]
    if balance == "domain":
        return [np.flatnonzero(domains == domain) for domain in np.unique(domains)]
    if balance != "class_domain":
        raise ValueError(f"unknown balance {balance!r}; {did_you_mean(balance, get_args(Balance))}")
    if (labels < 0).any():
        raise ValueError(
            f"{int((labels < 0).sum())} rows are unlabeled and cannot be balanced by class; "
            "use --balance domain or a labeled dataset"
        )
    keys = np.stack([labels, domains])
    return [np.flatnonzero((keys == key[:, None]).all(0)) for key in np.unique(keys, axis=1).T]
