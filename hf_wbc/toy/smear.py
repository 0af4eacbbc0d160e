"""A field of a smear: red cells and platelets around one white cell."""

import numpy as np

from hf_wbc.toy.canvas import (
    FIELD_UM,
    PX_PER_UM,
    Dye,
    Plane,
    axes_um,
    blank,
    bump,
    coverage,
    enlarge,
    noise,
    polar,
    wobble,
)
from hf_wbc.toy.drawing import Cell, draw_cell

Rng = np.random.Generator
Place = tuple[float, float, float]
"""x, y and radius of a cell, in um from the center of the field."""

COARSE = 2
RED_CELLS_PER_UM2 = 0.0117
PLATELETS_PER_UM2 = 0.0006
LEVELS = np.linspace(0, 1.2, 512, dtype=np.float32)
"""Distances from the center of a red cell, relative to its outline."""


def draw_field(
    cell_class: str, rng: Rng, crowding: float = 1.0, view_um: float = FIELD_UM
) -> Plane:
    """Return planes of dye (dyes, n, n) of a square of `view_um`, with the cell near the center.

    `crowding` scales the number of red cells; 1 covers about half of the free area.
    """
    cell = draw_cell(cell_class, rng)
    x, y = rng.normal(0, 0.45, 2)
    field = blank(round(view_um * PX_PER_UM))
    white = (float(x), float(y), cell.radius_um)
    places = _places(rng, white, crowding, view_um)
    field[Dye.HEMOGLOBIN] = _red_cells(rng, places, field.shape[1])
    for _ in range(rng.poisson(PLATELETS_PER_UM2 * view_um**2)):
        _platelet(rng, field, white)
    _paste(field, cell, white)
    return field


def _places(rng: Rng, white: Place, crowding: float, view_um: float) -> list[Place]:
    """Return positions of red cells: beside the white cell, rarely overlapping."""
    reach = view_um / 2 + 2
    num = int(rng.poisson(RED_CELLS_PER_UM2 * crowding * (2 * reach) ** 2))
    x, y = rng.uniform(-reach, reach, (2, 5 * num))
    radius = rng.normal(3.6, 0.12) * rng.normal(1, 0.06, 5 * num)
    closeness = np.where(rng.random(5 * num) < 0.12, 0.55, 0.95)
    free = np.hypot(x - white[0], y - white[1]) > 0.97 * (radius + white[2])
    x, y, radius, closeness = (values[free] for values in (x, y, radius, closeness))
    apart = np.hypot(x[:, None] - x, y[:, None] - y)
    clash = apart < closeness[:, None] * (radius[:, None] + radius)
    taken: list[int] = []
    for candidate in range(len(x)):
        if len(taken) < num and not clash[candidate, taken].any():
            taken.append(candidate)
    return [(float(x[i]), float(y[i]), float(radius[i])) for i in taken]


def _red_cells(rng: Rng, places: list[Place], num_px: int) -> Plane:
    """Return hemoglobin (num_px, num_px) of biconcave discs, drawn on a coarser lattice."""
    coarse_px = -(-num_px // COARSE)
    step_um = num_px / PX_PER_UM / coarse_px
    line = ((np.arange(coarse_px) + 0.5 - coarse_px / 2) * step_um).astype(np.float32)
    plane = np.zeros((coarse_px, coarse_px), np.float32)
    outlines = wobble(rng, len(places), 0.024, 0.07)
    thickness = _thickness(rng, np.array(places, np.float32).reshape(-1, 3)[:, 2:])
    for (cx, cy, radius), outline, thick in zip(places, outlines, thickness, strict=True):
        across = slice(*np.searchsorted(line, (cx - 1.3 * radius, cx + 1.3 * radius)))
        down = slice(*np.searchsorted(line, (cy - 1.3 * radius, cy + 1.3 * radius)))
        x, y = line[None, across] - np.float32(cx), line[down, None] - np.float32(cy)
        distance, limit = polar(x, y, outline)
        level = distance / limit * np.float32(len(LEVELS) / (LEVELS[-1] * radius))
        plane[down, across] += thick.take(level.astype(np.int32), mode="clip")
    return enlarge(plane, num_px)


def _thickness(rng: Rng, radius: Plane) -> Plane:
    """Return the hemoglobin (N, levels) at each of `LEVELS` of cells of radius (N, 1) um.

    Cells have a rim, and most have a pale center.
    """
    pallor = np.where(
        rng.random(radius.shape) < 0.8,
        rng.uniform(0.35, 0.85, radius.shape),
        rng.uniform(0, 0.3, radius.shape),
    )
    inside = radius * (1 - LEVELS)
    hollow = radius * (rng.uniform(0.3, 0.6, radius.shape).astype(np.float32) - LEVELS)
    rim = bump(inside - 0.45, 0.35)
    amount = rng.normal(1, 0.08, radius.shape) * (1 - pallor * coverage(hollow, 0.9) + 0.22 * rim)
    return np.asarray(amount * coverage(inside, 0.2), np.float32)


def _platelet(rng: Rng, field: Plane, white: Place) -> None:
    """Add a small granular violet platelet, unless it would touch the white cell."""
    reach = field.shape[1] / PX_PER_UM / 2 - 3
    x, y = rng.uniform(-reach, reach, 2)
    radius = rng.uniform(0.7, 1.4)
    if np.hypot(x - white[0], y - white[1]) < white[2] + radius + 0.5:
        return
    num_px = 5 * PX_PER_UM
    distance, limit = polar(*axes_um(num_px), radius * wobble(rng, 1, 0.08, 0.05)[0])
    body = coverage(limit - distance, 0.2)
    window = _window(field, x, y, num_px)
    window[Dye.AZUROPHILIA] += body * np.clip(0.5 + 0.4 * noise(rng, num_px, 0.5), 0, 2)
    window[Dye.BASOPHILIA] += body * np.float32(0.5)


def _paste(field: Plane, cell: Cell, white: Place) -> None:
    """Draw the cell over the field."""
    window = _window(field, white[0], white[1], len(cell.body))
    window *= 1 - cell.body
    window += cell.dyes


def _window(field: Plane, x: float, y: float, num_px: int) -> Plane:
    """Return the square of the field (dyes, num_px, num_px) around a point in um."""
    corner = field.shape[1] // 2 - num_px // 2
    column, row = (round(v * PX_PER_UM) + corner for v in (x, y))
    return field[:, row : row + num_px, column : column + num_px]
