"""A differential count: the share of each class in a smear, with intervals that can be believed.

Counting a classifier's answers counts its mistakes, too: where one cell in five of the many
segmented neutrophils is called banded, the few bands drown in them. The shares are estimated
instead by maximum likelihood, as a target's class priors are (`evaluation.label_shift`), from
what held-out cells of known class tell of the confusion. The interval has all three parts of the
doubt: which cells happened to lie under the objective, what the classifier confuses, and how well
that is known.

A differential is of white cells. Smudge cells, platelets and dirt are in no hematologist's count,
so what the model rejects as none of its cells is left out, to be reviewed: a cell that a person
names is counted as that. White cells are rejected, too, and not of all classes alike; as many of
each class as are to be expected are added again (`hf_wbc.evaluation.slide`). So shares are those of
the white cells, whatever else lies on the slide, as far as it is rejected; the rest of it is
counted as what it resembles, and no interval knows of that.

Its width is Korn and Graubard's (1998, "Confidence intervals for proportions with small expected
number of positive counts estimated from survey data"): the exact binomial one (Clopper & Pearson
1934) of as many cells as would vary like the estimate. All classes' intervals hold at once
(Bonferroni), as a smear is judged by all of them, and hold what either of two estimators finds
likely. Right for a smear of the model's own laboratory, or where only the shares differ; `misfit`
tells when more does.
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

LEVEL = 0.95
ESTIMATORS = ("em", "bbse")
"""The first gives the shares. It is the sharper one, and too sure of itself where a weak model's
probabilities are not right; the other believes in the confusion alone. Intervals hold both."""
UNEXPLAINED = 0.2
"""Beyond this the shares do not explain the model's own answers; chance leaves a tenth at most."""


@dataclass(frozen=True)
class Share:
    """Of one class, or of several together."""

    counted: int
    """Cells that were taken for it, without those that are left out."""
    fraction: float
    """Estimated, of all white cells; as counted where nothing is known of the confusion."""
    low: float
    high: float
    identifiable: bool = True
    """False: the model was never taught the class, so that it cannot be counted."""


@dataclass(frozen=True, eq=False)
class Differential:
    """The count of a slide."""

    shares: tuple[Share, ...]
    """Of the eleven classes, by id."""
    num_cells: int
    """In the count."""
    num_rejected: int
    """Left out: rejected, and not named by a person."""
    expected_rejected: float
    """White cells that are to be expected among them, by what is rejected of the held-out ones."""
    rejected_limit: float
    """What chance alone exceeds in 2.5 % of the cases; more of them are something else."""
    level: float
    """With which all intervals hold at once, or each of them, if not `joint`."""
    joint: bool
    corrected: bool
    """Whether the confusion is taken into account; False: a plain count, with chance alone."""
    misfit: float | None
    """How far the cells are from being the sources' with other shares, in [0, 1]."""
    misfit_limit: float | None
    """What chance alone exceeds in 5 % of the cases."""
    unexplained: float
    """The share of the cells that the model names otherwise than it would with these shares."""
    estimates: tuple[tuple[Floats, Floats], ...]
    """Of each estimator the shares (11,), and resamples (R, 11) that they might have been."""

    @property
    def doubtful(self) -> bool:
        """More than the shares differs from the sources: do not trust shares or intervals."""
        if self.misfit is None or self.misfit_limit is None:
            return False
        return self.misfit > self.misfit_limit or self.unexplained > UNEXPLAINED

    def together(self, classes: Sequence[int]) -> Share:
        """The share of several classes; its interval holds by itself, at `level`."""
        rows = list(classes)
        shares = [self.shares[c] for c in rows]
        sums = [
            (f[rows].sum(keepdims=True), r[:, rows].sum(1, keepdims=True))
            for f, r in self.estimates
        ]
        low, high = _widest(sums, self.num_cells, self.level, self.corrected)
        fraction, counted = float(sums[0][0][0]), sum(share.counted for share in shares)
        known = any(share.identifiable for share in shares)
        return Share(counted, fraction, float(low[0]), float(high[0]), known)


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
    """Shares of the classes among cells, from the model's probabilities (N, 11) of them.

    `corrections` (N,) are class ids by a person, or UNKNOWN; `rejected` (N,) tells which cells the
    model takes for none of its own, and needs to be known of the held-out cells as well. Without
    `held_out` cells are counted, and the intervals know of chance alone. ValueError for no cells,
    for none that is not rejected, or for what is no probability.

    >>> held = HeldOut(np.array([[2.0, 0.0]] * 80 + [[0.0, 2.0]] * 20), np.repeat([0, 1], 50))
    >>> found = differential([[0.8808, 0.1192]] * 80 + [[0.1192, 0.8808]] * 20, held)
    >>> [share.counted for share in found.shares], [round(s.fraction, 1) for s in found.shares]
    ([80, 20], [0.5, 0.5])
    """
    slide = check_slide(probabilities, corrections, rejected)
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1")
    counts = slide.numbers(slide.counted)
    num, seen = int(counts.sum()), np.ones(len(counts), bool)
    if held_out is None:
        shares = counts / num
        drawn = np.random.default_rng(seed).multinomial(num, shares, RESAMPLES) / num
        found = _Found(((shares, drawn),))
    else:
        held = replace(held_out, rejected=None) if rejected is None else held_out
        seen = held.accepted.counts > 0
        found = _find(held, slide, seen, seed)
    each = 1 - (1 - level) / seen.sum() if joint else level
    low, high = _widest(found.estimates, num, each, held_out is not None)
    high[~seen] = 1.0
    rows = zip(counts, found.estimates[0][0], low, high, seen, strict=True)
    return Differential(
        shares=tuple(
            Share(int(c), float(f), float(a), float(b), bool(s)) for c, f, a, b, s in rows
        ),
        num_cells=num,
        num_rejected=int((~slide.counted).sum()),
        expected_rejected=found.expected_rejected,
        rejected_limit=found.rejected_limit,
        level=level,
        joint=joint,
        corrected=held_out is not None,
        misfit=found.misfit,
        misfit_limit=found.misfit_limit,
        unexplained=found.unexplained,
        estimates=found.estimates,
    )


