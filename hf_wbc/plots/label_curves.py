"""Learning curves of few-shot adaptation: macro-F1 by number of labels, for each laboratory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from hf_wbc.plots.style import DPI, FAINT, INK, WIDTH_IN

__all__ = ["label_curves"]

COLORS = ("#0757a8", "#b45309", "#15803d", "#7c3aed", "#64748b")
HEIGHT_IN = 3.0


def label_curves(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw a panel for each laboratory, with a line and the interval of means for each strategy.

    Args:
        rows: Rows of `hf_wbc.labeling.simulate.curve`, of one family of heads.
        path: The image to write.
    """
    laboratories = list(dict.fromkeys(row["laboratory"] for row in rows))
    strategies = list(dict.fromkeys(row["strategy"] for row in rows))
    figure = Figure((WIDTH_IN, HEIGHT_IN), layout="constrained")
    panels = figure.subplots(1, len(laboratories), sharey=True, squeeze=False)[0]
    for axes, laboratory in zip(panels, laboratories, strict=True):
        here = [row for row in rows if row["laboratory"] == laboratory]
        zero = here[0]["zero_shot"]
        axes.axhline(zero, color=FAINT, linestyle=":", label="without labels")
        for color, strategy in zip(COLORS, strategies, strict=False):
            mine = sorted(
                (row for row in here if row["strategy"] == strategy), key=lambda row: row["budget"]
            )
            x = [0, *(row["budget"] for row in mine)]
            y = [zero, *(row["macro_f1"] for row in mine)]
            low = [zero, *(row["interval"][0] for row in mine)]
            high = [zero, *(row["interval"][1] for row in mine)]
            axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
            axes.plot(x, y, color=color, marker="o", markersize=3.5, label=strategy)
        axes.set_title(laboratory, size=10, color=INK)
        axes.set_xlabel("labels", size=9, color=INK)
        axes.tick_params(labelsize=8, colors=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e5e7eb", linewidth=0.6)
    panels[0].set_ylabel("macro-F1 on test cells", size=9, color=INK)
    panels[-1].legend(fontsize=8, frameon=False, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)
