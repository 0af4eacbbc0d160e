"""Stress curves show every severity with its interval, and the baseline where there is one."""

from typing import Any

from hf_wbc.plots.stress_curves import draw_stress_curves, title

LEVELS = {"noise": [0.02, 0.05, 0.1, 0.2], "jpeg": [75, 40, 20, 8]}


def scores(macro_f1: float) -> dict[str, Any]:
    return {"macro_f1": macro_f1, "interval": [macro_f1 - 0.1, macro_f1 + 0.05], "ece": 0.1}


def record(**more: Any) -> dict[str, Any]:
    return {
        "clean": scores(0.9),
        "curves": {name: [scores(0.8 - 0.1 * i) for i in range(4)] for name in LEVELS},
        "corruptions": {name: {"levels": levels} for name, levels in LEVELS.items()},
        **more,
    }


def test_each_corruption_has_a_panel_with_clean_and_four_severities() -> None:
    noise, jpeg = draw_stress_curves(record()).axes
    assert [label.get_text() for label in noise.get_xticklabels()] == [
        "clean", "0.02", "0.05", "0.1", "0.2",
    ]  # fmt: skip
    drawn = {line.get_label(): list(line.get_ydata()) for line in jpeg.lines}
    assert drawn["macro-F1"][0] == 0.9 and len(drawn["macro-F1"]) == 5
    assert drawn["calibration error"] == [0.1] * 5


def test_baseline_is_a_third_curve() -> None:
    curves = {name: [0.7, 0.6, 0.5, 0.4] for name in LEVELS}
    figure = draw_stress_curves(record(baseline={"clean": 0.8, "curves": curves}))
    for axes in figure.axes:
        assert list(axes.lines[-1].get_ydata()) == [0.8, 0.7, 0.6, 0.5, 0.4]
    assert len(figure.legends[0].get_texts()) == 3


def test_corruption_names_become_titles() -> None:
    assert (title("jpeg"), title("off_center")) == ("JPEG", "off center")
