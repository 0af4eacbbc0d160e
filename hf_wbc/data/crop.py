"""The central 25 um of a frame, at native resolution.

Sources differ in scale, so a crop in um is the only one that shows the same piece of the world in
each of them. No scale jitter may be applied to frames before it.
"""

import math

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.schema import CROP_UM


def crop_side(um_per_px: float, um: float = CROP_UM) -> int:
    """Pixels along the side of a square of `um`; ValueError for a scale that cannot be.

    >>> [crop_side(1 / px_per_um) for px_per_um in (10, 13.8, 11.52)]
    [250, 345, 288]
    """
    if not (math.isfinite(um_per_px) and um_per_px > 0):
        raise ValueError(f"um_per_px is {um_per_px}; a scale is a positive number of um per pixel")
    side = round(um / um_per_px)
    if side < 1:
        raise ValueError(f"{um} um are less than a pixel at {um_per_px} um per pixel")
    return side


def crop_um(pixels: NDArray[np.uint8], um_per_px: float, um: float = CROP_UM) -> NDArray[np.uint8]:
    """The central square of `um` from a frame (H, W, 3), contiguous; half pixels go up and left.

    ValueError when the frame is smaller than the square: nothing is padded.
    """
    side = crop_side(um_per_px, um)
    height, width = pixels.shape[:2]
    if min(height, width) < side:
        raise ValueError(
            f"a frame of {width}x{height} px is smaller than {um} um, "
            f"which are {side} px at {um_per_px:.6g} um per pixel; check the scale"
        )
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])
