"""Class distributions: counts by domain, information in the background, and prior shift."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from hf_wbc.plots.class_names import LINEAGES, lineage_order, lineage_runs
from hf_wbc.plots.style import (
    CLASS_ROWS_IN,
    CURVES,
    FAINT,
    GRID,
    INK,
    class_rows,
    default_settings,
    ink_on,
)
from hf_wbc.taxonomy import NAMES, class_id

TOP_IN = 0.5


ROW_IN = 0.42
COLUMN_IN = 1.25
RIGHT_IN = 1.15
GAP = 0.12
"""Gap between the matrix and its totals, in rows or columns."""


@default_settings()
def draw_class_matrix(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """Draw a heatmap of the number of images by class and domain.

    Each entry also shows the class's share of the domain. Classes are sorted by lineage, and
    classes that a domain lacks are left blank.

    Args:
        counts: Number of images, as {domain: {class name: images}}.

    Raises:
        ValueError: If there are no domains, a class is unknown, or a count is negative.
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
    """Return the number of images (11, domains), with classes in lineage order."""
    if not counts:
        raise ValueError("no domain to draw; give at least one")
    table = np.zeros((len(NAMES), len(counts)), np.int64)
    for column, (domain, of) in enumerate(counts.items()):
        for name, number in of.items():
            if number < 0:
                raise ValueError(
                    f"{domain} has {number} images of {name}; counts must not be negative"
                )
            table[class_id(name), column] = number
    return table[lineage_order(NAMES)]


def _norm(table: NDArray[np.int64]) -> LogNorm:
    """Return a log scale from the power of ten below the smallest count to the largest count."""
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
        color = blues(norm(number)) if norm and number else "white"
        box = Rectangle((x, row), 1, 1, facecolor=color, edgecolor="white", linewidth=1.5)
        axes.add_patch(box)
        _entry(axes, x, row + 0.5, number, number / max(total, 1), ink_on(color))
    low = len(counts) + GAP + 0.5
    axes.text(
        x + 0.5, low, f"{total:,}", ha="center", va="center", size=10, weight="bold", color=INK
    )


def _entry(axes: Axes, x: float, y: float, number: int, share: float, color: str) -> None:
    if not number:
        axes.text(x + 0.5, y, "–", ha="center", va="center", color=FAINT, size=10)
        return
    axes.text(x + 0.52, y, f"{number:,}", ha="right", va="center", color=color, size=10)
    percent = f"{share:.1%}" if share >= 0.001 else "<0.1%"
    axes.text(x + 0.95, y, percent, ha="right", va="center", color=color, size=8.5)


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


BACKGROUND_ROW_IN = 0.36
AXIS_IN = 4.6
BELOW_IN = 0.62
BACKGROUND_RIGHT_IN = 0.8


