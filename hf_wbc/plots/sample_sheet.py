"""A sheet of sample cells with classes in rows, domains in blocks of columns, and 25 um squares.

All frames of known scale are drawn to the same scale, so that cells of different laboratories are
comparable. The square marks what training sees.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from hf_wbc.plots.class_names import lineage_order
from hf_wbc.plots.style import (
    CLASS_ROWS_COMPACT_IN,
    FAINT,
    INK,
    WIDTH_IN,
    class_rows,
    default_settings,
)
from hf_wbc.taxonomy import class_id

BAR_UM = 10.0
TOP_IN = 0.55
NARROWEST_IN = 0.7
WIDEST_IN = 1.2
FILL = 0.95
"""Fraction of a slot that the widest frame fills."""
PALE = 0.5
"""Fraction of its color that a frame keeps outside the square."""
GAP = 0.25
"""Gap between two domains, in columns."""


@dataclass(frozen=True)
class Frame:
    """An original frame."""

    pixels: NDArray[np.uint8]
    """Pixels (H, W, 3), uint8."""
    label: str
    """Class name."""
    domain: str
    """Name of the domain."""
    um_per_px: float | None
    """Scale in um per pixel; None if unknown because the cell fills the frame (no square drawn)."""


@default_settings()
def draw_sample_sheet(
    frames: Iterable[Frame], per_class: int = 4, square_um: float = 25.0
) -> Figure:
    """Draw the first frames of each class and domain.

    Classes are sorted by lineage, and classes without a frame are omitted.

    Args:
        frames: Frames to choose from.
        per_class: Largest number of frames per class and domain.
        square_um: Side of the marked square in um.

    Raises:
        ValueError: If there are no frames, a class is unknown, a scale is not positive, or pixels
            are not RGB.
    """
    if per_class < 1:
        raise ValueError(f"per_class is {per_class}; it must be at least 1")
    groups = _grouped(frames, per_class)
    names = list(dict.fromkeys(label for _, label in groups))
    names = [names[i] for i in lineage_order(names)]
    domains = list(dict.fromkeys(domain for domain, _ in groups))
    figure, axes, slot_in = _grid(names, len(domains), per_class)
    view_um = max(_widest_um(frame, square_um) for row in groups.values() for frame in row)
    if any(frame.um_per_px for row in groups.values() for frame in row):
        _key(axes, view_um, square_um, slot_in)
    for block, domain in enumerate(domains):
        start = block * (per_class + GAP)
        middle = start + per_class / 2
        label = axes.text(middle, -0.22 / slot_in, domain, size=10, weight="bold", color=INK)
        label.set(ha="center", va="bottom")
        if not any(f.um_per_px for (of, _), row in groups.items() if of == domain for f in row):
            note = axes.text(middle, -0.06 / slot_in, "scale unknown", size=9, color=INK)
            note.set(ha="center", va="bottom")
        for row, name in enumerate(names):
            for column, frame in enumerate(groups.get((domain, name), ())):
                _draw(axes, frame, start + column + 0.5, row + 0.5, view_um, square_um)
            if (domain, name) not in groups:
                nothing = axes.text(middle, row + 0.5, "none", size=9, color=FAINT)
                nothing.set(ha="center", va="center")
    return figure


def _grouped(frames: Iterable[Frame], per_class: int) -> dict[tuple[str, str], list[Frame]]:
    """Return the frames to draw by domain and class."""
    groups: dict[tuple[str, str], list[Frame]] = {}
    for frame in frames:
        class_id(frame.label)
        if frame.pixels.ndim != 3 or frame.pixels.shape[2] != 3:
            raise ValueError(f"a frame of {frame.domain} has shape {frame.pixels.shape}, not RGB")
        if frame.um_per_px is not None and not 0 < frame.um_per_px < inf:
            raise ValueError(f"a frame of {frame.domain} has um_per_px {frame.um_per_px}")
        group = groups.setdefault((frame.domain, frame.label), [])
        if len(group) < per_class:
            group.append(frame)
    if not groups:
        raise ValueError("no frame to draw; give at least one")
    return groups


def _grid(names: Sequence[str], num_domains: int, per_class: int) -> tuple[Figure, Axes, float]:
    """Return a figure, axes with slots one unit wide and high, and the inches of a unit."""
    columns = per_class * num_domains + GAP * (num_domains - 1)
    slot_in = min(WIDEST_IN, max(NARROWEST_IN, (WIDTH_IN - CLASS_ROWS_COMPACT_IN - 0.1) / columns))
    width, side = CLASS_ROWS_COMPACT_IN + slot_in * columns + 0.1, slot_in * len(names)
    height = TOP_IN + side + 0.1
    figure = Figure(figsize=(width, height))
    place = (CLASS_ROWS_COMPACT_IN / width, 0.1 / height, slot_in * columns / width, side / height)
    axes = figure.add_axes(place)
    axes.set(xlim=(0, columns), ylim=(len(names), 0), xticks=[], yticks=[])
    axes.set_frame_on(False)
    class_rows(axes, names, slot_in, compact=True)
    return figure, axes, slot_in


def _size_um(frame: Frame, square_um: float) -> tuple[float, float]:
    """Return width and height in um; a frame of unknown scale is as wide as the square."""
    height, width = frame.pixels.shape[:2]
    scale = frame.um_per_px or square_um / max(height, width)
    return width * scale, height * scale


def _widest_um(frame: Frame, square_um: float) -> float:
    return max(_size_um(frame, square_um))


def _draw(axes: Axes, frame: Frame, x: float, y: float, view_um: float, square_um: float) -> None:
    """Draw a frame centered at (x, y), with paler colors outside its square."""
    per_um = FILL / view_um
    half_x, half_y = (size * per_um / 2 for size in _size_um(frame, square_um))
    extent = (x - half_x, x + half_x, y + half_y, y - half_y)
    if frame.um_per_px is None:
        axes.imshow(frame.pixels, extent=extent, aspect="auto")
        return
    axes.imshow(_paled(frame, square_um), extent=extent, aspect="auto")
    side = square_um * per_um
    square = Rectangle((x - side / 2, y - side / 2), side, side, fill=False, linewidth=0.9)
    square.set_edgecolor(INK)
    axes.add_patch(square)


def _paled(frame: Frame, square_um: float) -> NDArray[np.uint8]:
    """Return the pixels, mixed with white outside the central square."""
    assert frame.um_per_px is not None
    height, width = frame.pixels.shape[:2]
    half = square_um / frame.um_per_px / 2
    rows, columns = (np.abs(np.arange(n) + 0.5 - n / 2) < half for n in (height, width))
    inside = (rows[:, None] & columns)[..., None]
    pale = 255 - (255 - frame.pixels.astype(np.float32)) * PALE
    paled: NDArray[np.uint8] = np.where(inside, frame.pixels, pale).astype(np.uint8)
    return paled


def _key(axes: Axes, view_um: float, square_um: float, slot_in: float) -> None:
    """Draw the scale bar and the size of the square above the class names."""
    left, length = -1.35 / slot_in, BAR_UM / view_um * FILL
    axes.plot(
        [left, left + length],
        [-0.37 / slot_in] * 2,
        color=INK,
        lw=2.5,
        solid_capstyle="butt",
        clip_on=False,
    )
    for caption, x, y_in in (
        (f"{BAR_UM:g} µm", left + length + 0.08 / slot_in, 0.37),
        (f"square {square_um:g} µm", left, 0.15),
    ):
        axes.text(x, -y_in / slot_in, caption, size=9, color=INK, va="center")
