"""The class-prior figure shows shares and estimates of every class in its row."""

import numpy as np
import pytest

from hf_wbc.plots.class_distribution import Estimate, draw_prior_shift
from hf_wbc.plots.class_names import lineage_order
from hf_wbc.taxonomy import NAMES

SHARES = np.arange(1, 12) / 66
ESTIMATE = Estimate(SHARES[::-1], np.stack([SHARES[::-1] / 2, SHARES[::-1] * 2]))


def lines(figure) -> dict:
    return {line.get_label(): line for line in figure.axes[0].lines}


def test_every_share_is_in_the_row_of_its_class():
    found = lines(draw_prior_shift(NAMES, SHARES, SHARES[::-1], {"EM": ESTIMATE}))
    order = lineage_order(NAMES)
    assert found["source"].get_xdata() == pytest.approx(SHARES[order])
    assert found["target, true"].get_xdata() == pytest.approx(SHARES[::-1][order])
    assert found["estimated, EM"].get_xdata() == pytest.approx(SHARES[::-1][order])
    assert found["source"].get_ydata() == pytest.approx(np.arange(11) + 0.5)


def test_intervals_are_drawn_behind_their_estimates():
    (bars,) = draw_prior_shift(NAMES, SHARES, None, {"EM": ESTIMATE}).axes[0].collections
    order = lineage_order(NAMES)
    ends = np.array([segment[:, 0] for segment in bars.get_segments()])
    assert ends == pytest.approx(ESTIMATE.interval.T[order])


def test_unlabeled_target_has_no_true_shares(legible):
    words = legible(draw_prior_shift(NAMES, SHARES, None, {"BBSE": ESTIMATE, "EM": ESTIMATE}))
    assert "target, true" not in words
    assert {"source", "estimated, BBSE", "estimated, EM", "monocyte"} <= set(words)


def test_shares_of_other_classes_are_refused():
    with pytest.raises(ValueError, match="for 2 classes"):
        draw_prior_shift(NAMES[:2], SHARES, None, {})
