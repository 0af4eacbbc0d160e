"""Risk-coverage curves: errors among the cells that are answered, when the least sure are not.

The further down and the flatter, the better a reject option works; the end on the right is the
error of a model that answers for every cell (El-Yaniv & Wiener 2010).
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from hf_wbc.plots.panels import curve_style, panels
from hf_wbc.plots.style import INK, WIDTH_IN

HEIGHT_IN = 2.7
LEGEND_ROW_IN = 0.22
LEGEND_COLUMNS = 3
LEAST = 10
"""Answered images below which the risk is a matter of chance and is not drawn."""

FINE = 0.05
"""Risk below which its axis tells tenths of a percent."""

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Coverage (N,), ascending to 1 in steps of an image, and the risk (N,) at it."""


def draw_risk_coverage(panel_models: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """A panel for each set of images, by title, and in it a curve for each model.

    The legend gives each curve's area: the mean risk over all coverages. ValueError for none.
    """
    if not panel_models:
        raise ValueError("no images to draw; give at least one panel")
    names = list(dict.fromkeys(name for models in panel_models.values() for name in models))
    low_in = 0.3 + LEGEND_ROW_IN * -(-len(names) // LEGEND_COLUMNS)
    figure, axes = panels(list(panel_models), 2, HEIGHT_IN, low_in)
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
        panel.set_xlabel("cells answered, the surest first", size=9.5, color=INK)
        panel.set_ylabel("errors among them", size=9.5, color=INK)
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
