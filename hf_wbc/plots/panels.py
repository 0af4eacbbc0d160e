"""Small panels of one kind side by side, each with its title, for curves that are compared."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from hf_wbc.plots.style import FAINT, INK, WIDTH_IN

GRID = "#e6e8eb"
LEFT_IN = 0.8
RIGHT_IN = 0.28
GAP_IN = 0.78
TITLE_IN = 0.42
BELOW_IN = 0.55
# Okabe & Ito's colours without the yellow, which is too pale for a line, and two more.
CURVES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#b8860b", "#56B4E9", "#6b4fa0", "#1f2328")
DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (5, 2)), (0, (1, 1.3)))


def panels(
    titles: Sequence[str], columns: int, height_in: float, low_in: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """A figure as wide as a page with a panel for each title, `columns` in a row.

    Empty titles are left out; `low_in` is room below all panels.
    """
    rows = -(-len(titles) // columns)
    pitch = TITLE_IN + height_in + BELOW_IN
    height = pitch * rows + low_in
    width = (WIDTH_IN - LEFT_IN - RIGHT_IN - GAP_IN * (columns - 1)) / columns
    figure = Figure(figsize=(WIDTH_IN, height))
    made = []
    for place, title in enumerate(titles):
        row, column = divmod(place, columns)
        left = LEFT_IN + column * (width + GAP_IN)
        low = height - pitch * (row + 1) + BELOW_IN
        axes = figure.add_axes(
            (left / WIDTH_IN, low / height, width / WIDTH_IN, height_in / height)
        )
        plain(axes)
        if title:
            label = axes.text(0, 1 + 0.1 / height_in, title, transform=axes.transAxes)
            label.set(size=10, weight="bold", color=INK, va="bottom")
        made.append(axes)
    return figure, made


def plain(axes: Axes) -> None:
    """Axes with a faint grid and no box."""
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("bottom", "left"))
        spine.set_color(FAINT)
    axes.tick_params(labelsize=9, labelcolor=INK, color=FAINT)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def curve_style(number: int) -> dict[str, Any]:
    """Colour and dash of a curve: no two of the first 24 are alike."""
    colour = CURVES[number % len(CURVES)]
    return {"color": colour, "linestyle": DASHES[number // len(CURVES) % len(DASHES)]}


def unframe(legend: Legend) -> None:
    """A legend on a veil of white instead of in a box."""
    legend.get_frame().set(edgecolor="none", facecolor="white", alpha=0.8)