@default_settings()
def draw_background(
    names: Sequence[str],
    recall: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    numbers: Sequence[int],
    chance: float,
) -> Figure:
    """Draw, for each class, how often a classifier names it correctly from the background alone.

    Args:
        names: Class names.
        recall: Recall of each class.
        intervals: 95 % interval of each recall.
        numbers: Number of images of each class.
        chance: Recall of random guessing, drawn as a line.
    """
    order = lineage_order(names)
    shown_names = [names[i] for i in order]
    width = CLASS_ROWS_IN + AXIS_IN + BACKGROUND_RIGHT_IN
    height = TOP_IN + BACKGROUND_ROW_IN * len(names) + BELOW_IN
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes(
        (
            CLASS_ROWS_IN / width,
            BELOW_IN / height,
            AXIS_IN / width,
            BACKGROUND_ROW_IN * len(names) / height,
        )
    )
    axes.set(xlim=(0, 1), ylim=(len(names), 0), yticks=[])
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.tick_params(labelsize=10, labelcolor=INK, color=FAINT)
    axes.set_xlabel("images whose class is predicted from the background alone", size=10, color=INK)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(FAINT)
    axes.grid(axis="x", color="#e6e8eb", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.axvline(chance, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.text(chance, -0.25, f"chance {chance:.0%}", size=10, color=INK, ha="center", va="bottom")
    lineages = {
        row: run for run, first, last in lineage_runs(shown_names) for row in range(first, last + 1)
    }
    for row, index in enumerate(order):
        color = LINEAGES[lineages[row]]
        low, high = intervals[index]
        axes.plot([low, high], [row + 0.5] * 2, color=color, lw=3, solid_capstyle="round")
        axes.plot([recall[index]], [row + 0.5], "o", color=color, markersize=7, clip_on=False)
        number = axes.text(1.14, row + 0.5, f"{numbers[index]:,}", size=10, color=INK)
        number.set(ha="right", va="center")
    head = axes.text(1.14, -0.25, "images", size=10, color=INK)
    head.set(ha="right", va="bottom")
    class_rows(axes, shown_names, AXIS_IN)
    return figure


PRIOR_SHIFT_ROW_IN = 0.44
PRIOR_SHIFT_AXIS_IN = 5.9
PRIOR_SHIFT_RIGHT_IN = 0.25
PRIOR_SHIFT_BELOW_IN = 0.55
SOURCE = "#8a9199"
TRUE = INK
MARKERS = "osD^"


@dataclass(frozen=True)
class Estimate:
    """Class priors estimated without labels."""

    priors: NDArray[np.float64]
    """Priors (K,)."""
    interval: NDArray[np.float64]
    """Lower and upper limits of the priors (2, K)."""


@default_settings()
def draw_prior_shift(
    names: Sequence[str],
    source: NDArray[np.float64],
    target: NDArray[np.float64] | None,
    estimates: Mapping[str, Estimate],
) -> Figure:
    """Draw the class priors of the source and the target, and estimates of the latter.

    Args:
        names: Class names (K).
        source: Priors of the source (K,).
        target: True priors of the target (K,); None if its labels are unknown.
        estimates: Estimates of the target priors by name.

    Raises:
        ValueError: If the number of priors differs from the number of names.
    """
    for shares in (source, target, *(estimate.priors for estimate in estimates.values())):
        if shares is not None and shares.shape != (len(names),):
            raise ValueError(f"proportions have shape {shares.shape} for {len(names)} classes")
    order = lineage_order(names)
    figure, axes = _prior_shift_axes(len(names))
    middles = np.arange(len(names)) + 0.5
    for label, shares, color, size in (
        ("source", source, SOURCE, 22),
        ("target, true", target, TRUE, 14),
    ):
        if shares is not None:
            axes.plot(shares[order], middles, "|", color=color, ms=size, mew=3, label=label)
    for number, (label, estimate) in enumerate(estimates.items()):
        y = middles + 0.22 * (number - (len(estimates) - 1) / 2)
        low, high = estimate.interval[:, order]
        color = CURVES[number]
        axes.hlines(y, low, high, color=color, linewidth=1.8, alpha=0.6)
        mark = MARKERS[number % len(MARKERS)]
        axes.plot(
            estimate.priors[order], y, mark, color=color, ms=5, ls="", label=f"estimated, {label}"
        )
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=2 + len(estimates),
        fontsize=9,
        frameon=False,
        handletextpad=0.2,
        columnspacing=1.1,
        markerscale=0.62,
    )
    class_rows(axes, [names[i] for i in order], PRIOR_SHIFT_AXIS_IN / 1.02)
    return figure


def _prior_shift_axes(num_classes: int) -> tuple[Figure, Axes]:
    """Return an empty figure with a row for each class and shares from 0 to 100 % along x."""
    width = CLASS_ROWS_IN + PRIOR_SHIFT_AXIS_IN + PRIOR_SHIFT_RIGHT_IN
    height = TOP_IN + PRIOR_SHIFT_ROW_IN * num_classes + PRIOR_SHIFT_BELOW_IN
    figure = Figure(figsize=(width, height))
    frame = (CLASS_ROWS_IN / width, PRIOR_SHIFT_BELOW_IN / height, PRIOR_SHIFT_AXIS_IN / width)
    axes = figure.add_axes((*frame, PRIOR_SHIFT_ROW_IN * num_classes / height))
    axes.set(xlim=(-0.01, 1.01), ylim=(num_classes, 0), yticks=[])
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.tick_params(labelsize=10, labelcolor=INK, color=FAINT)
    axes.set_xlabel("fraction of the images", size=10, color=INK)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(FAINT)
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for row in range(1, num_classes):
        axes.axhline(row, color=GRID, linewidth=0.7)
    return figure, axes
