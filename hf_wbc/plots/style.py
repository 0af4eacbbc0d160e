"""What all figures share: size, class rows, panels, and saving.

A figure is WIDTH_IN inches wide; at a README's 850 px, a point of type is then 1.3 px.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.patches import Rectangle
from matplotlib.typing import ColorType

from hf_wbc.plots.class_names import LINEAGES, display_name, lineage_runs

WIDTH_IN = 9.0
DPI = 200
CLASS_ROWS_IN = 2.85
CLASS_ROWS_COMPACT_IN = 1.45
INK = "#1f2328"
FAINT = "#8a9199"


def class_rows(axes: Axes, names: Sequence[str], unit_in: float, *, compact: bool = False) -> None:
    """Write class names, in lineage order, left of rows one unit high, and mark the lineages.

    `unit_in` is the width of the axes' unit in inches; the writing takes CLASS_ROWS_IN, or, in two
    lines and without the lineages' names, CLASS_ROWS_COMPACT_IN.
    """
    for row, name in enumerate(names):
        words = display_name(name).replace(", ", ",\n") if compact else display_name(name)
        label = axes.text(-0.1 / unit_in, row + 0.5, words, size=10, color=INK)
        label.set(ha="right", va="center")
    x = -(1.35 if compact else 1.84) / unit_in
    for lineage, first, last in lineage_runs(names):
        bar = Rectangle((x, first + 0.08), 0.06 / unit_in, last - first + 0.84, linewidth=0)
        bar.set(color=LINEAGES[lineage], clip_on=False)
        axes.add_patch(bar)
        if not compact:
            middle = (first + last + 1) / 2
            label = axes.text(x - 0.08 / unit_in, middle, lineage, size=9, color=INK)
            label.set(ha="right", va="center")


def mix_colors(colour: ColorType, share: float) -> tuple[float, float, float]:
    """A colour's `share` mixed with white."""
    red, green, blue = (1 - share + share * part for part in to_rgb(colour))
    return red, green, blue


def ink_on(colour: ColorType) -> str:
    """The type that stands out more on a colour: dark, or white."""
    return max((INK, "white"), key=lambda ink: contrast(ink, colour))


def contrast(one: ColorType, other: ColorType) -> float:
    """The contrast of two colours (WCAG 2), from 1 to 21."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: ColorType) -> float:
    parts = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(colour))
    return sum(w * part for w, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


def save(figure: Figure, path: Path) -> None:
    """Write a PNG or an SVG, the same bytes for the same figure; ValueError for another suffix."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise ValueError(f"cannot draw {path}; name a .png or .svg file")
    drawn = io.BytesIO()
    stamp = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with rc_context({"svg.hashsalt": "hf_wbc"}):
        figure.savefig(drawn, format=kind, dpi=DPI, facecolor="white", metadata=stamp)
    path.write_bytes(drawn.getvalue())


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
        plain_axes(axes)
        if title:
            label = axes.text(0, 1 + 0.1 / height_in, title, transform=axes.transAxes)
            label.set(size=10, weight="bold", color=INK, va="bottom")
        made.append(axes)
    return figure, made


def plain_axes(axes: Axes) -> None:
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
