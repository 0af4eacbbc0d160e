"""Differential counts separate class shares from confusions, with valid intervals."""

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binomtest

from hf_wbc.evaluation.differential import differential
from hf_wbc.evaluation.slide import UNKNOWN, HeldOut
from hf_wbc.evaluation.smear_flags import smear_flags
from hf_wbc.taxonomy import ERYTHROBLAST, NAMES, NUM_CLASSES, class_id

SEGMENTED, BANDED = class_id("neutrophil_segmented"), class_id("neutrophil_banded")
MYELOBLAST, LYMPHOCYTE = class_id("myeloblast"), class_id("lymphocyte_typical")
CELLS = 500
BLOOD = {
    "neutrophil_segmented": 0.55, "neutrophil_banded": 0.06, "lymphocyte_typical": 0.26,
    "monocyte": 0.06, "eosinophil": 0.03, "basophil": 0.01, "erythroblast": 0.01,
    "metamyelocyte": 0.01, "myelocyte": 0.005, "promyelocyte": 0.005,
}  # fmt: skip


def cells(labels: np.ndarray, rng: np.random.Generator, confused: float = 1.2) -> np.ndarray:
    """Logits (N, 11) of a calibrated classifier that separates band and segmented cells poorly."""
    means = 4.0 * np.eye(NUM_CLASSES)
    means[SEGMENTED, BANDED] = means[BANDED, SEGMENTED] = 4.0 - confused
    noise = rng.normal(0, 1, (len(labels), NUM_CLASSES))
    seen = means[labels] + noise
    return seen @ means.T - (means**2).sum(1) / 2


def smear(shares: np.ndarray, rng: np.random.Generator, num: int = CELLS) -> np.ndarray:
    """Draw labels of cells with these shares."""
    return rng.choice(NUM_CLASSES, num, p=shares)


def shares_of(**of: float) -> np.ndarray:
    shares = np.array([of.get(name, 0.0) for name in NAMES])
    return shares / shares.sum()


@pytest.fixture(scope="module")
def held_out() -> HeldOut:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(NUM_CLASSES), 120)
    return HeldOut(cells(labels, rng), labels)


def naive_holds(labels: np.ndarray, shares: np.ndarray) -> bool:
    """Return whether each class's exact binomial interval of a plain count contains its share."""
    level = 1 - 0.05 / NUM_CLASSES
    counts = np.bincount(labels, minlength=NUM_CLASSES)
    found = [binomtest(int(n), len(labels)).proportion_ci(level) for n in counts]
    return all(one.low <= share <= one.high for one, share in zip(found, shares, strict=True))


def per_white(shares: np.ndarray) -> np.ndarray:
    """Shares per white cell, as a differential reports them."""
    return shares / (1 - shares[ERYTHROBLAST])


def holds(probabilities: np.ndarray, held: HeldOut, shares: np.ndarray) -> bool:
    found = differential(probabilities, held).shares
    white = per_white(shares)
    return all(a.low <= share <= a.high for a, share in zip(found, white, strict=True))


@pytest.mark.slow
@pytest.mark.ci
def test_joint_intervals_hold_where_counting_fails() -> None:
    rng, shares = np.random.default_rng(0), shares_of(**BLOOD, myeloblast=0.02)
    known = np.repeat(np.arange(NUM_CLASSES), 120)
    draws, good, naive = 40, 0, 0
    for _ in range(draws):
        logits = cells(smear(shares, rng), rng)
        held = HeldOut(cells(known, rng), known)
        good += holds(softmax(logits, axis=1), held, shares)
        naive += naive_holds(logits.argmax(1), shares)
    assert good >= 0.9 * draws
    assert naive <= 0.5 * draws


def test_absent_class_is_estimated_as_zero(held_out: HeldOut) -> None:
    rng = np.random.default_rng(3)
    labels = smear(shares_of(neutrophil_segmented=1.0), rng)
    logits = cells(labels, rng)
    found = differential(softmax(logits, axis=1), held_out)
    assert found.shares[BANDED].counted > 20  # the classifier labels many as banded
    assert found.shares[BANDED].fraction < 0.06 and found.shares[BANDED].low == 0
    assert found.shares[SEGMENTED].high > 0.999


