"""Images by class and domain: who has which classes, and how unlike the priors are."""

from collections.abc import Mapping
from math import floor, log10

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from hf_wbc.plots.class_names import lineage_order
from hf_wbc.plots.style import CLASS_ROWS_IN, FAINT, INK, class_rows, ink_on
from hf_wbc.taxonomy import NAMES, class_id

ROW_IN = 0.42
COLUMN_IN = 1.25
RIGHT_IN = 1.15
TOP_IN = 0.4
GAP = 0.12
"""Between the matrix and its totals, in rows or columns."""


def draw_class_matrix(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """A heatmap of counts {domain: {class name: images}}, each with its share of the domain.

    Classes stand in the order of lineages, and a class that a domain lacks is left blank.
    ValueError for no domain, an unknown class, and a count below zero.
    """
    table = _table(counts)
    many = len(counts) > 1
    columns = len(counts) + many * (1 + GAP)
    width = CLASS_ROWS_IN + RIGHT_IN + COLUMN_IN * columns
    height = TOP_IN + ROW_IN * (len(NAMES) + 1 + GAP) + 0.1
    figure = Figure(figsize=(width, height))
    frame = (CLASS_ROWS_IN / width, 0.1 / height, 1 - (CLASS_ROWS_IN + RIGHT_IN) / width)
    axes = figure.add_axes((*frame, 1 - (TOP_IN + 0.1) / height))
    axes.set(xlim=(0, columns), ylim=(len(NAMES) + 1 + GAP, 0))
    axes.set(xticks=[], yticks=[])
    axes.set_frame_on(False)
    norm = _norm(table)
    for column, name in enumerate(counts):
        _column(axes, column, name, table[:, column], norm)
    if many:
        _column(axes, len(counts) + GAP, "all", table.sum(1), None)
    class_rows(axes, [NAMES[i] for i in lineage_order(NAMES)], COLUMN_IN)
    low = len(NAMES) + GAP + 0.5
    axes.text(-0.1 / COLUMN_IN, low, "images", ha="right", va="center", size=10, color=INK)
    _bar(figure, norm, width, height)
    return figure


def _table(counts: Mapping[str, Mapping[str, int]]) -> NDArray[np.int64]:
    """Images (11, domains), classes in lineage order."""
    if not counts:
        raise ValueError("no domain to draw; give at least one")
    table = np.zeros((len(NAMES), len(counts)), np.int64)
    for column, (domain, of) in enumerate(counts.items()):
        for name, number in of.items():
            if number < 0:
                raise ValueError(
                    f"{domain} has {number} images of {name}; a count is never below 0"
                )
            table[class_id(name), column] = number
    return table[lineage_order(NAMES)]


def _norm(table: NDArray[np.int64]) -> LogNorm:
    """From the power of ten below the smallest class to the largest class."""
    smallest = table[table > 0].min(initial=max(1, table.max()))
    low = 10 ** floor(log10(smallest))
    return LogNorm(low, max(10 * low, table.max()))


def _column(
    axes: Axes, x: float, name: str, counts: NDArray[np.int64], norm: LogNorm | None
) -> None:
    axes.text(x + 0.5, -0.15, name, ha="center", va="bottom", size=10, weight="bold", color=INK)
    total = int(counts.sum())
    blues = colormaps["Blues"]
    for row, number in enumerate(counts.tolist()):
        colour = blues(norm(number)) if norm and number else "white"
        box = Rectangle((x, row), 1, 1, facecolor=colour, edgecolor="white", linewidth=1.5)
        axes.add_patch(box)
        _entry(axes, x, row + 0.5, number, number / max(total, 1), ink_on(colour))
    low = len(counts) + GAP + 0.5
    axes.text(
        x + 0.5, low, f"{total:,}", ha="center", va="center", size=10, weight="bold", color=INK
    )


def _entry(axes: Axes, x: float, y: float, number: int, share: float, colour: str) -> None:
    if not number:
        axes.text(x + 0.5, y, "–", ha="center", va="center", color=FAINT, size=10)
        return
    axes.text(x + 0.52, y, f"{number:,}", ha="right", va="center", color=colour, size=10)
    percent = f"{share:.1%}" if share >= 0.001 else "<0.1%"
    axes.text(x + 0.95, y, percent, ha="right", va="center", color=colour, size=8.5)


def _bar(figure: Figure, norm: LogNorm, width: float, height: float) -> None:
    place = (1 - 0.95 / width, 0.25, 0.14 / width, 0.55)
    low, high = round(log10(norm.vmin or 1)), floor(log10(norm.vmax or 1))
    ticks = [10**power for power in range(low, high + 1)]
    mappable = ScalarMappable(norm, colormaps["Blues"])
    bar = figure.colorbar(mappable, cax=figure.add_axes(place), ticks=ticks)
    bar.ax.set_yticklabels([f"{tick:,}" for tick in ticks])
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8.5, length=2, labelcolor=INK)
    bar.ax.minorticks_off()
    bar.ax.set_title("images", size=8.5, color=INK, loc="left")
