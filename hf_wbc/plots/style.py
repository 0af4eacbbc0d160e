"""Shared style of the plots: size, class rows, panels, and saving.

Figures are WIDTH_IN inches wide; in a README of
850 px, one point of type is then 1.3 px.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib import rc_context, style
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.patches import Rectangle
from matplotlib.typing import ColorType

from hf_wbc.plots.class_names import LINEAGES, display_name, lineage_runs, wrapped_name

WIDTH_IN = 9.0
DPI = 200
CLASS_ROWS_IN = 2.85
CLASS_ROWS_COMPACT_IN = 1.45
INK = "#1f2328"
FAINT = "#8a9199"


@contextmanager
def default_settings() -> Iterator[None]:
    """Draw with the defaults of Matplotlib, also as a decorator.

    Otherwise a `matplotlibrc` in the current or home folder, or a notebook, would change figures.
    """
    with style.context("default"), rc_context({"svg.hashsalt": "hf_wbc"}):
        yield


def class_rows(axes: Axes, names: Sequence[str], unit_in: float, *, compact: bool = False) -> None:
    """Write class names to the left of rows one unit high, and mark their lineages.

    The labels take CLASS_ROWS_IN, or CLASS_ROWS_COMPACT_IN if compact.

    Args:
        axes: Axes with one row per class.
        names: Class names in lineage order.
        unit_in: Width of a unit of the axes in inches.
        compact: Whether to write names in two lines and omit the names of the lineages.
    """
    for row, name in enumerate(names):
        caption = wrapped_name(name) if compact else display_name(name)
        label = axes.text(-0.1 / unit_in, row + 0.5, caption, size=10, color=INK)
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


def mix_colors(color: ColorType, share: float) -> tuple[float, float, float]:
    """Return a color mixed with white; `share` is the fraction of the color."""
    red, green, blue = (1 - share + share * part for part in to_rgb(color))
    return red, green, blue


def ink_on(color: ColorType) -> str:
    """Return the text color, dark or white, with the higher contrast on a background color."""
    return max((INK, "white"), key=lambda ink: contrast(ink, color))


def contrast(one: ColorType, other: ColorType) -> float:
    """Return the contrast ratio of two colors (WCAG 2), from 1 to 21."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: ColorType) -> float:
    parts = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(color))
    return sum(w * part for w, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


@default_settings()
def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG, deterministically.

    Args:
        figure: The figure.
        path: File with the suffix .png or .svg.

    Raises:
        ValueError: If the suffix is different.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise ValueError(f"cannot write {path}; use a .png or .svg file")
    drawn = io.BytesIO()
    stamp = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    figure.savefig(drawn, format=kind, dpi=DPI, facecolor="white", metadata=stamp)
    path.write_bytes(drawn.getvalue())


GRID = "#e6e8eb"
LEFT_IN = 0.8
RIGHT_IN = 0.28
GAP_IN = 0.78
TITLE_IN = 0.42
BELOW_IN = 0.55
# Colors of Okabe & Ito without yellow, which is too pale for lines, and three others.
CURVES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#b8860b", "#56B4E9", "#6b4fa0", "#1f2328")
DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (5, 2)), (0, (1, 1.3)))


def panels(
    titles: Sequence[str], columns: int, height_in: float, low_in: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """Create a figure of page width with a grid of titled panels.

    Args:
        titles: Title of each panel; an empty one is not drawn.
        columns: Panels per row.
        height_in: Height of a panel in inches.
        low_in: Space below all panels in inches.
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
    """Style axes with a faint grid and no box."""
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("bottom", "left"))
        spine.set_color(FAINT)
    axes.tick_params(labelsize=9, labelcolor=INK, color=FAINT)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def curve_style(number: int) -> dict[str, Any]:
    """Return the color and dash of a curve; the first 24 are all different."""
    color = CURVES[number % len(CURVES)]
    return {"color": color, "linestyle": DASHES[number // len(CURVES) % len(DASHES)]}


def unframe(legend: Legend) -> None:
    """Replace the box of a legend by a translucent white background."""
    legend.get_frame().set(edgecolor="none", facecolor="white", alpha=0.8)
