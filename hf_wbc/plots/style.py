"""What the pictures share: colours that colour-blind readers can tell apart, names, and saving.

A picture is WIDTH_IN inches wide; at a README's 850 px a point of type is then 1.3 px.
"""

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.typing import ColorType

from hf_wbc.plots.class_names import LINEAGES, lineage_runs, shown

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
        words = shown(name).replace(", ", ",\n") if compact else shown(name)
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


def mixed(colour: ColorType, share: float) -> tuple[float, float, float]:
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
