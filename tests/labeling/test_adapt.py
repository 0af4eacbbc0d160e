"""Labels help or change nothing: the guard, missing classes, and what is saved."""

import numpy as np
import pytest

from hf_wbc.labeling.adapt import adapt, quick_head
from hf_wbc.labeling.few_shot import FAMILIES
from hf_wbc.labeling.pool import Ids, Pool
from tests.support.shifted_laboratory import (
    LYMPHOCYTE,
    MONOCYTE,
    MYELOBLAST,
    SEGMENTED,
    laboratory,
    source_head,
)


def first(pool: Pool, num: int) -> tuple[Ids, Ids]:
    rows = np.arange(num)
    return rows, pool.labels[rows]


def test_labels_of_shifted_laboratory_change_the_head() -> None:
    pool = laboratory()
    found = adapt(pool, *first(pool, 50), source_head())
    rest = np.arange(50, len(pool))
    right = found.logits(pool.features[rest]).argmax(1) == pool.labels[rest]
    before = pool.logits[rest].argmax(1) == pool.labels[rest]
    assert found.is_adapted and right.mean() > before.mean() + 0.1
    assert found.gain > found.standard_error


def test_source_head_is_kept_where_already_right() -> None:
    pool = laboratory(shift=0.0)
    found = adapt(pool, *first(pool, 50), source_head())
    assert not found.is_adapted and "stays" in found.sentences[-1]
    assert np.allclose(found.logits(pool.features), pool.logits, atol=1e-3)
    assert np.allclose(found.held_out_logits, pool.logits[:50], atol=1e-3)


def test_contradictory_labels_change_nothing() -> None:
    pool = laboratory(shift=0.0)
    wrong = np.random.default_rng(0).permutation(pool.labels[:40])
    assert not adapt(pool, np.arange(40), wrong, source_head()).is_adapted


@pytest.mark.parametrize("labels", [[SEGMENTED] * 30, [SEGMENTED, MONOCYTE] * 3])
def test_one_class_or_few_labels_change_nothing(labels: list[int]) -> None:
    pool = laboratory()
    found = adapt(pool, np.arange(len(labels)), np.array(labels), source_head())
    assert not found.is_adapted and "stays" in found.sentences[-1]


def test_missing_class_is_predicted_after_three_labels() -> None:
    shares = {SEGMENTED: 0.4, LYMPHOCYTE: 0.3, MYELOBLAST: 0.3}
    pool = laboratory(shares=shares)
    blasts = np.flatnonzero(pool.labels == MYELOBLAST)
    others = np.flatnonzero(pool.labels != MYELOBLAST)[:20]
    for num, is_predicted in ((2, False), (4, True)):
        rows = np.concatenate([others, blasts[:num]])
        found = adapt(pool, rows, pool.labels[rows], source_head())
        names = found.logits(pool.features[blasts[4:]]).argmax(1)
        assert (names == MYELOBLAST).any() == is_predicted
        assert any("needs" in each for each in found.sentences) != is_predicted


def test_held_out_logits_come_from_heads_not_trained_on_the_cell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A head that learns meaningless labels by heart is no better than chance on held-out cells."""
    monkeypatch.setitem(FAMILIES, "logistic", (FAMILIES["logistic"][0], ((0.0, 1e-6),)))  # type: ignore[index]
    pool = laboratory(30)
    noise = np.random.default_rng(1).choice([SEGMENTED, MONOCYTE], 30)
    found = adapt(pool, np.arange(30), noise, source_head(), guard=-1e9)
    assert (found.logits(pool.features).argmax(1) == noise).mean() > 0.85
    assert (found.held_out_logits.argmax(1) == noise).mean() < 0.7


def test_quick_head_works_without_labels() -> None:
    pool = laboratory()
    none = np.empty(0, np.int64)
    head = quick_head(pool, none, none, source_head())
    assert np.allclose(head.logits(pool.features.astype(np.float64)), pool.logits, atol=1e-3)


def test_unknown_family_is_reported() -> None:
    pool = laboratory(30)
    with pytest.raises(ValueError, match="logistic"):
        adapt(pool, *first(pool, 20), source_head(), family="logistics")
