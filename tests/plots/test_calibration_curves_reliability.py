"""A reliability diagram plots accuracy against confidence, in bins with equal image counts."""

import numpy as np
import pytest
from scipy.stats import binomtest

from hf_wbc.plots.calibration_curves import binned, calibration_gap, draw_reliability, wilson

RNG = np.random.default_rng(0)


def sureness(num: int, right: float) -> tuple[np.ndarray, np.ndarray]:
    return RNG.uniform(0.5, 1, num), RNG.random(num) < right


def test_dots_show_confidence_and_accuracy_of_their_images():
    confidence, right = sureness(200, 0.5)
    figure = draw_reliability({"dann": {"away": (confidence, right)}})
    (curve,) = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    x, y = curve.get_xdata(), curve.get_ydata()
    assert len(x) == 10
    order = np.argsort(confidence)
    for dot, rows in enumerate(order.reshape(10, 20)):
        assert x[dot] == pytest.approx(confidence[rows].mean())
        assert y[dot] == pytest.approx(right[rows].mean())


def test_few_images_give_few_dots():
    assert len(binned(*sureness(61, 0.5))) == 3
    assert len(binned(*sureness(5, 0.5))) == 1


def test_calibration_gap_is_zero_when_calibrated():
    confidence = np.repeat([0.25, 0.75], 40)
    right = np.tile([True, False, False, False], 10).tolist() + [True, True, True, False] * 10
    assert calibration_gap(confidence, np.array(right)) == pytest.approx(0)
    assert calibration_gap(np.ones(40), np.zeros(40, bool)) == 1


def test_bars_match_wilson_intervals():
    for hits, num in ((0, 20), (7, 20), (20, 20)):
        low, high = wilson(np.array([hits / num]), np.array([float(num)]))
        known = binomtest(hits, num).proportion_ci(method="wilson")
        assert (low[0], high[0]) == pytest.approx((known.low, known.high), abs=1e-4)


def test_every_model_has_a_panel_and_legend(legible):
    kinds = {"home": sureness(100, 0.9), "away": sureness(60, 0.2)}
    words = legible(draw_reliability({f"method_{i}": kinds for i in range(6)}))
    assert {f"method_{i}" for i in range(6)} <= set(words)
    assert sum(word.startswith("away: gap") for word in words) == 6


def test_empty_input_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        draw_reliability({})
