"""What a model sees of a cell: a square of so many um, at so many pixels.

Importing it asks for neither torch nor torchvision, which take seconds; the first square does.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.crop import crop_um
from hf_wbc.data.schema import CROP_UM

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


def square(
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
