"""F1 of every class by method, as a heat map: which cells a method wins, and which it loses."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hf_wbc.plots.class_names import LINEAGES, lineage_order, lineage_runs, shown
from hf_wbc.plots.style import INK, ink_on

ROW_IN = 0.29
COLUMN_IN = 0.66
NAMES_IN = 2.3
TOP_IN = 1.5
BELOW_IN = 0.12
RIGHT_IN = 1.0
GAP = 0.18
ABSENT = "#eceef0"


def draw_class_f1(
    methods: Mapping[str, Mapping[str, float]], macro_f1: Mapping[str, float]
) -> Figure:
    """A row for each method, in the order given; {method: {class name: F1}} and macro-F1 by method.

    Columns stand in the order of lineages, macro-F1 first; the best of a column is bold. A class
    that a method has no score of is grey. ValueError for no method.
    """
    if not methods:
        raise ValueError("no method to draw; give at least one")
    classes = list(dict.fromkeys(name for of in methods.values() for name in of))
    classes = [classes[i] for i in lineage_order(classes)]
    columns = len(classes) + 1 + GAP
    width = NAMES_IN + COLUMN_IN * columns + RIGHT_IN
    height = TOP_IN + ROW_IN * len(methods) + BELOW_IN
    figure = Figure(figsize=(width, height))
    frame = (NAMES_IN / width, BELOW_IN / height, COLUMN_IN * columns / width)
    axes = figure.add_axes((*frame, ROW_IN * len(methods) / height))
    axes.set(xlim=(0, columns), ylim=(len(methods), 0), xticks=[], yticks=[])
    axes.set_frame_on(False)
    for row, method in enumerate(methods):
        label = axes.text(-0.12, row + 0.5, method, size=10, color=INK)
        label.set(ha="right", va="center_baseline")
    _column(axes, 0, "macro-F1", [macro_f1.get(method) for method in methods], bold=True)
    for place, name in enumerate(classes):
        values = [of.get(name) for of in methods.values()]
        _column(axes, 1 + GAP + place, shown(name), values)
    for lineage, first, last in lineage_runs(classes):
        bar = Rectangle((1 + GAP + first + 0.05, -0.3), last - first + 0.9, 0.16, linewidth=0)
        bar.set(color=LINEAGES[lineage], clip_on=False)
        axes.add_patch(bar)
    return figure


def _column(
    axes: Axes, x: float, name: str, values: Sequence[float | None], bold: bool = False
) -> None:
    """Squares coloured and written by their F1, below a slanted name."""
    label = axes.text(x + 0.5, -0.42, name, size=10, color=INK)
    label.set(rotation=40, rotation_mode="anchor", ha="left", va="center")
    label.set_fontweight("bold" if bold else "normal")
    blues = colormaps["Blues"]
    rounded = [None if value is None else round(value, 2) for value in values]
    best = max((value for value in rounded if value), default=None)
    for row, value in enumerate(rounded):
        colour = ABSENT if value is None else blues(float(np.clip(value, 0, 1)))
        box = Rectangle((x, row), 1, 1, facecolor=colour, edgecolor="white", linewidth=1)
        axes.add_patch(box)
        words = "–" if value is None else f"{value:.2f}"
        text = axes.text(x + 0.5, row + 0.52, words, size=9, color=ink_on(colour))
        text.set(ha="center", va="center_baseline")
        text.set_fontweight("bold" if value is not None and value == best else "normal")
