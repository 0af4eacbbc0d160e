"""Differential count: the fraction of each class among the white cells of a smear.

Counting predictions also counts errors: if one in five of the many segmented neutrophils is
predicted as banded, the errors outnumber the few true bands. The fractions are therefore estimated
by maximum likelihood, like the class priors of a target (`evaluation.label_shift`), using the
confusion of the model on held-out cells of known class. The intervals include the sampling error of
the cells on the slide, the confusion of the model, and the uncertainty of that confusion.

A differential counts white cells only. Nucleated red cells (erythroblasts) are reported as their
number per 100 white cells, as the ICSH recommends (Palmer et al. 2015, Int J Lab Hematol 37:287,
doi 10.1111/ijlh.12327). Smudge cells, platelets and dirt are not part of it, so cells that the
model rejects are left out and listed for review; a cell that a person names is counted as that
class. The model also rejects some white cells, at a rate that depends on the class. The expected
number of these is added back (`hf_wbc.evaluation.slide`). Objects that are not white cells and are
not rejected are counted as the class that they resemble, and no interval accounts for this.

The interval is that of Korn and Graubard (1998, "Confidence intervals for proportions with small
expected number of positive counts estimated from survey data"): the exact binomial interval
(Clopper & Pearson 1934) for the effective number of cells. By default the intervals of all classes
hold jointly (Bonferroni), because a smear is judged by all of them, and each covers the intervals
of two estimators. They are valid for smears from the laboratory of the model, or where only the
class fractions differ; `label_shift_ks` shows when more than the fractions differs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv

from hf_wbc.evaluation.calibration import Floats
from hf_wbc.evaluation.slide import (
    RESAMPLES,
    Flags,
    HeldOut,
    Slide,
    check_slide,
    estimate,
    lost_cells,
)
from hf_wbc.taxonomy import CLASSES, ERYTHROBLAST

LEVEL = 0.95
ESTIMATORS = ("em", "bbse")
"""Estimators of the fractions. The first provides the point estimate: it has the lower variance,
but its intervals are too narrow if the probabilities of a weak model are wrong. The second uses the
confusion matrix only. The intervals cover both."""
UNEXPLAINED = 0.2
"""Limit of `Differential.unexplained`; chance alone stays below 0.1."""
FEWEST_ESTIMATED = 50
"""Number of white cells below which no estimate is shown beside the count."""
NRBC_CORRECTION = 5.0
"""Nucleated red cells per 100 white cells from which an analyzer's white count is corrected."""


@dataclass(frozen=True)
class Share:
    """Fraction of one class, or of several classes together."""

    counted: int
    """Number of cells assigned to the class, without those that are left out."""
    fraction: float
    """Estimated fraction of the white cells, in [0, 1], or, of erythroblasts, their number per
    white cell, which may exceed 1; the plain count if the confusion is unknown."""
    low: float
    high: float
    identifiable: bool = True
    """False if the model was not trained on the class, so that it cannot be counted."""
    named: int = 0
    """How many of the counted cells a person has named; these are facts, not estimates."""


