"""Curves of macro-F1 and calibration error over the severity of corruptions."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_wbc.plots.style import CURVES, FAINT, INK, default_settings, panels, unframe

COLUMNS = 4
HEIGHT_IN = 1.45


@default_settings()
def draw_stress_curves(record: Mapping[str, Any]) -> Figure:
    """Draw a panel for each corruption: macro-F1 with its 95 % interval, and calibration error.

    Args:
        record: Record of a stress test, with `clean`, `curves`, `corruptions` and, where there is
            one, `baseline`.
    """
    names = list(record["curves"])
    figure, axes = panels([title(name) for name in names], COLUMNS, HEIGHT_IN, low_in=0.35)
    baseline = record.get("baseline")
    for place, (panel, name) in enumerate(zip(axes, names, strict=True)):
        scores = [record["clean"], *record["curves"][name]]
        _panel(panel, scores, record["corruptions"][name]["levels"])
        if baseline is not None:
            others = [baseline["clean"], *baseline["curves"][name]]
            panel.plot(range(5), others, color=FAINT, linewidth=1.4, label="baseline's macro-F1")
        if place % COLUMNS == 0:
            panel.set_ylabel("score", size=9.5, color=INK)
    handles, labels = axes[0].get_legend_handles_labels()
    unframe(figure.legend(handles, labels, fontsize=9, loc="lower left", ncols=len(handles)))
    return figure


def title(name: str) -> str:
    """Return the name of a corruption as a title: `off center`, `JPEG`."""
    return {"jpeg": "JPEG"}.get(name, name.replace("_", " "))


def _panel(axes: Axes, scores: Sequence[Mapping[str, Any]], levels: Sequence[float]) -> None:
    places = range(len(scores))
    low, high = zip(*(each["interval"] for each in scores), strict=True)
    axes.fill_between(places, low, high, color=CURVES[0], alpha=0.15, linewidth=0)
    macro_f1 = [each["macro_f1"] for each in scores]
    axes.plot(places, macro_f1, color=CURVES[0], marker="o", markersize=3, label="macro-F1")
    ece = [each["ece"] for each in scores]
    axes.plot(
        places, ece, color=CURVES[1], linestyle=(0, (4, 2)), marker="s", markersize=2.5,
        linewidth=1.2, label="calibration error",
    )  # fmt: skip
    axes.set(ylim=(0, 1.02), xlim=(-0.2, 4.2), xticks=list(places))
    axes.set_xticklabels(["clean", *(f"{level:g}" for level in levels)], size=8)
