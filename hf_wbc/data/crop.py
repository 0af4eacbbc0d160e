"""Crop a square of fixed physical size around a cell, and resize it for the model.

Sources differ in scale, so only a crop of fixed size in um shows the same field of view in all of
them. Training takes the central 25 um of a frame, which must not be rescaled at random before.

For an image of any size, `locate_crop` keeps the central square, identical to that of training, if
the cell is near the middle, and otherwise centers the square on the nucleus. Parts beyond the edge
are filled with the color of the image's border. If the scale is unknown, `hf_wbc.data.scale`
estimates it from the cells. An estimate is always marked as such so that a user can correct it.

Torch and torchvision take seconds to import and are only imported by `crop_and_resize`.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.nucleus import Nucleus
from hf_wbc.data.scale import ScaleEstimate
from hf_wbc.data.schema import CROP_UM


def crop_side(um_per_px: float, um: float = CROP_UM) -> int:
    """Return the side in pixels of a square that is `um` wide.

    Args:
        um_per_px: Scale in um per pixel.
        um: Side of the square in um.

    Raises:
        ValueError: If the scale is not positive and finite, or the side is less than a pixel.

    Examples:
        >>> [crop_side(1 / px_per_um) for px_per_um in (10, 13.8, 11.52)]
        [250, 345, 288]
    """
    if not (math.isfinite(um_per_px) and um_per_px > 0):
        raise ValueError(f"um_per_px is {um_per_px}; it must be a positive number of um per pixel")
    side = round(um / um_per_px)
    if side < 1:
        raise ValueError(f"{um} um are less than one pixel at {um_per_px} um per pixel")
    return side


def crop_um(pixels: NDArray[np.uint8], um_per_px: float, um: float = CROP_UM) -> NDArray[np.uint8]:
    """Return the central square of a frame, at native resolution and without padding.

    Args:
        pixels: Frame (H, W, 3), uint8.
        um_per_px: Scale in um per pixel.
        um: Side of the square in um.

    Returns:
        Contiguous pixels of the square. An odd margin is split with the smaller part at the top and
        on the left.

    Raises:
        ValueError: If the frame is smaller than the square.
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
    """Size and resampling of the square that a model sees."""

    size: int
    """Side of the square in pixels."""
    resample: int
    """Interpolation as Pillow's code: 2 bilinear, 3 bicubic."""
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
    """Crop the central square of a frame and resize it.

    Torchvision resizes the square in the same way as the image processor of a saved model.

    Args:
        pixels: Frame (H, W, 3), uint8.
        um_per_px: Scale in um per pixel; None if it is unknown because the cell fills the frame,
            which takes a square as wide as the frame's short side.
        geometry: Size of the square and interpolation.

    Returns:
        Pixels (size, size, 3), uint8.

    Raises:
        ValueError: If the frame is smaller than the square.
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


def resize_squares(pixels: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """Resize squares (N, S, S, 3) as `crop_and_resize` does.

    Returns:
        Pixels (N, size, size, 3), uint8.
    """
    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    mode = InterpolationMode(_MODES[geometry.resample])
    squares = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    resized = resize(squares, [geometry.size] * 2, mode, antialias=True)
    found: NDArray[np.uint8] = resized.permute(0, 2, 3, 1).contiguous().numpy()
    return found


CENTERED_UM = 6.0
"""Largest distance in um of the nucleus from the middle of a frame that counts as centered."""
SMALLEST_NUCLEUS_UM, LARGEST_NUCLEUS_UM = 3.5, 18.0
"""Plausible range of a nucleus' diameter in um; beyond it, the scale or the cell type is wrong."""
FEWEST_PX = 24
"""Smallest side in pixels of a 25 um square that can show a cell."""
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class CropFrame:
    """Position of the square in an image."""

    box: Box
    """Left, top, right, bottom in pixels; beyond the edges if the image is too small."""
    um_per_px: float
    """Scale in um per pixel."""
    nucleus: Nucleus | None
    """The nucleus of the cell; None if none was found."""
    estimate: ScaleEstimate | None = None
    """The estimate that the scale is taken from; None if the scale is known."""

    @property
    def guessed(self) -> bool:
        """Whether the scale is an estimate."""
        return self.estimate is not None

    def inside(self, height: int, width: int) -> bool:
        """Whether the square lies within an image of the given size in pixels."""
        left, top, right, bottom = self.box
        return left >= 0 and top >= 0 and right <= width and bottom <= height


def locate_crop(
    pixels: NDArray[np.uint8],
    nucleus: Nucleus | None,
    scale: float | ScaleEstimate,
) -> CropFrame:
    """Locate the 25 um square around the cell of an image.

    Args:
        pixels: Image (H, W, 3), uint8.
        nucleus: The nucleus of the cell; None takes the central square.
        scale: Scale in um per pixel, or an estimate of it.

    Raises:
        ValueError: If the square has too few pixels at this scale to show a cell.
    """
    estimate = scale if isinstance(scale, ScaleEstimate) else None
    um_per_px = scale.um_per_px if isinstance(scale, ScaleEstimate) else scale
    side = crop_side(um_per_px)
    if side < FEWEST_PX:
        raise ValueError(
            f"at {um_per_px:.4g} um per pixel {CROP_UM:g} um are {side} px, too few to show "
            f"a cell; if this is in pixels per um, use {1 / um_per_px:.4g}"
        )
    height, width = pixels.shape[:2]
    top, left = (height - side) // 2, (width - side) // 2
    if nucleus is not None:
        top = _moved(top, nucleus.y, height, side, um_per_px)
        left = _moved(left, nucleus.x, width, side, um_per_px)
    return CropFrame((left, top, left + side, top + side), um_per_px, nucleus, estimate)


def extract_crop(
    pixels: NDArray[np.uint8], found: CropFrame, geometry: Geometry
) -> NDArray[np.uint8]:
    """Cut the located square out of an image, fill what lies beyond the edges, and resize it.

    Args:
        pixels: Image (H, W, 3), uint8.
        found: Position of the square, from `locate_crop`.
        geometry: Size of the square and interpolation.

    Returns:
        Pixels (size, size, 3), uint8.
    """
    return crop_and_resize(cut_square(pixels, found.box), None, geometry)


def cut_square(pixels: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """Cut a box out of an image (H, W, 3); beyond the edges, fill in the color of its border."""
    left, top, right, bottom = box
    height, width = pixels.shape[:2]
    part = pixels[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return part
    filled = np.empty((bottom - top, right - left, 3), np.uint8)
    filled[:] = _border(pixels)
    y, x = max(-top, 0), max(-left, 0)
    filled[y : y + part.shape[0], x : x + part.shape[1]] = part
    return filled


def _moved(start: int, center: float, length: int, side: int, um_per_px: float) -> int:
    """Return the start of the square along an axis, centered on the image or on the nucleus."""
    if abs(center - length / 2) * um_per_px <= CENTERED_UM or length <= side:
        return start
    return int(np.clip(round(center - side / 2), 0, length - side))


def _border(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the median color (3,) of the outermost pixels, usually the background of the smear."""
    edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    color: NDArray[np.uint8] = np.median(np.concatenate(edges), axis=0).astype(np.uint8)
    return color
