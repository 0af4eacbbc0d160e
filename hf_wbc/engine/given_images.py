"""Images as people give them: their pixels, and where in them the 25 um of the cell lie."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hf_wbc.data.crop import Frame, frame, guess_scale
from hf_wbc.data.nucleus import find_nucleus

Pixels = NDArray[np.uint8]
Scale = float | None | Sequence[float | None]
UNKNOWN_UM_PER_PX = 0.1
"""Taken, and said to be a guess, where no nucleus tells the scale: that of a 100x objective with a
common camera, and of Acevedo_20."""


def rgb(image: Image.Image | Pixels) -> Pixels:
    """Pixels (H, W, 3) uint8; an alpha channel is dropped. ValueError for what is no 8-bit RGB."""
    if isinstance(image, Image.Image):
        if image.mode not in ("RGB", "RGBA"):
            raise ValueError(f"an image is of Pillow's mode {image.mode}; give 8-bit RGB")
        image = np.asarray(image)[..., :3]
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"an image has shape {image.shape}, {image.dtype}; give (H, W, 3), uint8")
    return np.ascontiguousarray(image)


def frames_of(arrays: Sequence[Pixels], um_per_px: Scale) -> list[Frame]:
    """Where the 25 um of each image lie, at one scale for all, or one each.

    None is guessed: alone from all images together, in a list from each by itself. ValueError for a
    scale that cannot be.
    """
    nuclei = [find_nucleus(pixels) for pixels in arrays]
    if isinstance(um_per_px, Sequence):
        scales = list(um_per_px)
        guesses = [guess_scale([nucleus]) for nucleus in nuclei]
    else:
        scales = [um_per_px] * len(arrays)
        guesses = [guess_scale(nuclei)] * len(arrays)
    if len(scales) != len(arrays):
        raise ValueError(f"{len(scales)} scales for {len(arrays)} images; give one, or one each")
    return [
        frame(pixels, nucleus, scale, guessed=False)
        if scale is not None
        else frame(pixels, nucleus, guess or UNKNOWN_UM_PER_PX, guessed=True, assumed=guess is None)
        for pixels, nucleus, scale, guess in zip(arrays, nuclei, scales, guesses, strict=True)
    ]
