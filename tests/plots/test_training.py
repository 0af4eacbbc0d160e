"""Training curves show every loss and score by step, and the selected step."""

import math

import pytest
from matplotlib.colors import to_hex

from hf_wbc.plots.training import SHADE, draw_training


def history(second: bool = False) -> list[dict]:
    rows = [
        {
            "step": step,
            "phase": "fit",
            "loss": {"loss": 1 / step, "domain": 0.7},
            "selection": {"source_val": 0.5 + step / 1000, "last": step, "im": step, "oracle": 0.2},
        }
        for step in (100, 200, 300)
    ]
    if second:
        scores = {"source_val": 0.4, "last": 320, "im": -5.0, "oracle": 0.6}
        rows.append({"step": 320, "phase": "adapt", "loss": {"loss": 9.0}, "selection": scores})
    return rows


def shades(axes) -> list:
    return [patch for patch in axes.patches if to_hex(patch.get_facecolor()) == SHADE]


def test_losses_and_scores_are_drawn_at_their_steps(legible):
    figure = draw_training({"dann, seed 0": (history(), 200)})
    losses, scores, _ = figure.axes
    drawn = {line.get_label(): line for line in losses.lines if len(line.get_xdata()) == 3}
    assert drawn["loss"].get_ydata() == pytest.approx([1 / 100, 1 / 200, 1 / 300])
    assert set(drawn) == {"loss", "domain"}
    drawn = {line.get_label(): line for line in scores.lines}
    assert drawn["sources"].get_ydata() == pytest.approx([0.6, 0.7, 0.8])
    assert drawn["target (oracle)"].get_ydata() == pytest.approx([0.2] * 3)
    assert {"dann, seed 0", "im", "selected step", "second phase"} <= set(legible(figure))


def test_selected_step_is_marked_in_every_panel():
    for axes in draw_training({"dann": (history(), 200)}).axes:
        assert [200, 200] in [list(line.get_xdata()) for line in axes.lines]


def test_second_phase_is_shaded_and_its_losses_are_separate():
    figure = draw_training({"shot": (history(second=True), 320), "dann": (history(), 300)})
    assert [bool(shades(axes)) for axes in figure.axes] == [True] * 3 + [False] * 3
    (shade,) = shades(figure.axes[0])
    assert (shade.get_x(), shade.get_x() + shade.get_width()) == (300, 320)
    ends = [list(line.get_xdata()) for line in figure.axes[0].lines]
    assert [320] in ends and not any(300 in end and 320 in end for end in ends)


def test_unlabeled_scores_are_scaled_from_minimum_to_maximum():
    _, _, unlabeled = draw_training({"shot": (history(second=True), 320)}).axes
    (line,) = [line for line in unlabeled.lines if line.get_label() == "im"]
    assert line.get_ydata() == pytest.approx([105 / 305, 205 / 305, 1, 0])


def test_nan_is_not_drawn():
    rows = history()
    rows[1]["selection"]["im"] = math.nan
    _, _, unlabeled = draw_training({"dann": (rows, 300)}).axes
    (line,) = [line for line in unlabeled.lines if line.get_label() == "im"]
    assert list(line.get_xdata()) == [100, 300]


def test_run_without_evaluations_is_refused():
    with pytest.raises(ValueError, match="each with an evaluation"):
        draw_training({"dann": ([], 0)})
