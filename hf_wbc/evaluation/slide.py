"""The white cells of a slide, from what a model says, what it rejects, and what a person named.

What a person has named is known. The rest is estimated from the cells that the model does not
reject, by what held-out cells that it does not reject either tell of its confusion. Of the white
cells that it does reject, nobody knows how many lie among smudge cells and dirt; but how many of
each class there are for every one that is not rejected is known from the held-out cells, too, and
so many are added.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_wbc.evaluation.calibration import NEVER, Floats, Ids
from hf_wbc.evaluation.label_shift import PriorEstimate, resampled_priors

UNKNOWN = -1
"""A cell whose class nobody has corrected."""
RESAMPLES = 200
_CERTAIN = 1e3
"""Logit of a class that a person has named."""
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What is known of a model's confusion: cells of its sources that it did not learn from."""

    logits: Floats
    """(N, 11)."""
    labels: Ids
    """(N,)."""
    rejected: Flags | None = None
    """Which of them (N,) the model rejects; None for a model that rejects nothing."""

    @property
    def accepted(self) -> "HeldOut":
        """Those that the model does not reject."""
        if self.rejected is None:
            return self
        return HeldOut(self.logits[~self.rejected], self.labels[~self.rejected])

    @property
    def counts(self) -> Floats:
        """Of each class (11,)."""
        return np.bincount(self.labels, minlength=self.logits.shape[1]).astype(float)


@dataclass(frozen=True, eq=False)
class Slide:
    """N cells."""

    chances: Floats
    """Probabilities (N, C) by the model."""
    names: Ids
    """(N,), classes by a person, or UNKNOWN."""
    rejected: Flags
    """(N,), by the model."""

    @property
    def named(self) -> Flags:
        """Whose class a person has given (N,)."""
        known: Flags = self.names != UNKNOWN
        return known

    @property
    def counted(self) -> Flags:
        """All cells (N,) but those that are rejected and that nobody has named."""
        return self.named | ~self.rejected

    @property
    def taken(self) -> Ids:
        """The class that each cell (N,) is taken for."""
        return np.where(self.named, self.names, self.chances.argmax(1))

    def numbers(self, rows: Flags) -> Floats:
        """How many of some rows (N,) are taken for each class (C,)."""
        return np.bincount(self.taken[rows], minlength=self.chances.shape[1]).astype(float)

    def logits(self) -> Floats:
        """Of the cells (N, C); a person is certain."""
        found = np.maximum(np.log(np.maximum(self.chances, np.exp(-700.0))), NEVER)
        certain = np.eye(self.chances.shape[1], dtype=bool)[self.names[self.named]]
        found[self.named] = np.where(certain, _CERTAIN, -_CERTAIN)
        return found


@dataclass(frozen=True, eq=False)
class LostCells:
    """White cells that are left out for each one of their class that is not rejected."""

    odds: Floats
    """(C,)."""
    drawn: Floats
    """What they might be as well (R, C)."""


@dataclass(frozen=True, eq=False)
class SlideEstimate:
    """Shares of the white cells of a slide."""

    shares: Floats
    """(C,)."""
    drawn: Floats
    """What they might be as well (R, C)."""
    accepted: PriorEstimate | None
    """Of the cells that it is estimated from; None without such cells."""


def check_slide(
    probabilities: ArrayLike, names: ArrayLike | None, rejected: ArrayLike | None
) -> Slide:
    """Of probabilities (N, C), names (N,) and flags (N,); ValueError for what is none of these."""
    chances = _checked(probabilities)
    known = _checked_names(names, chances)
    away = np.zeros(len(chances), bool) if rejected is None else np.asarray(rejected)
    if away.shape != known.shape or away.dtype != bool:
        raise ValueError(f"rejected has shape {away.shape}, {away.dtype}; give a bool a cell")
    slide = Slide(chances, known, away)
    if not slide.counted.any():
        raise ValueError(
            f"all {len(chances)} cells are rejected as none that the model knows: check the scale, "
            "or name those that are white cells"
        )
    return slide


def lost_cells(held_out: HeldOut, slide: Slide, seed: int) -> LostCells:
    """By what the model rejects of the held-out cells.

    Where a person has named some of the rejected cells, as many fewer are missing. ValueError when
    cells are rejected, and of the held-out ones it is not known.
    """
    num_classes = slide.chances.shape[1]
    if held_out.rejected is None:
        if slide.rejected.any():
            raise ValueError(
                "cells are rejected, and of the held-out ones it is not known which would be"
            )
        return LostCells(np.zeros(num_classes), np.zeros((RESAMPLES, num_classes)))
    kept = held_out.accepted.counts
    away, known = held_out.counts - kept, kept > 0
    reviewed = (slide.rejected & slide.named).sum() / max(slide.rejected.sum(), 1)
    rng, size = np.random.default_rng((seed, 1)), (RESAMPLES, num_classes)
    # Jeffreys' prior: a class of which nothing was rejected may be rejected all the same.
    drawn = rng.standard_gamma(away + 0.5, size) / rng.standard_gamma(kept + 0.5, size)
    odds = away / np.maximum(kept, 1)
    return LostCells(*((1 - reviewed) * np.where(known, each, 0.0) for each in (odds, drawn)))


def estimate(
    method: str, known: HeldOut, slide: Slide, rows: Flags, lost: LostCells, seed: int
) -> SlideEstimate:
    """Shares by an estimator of `hf_wbc.evaluation.label_shift` from some rows (N,) of a slide.

    `known` are held-out cells that are not rejected, `rows` cells that are not either. What else is
    counted is what it is taken for.
    """
    rest = slide.counted & ~rows
    exact = slide.numbers(rest & ~slide.rejected), slide.numbers(rest & slide.rejected)
    num, rng = int(rows.sum()), np.random.default_rng((seed, 2))
    priors, drawn = np.zeros(slide.chances.shape[1]), np.zeros_like(lost.drawn)
    found = None
    if num:
        found, drawn = resampled_priors(
            method, known.logits, known.labels, slide.logits()[rows],
            num_resamples=RESAMPLES, seed=seed,
        )  # fmt: skip
        priors = np.array(found.priors)
    shares = (num * priors + exact[0]) * (1 + lost.odds) + exact[1]
    weights = rng.standard_gamma(num, (RESAMPLES, 1))
    others = [rng.standard_gamma(each, lost.drawn.shape) for each in exact]
    resamples = (weights * drawn + others[0]) * (1 + lost.drawn) + others[1]
    return SlideEstimate(shares / shares.sum(), resamples / resamples.sum(1, keepdims=True), found)


def _checked(probabilities: ArrayLike) -> Floats:
    values = np.asarray(probabilities, np.float64)
    if values.ndim != 2 or not len(values):
        raise ValueError(f"probabilities have shape {values.shape}; give (cells, classes)")
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise ValueError("probabilities must be numbers of 0 or more; some are not")
    if np.abs(values.sum(1) - 1).max() > 1e-4:
        raise ValueError("the probabilities of a cell must sum to 1; some do not")
    return values


def _checked_names(names: ArrayLike | None, chances: Floats) -> NDArray[np.int64]:
    num, num_classes = chances.shape
    if names is None:
        return np.full(num, UNKNOWN)
    known = np.asarray(names, np.int64)
    if known.shape != (num,):
        raise ValueError(f"{known.size} corrections for {num} cells; give one for each, or -1")
    if ((known < UNKNOWN) | (known >= num_classes)).any():
        raise ValueError(f"corrections must lie in -1..{num_classes - 1}")
    return known
