"""Risk-coverage curves plot the given risks and state their areas."""

import numpy as np
import pytest

from hf_wbc.plots.calibration_curves import LEAST, draw_risk_coverage

COVERAGE = np.arange(1, 101) / 100


def test_curve_starts_where_there_are_enough_images(legible):
    risk = np.linspace(0, 0.5, 100)
    figure = draw_risk_coverage({"away, test": {"dann": (COVERAGE, risk)}})
    (line,) = figure.axes[0].lines
    assert line.get_xdata() == pytest.approx(COVERAGE[LEAST - 1 :])
    assert line.get_ydata() == pytest.approx(risk[LEAST - 1 :])
    assert "dann: 0.250" in legible(figure)


def test_areas_are_listed_in_order_of_panels(legible):
    low, high = np.full(100, 0.1), np.full(100, 0.8)
    models = {f"method_{i}": (COVERAGE, low) for i in range(6)}
    worse = {name: (COVERAGE, high) for name in models}
    words = legible(draw_risk_coverage({"home, test": models, "away, test": worse}))
    assert {"home, test", "away, test", "method_5: 0.100, 0.800"} <= set(words)


def test_small_risks_are_shown_in_tenths_of_a_percent(legible):
    words = legible(draw_risk_coverage({"home": {"dann": (COVERAGE, COVERAGE / 50)}}))
    assert "0.5%" in words


def test_curves_of_different_models_are_distinguishable():
    models = {str(i): (COVERAGE, COVERAGE / (i + 1)) for i in range(12)}
    lines = draw_risk_coverage({"home": models}).axes[0].lines
    assert len({(line.get_color(), str(line.get_linestyle())) for line in lines}) == 12


def test_empty_input_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        draw_risk_coverage({})
