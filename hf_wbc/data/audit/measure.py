"""What the audit keeps of one decoded frame: a few thumbnails and numbers, never the frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hf_wbc.data.crop import crop_um
from hf_wbc.data.image_io import pixel_sha256
from hf_wbc.data.schema import CROP_UM
from hf_wbc.prepare.duplicates import thumbnail

SMALL_PX = 32
"""Side of the 25 um square as the audit's map of pixels sees it."""
SHARP_PX = 128
"""Side of the 25 um square on which sharpness is measured, so that scales can be compared."""
RING = 0.08
"""Width of the border as a part of the frame's sides; narrow enough that no cell reaches it."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NUM_BORDER = 3 * (len(QUANTILES) + 1)
_CENTRE = 0.15
"""Half the side of the central square, where the nucleus lies, as a part of the 25 um square."""


@dataclass(frozen=True, eq=False)
class Measures:
    """One frame, or, in a `Reading`, N of them stacked."""

    size_px: NDArray[np.int32]
    """Width and height (2,)."""
    digest: str
    """SHA-256 of the pixels."""
    scene: NDArray[np.uint8]
    """Grey thumbnail of the frame (48, 48)."""
    square: NDArray[np.uint8]
    """Grey thumbnail of the 25 um square (48, 48), which frames of other scales share."""
    small: NDArray[np.uint8]
    """The 25 um square in colour (32, 32, 3)."""
    border: NDArray[np.float32]
    """Quantiles of each colour in the frame's border, and its grain (NUM_BORDER,)."""
    background: NDArray[np.float32]
    """The border's median colour (3,), 0 to 255."""
    cell: NDArray[np.float32]
    """The centre's mean colour (3,), 0 to 255."""
    contrast: float
    """Standard deviation of the 25 um square's grey levels."""
    sharpness: float
    """Standard deviation of the Laplacian at 5.12 px per um, over `contrast`."""


def measure(pixels: NDArray[np.uint8], um_per_px: float | None) -> Measures:
    """Measure a frame (H, W, 3); without a scale its short side stands for 25 um."""
    height, width = pixels.shape[:2]
    square = crop_um(pixels, um_per_px or CROP_UM / min(height, width))
    image = Image.fromarray(square)
    small = np.asarray(image.resize((SMALL_PX, SMALL_PX), Image.Resampling.BOX))
    grey = image.convert("L").resize((SHARP_PX, SHARP_PX), Image.Resampling.BOX)
    levels = np.asarray(grey, dtype=np.float32)
    contrast = float(levels.std())
    border = _border(pixels)
    return Measures(
        size_px=np.array([width, height], dtype=np.int32),
        digest=pixel_sha256(pixels),
        scene=thumbnail(pixels),
        square=thumbnail(square),
        small=small,
        border=border,
        background=border[[QUANTILES.index(0.5) + i * len(QUANTILES) for i in range(3)]],
        cell=_centre(small),
        contrast=contrast,
        sharpness=_detail(levels) / max(contrast, 1.0),
    )


def _border(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Each colour's quantiles in the border, then each colour's mean step between neighbours."""
    height, width = pixels.shape[:2]
    y, x = max(1, round(RING * height)), max(1, round(RING * width))
    strips = [pixels[:y], pixels[-y:], pixels[y:-y, :x], pixels[y:-y, -x:]]
    ring = np.concatenate([strip.reshape(-1, 3) for strip in strips]).T
    counts = [np.bincount(values, minlength=256) for values in ring]
    levels = [np.searchsorted(n.cumsum(), np.array(QUANTILES) * n.sum()) for n in counts]
    steps = [np.abs(np.diff(strip.astype(np.int16), axis=1)) for strip in strips[:2]]
    grain = np.mean([step.mean(axis=(0, 1)) for step in steps], axis=0)
    return np.concatenate([*levels, grain]).astype(np.float32)


def _centre(small: NDArray[np.uint8]) -> NDArray[np.float32]:
    middle, half = SMALL_PX // 2, round(_CENTRE * SMALL_PX)
    part = small[middle - half : middle + half, middle - half : middle + half]
    colour: NDArray[np.float32] = part.reshape(-1, 3).mean(axis=0, dtype=np.float32)
    return colour


def _detail(grey: NDArray[np.float32]) -> float:
    """Standard deviation of the Laplacian of (H, W)."""
    centre = 4 * grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((centre - around).std())
