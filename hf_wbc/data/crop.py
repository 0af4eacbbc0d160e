"""What a model sees of a cell: a square of so many um, at so many pixels.

Importing it asks for neither torch nor torchvision, which take seconds; the first square does.

The central 25 um of a frame, at native resolution.

Sources differ in scale, so a crop in um is the only one that shows the same piece of the world in
each of them. No scale jitter may be applied to frames before it.

The square of 25 um around the cell of an image of any size, and a guess of an unknown scale.

A cell that stands about in the middle keeps the central square, bit for bit what training crops.
One that does not is looked for by its nucleus. What the square needs beyond the image's edge is
filled with the colour of the image's own border.

A scale that nobody gives is guessed from the nucleus, whose typical size in um is known: a guess is
always said to be one, and a person may correct it. What no microscope for smears would give is no
guess: a platelet or a blot was taken for the nucleus."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.nucleus import Nucleus
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


_MODES = {2: "bilinear", 3: "bicubic"}
"""torchvision's name of an interpolation, by Pillow's code."""


@dataclass(frozen=True)
class Geometry:
    """What a model sees of a cell."""

    size: int
    """Side of the square in pixels."""
    resample: int
    """Interpolation, by Pillow's code: 2 bilinear, 3 bicubic."""
    um: float = CROP_UM
    """Side of the square in um."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"image size is {self.size}; it must be at least 1 pixel")
        if self.resample not in _MODES:
            known = ", ".join(f"{code} {name}" for code, name in _MODES.items())
            raise ValueError(f"unknown interpolation {self.resample}; choose from {known}")


def crop_and_resize(
    pixels: NDArray[np.uint8], um_per_px: float | None, geometry: Geometry
) -> NDArray[np.uint8]:
    """The central square of a frame (H, W, 3), (size, size, 3).

    `geometry.um` wide, or of the frame's short side where no scale is known: the cell fills it.
    Resized by torchvision, as the processor of a saved model does it.
    """
    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    height, width = pixels.shape[:2]
    scale = geometry.um / min(height, width) if um_per_px is None else um_per_px
    crop = torch.from_numpy(crop_um(pixels, scale, geometry.um).copy())
    mode = InterpolationMode(_MODES[geometry.resample])
    resized = resize(crop.permute(2, 0, 1), [geometry.size] * 2, mode, antialias=True)
    square: NDArray[np.uint8] = resized.permute(1, 2, 0).contiguous().numpy()
    return square


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
class CropFrame:
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


def locate_crop(
    pixels: NDArray[np.uint8],
    nucleus: Nucleus | None,
    um_per_px: float,
    guessed: bool,
    assumed: bool = False,
) -> CropFrame:
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
    return CropFrame((left, top, left + side, top + side), um_per_px, guessed, nucleus, assumed)


def extract_crop(
    pixels: NDArray[np.uint8], found: CropFrame, geometry: Geometry
) -> NDArray[np.uint8]:
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
    return crop_and_resize(part, None, geometry)


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
