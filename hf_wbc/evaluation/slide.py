"""Class fractions among the white cells of a slide, given predictions, rejections and corrections.

Cells that a person has named are known. The fractions of the rest are estimated from the cells that
the model accepts, using its confusion on held-out cells that it also accepts. The number of white
cells among the rejected ones is unknown on the slide, because smudge cells and dirt are rejected
too. The held-out cells, however, show how many cells of each class are rejected for each accepted
one, and that many are added.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_wbc.evaluation.calibration import NEVER, Floats, Ids
from hf_wbc.evaluation.label_shift import PriorEstimate, resampled_priors

UNKNOWN = -1
"""Marks a cell whose class nobody has corrected."""
RESAMPLES = 200
_CERTAIN = 1e3
"""Logit of a class that a person has named."""
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out source cells, not used in training, that show the confusion of a model."""

    logits: Floats
    """Logits (N, 11)."""
    labels: Ids
    """Class ids (N,)."""
    rejected: Flags | None = None
    """Whether the model rejects each cell (N,); None for a model without rejection."""

    @property
    def accepted(self) -> "HeldOut":
        """The cells that the model does not reject."""
        if self.rejected is None:
            return self
        return HeldOut(self.logits[~self.rejected], self.labels[~self.rejected])

    @property
    def counts(self) -> Floats:
        """Number of cells of each class (11,)."""
        return np.bincount(self.labels, minlength=self.logits.shape[1]).astype(float)


@dataclass(frozen=True, eq=False)
class Slide:
    """N cells of a slide."""

    chances: Floats
    """Predicted probabilities (N, C)."""
    names: Ids
    """Class ids given by a person, or UNKNOWN (N,)."""
    rejected: Flags
    """Whether the model rejects each cell (N,)."""

    @property
    def named(self) -> Flags:
        """Whether a person has named each cell (N,)."""
        known: Flags = self.names != UNKNOWN
        return known

    @property
    def counted(self) -> Flags:
        """Mask (N,) of the counted cells: all except those that are rejected and not named."""
        return self.named | ~self.rejected

    @property
    def taken(self) -> Ids:
        """Class id that each cell (N,) is assigned to: the correction, or else the prediction."""
        return np.where(self.named, self.names, self.chances.argmax(1))

    def numbers(self, rows: Flags) -> Floats:
        """Return the number of cells among `rows` (N,) that are assigned to each class (C,)."""
        return np.bincount(self.taken[rows], minlength=self.chances.shape[1]).astype(float)

    def logits(self) -> Floats:
        """Return the logits of the cells (N, C); a correction counts as certain."""
        found = np.maximum(np.log(np.maximum(self.chances, np.exp(-700.0))), NEVER)
        certain = np.eye(self.chances.shape[1], dtype=bool)[self.names[self.named]]
        found[self.named] = np.where(certain, _CERTAIN, -_CERTAIN)
        return found


@dataclass(frozen=True, eq=False)
class LostCells:
    """Number of white cells that are rejected for each accepted cell of their class."""

    odds: Floats
    """Estimated ratio (C,)."""
    drawn: Floats
    """Resamples of the ratio (R, C)."""


@dataclass(frozen=True, eq=False)
class SlideEstimate:
    """Estimated class fractions among the white cells of a slide."""

    shares: Floats
    """Fractions (C,), with sum 1."""
    drawn: Floats
    """Resamples of the fractions (R, C)."""
    accepted: PriorEstimate | None
    """Estimate from the accepted cells; None if there are no such cells."""


def check_slide(
    probabilities: ArrayLike, names: ArrayLike | None, rejected: ArrayLike | None
) -> Slide:
    """Validate probabilities (N, C), corrections (N,) and rejection flags (N,).

    Raises:
        ValueError: If an array is invalid, or all cells are rejected and none is named.
    """
    chances = _checked(probabilities)
    known = _checked_names(names, chances)
    away = np.zeros(len(chances), bool) if rejected is None else np.asarray(rejected)
    if away.shape != known.shape or away.dtype != bool:
        raise ValueError(f"rejected has shape {away.shape}, {away.dtype}; give one bool per cell")
    slide = Slide(chances, known, away)
    if not slide.counted.any():
        raise ValueError(
            f"all {len(chances)} cells are rejected as unlike the training cells: check the scale, "
            "or name the white cells"
        )
    return slide


def lost_cells(held_out: HeldOut, slide: Slide, seed: int) -> LostCells:
    """Estimate how many white cells are rejected for each accepted one, from the held-out cells.

    If a person has named some of the rejected cells, the estimate is reduced accordingly; if no
    rejected cell is left unnamed, none is lost.

    Raises:
        ValueError: If cells are rejected and it is unknown which held-out cells would be.
    """
    num_classes = slide.chances.shape[1]
    waiting = slide.rejected & ~slide.named
    if held_out.rejected is None:
        if slide.rejected.any():
            raise ValueError(
                "cells are rejected, but it is unknown which held-out cells would be rejected"
            )
        return LostCells(np.zeros(num_classes), np.zeros((RESAMPLES, num_classes)))
    kept = held_out.accepted.counts
    away, known = held_out.counts - kept, kept > 0
    reviewed = 1 - waiting.sum() / max(slide.rejected.sum(), 1)
    rng, size = np.random.default_rng((seed, 1)), (RESAMPLES, num_classes)
    # Jeffreys prior: the rejection rate is positive even if no cell of the class was rejected.
    drawn = rng.standard_gamma(away + 0.5, size) / rng.standard_gamma(kept + 0.5, size)
    odds = away / np.maximum(kept, 1)
    return LostCells(*((1 - reviewed) * np.where(known, each, 0.0) for each in (odds, drawn)))


def estimate(
    method: str, known: HeldOut, slide: Slide, rows: Flags, lost: LostCells, seed: int
) -> SlideEstimate:
    """Estimate the class fractions of a slide with an estimator of `evaluation.label_shift`.

    Args:
        method: Name of the estimator.
        known: Held-out cells that are not rejected.
        slide: Cells of the slide.
        rows: Mask (N,) of the accepted cells to estimate from; other counted cells keep the class
            that they are assigned to.
        lost: Ratio of rejected to accepted white cells.
        seed: Seed of the random numbers.
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
        raise ValueError("probabilities must be finite and not negative; some are not")
    if np.abs(values.sum(1) - 1).max() > 1e-4:
        raise ValueError("the probabilities of a cell must sum to 1; some do not")
    return values


def _checked_names(names: ArrayLike | None, chances: Floats) -> NDArray[np.int64]:
    num, num_classes = chances.shape
    if names is None:
        return np.full(num, UNKNOWN)
    known = np.asarray(names, np.int64)
    if known.shape != (num,):
        raise ValueError(
            f"{known.size} corrections for {num} cells; give one per cell, -1 for none"
        )
    if ((known < UNKNOWN) | (known >= num_classes)).any():
        raise ValueError(f"corrections must lie in -1..{num_classes - 1}")
    return known