def test_fractions_sum_to_one_and_lie_within_their_intervals(held_out: HeldOut) -> None:
    rng = np.random.default_rng(4)
    logits = cells(smear(shares_of(**BLOOD), rng), rng)
    for held, joint in ((held_out, True), (held_out, False), (None, True)):
        found = differential(softmax(logits, axis=1), held, joint=joint)
        white = [share for c, share in enumerate(found.shares) if c != ERYTHROBLAST]
        assert sum(share.fraction for share in white) == pytest.approx(1, abs=1e-9)
        assert sum(share.counted for share in white) == found.num_cells
        assert sum(share.counted for share in found.shares) == CELLS
        for share in found.shares:
            assert 0 <= share.low <= share.fraction <= share.high <= 1
    both = [differential(softmax(logits, axis=1), held_out, joint=j) for j in (True, False)]
    assert both[0].shares[BANDED].high > both[1].shares[BANDED].high


def test_plain_count_has_exact_binomial_intervals() -> None:
    chances = np.eye(NUM_CLASSES)[[0] * 30 + [1] * 70] * 1.0
    found = differential(chances, None, joint=False)
    exact = binomtest(30, 100).proportion_ci(0.95)
    assert found.shares[0].low == pytest.approx(exact.low, abs=0.005)
    assert found.shares[0].high == pytest.approx(exact.high, abs=0.005)
    assert not found.corrected and found.label_shift_ks is None and not found.doubtful


def test_manual_corrections_are_trusted(held_out: HeldOut) -> None:
    rng = np.random.default_rng(5)
    labels = smear(shares_of(neutrophil_segmented=0.7, neutrophil_banded=0.3), rng, 200)
    chances = softmax(cells(labels, rng), axis=1)
    found = differential(chances, held_out, corrections=labels)
    assert found.shares[BANDED].counted == (labels == BANDED).sum()
    assert found.shares[BANDED].fraction == pytest.approx((labels == BANDED).mean(), abs=0.01)
    nobody = np.full(len(labels), UNKNOWN)
    same = differential(chances, held_out, corrections=nobody).shares
    assert same == differential(chances, held_out).shares


def test_erythroblasts_are_counted_apart_from_white_cells(held_out: HeldOut) -> None:
    rng = np.random.default_rng(10)
    white = shares_of(neutrophil_segmented=0.7, lymphocyte_typical=0.3)
    labels = np.concatenate([smear(white, rng, 400), np.full(100, ERYTHROBLAST)])
    chances = softmax(cells(labels, rng), axis=1)
    for held in (held_out, None):
        found = differential(chances, held)
        red = found.shares[ERYTHROBLAST]
        assert found.num_cells == 500 - red.counted
        assert red.fraction == pytest.approx(0.25, abs=0.03) and red.low < 0.25 < red.high
        assert found.nrbc_per_100 == pytest.approx(25, abs=3)
        assert found.white_count_factor == pytest.approx(0.8, abs=0.02)
        assert found.shares[LYMPHOCYTE].fraction == pytest.approx(0.3, abs=0.06)
    few = differential(chances[:400], held_out)
    assert few.nrbc_per_100 < 5 and few.white_count_factor is None
    with pytest.raises(ValueError, match="none of the 9 cells is a white cell"):
        differential(np.eye(NUM_CLASSES)[[ERYTHROBLAST] * 9], None)


def test_estimate_is_shown_only_when_reliable(held_out: HeldOut) -> None:
    rng = np.random.default_rng(11)
    labels = smear(shares_of(neutrophil_segmented=1.0), rng, 3000)
    chances = softmax(cells(labels, rng), axis=1)
    many = np.repeat(np.arange(NUM_CLASSES), 1000)
    found = differential(chances, HeldOut(cells(many, rng), many))
    assert found.shows_estimate and found.mistaken_for[BANDED] == SEGMENTED
    assert found.counted_share(BANDED) > found.shares[BANDED].high
    assert not differential(chances[:40], held_out).shows_estimate
    assert not differential(chances, None).shows_estimate


def test_fully_reviewed_sample_has_estimate_equal_to_count(held_out: HeldOut) -> None:
    rng = np.random.default_rng(12)
    labels = smear(shares_of(**BLOOD, myeloblast=0.02), rng)
    chances = softmax(cells(labels, rng), axis=1)
    rejecting = HeldOut(held_out.logits, held_out.labels, np.arange(len(held_out.labels)) % 5 == 0)
    nothing = np.zeros(len(labels), bool)
    found = differential(chances, rejecting, corrections=labels, rejected=nothing)
    for label, share in enumerate(found.shares):
        assert share.fraction == pytest.approx(found.counted_share(label), abs=1e-6)
        assert share.named == share.counted == (labels == label).sum()


