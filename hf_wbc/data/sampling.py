"""Which rows a step sees: a pure function of (seed, step), so that resuming needs no loader state.

Rows lie in cells: all rows, the rows of a domain, or the rows of a class in a domain. Draws go in
rounds; a round visits every cell once, in an order of its own, and each visit takes the next row of
the cell's own permutation, a new one whenever it is used up. So cells are drawn exactly alike, and
no row of a cell comes twice before all others came once.
"""

from typing import Literal

import numpy as np

Balance = Literal["class_domain", "domain", "none"]
_ROUNDS_AT_ONCE = 64


def draw(
    labels: np.ndarray, domains: np.ndarray, batch_size: int, balance: Balance, seed: int, step: int
) -> np.ndarray:
    """Row numbers (batch_size,) of a step; `Sampler` is the same and faster in a loop."""
    return Sampler(labels, domains, balance, seed).draw(batch_size, step)


class Sampler:
    """The cells of a table and their present permutations; its memory only saves time."""

    def __init__(
        self, labels: np.ndarray, domains: np.ndarray, balance: Balance, seed: int
    ) -> None:
        """`labels`, `domains` (N,) int64; ValueError for unlabelled rows balanced by class."""
        if seed < 0:
            raise ValueError(f"seed is {seed}; it must not be negative")
        if len(labels) == 0:
            raise ValueError("no rows to draw from")
        self._seed = seed
        self._cells = _cells(labels, domains, balance)
        self._orders: dict[int, tuple[int, np.ndarray]] = {}
        self._blocks: dict[int, np.ndarray] = {}

    def draw(self, batch_size: int, step: int) -> np.ndarray:
        """Row numbers (batch_size,) of a step from 0; steps follow each other without overlap."""
        first = step * batch_size
        rounds, place = np.divmod(np.arange(first, first + batch_size), len(self._cells))
        if len(self._cells) == 1:
            return self._rows(0, rounds)
        cells = self._visits(rounds)[np.arange(batch_size), place]
        rows = np.empty(batch_size, dtype=np.int64)
        for cell in np.unique(cells).tolist():
            drawn = cells == cell
            rows[drawn] = self._rows(cell, rounds[drawn])
        return rows

    def _visits(self, rounds: np.ndarray) -> np.ndarray:
        """The order in which each of `rounds` (B,), ascending, visits the cells (B, cells)."""
        blocks, place = np.divmod(rounds, _ROUNDS_AT_ONCE)
        wanted = range(int(blocks[0]), int(blocks[-1]) + 1)
        self._blocks = {
            block: self._blocks[block] if block in self._blocks else self._shuffle(block)
            for block in wanted
        }
        visits: np.ndarray = np.stack(list(self._blocks.values()))[blocks - blocks[0], place]
        return visits

    def _shuffle(self, block: int) -> np.ndarray:
        cells = np.tile(np.arange(len(self._cells)), (_ROUNDS_AT_ONCE, 1))
        return np.random.default_rng((self._seed, 0, block)).permuted(cells, axis=1)

    def _rows(self, cell: int, visits: np.ndarray) -> np.ndarray:
        """The rows of a cell at ascending visits, counted from 0."""
        size = len(self._cells[cell])
        epochs, place = np.divmod(visits, size)
        parts = [
            self._order(cell, epoch)[place[epochs == epoch]] for epoch in np.unique(epochs).tolist()
        ]
        return np.concatenate(parts)

    def _order(self, cell: int, epoch: int) -> np.ndarray:
        """The cell's rows in the order of an epoch."""
        known, order = self._orders.get(cell, (-1, self._cells[cell]))
        if known != epoch:
            rng = np.random.default_rng((self._seed, 1, cell, epoch))
            order = rng.permutation(self._cells[cell])
            self._orders[cell] = (epoch, order)
        return order


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