@dataclass(frozen=True, eq=False)
class Differential:
    """Differential count of a slide."""

    shares: tuple[Share, ...]
    """Shares of the eleven classes, by class id."""
    num_cells: int
    """Number of white cells in the count."""
    num_rejected: int
    """Number of cells left out because they are rejected and not named by a person."""
    expected_rejected: float
    """Expected number of white cells among the rejected ones, from the rejection rate of held-out
    cells."""
    rejected_limit: float
    """Number of rejected cells that chance alone exceeds in 2.5 % of the cases; more indicate other
    objects."""
    level: float
    """Nominal coverage of all intervals jointly, or of each interval if not `joint`."""
    joint: bool
    corrected: bool
    """Whether the confusion is corrected; False means a raw count with sampling error only."""
    label_shift_ks: float | None
    """How far the cells are from the source cells with other class fractions, in [0, 1]."""
    label_shift_ks_limit: float | None
    """Misfit that chance alone exceeds in 5 % of the cases."""
    unexplained: float
    """Total variation between the predicted class frequencies and those expected from the estimate,
    in [0, 1]."""
    estimates: tuple[tuple[Floats, Floats], ...]
    """For each estimator, the shares (11,) as in `Share.fraction`, and their resamples (R, 11)."""
    mistaken_for: tuple[int | None, ...]
    """By class id, the class whose held-out cells are most often called this class in error,
    weighted by the estimated shares; None if there is none."""

    def counted_share(self, label: int) -> float:
        """Return the plain count of a class per white cell, in [0, 1] for white cells."""
        return self.shares[label].counted / self.num_cells

    @property
    def nrbc_per_100(self) -> float:
        """Counted nucleated red cells per 100 white cells."""
        return 100 * self.counted_share(ERYTHROBLAST)

    @property
    def white_count_factor(self) -> float | None:
        """Factor that corrects an analyzer's white cell count, which includes nucleated red cells.

        It is 100 / (100 + nRBC per 100 white cells); None below NRBC_CORRECTION, where no
        correction is made.
        """
        ratio = self.nrbc_per_100
        return 100 / (100 + ratio) if ratio >= NRBC_CORRECTION else None

    @property
    def shows_estimate(self) -> bool:
        """Whether the estimate says more than the plain count.

        It does not without a known confusion, from few cells, or if the cells are unlike those of
        the sources.
        """
        return self.corrected and not self.doubtful and self.num_cells >= FEWEST_ESTIMATED

    @property
    def doubtful(self) -> bool:
        """Whether more than the class fractions differs from the sources.

        If so, trust neither the fractions nor the intervals.
        """
        if self.label_shift_ks is None or self.label_shift_ks_limit is None:
            return False
        return self.label_shift_ks > self.label_shift_ks_limit or self.unexplained > UNEXPLAINED

    def together(self, classes: Sequence[int]) -> Share:
        """Return the share of several classes of white cells, with its own interval at `level`."""
        rows = list(classes)
        assert ERYTHROBLAST not in rows, "erythroblasts are no part of the white cells"
        shares = [self.shares[c] for c in rows]
        sums = [
            (f[rows].sum(keepdims=True), r[:, rows].sum(1, keepdims=True))
            for f, r in self.estimates
        ]
        low, high = _widest(sums, self.num_cells, self.level, self.corrected)
        fraction, counted = float(sums[0][0][0]), sum(share.counted for share in shares)
        known = any(share.identifiable for share in shares)
        named = sum(share.named for share in shares)
        return Share(counted, fraction, float(low[0]), float(high[0]), known, named)