def test_combined_classes_have_narrower_interval_than_each(held_out: HeldOut) -> None:
    rng = np.random.default_rng(9)
    labels = smear(shares_of(neutrophil_segmented=0.8, neutrophil_banded=0.2), rng)
    found = differential(softmax(cells(labels, rng), axis=1), held_out, joint=False)
    both = found.together([SEGMENTED, BANDED])
    assert both.fraction == pytest.approx(1, abs=0.02) and both.counted >= CELLS - 5
    widths = [share.high - share.low for share in (both, found.shares[BANDED])]
    assert widths[0] < 0.05 < widths[1]
    nothing = found.together([MYELOBLAST, LYMPHOCYTE])
    assert nothing.low == 0


def test_untrained_class_is_reported_as_unknown() -> None:
    rng = np.random.default_rng(6)
    known = np.array([c for c in range(NUM_CLASSES) if c != MYELOBLAST]).repeat(60)
    held = HeldOut(cells(known, rng), known)
    chances = softmax(cells(smear(shares_of(**BLOOD), rng, 200), rng), axis=1)
    found = differential(chances, held)
    assert not found.shares[MYELOBLAST].identifiable and found.shares[MYELOBLAST].high == 1
    flags = {flag.name: flag for flag in smear_flags(found, chances)}
    assert flags["blasts"].level == "unseen" and "no myeloblasts were" in flags["blasts"].text


@pytest.mark.parametrize(
    ("shares", "levels"),
    [
        (BLOOD, {}),
        ({**BLOOD, "neutrophil_banded": 0.6}, {"left_shift": "yes"}),
        ({**BLOOD, "erythroblast": 0.3}, {"nrbc": "yes"}),
        ({**BLOOD, "myeloblast": 0.3}, {"blasts": "yes"}),
        ({**BLOOD, "myelocyte": 0.2}, {"left_shift": "yes", "immature": "yes"}),
    ],
)
def test_flags_match_sample_composition(
    held_out: HeldOut, shares: dict[str, float], levels: dict[str, str]
) -> None:
    rng = np.random.default_rng(7)
    labels = smear(shares_of(**shares), rng)
    chances = softmax(cells(labels, rng), axis=1)
    flags = smear_flags(differential(chances, held_out), chances, blasts_from=0.5)
    sure = {flag.name: flag.level for flag in flags if flag.level == "yes"}
    sure.pop("blast_equivalents", None)
    assert sure == levels
    for flag in flags:
        if flag.name == "blasts" and flag.level == "yes":
            assert (labels[list(flag.cells)] == MYELOBLAST).mean() > 0.9


def test_few_cells_and_unknown_confusion_are_flagged() -> None:
    chances = np.eye(NUM_CLASSES)[[SEGMENTED] * 9] * 1.0
    names = [flag.name for flag in smear_flags(differential(chances, None), chances)]
    assert {"uncorrected", "few"} <= set(names)


def test_cells_of_another_laboratory_are_flagged(held_out: HeldOut) -> None:
    rng = np.random.default_rng(8)
    logits = 0.1 * cells(smear(shares_of(**BLOOD), rng), rng)
    found = differential(softmax(logits, axis=1), held_out)
    assert found.doubtful
    assert "label_shift_ks" in [flag.name for flag in smear_flags(found, softmax(logits, axis=1))]


@pytest.mark.parametrize(
    ("probabilities", "more", "said"),
    [
        (np.empty((0, 11)), {}, "have shape"),
        (np.full((3, 11), 0.5), {}, "must sum to 1"),
        (np.full((3, 11), np.nan), {}, "finite and not negative"),
        (np.full((3, 11), 1 / 11), {"corrections": [0]}, "1 corrections for 3 cells"),
        (np.full((3, 11), 1 / 11), {"corrections": [0, 1, 11]}, "must lie in -1..10"),
        (np.full((3, 11), 1 / 11), {"level": 1.0}, "level is 1.0"),
    ],
)
def test_invalid_probabilities_are_refused(
    probabilities: np.ndarray, more: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        differential(probabilities, None, **more)  # type: ignore[arg-type]
