"""Reliability diagrams and risk-coverage curves of models.

A reliability diagram shows the accuracy of a model against its confidence. On the diagonal the two
agree; below it, the model is overconfident.

A risk-coverage curve shows the error rate among the most confident predictions as more cells are
answered (El-Yaniv & Wiener 2010, "On the foundations of noise-free selective classification"). The
lower and flatter the curve, the better a reject option works. Its right end is the error rate of a
model that answers for every cell.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from hf_wbc.plots.style import (
    CURVES,
    FAINT,
    INK,
    WIDTH_IN,
    curve_style,
    default_settings,
    panels,
    unframe,
)

COLUMNS = 3
HEIGHT_IN = 2.3
NUM_BINS = 10
FEWEST = 20
"""Smallest number of images in a bin."""

Sureness = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""Confidence (N,) in the predicted class, and whether the prediction is correct (N,)."""


@default_settings()
def draw_reliability(models: Mapping[str, Mapping[str, Sureness]]) -> Figure:
    """Draw a reliability diagram for each model.

    Each dot of a curve represents equally many images, and bars are 95 % Wilson intervals. The
    legend gives the mean gap between confidence and accuracy over the dots.

    Args:
        models: By model name, the predictions for each kind of images, such as source and target.

    Raises:
        ValueError: If there are no models.
    """
    if not models:
        raise ValueError("no model to draw; give at least one")
    figure, axes = panels(list(models), min(COLUMNS, max(2, len(models))), HEIGHT_IN)
    for panel, kinds in zip(axes, models.values(), strict=True):
        panel.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        panel.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        panel.set_xlabel("confidence", size=9.5, color=INK)
        panel.set_ylabel("right", size=9.5, color=INK)
        for number, (kind, (confidence, right)) in enumerate(kinds.items()):
            if len(confidence):
                _curve(panel, number, kind, confidence, right)
        _legend(panel)
    return figure


def binned(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], num_bins: int = NUM_BINS
) -> NDArray[np.float64]:
    """Return mean confidence, accuracy and number of images of equally filled bins, (B, 3)."""
    num_bins = max(1, min(num_bins, len(confidence) // FEWEST))
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, num_bins)
    return np.array([(confidence[p].mean(), right[p].mean(), len(p)) for p in parts])


def calibration_gap(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Return the mean gap between confidence and accuracy over the bins, weighted by images."""
    bins = binned(confidence, right)
    return float(np.average(np.abs(bins[:, 0] - bins[:, 1]), weights=bins[:, 2]))


def wilson(
    part: NDArray[np.float64], num: NDArray[np.float64], z: float = 1.96
) -> NDArray[np.float64]:
    """Return the score interval of a proportion (Wilson 1927).

    Args:
        part: Observed proportions (B,).
        num: Numbers of trials (B,).
        z: Quantile of the normal distribution; 1.96 gives 95 % intervals.

    Returns:
        Lower and upper limits (2, B).
    """
    center = (part + z**2 / (2 * num)) / (1 + z**2 / num)
    half = z * np.sqrt(part * (1 - part) / num + z**2 / (4 * num**2)) / (1 + z**2 / num)
    return np.clip(np.stack([center - half, center + half]), 0, 1)


def _curve(
    axes: Axes,
    number: int,
    kind: str,
    confidence: NDArray[np.float64],
    right: NDArray[np.bool_],
) -> None:
    bins = binned(confidence, right)
    low, high = wilson(bins[:, 1], bins[:, 2])
    color = CURVES[number]
    axes.vlines(bins[:, 0], low, high, color=color, linewidth=1.2, alpha=0.55, zorder=2)
    name = f"{kind}: gap {calibration_gap(confidence, right):.2f}"
    marker = "os^D"[number % 4]
    axes.plot(bins[:, 0], bins[:, 1], color=color, marker=marker, ms=4.5, lw=1.6, label=name)


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        unframe(axes.legend(loc="upper left", fontsize=8.5, handlelength=1.6, borderpad=0.2))


RISK_COVERAGE_HEIGHT_IN = 2.7
LEGEND_ROW_IN = 0.22
LEGEND_COLUMNS = 3
LEAST = 10
"""Smallest number of answered images for which the risk is drawn."""

FINE = 0.05
"""Upper limit of the risk axis below which its labels have one decimal."""

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Coverage (N,), ascending to 1 in steps of one image, and the risk (N,) at each coverage."""


@default_settings()
def draw_risk_coverage(panel_models: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """Draw risk-coverage curves, with one panel per set of images.

    The legend gives the area under each curve, the mean risk over all coverages.

    Args:
        panel_models: By panel title, the curve of each model.

    Raises:
        ValueError: If there are no panels.
    """
    if not panel_models:
        raise ValueError("no images to draw; give at least one panel")
    names = list(dict.fromkeys(name for models in panel_models.values() for name in models))
    low_in = 0.3 + LEGEND_ROW_IN * -(-len(names) // LEGEND_COLUMNS)
    figure, axes = panels(list(panel_models), 2, RISK_COVERAGE_HEIGHT_IN, low_in)
    areas: dict[str, list[str]] = {name: [] for name in names}
    for panel, models in zip(axes, panel_models.values(), strict=True):
        for name, (coverage, risk) in models.items():
            shown = coverage * len(risk) >= min(LEAST, len(risk)) - 0.5
            areas[name].append(f"{risk.mean():.3f}")
            panel.plot(coverage[shown], risk[shown], lw=1.7, **curve_style(names.index(name)))
        panel.set(xlim=(0, 1.005), ylim=(0, 1.02 * min(1, panel.get_ylim()[1])))
        panel.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        small = panel.get_ylim()[1] < FINE
        panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=1 if small else 0))
        panel.set_xlabel("fraction of cells classified, most confident first", size=9.5, color=INK)
        panel.set_ylabel("error rate of these cells", size=9.5, color=INK)
    figure.legend(
        handles=[
            Line2D([], [], lw=1.7, label=f"{name}: {', '.join(areas[name])}", **curve_style(number))
            for number, name in enumerate(names)
        ],
        title="areas under the curves" + (", from left to right" if len(axes) > 1 else ""),
        title_fontsize=9,
        alignment="left",
        loc="lower left",
        bbox_to_anchor=(0.6 / WIDTH_IN, 0.01),
        ncols=LEGEND_COLUMNS,
        fontsize=9,
        frameon=False,
    )
    return figure
