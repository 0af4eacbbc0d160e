"""Say what is wrong with a field: no cell, out of focus, or too crowded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.crop import crop_side
from hf_wbc.data.nucleus import shrunk
from hf_wbc.finder.detect_cells import FoundCell
from hf_wbc.finder.field_source import FieldSource

EDGE_UM_PER_PX = 0.25
"""Scale in um per pixel at which edges are measured."""
WIDEST_EDGE_UM = 2.3
"""Width in um of the steepest edges, contrast by slope, above which a square is out of focus; it is
0.6 to 2.0 in the fields and cells of four laboratories."""
NUM_SQUARES = 5
"""Squares along each side of a field whose sharpness is looked at, if it shows no cell."""
EMPTY_LEVELS = 6.0
"""Standard deviation of green, in gray levels, below which a square shows nothing."""


@dataclass(frozen=True)
class Quality:
    """What the notes about a field are made of."""

    num_cells: int
    num_blurred: int
    is_crowded: bool
    is_blurred: bool
    """Whether a field without a cell is out of focus."""
    is_empty: bool
    """Whether a field without a cell shows nothing at all."""

    @classmethod
    def of(cls, source: FieldSource, cells: Sequence[FoundCell], um_per_px: float) -> Self:
        """Judge a field by its cells or, without any, by squares of it."""
        blurred = sum("blurred" in cell.flags for cell in cells)
        crowded = any("crowded" in cell.flags for cell in cells)
        if cells:
            return cls(len(cells), blurred, crowded, False, False)
        squares = [
            each for each in _squares(source, um_per_px) if each[..., 1].std() >= EMPTY_LEVELS
        ]
        is_out = bool(squares) and np.mean([is_blurred(each, um_per_px) for each in squares]) > 0.5
        return cls(0, 0, False, bool(is_out), not squares)


def is_blurred(square: NDArray[np.uint8], um_per_px: float) -> bool:
    """Return whether a square (S, S, 3) is out of focus: its steepest edges are wide."""
    from scipy import ndimage

    step = max(1.0, EDGE_UM_PER_PX / um_per_px)
    green = ndimage.gaussian_filter(shrunk(square, step)[..., 1], 0.5)
    slopes = np.hypot(ndimage.sobel(green, 0), ndimage.sobel(green, 1)) / 8 / (um_per_px * step)
    low, high = np.quantile(green, (0.01, 0.99))
    return bool(high - low > WIDEST_EDGE_UM * np.quantile(slopes, 0.995))


def field_notes(quality: Quality) -> tuple[str, ...]:
    """Return what is wrong with a field, in words."""
    notes = []
    if quality.num_cells == 0:
        notes.append("the field is empty" if quality.is_empty else "no white cell was found")
    if quality.is_blurred or quality.num_blurred > quality.num_cells / 2:
        notes.append("out of focus")
    if quality.is_crowded:
        notes.append(
            "too crowded for a count, as bone marrow or a thick smear is: nuclei cover so much of "
            "the field that cells cannot be told apart"
        )
    return tuple(notes)


def _squares(source: FieldSource, um_per_px: float) -> list[NDArray[np.uint8]]:
    """Return evenly spaced 25 um squares of a field."""
    side = min(crop_side(um_per_px), source.height, source.width)
    tops = np.unique(np.linspace(0, source.height - side, NUM_SQUARES).astype(int)).tolist()
    lefts = np.unique(np.linspace(0, source.width - side, NUM_SQUARES).astype(int)).tolist()
    return [source.read(t, left, t + side, left + side) for t in tops for left in lefts]
