"""Two-dimensional maps of cells, such as UMAP embeddings, colored by class or by domain.

Drawn side by side for the same points, the two maps show whether cells cluster by class or by
laboratory.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from hf_wbc.plots.class_names import LINEAGES, display_name, lineage_order
from hf_wbc.plots.style import FAINT, INK, default_settings
from hf_wbc.taxonomy import NAMES

SIDE_IN = 5.2
LEGEND_IN = 2.6
EDGE_IN = 0.12
UNKNOWN = "#c9ced4"
RARE = 0.02
"""Share of all cells below which a kind is drawn on top of the others."""
# The neutrophil line darkens with maturity; other classes keep the color of their lineage.
CLASS_COLORS = {
    "myeloblast": "#a8d52f",
    "promyelocyte": "#66c05a",
    "myelocyte": "#2fae7a",
    "metamyelocyte": "#1b8f86",
    "neutrophil_banded": "#23708e",
    "neutrophil_segmented": "#2c3f7d",
    "eosinophil": "#cc2f78",
    "basophil": "#7d3fa0",
    "monocyte": LINEAGES["monocytic"],
    "erythroblast": LINEAGES["erythroid"],
    "lymphocyte_typical": LINEAGES["lymphoid"],
}
DOMAIN_COLORS = (
    "#0072B2",
    "#E69F00",
    "#CC2F78",
    "#009E73",
    "#6b4fa0",
    "#8c5a2b",
    "#1f2328",
    "#56B4E9",
    "#b0bf1a",
)


@default_settings()
def draw_classes_map(xy: NDArray[np.float32], labels: NDArray[np.int64]) -> Figure:
    """Draw cells in the colors of their classes.

    Args:
        xy: Coordinates (N, 2).
        labels: Class ids (N,); -1 is unlabeled and drawn in gray.
    """
    order = [index for index in lineage_order(NAMES) if (labels == index).any()]
    names = [NAMES[index] for index in order]
    place = np.full(len(NAMES) + 1, -1)
    place[order] = np.arange(len(order))
    colors = [CLASS_COLORS[name] for name in names]
    return _draw(xy, place[labels], [display_name(name) for name in names], colors, "class")


@default_settings()
def draw_domains_map(
    xy: NDArray[np.float32], domains: NDArray[np.int64], names: Sequence[str]
) -> Figure:
    """Draw cells in the colors of their domains.

    Args:
        xy: Coordinates (N, 2).
        domains: Indices into `names` (N,).
        names: Names of the domains.

    Raises:
        ValueError: If there are more domains than distinguishable colors.
    """
    if len(names) > len(DOMAIN_COLORS):
        raise ValueError(
            f"{len(names)} domains, but a map has only {len(DOMAIN_COLORS)} distinguishable "
            "colors; draw fewer at a time"
        )
    return _draw(xy, domains, names, DOMAIN_COLORS, "laboratory")


def _draw(
    xy: NDArray[np.float32],
    kinds: NDArray[np.int64],
    names: Sequence[str],
    colors: Sequence[str],
    heading: str,
) -> Figure:
    if xy.shape != (len(kinds), 2) or not len(kinds):
        raise ValueError(
            f"{len(kinds)} cells and points of shape {xy.shape}; a map needs points (N, 2) of at "
            "least one cell"
        )
    width, height = SIDE_IN + LEGEND_IN, SIDE_IN
    figure = Figure(figsize=(width, height))
    side = SIDE_IN - 2 * EDGE_IN
    frame = (EDGE_IN / width, EDGE_IN / height, side / width, side / height)
    axes = figure.add_axes(frame)
    axes.set(xticks=[], yticks=[])
    axes.set_facecolor("#fbfbfc")
    for spine in axes.spines.values():
        spine.set(color=FAINT, linewidth=0.6)
    _points(axes, xy, kinds, colors)
    _legend(figure, kinds, names, colors, heading)
    return figure


def _points(
    axes: Axes, xy: NDArray[np.float32], kinds: NDArray[np.int64], colors: Sequence[str]
) -> None:
    """Draw points in random order, so that no kind hides another, unlabeled first and rare last."""
    mixed = np.random.default_rng(0).permutation(len(xy))
    rare = np.bincount(kinds + 1, minlength=len(colors) + 1) < RARE * len(xy)
    height = np.where(kinds < 0, 0, 1 + rare[kinds + 1])
    order = mixed[np.argsort(height[mixed], kind="stable")]
    palette = np.array([*colors, UNKNOWN])
    size = float(np.clip(60_000 / len(xy), 2.5, 40))
    axes.scatter(
        xy[order, 0], xy[order, 1], s=size, c=palette[kinds[order]], alpha=0.75, linewidths=0
    )
    axes.margins(0.03)


def _legend(
    figure: Figure,
    kinds: NDArray[np.int64],
    names: Sequence[str],
    colors: Sequence[str],
    heading: str,
) -> None:
    entries = [(name, colors[i], int((kinds == i).sum())) for i, name in enumerate(names)]
    if unknown := int((kinds < 0).sum()):
        entries.append(("no label", UNKNOWN, unknown))
    axes = figure.add_axes(
        (SIDE_IN / (SIDE_IN + LEGEND_IN), 0, LEGEND_IN / (SIDE_IN + LEGEND_IN), 1)
    )
    axes.set(xlim=(0, LEGEND_IN), ylim=(SIDE_IN, 0))
    axes.axis("off")
    axes.text(0.12, 0.3, heading, size=10.5, weight="bold", color=INK, va="center")
    axes.text(LEGEND_IN - 0.12, 0.3, "cells", size=10.5, color=INK, va="center", ha="right")
    for row, (name, color, number) in enumerate(entries):
        y = 0.62 + 0.3 * row
        axes.add_patch(Rectangle((0.12, y - 0.08), 0.16, 0.16, color=color, linewidth=0))
        axes.text(0.36, y, name, size=10.5, color=INK, va="center")
        axes.text(LEGEND_IN - 0.12, y, f"{number:,}", size=10.5, color=INK, va="center", ha="right")
    axes.add_line(Line2D([0.12, LEGEND_IN - 0.12], [0.44, 0.44], color=FAINT, linewidth=0.6))
