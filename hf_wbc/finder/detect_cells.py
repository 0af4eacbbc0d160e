"""Find the white cells of a field of view, and mark those whose crops need a second look.

The field is searched tile by tile at a fixed scale, so memory does not grow with its size. Tiles
overlap by more than a cell, and a tile keeps the cells whose centers lie in its own part.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.nucleus import shrunk
from hf_wbc.data.schema import CROP_UM
from hf_wbc.finder.cell_score import measure, score_cells
from hf_wbc.finder.nuclei_mask import (
    UM_PER_PX,
    Region,
    find_regions,
    optical_density,
    stain_strength,
)

TILE_UM, MARGIN_UM = 400.0, 25.0
"""Side of a tile and the overlap on each of its sides, in um."""
MAX_TILE_PX = 8000
"""Largest side of a tile in pixels, for slides that state a very fine scale."""
_ROWS = 256
"""Rows that are compared at a time to find parts without any structure."""
SMALLEST_UM, LARGEST_UM = 3.5, 25.0
"""Smallest and largest diameter in um of a nucleus, as a disc of equal area."""
ACCEPTED = 0.3
"""Smallest probability of a white cell; a missed cell is worse than one that a person removes."""
FLATTEST = 0.004
"""Smallest variation of the stain in a nucleus; drawings are flat."""
CYTOPLASM_UM = 2.0
"""Width in um of the cytoplasm that has to lie in the field around the nucleus of a whole cell."""
CLUMP_UM = 15.0
"""Diameter in um of a nucleus above which it is more than one."""
CROWDED_SHARE, CROWDED_CELLS = 0.22, 8
"""Share of nuclei in a field, and number of cells, from which it is too crowded for a count."""
Read = Callable[[int, int, int, int], NDArray[np.uint8]]
"""Reads the rows top to bottom and the columns left to right of a field, (H, W, 3)."""
FLAGS = ("overlapping", "clipped", "padded", "clump", "crowded", "blurred")
"""`overlapping`: another cell lies in the crop; `clipped`: the border of the field cuts the cell;
`padded`: the crop reaches beyond the border; `clump`: several nuclei that could not be split;
`crowded`: nuclei cover too much of the field; `blurred`: out of focus."""


@dataclass(frozen=True)
class FoundCell:
    """A white cell in a field of view."""

    x_px: float
    """Center of the nucleus from the left, in pixels of the field."""
    y_px: float
    """Center of the nucleus from the top."""
    nucleus_um: float
    """Diameter of the nucleus as a disc of equal area, in um."""
    score: float
    """Probability that it is a white cell."""
    flags: tuple[str, ...] = ()
    """Some of `FLAGS`."""

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Self:
        """Read what `dataclasses.asdict` wrote."""
        return cls(**{**facts, "flags": tuple(facts["flags"])})


@dataclass(frozen=True, eq=False)
class Candidate:
    """A stained nucleus before it is scored."""

    cell: FoundCell
    measured: NDArray[np.float64]
    """Measurements (K,), see `hf_wbc.finder.cell_score`."""


def find_cells(pixels: NDArray[np.uint8], um_per_px: float) -> list[FoundCell]:
    """Find the white cells of a field of view, from top to bottom.

    Args:
        pixels: The field (H, W, 3), uint8, of any size.
        um_per_px: Scale in um per pixel.
    """

    def read(top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        return pixels[top:bottom, left:right]

    height, width = pixels.shape[:2]
    found = [
        each
        for tile in tiles(height, width, um_per_px)
        for each in candidates(read, (height, width), um_per_px, tile)
    ]
    return select(found, (height, width), um_per_px)


def tiles(height: int, width: int, um_per_px: float) -> Iterator[tuple[int, int, int, int]]:
    """Yield top, left, bottom and right in pixels of the parts into which a field is divided."""
    side = min(MAX_TILE_PX, max(1, round(TILE_UM / um_per_px)))
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield top, left, min(top + side, height), min(left + side, width)


def candidates(
    read: Read, size: tuple[int, int], um_per_px: float, tile: tuple[int, int, int, int]
) -> list[Candidate]:
    """Find the stained nuclei whose centers lie in a tile.

    Args:
        read: Reads a part of the field.
        size: Height and width of the field in pixels.
        um_per_px: Scale in um per pixel.
        tile: Top, left, bottom and right of the tile in pixels.
    """
    margin = round(MARGIN_UM / um_per_px)
    top, left = max(tile[0] - margin, 0), max(tile[1] - margin, 0)
    bottom, right = min(tile[2] + margin, size[0]), min(tile[3] + margin, size[1])
    part = read(top, left, bottom, right)
    if _is_uniform(part):
        return []
    step = max(1.0, UM_PER_PX / um_per_px)
    density = optical_density(shrunk(part, step).astype(np.float32))
    strength = stain_strength(density)
    zoom = np.array(part.shape[:2]) / density.shape[:2]
    um = um_per_px * float(zoom.mean())
    found = []
    for region in find_regions(strength, um):
        diameter = 2 * (region.area / np.pi) ** 0.5 * um
        y, x = (np.array(region.center) + 0.5) * zoom + (top, left)
        is_mine = tile[0] <= y < tile[2] and tile[1] <= x < tile[3]
        if not is_mine or not SMALLEST_UM <= diameter <= LARGEST_UM:
            continue
        if strength[region.place][region.mask].std() < FLATTEST:
            continue
        is_cut = _is_cut(region, zoom, (top, left), size, CYTOPLASM_UM / um_per_px)
        flags = (*(["clipped"] if is_cut else []), *(["clump"] if diameter > CLUMP_UM else []))
        cell = FoundCell(float(x), float(y), float(diameter), 0.0, flags)
        found.append(Candidate(cell, measure(region, strength, density, um, is_cut)))
    return found


def _is_uniform(pixels: NDArray[np.uint8]) -> bool:
    """Return whether all pixels are the same, as where a slide was not scanned."""
    rows = range(0, len(pixels), _ROWS)
    return all(bool((pixels[top : top + _ROWS] == pixels[0, 0]).all()) for top in rows)


def select(found: Sequence[Candidate], size: tuple[int, int], um_per_px: float) -> list[FoundCell]:
    """Score candidates, keep the white cells, and flag their crops.

    Args:
        found: Candidates of all tiles of a field.
        size: Height and width of the field in pixels.
        um_per_px: Scale in um per pixel.
    """
    if not found:
        return []
    scores = score_cells(np.stack([each.measured for each in found]))
    kept = [
        replace(each.cell, score=float(score))
        for each, score in zip(found, scores, strict=True)
        if score >= ACCEPTED
    ]
    kept.sort(key=lambda cell: (cell.y_px, cell.x_px))
    area = sum(np.pi / 4 * cell.nucleus_um**2 for cell in kept)
    field_um2 = size[0] * size[1] * um_per_px**2
    is_crowded = len(kept) >= CROWDED_CELLS and area > CROWDED_SHARE * field_um2
    near = _overlapping(kept, um_per_px)
    half = CROP_UM / 2 / um_per_px
    cells = []
    for cell, is_near in zip(kept, near, strict=True):
        is_padded = (
            min(cell.x_px, cell.y_px) < half
            or cell.x_px > size[1] - half
            or cell.y_px > size[0] - half
        )
        extra = {"overlapping": is_near, "padded": is_padded, "crowded": is_crowded}
        marked = {*cell.flags, *(name for name, holds in extra.items() if holds)}
        cells.append(replace(cell, flags=tuple(name for name in FLAGS if name in marked)))
    return cells


def _overlapping(cells: Sequence[FoundCell], um_per_px: float) -> list[bool]:
    """Return for each cell whether another's center lies in its crop."""
    from scipy.spatial import cKDTree

    if not cells:
        return []
    tree = cKDTree([(cell.x_px, cell.y_px) for cell in cells])
    pairs = tree.query_pairs(CROP_UM / 2 / um_per_px, p=np.inf)
    near = {number for pair in pairs for number in pair}
    return [number in near for number in range(len(cells))]


def _is_cut(
    region: Region,
    zoom: NDArray[np.float64],
    offset: tuple[int, int],
    size: tuple[int, int],
    cytoplasm_px: float,
) -> bool:
    """Return whether the border of the field cuts the cell of a nucleus."""
    rows, columns = region.place
    low = np.array([rows.start, columns.start]) * zoom + offset
    high = np.array([rows.stop, columns.stop]) * zoom + offset
    return bool((low < cytoplasm_px).any() or (high > np.array(size) - cytoplasm_px).any())
