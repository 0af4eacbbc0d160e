"""Learning curves of few-shot adaptation: macro-F1 by number of labels, for each laboratory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from hf_wbc.plots.style import CURVES, FAINT, INK, default_settings, panels, save, unframe

__all__ = ["label_curves"]

HEIGHT_IN = 2.3
BELOW_IN = 0.48
NAMES = {"typical_then_margin": "default strategy", "random": "random cells"}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@default_settings()
def label_curves(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw a panel for each laboratory, with a line and the interval of means for each strategy.

    Args:
        rows: Rows of `hf_wbc.labeling.simulate.curve`, of one family of heads.
        path: The image to write.
    """
    laboratories = list(dict.fromkeys(row["laboratory"] for row in rows))
    strategies = list(dict.fromkeys(row["strategy"] for row in rows))
    figure, axes = panels(
        [_title(name, rows) for name in laboratories], min(3, len(laboratories)), HEIGHT_IN,
        low_in=BELOW_IN,
    )  # fmt: skip
    lowest = min(min(row["zero_shot"], row["interval"][0]) for row in rows)
    for panel, laboratory in zip(axes, laboratories, strict=True):
        here = [row for row in rows if row["laboratory"] == laboratory]
        _panel(panel, here, strategies)
        panel.set(
            xlim=(-3, 1.04 * max(row["budget"] for row in rows)), ylim=(lowest - 0.04, 1),
            xticks=sorted({0, *(row["budget"] for row in rows)}),
        )  # fmt: skip
        panel.set_xlabel("labeled cells", size=9.5, color=INK)
        most = max(row["budget"] for row in here)
        if most < max(row["budget"] for row in rows):
            note = panel.text(most + 4, lowest, "too few cells\nfor more labels")
            note.set(size=8.5, color=FAINT, va="bottom", ha="left")
    axes[0].set_ylabel("macro-F1 on test cells", size=9.5, color=INK)
    handles, labels = axes[0].get_legend_handles_labels()
    num = min(row["num_draws"] for row in rows)
    unframe(
        figure.legend(
            handles, labels, fontsize=9, loc="lower center", ncols=3, columnspacing=2.5,
            title=f"Means of {num} random divisions into pool and test cells; bands: 95 % "
            "bootstrap intervals of the means",
            title_fontsize=9,
        )
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)


def _title(laboratory: str, rows: Sequence[Mapping[str, Any]]) -> str:
    num = next(row["num_cells"] for row in rows if row["laboratory"] == laboratory)
    return f"{laboratory} ({num} cells)"


def _panel(axes: Axes, rows: Sequence[Mapping[str, Any]], strategies: Sequence[str]) -> None:
    zero = rows[0]["zero_shot"]
    axes.axhline(
        zero, color=FAINT, linestyle=(0, (4, 3)), linewidth=1.2, label="model without labels"
    )
    for number, strategy in enumerate(strategies):
        mine = sorted(
            (row for row in rows if row["strategy"] == strategy), key=lambda row: row["budget"]
        )
        color = CURVES[number % len(CURVES)]
        x = [0, *(row["budget"] for row in mine)]
        y = [zero, *(row["macro_f1"] for row in mine)]
        low = [zero, *(row["interval"][0] for row in mine)]
        high = [zero, *(row["interval"][1] for row in mine)]
        axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
        axes.plot(
            x, y, color=color, marker=MARKERS[number % len(MARKERS)], markersize=4,
            label=NAMES.get(strategy, strategy),
        )  # fmt: skip