def differential(
    probabilities: ArrayLike,
    held_out: HeldOut | None,
    *,
    corrections: ArrayLike | None = None,
    rejected: ArrayLike | None = None,
    level: float = LEVEL,
    joint: bool = True,
    seed: int = 0,
) -> Differential:
    """Estimate the fraction of each class among the cells of a slide.

    Args:
        probabilities: Predicted probabilities (N, 11).
        held_out: Held-out cells that show the confusion of the model; None counts the predictions,
            with intervals that include sampling error only.
        corrections: Class ids given by a person, or UNKNOWN (N,).
        rejected: Whether the model rejects each cell (N,); `held_out` must contain the same
            information.
        level: Nominal coverage of the intervals, in (0, 1).
        joint: Whether the coverage holds for all classes jointly.
        seed: Seed of the random numbers.

    Raises:
        ValueError: If no white cell is counted, or the probabilities are invalid.

    Examples:
        >>> held = HeldOut(np.array([[2.0, 0.0]] * 80 + [[0.0, 2.0]] * 20), np.repeat([0, 1], 50))
        >>> found = differential([[0.8808, 0.1192]] * 80 + [[0.1192, 0.8808]] * 20, held)
        >>> [share.counted for share in found.shares], [round(s.fraction, 1) for s in found.shares]
        ([80, 20], [0.5, 0.5])
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1")
    slide = check_slide(probabilities, corrections, rejected)
    counts = slide.numbers(slide.counted)
    seen = np.ones(len(counts), bool)
    if held_out is None:
        found = _count_predictions(counts, seed)
    else:
        held = replace(held_out, rejected=None) if rejected is None else held_out
        seen = held.accepted.counts > 0
        found = _find(held, slide, seen, seed)
    white = _white(counts)
    each = 1 - (1 - level) / seen.sum() if joint else level
    estimates = tuple((_per_white(f, white), _per_white(r, white)) for f, r in found.estimates)
    low, high = _ends(found.estimates, estimates, counts, each, held_out is not None)
    high[~seen] = 1.0
    named = slide.numbers(slide.named)
    return Differential(
        shares=tuple(map(_share, counts, estimates[0][0], low, high, seen, named)),
        num_cells=int(counts[white].sum()),
        num_rejected=int((~slide.counted).sum()),
        level=level,
        joint=joint,
        corrected=held_out is not None,
        mistaken_for=_mistaken_for(held_out, found.estimates[0][0]),
        **{**vars(found), "estimates": estimates},
    )


@dataclass(frozen=True)
class _Found:
    """Estimates of a slide that use the confusion of the model."""

    estimates: tuple[tuple[Floats, Floats], ...]
    label_shift_ks: float | None = None
    label_shift_ks_limit: float | None = None
    unexplained: float = 0.0
    expected_rejected: float = 0.0
    rejected_limit: float = 0.0


def _count_predictions(counts: Floats, seed: int) -> _Found:
    """Return the fractions of the predictions (C,), with resamples of the sampling error."""
    num = int(counts.sum())
    fractions = counts / num
    resamples = np.random.default_rng(seed).multinomial(num, fractions, RESAMPLES) / num
    return _Found(((fractions, resamples),))


def _find(held: HeldOut, slide: Slide, seen: Flags, seed: int) -> _Found:
    known, lost = held.accepted, lost_cells(held, slide, seed)
    unnamed = slide.counted & ~slide.named
    # The likelihood can use cells named by a person; the confusion matrix cannot.
    rows = ~slide.rejected & (~slide.named | seen[slide.taken])
    first = estimate(ESTIMATORS[0], known, slide, rows, lost, seed)
    other = estimate(ESTIMATORS[1], known, slide, unnamed, lost, seed)
    found = _Found(((first.shares, first.drawn), (other.shares, other.drawn)))
    # Compare the cells with the source cells by the model's own predictions only.
    own = other.accepted if slide.named.any() else first.accepted
    if own is not None:
        found = replace(
            found,
            label_shift_ks=own.label_shift_ks,
            label_shift_ks_limit=own.label_shift_ks_limit,
            unexplained=_unexplained(slide.chances[unnamed], known, np.array(own.priors)),
        )
    if first.accepted is not None:
        priors, num = np.array(first.accepted.priors), rows.sum()
        surprising = np.random.default_rng((seed, 3)).poisson(num * (lost.drawn @ priors))
        found = replace(
            found,
            expected_rejected=float(num * (lost.odds @ priors)),
            rejected_limit=float(np.quantile(surprising, 0.975)),
        )
    return found


def _share(
    counted: float, fraction: float, low: float, high: float, seen: bool, named: float
) -> Share:
    return Share(int(counted), float(fraction), float(low), float(high), bool(seen), int(named))


def _white(counts: Floats) -> Flags:
    """Return which classes (C,) are white cells; ValueError if none of them is counted."""
    white = np.array([CLASSES[c].is_white for c in range(len(counts))])
    if not counts[white].any():
        total = int(counts.sum())
        raise ValueError(f"none of the {total} cells is a white cell, so there is nothing to count")
    return white


def _ends(
    of_all: Sequence[tuple[Floats, Floats]],
    of_white: Sequence[tuple[Floats, Floats]],
    counts: Floats,
    level: float,
    corrected: bool,
) -> tuple[Floats, Floats]:
    """Return the interval ends (C,) of the shares per white cell.

    Those of nucleated red cells follow from their fraction of all cells, which is below 1.
    """
    white = _white(counts)
    low, high = _widest(of_white, int(counts[white].sum()), level, corrected)
    if not white.all():
        ends = _widest(of_all, int(counts.sum()), level, corrected)
        for end, of_cells in ((low, ends[0]), (high, ends[1])):
            end[~white] = (of_cells / np.maximum(1 - of_cells, 1e-9))[~white]
    return low, high


def _per_white(shares: Floats, is_white: Flags) -> Floats:
    """Divide shares of all cells (..., C) by that of the white cells."""
    white = shares[..., is_white].sum(-1, keepdims=True)
    ratio: Floats = shares / np.maximum(white, 1e-9)
    return ratio


def _mistaken_for(held_out: HeldOut | None, fractions: Floats) -> tuple[int | None, ...]:
    """Return, by class id, the class that most often is called so in error; fractions are (C,)."""
    if held_out is None:
        return (None,) * len(fractions)
    confusion = fractions[:, None] * _confusion(held_out.accepted)
    np.fill_diagonal(confusion, 0)
    return tuple(int(c.argmax()) if c.max() > 0 else None for c in confusion.T)


def _confusion(held_out: HeldOut) -> Floats:
    """Return the fractions (C, C) of the held-out cells of each class with each prediction."""
    k = held_out.logits.shape[1]
    pairs = held_out.labels * k + held_out.logits.argmax(1)
    counts = np.bincount(pairs, minlength=k * k).reshape(k, k).astype(np.float64)
    confusion: Floats = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return confusion


def _unexplained(chances: Floats, held_out: HeldOut, fractions: Floats) -> float:
    """Return the total variation between predictions and those expected from fractions.

    The predictions are probabilities (N, C), the fractions are (C,).
    """
    found = np.bincount(chances.argmax(1), minlength=len(fractions)) / len(chances)
    return float(np.abs(found - fractions @ _confusion(held_out)).sum() / 2)


def _widest(
    estimates: Sequence[tuple[Floats, Floats]], num: int, level: float, corrected: bool
) -> tuple[Floats, Floats]:
    """Return the lower and upper ends (C,) that cover the intervals of all estimators.

    Each estimate is the fractions (C,) and their resamples (R, C).
    """
    lows, highs = [], []
    for fractions, resamples in estimates:
        spread = resamples.var(0) if corrected else fractions * (1 - fractions) / num
        low, high = _interval(fractions, spread, num, level)
        # A class that may not be there at all is in some of the resamples not there.
        tail = max((1 - level) / 2, 1 / len(resamples))
        lows.append(np.minimum(low, np.quantile(resamples, tail, axis=0)))
        highs.append(np.maximum(high, np.quantile(resamples, 1 - tail, axis=0)))
    first = estimates[0][0]
    return np.clip(np.min(lows, 0), 0, first), np.clip(np.max(highs, 0), first, 1)


def _interval(fraction: Floats, spread: Floats, num: int, level: float) -> tuple[Floats, Floats]:
    """Return the interval ends of fractions (C,) with variances `spread` (C,), from `num` cells."""
    # Give fractions of 0 and 1 the variance of a single cell, so that the interval has a width.
    variance = np.maximum(fraction, 1 / num) * np.maximum(1 - fraction, 1 / num)
    cells = np.clip(variance / np.maximum(spread, 1e-12), 1, num)
    found, tail = fraction * cells, (1 - level) / 2
    missed = np.maximum(cells - found, 0)
    low = np.where(found > 0, betaincinv(np.maximum(found, 1e-9), missed + 1, tail), 0.0)
    high = np.where(missed > 0, betaincinv(found + 1, np.maximum(missed, 1e-9), 1 - tail), 1.0)
    return np.minimum(low, fraction), np.maximum(high, fraction)
