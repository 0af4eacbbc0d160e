"""The confusion matrix in lineage order, and the F1 of each class by method as a heatmap.

Lineage order places neighboring stages of the neutrophil line side by side, and the block of each
lineage is framed, so errors outside all frames are confusions between lineages.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from hf_wbc.plots.class_names import LINEAGES, display_name, lineage_order, lineage_runs
from hf_wbc.plots.style import CLASS_ROWS_IN, INK, class_rows, default_settings, ink_on

ABSENT = "#eceef0"


CELL_IN = 0.52
TOP_IN = 1.0
BELOW_IN = 1.62
RIGHT_IN = 0.95


@default_settings()
def draw_confusion(scores: Mapping[str, Any], title: str = "") -> Figure:
    """Draw a confusion matrix with true classes in rows and predicted classes in columns.

    Each entry shows the percentage of its row and the count. Rows of classes without images are
    gray.

    Args:
        scores: Result of `hf_wbc.evaluation.metrics.score`, of which `confusion`, `class_names`,
            `macro_f1`, `num_classes`, `accuracy`, `num_images` and `merge` are used.
        title: Title of the figure.
    """
    order = lineage_order(scores["class_names"])
    names = [scores["class_names"][i] for i in order]
    counts = np.array(scores["confusion"])[np.ix_(order, order)]
    side = CELL_IN * len(names)
    width, height = CLASS_ROWS_IN + side + RIGHT_IN, TOP_IN + side + BELOW_IN
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((CLASS_ROWS_IN / width, BELOW_IN / height, side / width, side / height))
    axes.set(xlim=(0, len(names)), ylim=(len(names), 0), xticks=[], yticks=[])
    axes.set_frame_on(False)
    _cells(axes, counts)
    for lineage, first, last in lineage_runs(names):
        _frame(axes, lineage, first, last)
    class_rows(axes, names, CELL_IN)
    for column, name in enumerate(names):
        label = axes.text(column + 0.62, len(names) + 0.15, display_name(name), size=10, color=INK)
        label.set(rotation=45, rotation_mode="anchor", ha="right", va="center")
    for row, support in enumerate(counts.sum(1).tolist()):
        caption = axes.text(len(names) + 0.15, row + 0.5, f"{support:,}", size=10, color=INK)
        caption.set(va="center")
    axes.text(len(names) + 0.15, -0.15, "images", size=9, color=INK, va="bottom")
    axes.text(-0.2, -0.15, "true", size=9, color=INK, ha="right", va="bottom")
    axes.text(0, -0.15, "predicted, % of the row", size=9, color=INK, va="bottom")
    _heading(figure, scores, title, height)
    return figure


def _cells(axes: Axes, counts: NDArray[np.int64]) -> None:
    blues = colormaps["Blues"]
    for row, line in enumerate(counts.tolist()):
        support = sum(line)
        for column, number in enumerate(line):
            share = number / support if support else 0.0
            color = blues(share) if support else ABSENT
            box = Rectangle((column, row), 1, 1, facecolor=color, edgecolor="white", linewidth=1)
            axes.add_patch(box)
            if number:
                _entry(axes, column + 0.5, row + 0.5, share, number, ink_on(color))


def _entry(axes: Axes, x: float, y: float, share: float, number: int, color: str) -> None:
    percent = f"{100 * share:.0f}" if share >= 0.005 else "<1"
    axes.text(x, y - 0.12, percent, ha="center", va="center", size=10.5, color=color)
    axes.text(x, y + 0.25, f"{number:,}", ha="center", va="center", size=7.5, color=color)


def _frame(axes: Axes, lineage: str, first: int, last: int) -> None:
    size = last - first + 1
    box = Rectangle((first, first), size, size, fill=False, linewidth=2, clip_on=False, zorder=3)
    box.set_edgecolor(LINEAGES[lineage])
    axes.add_patch(box)


def _heading(figure: Figure, scores: Mapping[str, Any], title: str, height: float) -> None:
    line = (
        f"macro-F1 {scores['macro_f1']:.3f} over {scores['num_classes']} classes, "
        f"accuracy {scores['accuracy']:.3f}, {scores['num_images']:,} images"
    )
    for row, (caption, weight) in enumerate(((title, "bold"), (line, "normal"))):
        text = figure.text(0.02, 1 - (0.1 + 0.25 * row) / height, caption, size=12, color=INK)
        text.set(weight=weight, va="top")
    if scores["merge"]:
        pairs = (pair.split("=") for pair in scores["merge"])
        note = "; ".join(f"{a.strip()} is merged into {b.strip()}" for a, b in pairs)
        figure.text(0.02, 0.1 / height, note, size=9, color=INK, va="bottom")


ROW_IN = 0.29
COLUMN_IN = 0.66
NAMES_IN = 2.3
CLASS_F1_TOP_IN = 1.5
CLASS_F1_BELOW_IN = 0.12
CLASS_F1_RIGHT_IN = 1.0
GAP = 0.18


@default_settings()
def draw_class_f1(
    methods: Mapping[str, Mapping[str, float]], macro_f1: Mapping[str, float]
) -> Figure:
    """Draw a heatmap of F1 by method and class, with macro-F1 in the first column.

    Classes are sorted by lineage, and the best value of each column is bold. A class for which a
    method has no score is gray.

    Args:
        methods: F1, as {method: {class name: F1}}, in the order of the rows.
        macro_f1: Macro-F1 by method.

    Raises:
        ValueError: If there are no methods.
    """
    if not methods:
        raise ValueError("no method to draw; give at least one")
    classes = list(dict.fromkeys(name for of in methods.values() for name in of))
    classes = [classes[i] for i in lineage_order(classes)]
    columns = len(classes) + 1 + GAP
    width = NAMES_IN + COLUMN_IN * columns + CLASS_F1_RIGHT_IN
    height = CLASS_F1_TOP_IN + ROW_IN * len(methods) + CLASS_F1_BELOW_IN
    figure = Figure(figsize=(width, height))
    frame = (NAMES_IN / width, CLASS_F1_BELOW_IN / height, COLUMN_IN * columns / width)
    axes = figure.add_axes((*frame, ROW_IN * len(methods) / height))
    axes.set(xlim=(0, columns), ylim=(len(methods), 0), xticks=[], yticks=[])
    axes.set_frame_on(False)
    for row, method in enumerate(methods):
        label = axes.text(-0.12, row + 0.5, method, size=10, color=INK)
        label.set(ha="right", va="center_baseline")
    _column(axes, 0, "macro-F1", [macro_f1.get(method) for method in methods], bold=True)
    for place, name in enumerate(classes):
        values = [of.get(name) for of in methods.values()]
        _column(axes, 1 + GAP + place, display_name(name), values)
    for lineage, first, last in lineage_runs(classes):
        bar = Rectangle((1 + GAP + first + 0.05, -0.3), last - first + 0.9, 0.16, linewidth=0)
        bar.set(color=LINEAGES[lineage], clip_on=False)
        axes.add_patch(bar)
    return figure


def _column(
    axes: Axes, x: float, name: str, values: Sequence[float | None], bold: bool = False
) -> None:
    """Draw a column of F1 values as colored squares below a slanted name."""
    label = axes.text(x + 0.5, -0.42, name, size=10, color=INK)
    label.set(rotation=40, rotation_mode="anchor", ha="left", va="center")
    label.set_fontweight("bold" if bold else "normal")
    blues = colormaps["Blues"]
    rounded = [None if value is None else round(value, 2) for value in values]
    best = max((value for value in rounded if value), default=None)
    for row, value in enumerate(rounded):
        color = ABSENT if value is None else blues(float(np.clip(value, 0, 1)))
        box = Rectangle((x, row), 1, 1, facecolor=color, edgecolor="white", linewidth=1)
        axes.add_patch(box)
        caption = "–" if value is None else f"{value:.2f}"
        text = axes.text(x + 0.5, row + 0.52, caption, size=9, color=ink_on(color))
        text.set(ha="center", va="center_baseline")
        text.set_fontweight("bold" if value is not None and value == best else "normal")
