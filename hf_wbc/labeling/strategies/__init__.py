"""Strategies that choose the next cells to label: one file each, named as the strategy.

A strategy file defines `choose(view, num, rng)` and says where the idea comes from. Adding one is
adding a file here and a test. All work on `PoolView`, whose embedding is small enough that a choice
among 100,000 cells takes less than two seconds.
"""

import importlib
import pkgutil
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hf_wbc.text import did_you_mean

__all__ = ["PoolView", "Strategy", "load_strategy", "strategy_names"]

Floats32 = NDArray[np.float32]
Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PoolView:
    """What a strategy sees of N cells; there are no labels of unlabeled cells."""

    embedding: Floats32
    """Projected features (N, k)."""
    probabilities: Floats32
    """Class probabilities (N, C) of the current head."""
    candidates: Ids
    """Rows (M,) that may be chosen: neither labeled nor skipped."""
    labeled: Ids = field(default_factory=lambda: np.empty(0, np.int64))
    """Rows (L,) that have a label."""
    labels: Ids = field(default_factory=lambda: np.empty(0, np.int64))
    """Class ids (L,) of the labeled rows."""

    @property
    def margins(self) -> Floats32:
        """Difference of the two largest probabilities of each candidate (M,)."""
        two = -np.partition(-self.probabilities[self.candidates], 1, axis=1)[:, :2]
        margins: Floats32 = two[:, 0] - two[:, 1]
        return margins


class Strategy(Protocol):
    """Chooses cells."""

    def __call__(self, view: PoolView, num: int, rng: np.random.Generator) -> Ids:
        """Return `num` distinct candidates, the most useful ones first.

        Args:
            view: The pool; it has at least `num` candidates.
            num: Number of cells, at least 1.
            rng: Source of random numbers.
        """


def strategy_names() -> tuple[str, ...]:
    """Return the names of all strategies in alphabetical order."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load_strategy(name: str) -> Strategy:
    """Return a strategy.

    Raises:
        ValueError: If there is no such strategy; the message suggests the nearest name.
    """
    names = strategy_names()
    if name not in names:
        raise ValueError(f"unknown strategy {name!r}; {did_you_mean(name, names)}")
    strategy: Strategy = importlib.import_module(f"{__name__}.{name}").choose
    return strategy
