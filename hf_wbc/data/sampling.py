"""Which rows a step sees: a pure function of (seed, step), so that resuming needs no loader state.

Rows lie in cells: all rows, the rows of a domain, or the rows of a class in a domain. Draws go in
rounds; a round visits every cell once, in an order of its own, and each visit takes the next row of
the cell's own permutation, a new one whenever it is used up. So cells are drawn exactly alike, and
no row of a cell comes twice before all others came once.
"""

from typing import Literal

import numpy as np

Balance = Literal["class_domain", "domain", "none"]
_BLOCK = 1024
"""Items that are permuted in one go, where a permutation is shorter."""


def draw(
    labels: np.ndarray, domains: np.ndarray, batch_size: int, balance: Balance, seed: int, step: int
) -> np.ndarray:
    """Row numbers (batch_size,) of a step; `Sampler` is the same and faster in a loop."""
    return Sampler(labels, domains, balance, seed).draw(batch_size, step)


class Sampler:
    """The cells of a table, each with its permutations; what it remembers only saves time."""

    def __init__(
        self, labels: np.ndarray, domains: np.ndarray, balance: Balance, seed: int
    ) -> None:
        """`labels`, `domains` (N,) int64; ValueError for unlabelled rows balanced by class."""
        if seed < 0:
            raise ValueError(f"seed is {seed}; it must not be negative")
        if len(labels) == 0:
            raise ValueError("no rows to draw from")
        cells = _cells(labels, domains, balance)
        self._visits = _Permutations(np.arange(len(cells)), (seed, 0))
        self._cells = [_Permutations(rows, (seed, 1, cell)) for cell, rows in enumerate(cells)]

    def draw(self, batch_size: int, step: int) -> np.ndarray:
        """Row numbers (batch_size,) of a step from 0; steps follow each other without overlap."""
        num_cells = len(self._cells)
        positions = np.arange(step * batch_size, (step + 1) * batch_size)
        first, stop = int(positions[0]) // num_cells, int(positions[-1]) // num_cells + 1
        visits = self._visits.take(first * num_cells, stop * num_cells)
        rows = np.stack([cell.take(first, stop) for cell in self._cells])
        positions -= first * num_cells
        drawn: np.ndarray = rows[visits[positions], positions // num_cells]
        return drawn


class _Permutations:
    """One random permutation of `items` after another without end, read at any place."""

    def __init__(self, items: np.ndarray, seed: tuple[int, ...]) -> None:
        self._items, self._seed = items, seed
        self._per_block = max(1, _BLOCK // len(items))
        self._blocks: dict[int, np.ndarray] = {}

    def take(self, start: int, stop: int) -> np.ndarray:
        """The items at `start` to `stop` - 1."""
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


def _cells(labels: np.ndarray, domains: np.ndarray, balance: Balance) -> list[np.ndarray]:
    """The row numbers of every cell that has rows."""
    if balance == "none":
        return [np.arange(len(labels))]
    if balance == "domain":
        return [np.flatnonzero(domains == domain) for domain in np.unique(domains)]
    if balance != "class_domain":
        raise ValueError(f"unknown balance {balance!r}; choose from class_domain, domain, none")
    if (labels < 0).any():
        raise ValueError(
            f"{int((labels < 0).sum())} rows are unlabelled and cannot be balanced by class; "
            "use --balance domain or a labelled dataset"
        )
    keys = np.stack([labels, domains])
    return [np.flatnonzero((keys == key[:, None]).all(0)) for key in np.unique(keys, axis=1).T]
