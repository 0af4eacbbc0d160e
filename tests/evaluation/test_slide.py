"""Counts exclude debris, and include rejected white cells and cells named by a person."""

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binomtest

from hf_wbc.evaluation.differential import Differential, differential
from hf_wbc.evaluation.selective import rejection
from hf_wbc.evaluation.slide import UNKNOWN, HeldOut
from hf_wbc.evaluation.smear_flags import smear_flags
from hf_wbc.taxonomy import ERYTHROBLAST, NUM_CLASSES

from .test_differential import (
    BANDED,
    BLOOD,
    MYELOBLAST,
    SEGMENTED,
    cells,
    per_white,
    shares_of,
    smear,
)

TAUGHT = np.repeat(np.arange(NUM_CLASSES), 120)
PALE = -11.0
"""Added to all logits of band cells, so that they are rejected more often."""


def debris(num: int, rng: np.random.Generator) -> np.ndarray:
    """Draw logits (N, 11) of objects that resemble no class."""
    means = 4.0 * np.eye(NUM_CLASSES)
    return rng.normal(0, 1, (num, NUM_CLASSES)) @ means.T - (means**2).sum(1) / 2


def pale_bands(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw `cells`, with lower logits for band cells but the same probabilities."""
    return cells(labels, rng) + PALE * (labels == BANDED)[:, None]


def known(rng: np.random.Generator, taught: np.ndarray = TAUGHT) -> tuple[HeldOut, float]:
    """Return calibration cells and the rejection threshold."""
    logits = pale_bands(taught, rng)
    found = rejection(logits, 0.05)
    assert found.threshold is not None
    return HeldOut(logits, taught, found.rejects(logits)), found.threshold


def rejects(logits: np.ndarray, limit: float) -> np.ndarray:
    found: np.ndarray = -np.log(np.exp(logits).sum(1)) > limit
    return found


def holds(found: Differential, shares: np.ndarray) -> bool:
    white = per_white(shares)
    return all(a.low <= share <= a.high for a, share in zip(found.shares, white, strict=True))


@pytest.mark.slow
@pytest.mark.ci
def test_intervals_hold_with_debris_only_if_it_is_rejected() -> None:
    rng, shares = np.random.default_rng(0), shares_of(**BLOOD, myeloblast=0.02)
    draws, good, counting_all = 20, 0, 0
    for _ in range(draws):
        held, limit = known(rng)
        logits = np.concatenate([pale_bands(smear(shares, rng), rng), debris(150, rng)])
        chances, away = softmax(logits, axis=1), rejects(logits, limit)
        good += holds(differential(chances, held, rejected=away), shares)
        counting_all += holds(differential(chances, held), shares)
    assert good >= 0.9 * draws
    assert counting_all <= 0.5 * draws


def test_often_rejected_class_is_not_undercounted() -> None:
    rng = np.random.default_rng(1)
    shares = shares_of(neutrophil_segmented=0.6, neutrophil_banded=0.4)
    held, limit = known(rng, TAUGHT.repeat(6))
    labels = smear(shares, rng, 4000)
    logits = pale_bands(labels, rng)
    away = rejects(logits, limit)
    assert away[labels == BANDED].mean() > 0.3 > 0.05 > away[labels == SEGMENTED].mean()
    found = differential(softmax(logits, axis=1), held, rejected=away)
    kept = labels[~away]
    assert (kept == BANDED).mean() < 0.33
    assert found.shares[BANDED].fraction == pytest.approx(0.4, abs=0.04)
    assert found.shares[BANDED].low < 0.4 < found.shares[BANDED].high
    red = found.shares[ERYTHROBLAST].counted
    assert found.num_rejected == away.sum() and found.num_cells + red == len(kept)
    assert sum(share.counted for share in found.shares) == len(kept)
    assert found.expected_rejected == pytest.approx(away.sum(), rel=0.3)
    assert found.num_rejected <= found.rejected_limit


def test_rejected_cells_named_by_a_person_are_counted_once() -> None:
    rng = np.random.default_rng(2)
    shares = shares_of(neutrophil_segmented=0.6, neutrophil_banded=0.4)
    held, limit = known(rng)
    labels = smear(shares, rng, 1000)
    logits = pale_bands(labels, rng)
    chances, away = softmax(logits, axis=1), rejects(logits, limit)
    names = np.where(away, labels, UNKNOWN)
    found = differential(chances, held, corrections=names, rejected=away)
    assert found.num_rejected == 0 and found.num_cells == 1000 and found.expected_rejected == 0
    assert found.shares[BANDED].fraction == pytest.approx((labels == BANDED).mean(), abs=0.06)
    half = np.where(rng.random(1000) < 0.5, names, UNKNOWN)
    found = differential(chances, held, corrections=half, rejected=away)
    assert found.shares[BANDED].fraction == pytest.approx((labels == BANDED).mean(), abs=0.07)


def test_fully_reviewed_sample_has_binomial_intervals_and_no_doubt() -> None:
    rng = np.random.default_rng(3)
    held, limit = known(rng)
    labels = smear(shares_of(neutrophil_segmented=0.7, neutrophil_banded=0.3), rng, 200)
    logits = pale_bands(labels, rng)
    chances, away = softmax(logits, axis=1), rejects(logits, limit)
    found = differential(chances, held, corrections=labels, rejected=away, joint=False)
    exact = binomtest(int((labels == BANDED).sum()), 200).proportion_ci(0.95)
    assert found.shares[BANDED].low == pytest.approx(exact.low, abs=0.02)
    assert found.shares[BANDED].high == pytest.approx(exact.high, abs=0.02)
    assert found.label_shift_ks is None and not found.doubtful


def test_untrained_class_counts_where_a_person_names_it() -> None:
    rng = np.random.default_rng(4)
    held, limit = known(rng, TAUGHT[TAUGHT != MYELOBLAST])
    labels = smear(shares_of(**BLOOD, myeloblast=0.1), rng, 300)
    logits = pale_bands(labels, rng)
    names = np.where(labels == MYELOBLAST, MYELOBLAST, UNKNOWN)
    chances, away = softmax(logits, axis=1), rejects(logits, limit)
    found = differential(chances, held, corrections=names, rejected=away)
    share = found.shares[MYELOBLAST]
    assert share.counted == (labels == MYELOBLAST).sum() and not share.identifiable
    assert share.fraction == pytest.approx((labels == MYELOBLAST).mean(), abs=0.02)
    white = [each.fraction for c, each in enumerate(found.shares) if c != ERYTHROBLAST]
    assert sum(white) == pytest.approx(1)
    (blasts,) = (flag for flag in smear_flags(found, chances) if flag.name == "blasts")
    assert blasts.level == "yes" and f"{share.counted} cells, all named" in blasts.text


@pytest.mark.parametrize(("num", "level"), [(0, "possible"), (150, "doubt")])
def test_rejected_cells_are_listed_and_excess_is_flagged(num: int, level: str) -> None:
    rng = np.random.default_rng(5)
    held, limit = known(rng)
    logits = np.concatenate([pale_bands(smear(shares_of(**BLOOD), rng), rng), debris(num, rng)])
    chances, away = softmax(logits, axis=1), rejects(logits, limit)
    rows = np.flatnonzero(away)
    found = differential(chances, held, rejected=away)
    flags = {flag.name: flag for flag in smear_flags(found, chances, None, rows)}
    assert flags["rejected"].level == level and flags["rejected"].cells == tuple(rows)
    assert f"{len(rows)} cells are unlike" in flags["rejected"].text
    plain = differential(chances, None, rejected=away)
    num_counted = plain.num_cells + plain.shares[ERYTHROBLAST].counted
    assert plain.num_rejected == len(rows) and num_counted == (~away).sum()


def test_invalid_rejections_are_refused() -> None:
    rng = np.random.default_rng(6)
    held, _ = known(rng)
    chances = np.full((3, NUM_CLASSES), 1 / NUM_CLASSES)
    with pytest.raises(ValueError, match="all 3 cells are rejected"):
        differential(chances, held, rejected=[True] * 3)
    with pytest.raises(ValueError, match="unknown which held-out cells"):
        differential(chances, HeldOut(held.logits, held.labels), rejected=[True, False, False])
    for flags in ([True], [0, 1, 2]):
        with pytest.raises(ValueError, match="give one bool per cell"):
            differential(chances, held, rejected=flags)
