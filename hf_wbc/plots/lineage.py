"""Diagram of the eleven classes in the tree of blood cells, with the neutrophil line in stages."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from hf_wbc.plots.cells import draw_cell
from hf_wbc.plots.class_names import LINEAGES, display_name, wrapped_name
from hf_wbc.plots.style import FAINT, INK, WIDTH_IN, default_settings, mix_colors
from hf_wbc.taxonomy import CLASSES, class_id

HEIGHT_IN = 6.0
PER_UM = 0.046
"""Inches per um; all coordinates below are in inches."""
BAND_X = (1.55, 8.9)
BLOOD_X = 6.34
DASHED = (0, (4, 2))
# Band of each lineage as (bottom, top).
BANDS = {
    "lymphoid": (4.94, 5.62),
    "erythroid": (4.18, 4.84),
    "monocytic": (3.22, 4.08),
    "granulocytic": (0.1, 3.12),
}
# End points of the lineages as (x, y), with earlier stages that are not classes.
ROWS = {
    "lymphocyte_typical": (8.3, 5.28, "lymphoblast, prolymphocyte"),
    "erythroblast": (5.69, 4.51, "proerythroblast"),
    "monocyte": (8.3, 3.65, "monoblast, promonocyte"),
    "eosinophil": (8.3, 2.76, "eosinophilic myelocyte to band"),
    "basophil": (8.3, 2.08, "basophilic myelocyte to band"),
}
# Positions of the stages of the neutrophil line.
CHAIN_X = (2.2, 3.38, 4.54, 5.69, 7.05, 8.3)
CHAIN_Y = 1.14
# Progenitors as (x, y, x of the fork, label); a fork leads to the next node and the rows above.
STEM = (0.2, 4.9, 0.42, "stem\ncell")
MYELOID = (0.62, 4.1, 0.86, "myeloid")
GRANULOCYTE_MONOCYTE = (1.06, 3.0, 1.3, "granulocyte-\nmonocyte")


@default_settings()
def draw_lineage() -> Figure:
    """Draw the diagram, with the id of each class and the stages of the neutrophil line."""
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH_IN), ylim=(0, HEIGHT_IN), aspect="equal")
    axes.axis("off")
    for name, (bottom, top) in BANDS.items():
        _band(axes, name, bottom, top)
    _tree(axes)
    for name, (x, y, before) in ROWS.items():
        _row(axes, name, x, y, before)
    _chain(axes)
    _margins(axes)
    return figure


def _band(axes: Axes, name: str, bottom: float, top: float) -> None:
    left, right = BAND_X
    shape = FancyBboxPatch(
        (left + 0.08, bottom + 0.08),
        right - left - 0.16,
        top - bottom - 0.16,
        boxstyle="round,pad=0.08",
        facecolor=mix_colors(LINEAGES[name], 0.14),
        linewidth=0,
        zorder=0,
    )
    axes.add_patch(shape)
    label = axes.text(left + 0.12, top - 0.15, name, color=INK, size=10)
    label.set(weight="bold", va="center")


def _tree(axes: Axes) -> None:
    end = BAND_X[0]
    rows = {name: y for name, (_, y, _) in ROWS.items()}
    granulocytes = [rows["monocyte"], rows["eosinophil"], rows["basophil"], CHAIN_Y]
    _fork(axes, STEM, [(end, rows["lymphocyte_typical"]), MYELOID[:2]])
    _fork(axes, MYELOID, [(end, rows["erythroblast"]), GRANULOCYTE_MONOCYTE[:2]])
    _fork(axes, GRANULOCYTE_MONOCYTE, [(end, y) for y in granulocytes])


def _fork(
    axes: Axes, node: tuple[float, float, float, str], ends: list[tuple[float, float]]
) -> None:
    x, y, fork, label = node
    axes.plot([x, fork], [y, y], color=FAINT, lw=1.5, zorder=1)
    for end_x, end_y in ends:
        axes.plot([fork, fork, end_x], [y, end_y, end_y], color=FAINT, lw=1.5, zorder=1)
    axes.plot(x, y, "o", color=FAINT, ms=9, zorder=2)
    caption = axes.text(fork - 0.04, y - 0.14, label, color=INK, size=8.5, linespacing=1.0)
    caption.set(ha="right", va="top")


def _row(axes: Axes, name: str, x: float, y: float, before: str) -> None:
    cell = CLASSES[class_id(name)]
    color = LINEAGES[cell.lineage]
    radius = draw_cell(axes, name, x, y, PER_UM)
    label_x = x - radius - 0.12
    start, stop = BAND_X[0], BLOOD_X - 0.1 if x > BLOOD_X else label_x - 1.85
    axes.plot([start, stop], [y, y], color=color, lw=1.5, ls=DASHED, zorder=1)
    text = axes.text(
        (start + stop + 0.9) / 2, y + 0.05, before, color=INK, size=8.5, style="italic"
    )
    text.set(ha="center", va="bottom")
    caption = axes.text(label_x, y + 0.02, display_name(name), size=10, weight="bold", color=INK)
    caption.set(ha="right", va="bottom")
    number = axes.text(label_x, y - 0.03, f"class {class_id(name)}", size=9, color=INK)
    number.set(ha="right", va="top")
    if x < BLOOD_X:
        axes.annotate(
            "",
            (8.75, y),
            (x + radius + 0.08, y),
            arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.5, "ls": DASHED},
        )
        after = axes.text(
            BLOOD_X + 0.15, y + 0.05, "reticulocyte, erythrocyte", color=INK, size=8.5
        )
        after.set(style="italic", va="bottom")


def _chain(axes: Axes) -> None:
    color = LINEAGES["granulocytic"]
    stages = sorted((cell for cell in CLASSES if cell.maturation), key=lambda c: c.maturation or 0)
    edge = BAND_X[0]
    for cell, x in zip(stages, CHAIN_X, strict=True):
        radius = draw_cell(axes, cell.name, x, CHAIN_Y, PER_UM)
        arrow = {"arrowstyle": "-|>,head_width=0.3,head_length=0.5", "color": color, "lw": 2}
        start, stop = (edge, CHAIN_Y), (x - radius - 0.03, CHAIN_Y)
        axes.annotate("", stop, start, arrowprops={**arrow, "shrinkA": 0, "shrinkB": 0})
        edge = x + radius + 0.03
        badge = (x - 0.75 * radius - 0.03, CHAIN_Y + 0.75 * radius + 0.03)
        axes.plot(*badge, "o", color=color, ms=13, zorder=4)
        number = axes.text(*badge, str(cell.maturation), color="white", size=9, weight="bold")
        number.set(ha="center", va="center_baseline", zorder=5)
        caption = wrapped_name(cell.name)
        label = axes.text(x, 0.66, caption, size=10, weight="bold", color=INK, linespacing=1.0)
        label.set(ha="center", va="top")
        low = 0.66 - 0.17 * len(caption.split("\n"))
        axes.text(x, low, f"class {class_id(cell.name)}", size=9, color=INK, ha="center", va="top")


def _margins(axes: Axes) -> None:
    axes.plot([BLOOD_X] * 2, [0.1, 5.9], color=FAINT, lw=0.9, ls=(0, (1, 2)), zorder=1)
    axes.text(BLOOD_X - 0.1, 5.8, "bone marrow", ha="right", va="center", color=INK, size=9)
    axes.text(BLOOD_X + 0.1, 5.8, "blood", ha="left", va="center", color=INK, size=9)
    key = "numbers: stages of\nthe neutrophil line\ndashed: stages that\nare not classes"
    axes.text(0.1, 0.14, key, va="bottom", color=INK, size=8.5, linespacing=1.2)
    bar = 10 * PER_UM
    axes.plot([8.8 - bar, 8.8], [5.8, 5.8], color=INK, lw=3, solid_capstyle="butt")
    axes.text(8.72 - bar, 5.8, "10 µm", ha="right", va="center", color=INK, size=9)
