"""Class-prior shift: the parts of the classes at home and away, and what was estimated of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from hf_wbc.plots.class_names import lineage_order
from hf_wbc.plots.panels import CURVES, GRID
from hf_wbc.plots.style import CLASS_ROWS_IN, FAINT, INK, class_rows

ROW_IN = 0.44
AXIS_IN = 5.9
RIGHT_IN = 0.25
TOP_IN = 0.5
BELOW_IN = 0.55
SOURCE = "#8a9199"
TRUE = INK
MARKERS = "osD^"


@dataclass(frozen=True)
class Estimate:
    """Priors (K,) estimated without labels, with their interval (2, K)."""

    priors: NDArray[np.float64]
    interval: NDArray[np.float64]


def draw_prior_shift(
    names: Sequence[str],
    source: NDArray[np.float64],
    target: NDArray[np.float64] | None,
    estimates: Mapping[str, Estimate],
) -> Figure:
    """Shares (K,) of classes `names` in the source and, where labels are known, in the target.

    Below each other stand the target's true share and every estimate with its interval. ValueError
    for shares of another number than the names.
    """
    for shares in (source, target, *(estimate.priors for estimate in estimates.values())):
        if shares is not None and shares.shape != (len(names),):
            raise ValueError(f"shares of shape {shares.shape} for {len(names)} classes")
    order = lineage_order(names)
    width = CLASS_ROWS_IN + AXIS_IN + RIGHT_IN
    height = TOP_IN + ROW_IN * len(names) + BELOW_IN
    figure = Figure(figsize=(width, height))
    frame = (CLASS_ROWS_IN / width, BELOW_IN / height, AXIS_IN / width)
    axes = figure.add_axes((*frame, ROW_IN * len(names) / height))
    axes.set(xlim=(-0.01, 1.01), ylim=(len(names), 0), yticks=[])
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.tick_params(labelsize=10, labelcolor=INK, color=FAINT)
    axes.set_xlabel("part of the images", size=10, color=INK)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(FAINT)
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for row in range(1, len(names)):
        axes.axhline(row, color=GRID, linewidth=0.7)
    middles = np.arange(len(names)) + 0.5
    for label, shares, colour, size in (
        ("source", source, SOURCE, 22),
        ("target, true", target, TRUE, 14),
    ):
        if shares is not None:
            axes.plot(shares[order], middles, "|", color=colour, ms=size, mew=3, label=label)
    for number, (label, estimate) in enumerate(estimates.items()):
        y = middles + 0.22 * (number - (len(estimates) - 1) / 2)
        low, high = estimate.interval[:, order]
        colour = CURVES[number]
        axes.hlines(y, low, high, color=colour, linewidth=1.8, alpha=0.6)
        mark = MARKERS[number % len(MARKERS)]
        axes.plot(
            estimate.priors[order], y, mark, color=colour, ms=5, ls="", label=f"estimated, {label}"
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
    class_rows(axes, [names[i] for i in order], AXIS_IN / 1.02)
    return figure
