"""Training curves: losses, macro-F1 and unsupervised scores of target images over the steps.

There is one row per run. The second phase, which uses target images only, is shaded, and a line
marks the step whose weights were kept.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from hf_wbc.plots.style import INK, WIDTH_IN, curve_style, default_settings, panels, unframe

HEIGHT_IN = 1.6
LEGEND_ROW_IN = 0.2
LEGEND_COLUMNS = 5
SHADE = "#f3e6d0"
MACRO_F1 = ("source_val", "held_out", "oracle")
"""Scores that are the macro-F1 of labeled images; the others have their own scales."""

History = Sequence[Mapping[str, Any]]
"""The evaluations of a run, as stored in its record."""


@default_settings()
def draw_training(runs: Mapping[str, tuple[History, int]]) -> Figure:
    """Draw the training curves of runs.

    Args:
        runs: By name, the evaluations of a run and the step whose weights were kept.

    Raises:
        ValueError: If there are no runs, or a run has no evaluations.
    """
    if not runs or not all(history for history, _ in runs.values()):
        raise ValueError("no run to draw; give at least one run, each with an evaluation")
    histories = [history for history, _ in runs.values()]
    rules = [name for name in _names(histories, "selection") if name not in (*MACRO_F1, "last")]
    kinds = ("macro-F1, validation", "scores without target labels")
    titles = [caption for name in runs for caption in (name, *kinds)]
    low_in = 0.25 + LEGEND_ROW_IN * -(-(len(rules) + 2) // LEGEND_COLUMNS)
    figure, axes = panels(titles, 3, HEIGHT_IN, low_in)
    for row, (history, kept) in enumerate(runs.values()):
        losses, scores, unlabeled = axes[3 * row : 3 * row + 3]
        for number, name in enumerate(_names([history], "loss")):
            _line(losses, history, "loss", name, name, curve_style(number))
        for number, name in enumerate(n for n in MACRO_F1 if n in _names([history], "selection")):
            caption = {"source_val": "sources", "held_out": "held out"}.get(name, "target (oracle)")
            _line(scores, history, "selection", name, caption, curve_style(number))
        scores.set_ylim(0, 1)
        losses.set_ylabel("loss", size=9, color=INK, labelpad=2)
        for number, name in enumerate(rules):
            _line(unlabeled, history, "selection", name, name, curve_style(number), scaled=True)
        unlabeled.set(ylim=(-0.06, 1.06), yticks=[0, 1])
        unlabeled.set_yticklabels(["least", "most"])
        for panel in (losses, scores, unlabeled):
            _phases(panel, history, kept)
        for panel in (losses, scores):
            if panel.get_legend_handles_labels()[0]:  # no scores without validation images
                unframe(panel.legend(fontsize=8, loc="best", handlelength=1.5, borderpad=0.2))
    _legend(figure, rules, low_in)
    return figure


def _names(histories: Sequence[History], part: str) -> list[str]:
    """Return all names in a part of the evaluations, in order of appearance."""
    return list(dict.fromkeys(n for rows in histories for row in rows for n in row.get(part, {})))


def _line(
    axes: Axes,
    history: History,
    part: str,
    name: str,
    label: str,
    style: Mapping[str, Any],
    scaled: bool = False,
) -> None:
    """Draw the finite values of a curve; `scaled` maps them to [0, 1]."""
    points = [(row["step"], row[part][name]) for row in history if name in row.get(part, {})]
    points = [point for point in points if np.isfinite(point[1])]
    if not points:
        return
    steps, values = np.array(points, dtype=float).T
    if scaled:
        spread = np.ptp(values)
        values = (values - values.min()) / spread if spread else np.full(len(values), 0.5)
    # The losses of the two phases are not comparable, so they are not connected.
    parts = [steps > -1] if part != "loss" else [steps <= _end(history), steps > _end(history)]
    for number, these in enumerate(mask for mask in parts if mask.any()):
        caption = "_" if number else label
        axes.plot(steps[these], values[these], marker=".", ms=5, lw=1.4, label=caption, **style)


def _end(history: History) -> int:
    """Return the last evaluated step of the first phase."""
    return max((row["step"] for row in history if row.get("phase", "fit") == "fit"), default=0)


def _phases(axes: Axes, history: History, kept: int) -> None:
    """Shade the second phase and mark the step that was kept."""
    first, last = _end(history), max(row["step"] for row in history)
    if last > first:
        axes.axvspan(first, last, color=SHADE, linewidth=0, zorder=0)
    axes.axvline(kept, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("step", size=9, color=INK, labelpad=1)


def _legend(figure: Figure, rules: Sequence[str], low_in: float) -> None:
    """Draw the legend of the third column, the shading and the marked step, for all rows."""
    handles: list[Line2D | Patch] = [
        Line2D([], [], marker=".", ms=5, lw=1.4, label=name, **curve_style(number))
        for number, name in enumerate(rules)
    ]
    handles.append(Line2D([], [], color=INK, lw=1, linestyle=(0, (4, 3)), label="selected step"))
    handles.append(Patch(color=SHADE, label="second phase"))
    height = float(figure.get_size_inches()[1])
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.45 / WIDTH_IN, 0.02 / height),
        ncols=LEGEND_COLUMNS,
        fontsize=8.5,
        frameon=False,
    )
