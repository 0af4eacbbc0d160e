"""The square of 25 um around the cell of an image of any size, and a guess of an unknown scale.

A cell that stands about in the middle keeps the central square, bit for bit what training crops.
One that does not is looked for by its nucleus. What the square needs beyond the image's edge is
filled with the colour of the image's own border.

A scale that nobody gives is guessed from the nucleus, whose typical size in um is known: a guess is
always said to be one, and a person may correct it. What no microscope for smears would give is no
guess: a platelet or a blot was taken for the nucleus.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.crop import crop_side
from hf_wbc.data.nucleus import Nucleus
from hf_wbc.data.schema import CROP_UM
from hf_wbc.data.square import Geometry, square

NUCLEUS_UM = 9.5
"""Typical diameter of the disc of a white cell's nucleus, between 8.3 (segmented neutrophils) and
12.5 (promyelocytes). Of one cell alone the guess is within a fourth of the truth as a rule; of a
smear within a tenth in one laboratory, and a fifth in another."""
CENTRED_UM = 6.0
"""So far may a nucleus lie from the middle of a frame that is about it."""
FINEST_UM_PER_PX, COARSEST_UM_PER_PX = 0.02, 1 / 3
"""Of guesses. Smears are seen from .0345 (100x, camera pixels of 3.45 um; a telephone's are finer)
to .25 (a 40x slide scanner), the known laboratories from .072 to .1, and a guess from one cell may
be a third beyond the truth. At .1 a platelet of 2 to 3 um would give .3 to .5."""
SMALLEST_NUCLEUS_UM, LARGEST_NUCLEUS_UM = 3.5, 18.0
"""Beyond these the scale is wrong, or it is no white cell."""
FEWEST_PX = 24
"""A square of 25 um with fewer pixels a side shows no cell."""
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Frame:
    """Where the square of an image lies."""

    box: Box
    """Left, top, right, bottom in pixels of the image; beyond its edges where it is too small."""
    um_per_px: float
    guessed: bool
    """Nobody gave the scale."""
    nucleus: Nucleus | None
    assumed: bool = False
    """Guessed, and by no nucleus: none was found, or none of a nucleus' size."""

    def inside(self, height: int, width: int) -> bool:
        """Whether the square needs nothing beyond the image's edges."""
        left, top, right, bottom = self.box
        return left >= 0 and top >= 0 and right <= width and bottom <= height


def guess_scale(nuclei: Sequence[Nucleus | None]) -> float | None:
    """um per pixel at which the nuclei, all of one microscope, are of typical size.

    None where there is none, and where no microscope for smears has such a scale.

    >>> round(guess_scale([Nucleus(x=50, y=50, area_px=np.pi * 43**2)]), 2)
    0.11
    >>> guess_scale([Nucleus(x=50, y=50, area_px=np.pi * 10**2)]) is None  # a platelet
    True
    """
    found = [nucleus.diameter_px for nucleus in nuclei if nucleus is not None]
    guess = NUCLEUS_UM / float(np.median(found)) if found else 0.0
    return guess if FINEST_UM_PER_PX <= guess <= COARSEST_UM_PER_PX else None


def frame(
    pixels: NDArray[np.uint8],
    nucleus: Nucleus | None,
    um_per_px: float,
    guessed: bool,
    assumed: bool = False,
) -> Frame:
    """The square of an image (H, W, 3); ValueError for a scale at which 25 um are no cell."""
    side = crop_side(um_per_px)
    if side < FEWEST_PX:
        raise ValueError(
            f"at {um_per_px:.4g} um per pixel {CROP_UM:g} um are {side} px, too few to show "
            f"a cell; if these are pixels per um, give {1 / um_per_px:.4g}"
        )
    height, width = pixels.shape[:2]
    top, left = (height - side) // 2, (width - side) // 2
    if nucleus is not None:
        top = _moved(top, nucleus.y, height, side, um_per_px)
        left = _moved(left, nucleus.x, width, side, um_per_px)
    return Frame((left, top, left + side, top + side), um_per_px, guessed, nucleus, assumed)


def framed(pixels: NDArray[np.uint8], found: Frame, geometry: Geometry) -> NDArray[np.uint8]:
    """What the model sees of it, (size, size, 3)."""
    left, top, right, bottom = found.box
    height, width = pixels.shape[:2]
    part = pixels[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    if not found.inside(height, width):
        filled = np.empty((bottom - top, right - left, 3), np.uint8)
        filled[:] = _border(pixels)
        y, x = max(-top, 0), max(-left, 0)
        filled[y : y + part.shape[0], x : x + part.shape[1]] = part
        part = filled
    return square(part, None, geometry)


def _moved(start: int, centre: float, length: int, side: int, um_per_px: float) -> int:
    """Where the square begins: in the middle, or where the nucleus is its middle."""
    if abs(centre - length / 2) * um_per_px <= CENTRED_UM or length <= side:
        return start
    return int(np.clip(round(centre - side / 2), 0, length - side))


def _border(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The median colour (3,) of the outermost pixels: a smear's background, as a rule."""
    edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    colour: NDArray[np.uint8] = np.median(np.concatenate(edges), axis=0).astype(np.uint8)
    return colour