@dataclass(frozen=True)
class _Found:
    """Of a slide, by the model's confusion."""

    estimates: tuple[tuple[Floats, Floats], ...]
    misfit: float | None = None
    misfit_limit: float | None = None
    unexplained: float = 0.0
    expected_rejected: float = 0.0
    rejected_limit: float = 0.0


def _find(held: HeldOut, slide: Slide, seen: Flags, seed: int) -> _Found:
    known, lost = held.accepted, lost_cells(held, slide, seed)
    unnamed = slide.counted & ~slide.named
    # To the likelihood names are evidence like any other; a confusion knows nothing of names.
    rows = ~slide.rejected & (~slide.named | seen[slide.taken])
    first = estimate(ESTIMATORS[0], known, slide, rows, lost, seed)
    other = estimate(ESTIMATORS[1], known, slide, unnamed, lost, seed)
    found = _Found(((first.shares, first.drawn), (other.shares, other.drawn)))
    # Whether the cells are like the sources' is asked of the model's own answers alone.
    own = other.accepted if slide.named.any() else first.accepted
    if own is not None:
        found = replace(
            found,
            misfit=own.misfit,
            misfit_limit=own.misfit_limit,
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


def _unexplained(chances: Floats, held_out: HeldOut, fractions: Floats) -> float:
    """Total variation between the answers (N, C) and those that shares (C,) would give."""
    k = len(fractions)
    pairs = held_out.labels * k + held_out.logits.argmax(1)
    confusion = np.bincount(pairs, minlength=k * k).reshape(k, k).astype(np.float64)
    confusion /= np.maximum(confusion.sum(1, keepdims=True), 1)
    found = np.bincount(chances.argmax(1), minlength=k) / len(chances)
    return float(np.abs(found - fractions @ confusion).sum() / 2)


def _widest(
    estimates: Sequence[tuple[Floats, Floats]], num: int, level: float, corrected: bool
) -> tuple[Floats, Floats]:
    """Low and high (C,) of shares (C,) and resamples (R, C), of every estimator at once."""
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
    """Of estimated shares (C,) with variances `spread` (C,), from `num` cells."""
    # Shares of 0 and 1 vary like that of a single cell: else their interval would be a point.
    variance = np.maximum(fraction, 1 / num) * np.maximum(1 - fraction, 1 / num)
    cells = np.clip(variance / np.maximum(spread, 1e-12), 1, num)
    found, tail = fraction * cells, (1 - level) / 2
    missed = np.maximum(cells - found, 0)
    low = np.where(found > 0, betaincinv(np.maximum(found, 1e-9), missed + 1, tail), 0.0)
    high = np.where(missed > 0, betaincinv(found + 1, np.maximum(missed, 1e-9), 1 - tail), 1.0)
    return np.minimum(low, fraction), np.maximum(high, fraction)
