"""How much of each class the background alone gives away."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from hf_wbc.plots.class_names import LINEAGES, lineage_order, lineage_runs
from hf_wbc.plots.style import CLASS_ROWS_IN, FAINT, INK, class_rows

ROW_IN = 0.36
AXIS_IN = 4.6
TOP_IN = 0.4
BELOW_IN = 0.62
RIGHT_IN = 0.8


def draw_background(
    names: Sequence[str],
    recall: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    numbers: Sequence[int],
    chance: float,
) -> Figure:
    """A dot a class: the part of its images that the background names rightly, with 95 % interval.

    `chance` is what guessing reaches, drawn as a line.
    """
    order = lineage_order(names)
    shown_names = [names[i] for i in order]
    width = CLASS_ROWS_IN + AXIS_IN + RIGHT_IN
    height = TOP_IN + ROW_IN * len(names) + BELOW_IN
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes(
        (
            CLASS_ROWS_IN / width,
            BELOW_IN / height,
            AXIS_IN / width,
            ROW_IN * len(names) / height,
        )
    )
    axes.set(xlim=(0, 1), ylim=(len(names), 0), yticks=[])
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.tick_params(labelsize=10, labelcolor=INK, color=FAINT)
    axes.set_xlabel("images whose class the background alone names", size=10, color=INK)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(FAINT)
    axes.grid(axis="x", color="#e6e8eb", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.axvline(chance, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.text(chance, -0.25, f"guessing {chance:.0%}", size=10, color=INK, ha="center", va="bottom")
    lineages = {
        row: run for run, first, last in lineage_runs(shown_names) for row in range(first, last + 1)
    }
    for row, index in enumerate(order):
        colour = LINEAGES[lineages[row]]
        low, high = intervals[index]
        axes.plot([low, high], [row + 0.5] * 2, color=colour, lw=3, solid_capstyle="round")
        axes.plot([recall[index]], [row + 0.5], "o", color=colour, markersize=7, clip_on=False)
        number = axes.text(1.14, row + 0.5, f"{numbers[index]:,}", size=10, color=INK)
        number.set(ha="right", va="center")
    head = axes.text(1.14, -0.25, "images", size=10, color=INK)
    head.set(ha="right", va="bottom")
    class_rows(axes, shown_names, AXIS_IN)
    return figure
