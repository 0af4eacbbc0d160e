"""Locate the nucleus of the cell at the center of an image, and measure its size.

In every laboratory's stain, the nucleus is the darkest structure in the green channel and more
violet than red. The green channel is split by two thresholds (Otsu 1979, "A threshold selection
method from gray-level histograms") into nuclei, cytoplasm and red cells, and background. Segments
of the same nucleus are joined, and among several nuclei a large one near the center is chosen.
Nothing is learned, so the method works equally well for unseen laboratories.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIDE = 128
"""Longest side in pixels of the reduced image in which nuclei are searched."""
LEAST_CONTRAST = 24
"""Smallest difference in green, in gray levels, between a nucleus and its surroundings."""
LEAST_SHARE = 0.004
"""Smallest share of the image area; smaller dark objects are platelets and dirt."""
BLUER = -12
"""Smallest blue minus red of a nucleus, in gray levels; red cells are far below it."""
COUNTED_UM = 5.0
"""Smallest diameter in um, as a disc of equal area, of a nucleus that is counted."""
APART_UM = 10.0
"""Smallest distance in um between the nuclei of two cells."""
COUNTED_UM_PER_PX = 0.25
"""Scale in um per pixel at which nuclei are counted."""
STRIP_PIXELS = 2**24
"""Pixels of a large image that are reduced at a time."""
_BINS = 64
_BRIGHT = 0.95
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Nucleus:
    """Position and size of a nucleus, in pixels of the image."""

    x: float
    """Center of mass, from the left."""
    y: float
    """Center of mass, from the top."""
    area_px: float
    """Total area of all segments."""

    @property
    def diameter_px(self) -> float:
        """Diameter of the disc of equal area."""
        return float(2 * (self.area_px / np.pi) ** 0.5)


def find_nucleus(pixels: NDArray[np.uint8]) -> Nucleus | None:
    """Find the nucleus in an RGB image.

    Args:
        pixels: Image (H, W, 3), uint8.

    Returns:
        The nucleus, or None if none is visible.
    """
    from scipy import ndimage

    step = max(1.0, max(pixels.shape[:2]) / SIDE)
    small = shrunk(pixels, step)
    mask = dark_violet(small)
    if mask is None:
        return None
    wide = max(1, round(max(mask.shape) / 64))
    mask = ndimage.binary_opening(mask, iterations=1)
    joined, number = ndimage.label(ndimage.binary_dilation(mask, iterations=wide))
    if not number:
        return None
    index = np.arange(1, number + 1)
    areas = ndimage.sum_labels(mask, joined, index)
    centers = np.array(ndimage.center_of_mass(mask, joined, index)).reshape(number, 2)
    middle = (np.array(mask.shape) - 1) / 2
    far = np.hypot(*((centers - middle) / max(mask.shape)).T)
    weight = np.where(areas >= LEAST_SHARE * mask.size, areas * np.exp(-((far / 0.25) ** 2)), 0)
    best = int(np.nan_to_num(weight).argmax())
    if not weight[best] > 0:
        return None
    (y, x), (height, width) = centers[best], np.array(pixels.shape[:2]) / mask.shape
    area = float(areas[best] * height * width)
    return Nucleus(float((x + 0.5) * width), float((y + 0.5) * height), area)


def count_nuclei(pixels: NDArray[np.uint8], um_per_px: float) -> int:
    """Count the whole nuclei of white cells in an image; the segments of one count once.

    Args:
        pixels: Image (H, W, 3), uint8.
        um_per_px: Scale in um per pixel.
    """
    from scipy import ndimage

    step = max(1.0, COUNTED_UM_PER_PX / um_per_px)
    mask = dark_violet(shrunk(pixels, step))
    if mask is None:
        return 0
    um = um_per_px * step
    mask = ndimage.binary_opening(mask, iterations=max(1, round(0.5 / um)))
    joined, number = ndimage.label(ndimage.binary_dilation(mask, iterations=max(1, round(1 / um))))
    areas = np.bincount(joined[mask], minlength=number + 1) * um**2
    found: list[tuple[float, float]] = []
    for label, place in enumerate(ndimage.find_objects(joined), 1):
        is_whole = all(
            part.start > 0 and part.stop < length
            for part, length in zip(place, mask.shape, strict=True)
        )
        y, x = (um * (part.start + part.stop) / 2 for part in place)
        is_other = all(np.hypot(y - b, x - a) >= APART_UM for b, a in found)
        if is_whole and is_other and areas[label] >= np.pi * (COUNTED_UM / 2) ** 2:
            found.append((y, x))
    return len(found)


def shrunk(pixels: NDArray[np.uint8], step: float) -> NDArray[np.float64]:
    """Return an image (H, W, 3) reduced `step` times by averaging, as floats in gray levels.

    A large image is reduced in strips, so that it takes little memory beside its own.
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    size = max(1, round(height / step)), max(1, round(width / step))
    reduced = np.empty((*size, 3))
    num_rows = max(1, size[0] * STRIP_PIXELS // (height * width))
    for first in range(0, size[0], num_rows):
        last = min(first + num_rows, size[0])
        top, bottom = first * height / size[0], last * height / size[0]
        start, end = int(top), min(math.ceil(bottom), height)
        strip = Image.fromarray(np.ascontiguousarray(pixels[start:end]))
        box = (0, top - start, width, min(bottom, height) - start)
        reduced[first:last] = strip.resize((size[1], last - first), Image.Resampling.BOX, box)
    return reduced


def dark_violet(image: NDArray[np.float64]) -> Mask | None:
    """Return the mask of pixels as dark in green as nuclei and not redder than blue, or None.

    Args:
        image: Image (H, W, 3) in gray levels.
    """
    # Lamps are yellowish or bluish, so treat the brightest parts as white.
    white = np.maximum(np.quantile(image, _BRIGHT, axis=(0, 1)), 1.0)
    red, green, blue = np.moveaxis(np.minimum(image * (255 / white), 255.0), 2, 0)
    low, _ = two_thresholds(green)
    dark = green <= low
    if (
        not dark.any()
        or dark.all()
        or np.median(green[~dark]) - green[dark].mean() < LEAST_CONTRAST
    ):
        return None
    mask: Mask = dark & (blue - red >= BLUER)
    return mask if mask.any() else None


def two_thresholds(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the two gray levels that maximize the variance between three classes (Otsu)."""
    counts, edges = np.histogram(values, bins=_BINS, range=(0, 256))
    share = counts / counts.sum()
    mass = np.append(0, np.cumsum(share))
    moment = np.append(0, np.cumsum(share * (edges[:-1] + edges[1:]) / 2))

    def between(start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.float64]:
        weight, total = mass[end] - mass[start], moment[end] - moment[start]
        squares = np.zeros(np.shape(weight))
        np.divide(total**2, weight, out=squares, where=weight > 0)
        return squares

    first, second = np.triu_indices(_BINS - 1, 1)
    first, second = first + 1, second + 1
    zero, last = np.zeros_like(first), np.full_like(first, _BINS)
    gain = between(zero, first) + between(first, second) + between(second, last)
    best = int(gain.argmax())
    return float(edges[first[best]]), float(edges[second[best]])
