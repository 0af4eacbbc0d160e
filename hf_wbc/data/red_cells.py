"""Measure the round red cells of an image, whose known size shows the scale.

The background is the brightest of three levels of green (Otsu 1979), and the outline of a cell is
where green falls half-way from the background to the red cells, so defocus hardly moves it. Pale
centers are filled, and an opening cuts narrow bridges and debris. Left out is what the border of
the image clips, what is elongated or not filled like an ellipse (cells that overlap), and what
contains a nucleus.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.nucleus import Mask, dark_violet, shrunk, two_thresholds

SIDE, LARGE_SIDE = 400, 1600
"""Longest side in pixels at which cells are measured: of an image of one cell, and of one that is
more than twice as large and therefore a field of many cells."""
LARGEST_SIDE = 6400
"""Longest side in pixels from which only squares of an image are measured, as its red cells would
be too small at `LARGE_SIDE`."""
SQUARE_SIDE, NUM_SQUARES = 3200, 2
"""Side of such a square in pixels, and most squares along each side of the image."""
LEAST_CONTRAST = 12.0
"""Smallest difference in green, in gray levels, between red cells and background."""
LEAST_AREA_PX = 100
"""Smallest area at the measured size; smaller ones are platelets and dirt."""
OPENING_PX = 4
"""Radius of the opening at the measured size."""
LARGEST_ASPECT = 1.25
"""Largest ratio of the axes of a cell that counts as round."""
LEAST_FILL = 0.97
"""Smallest area relative to that of the ellipse with the same moments."""
MOST_NUCLEUS = 0.05
"""Largest share of the area as dark and violet as a nucleus."""


def red_cell_diameters(pixels: NDArray[np.uint8]) -> list[float]:
    """Return the diameters of the round, unclipped red cells of an image.

    In an image of more than `LARGEST_SIDE`, the cells of evenly spaced squares are measured.

    Args:
        pixels: Image (H, W, 3), uint8.

    Returns:
        Diameter of the disc of equal area of each cell, in pixels of the image.
    """
    if max(pixels.shape[:2]) <= LARGEST_SIDE:
        return _diameters(pixels)
    tops, lefts = map(_starts, pixels.shape[:2])
    return [
        diameter
        for top in tops
        for left in lefts
        for diameter in _diameters(pixels[top : top + SQUARE_SIDE, left : left + SQUARE_SIDE])
    ]


def _starts(length: int) -> list[int]:
    """Return where the squares begin along a side, evenly spaced and apart from each other."""
    num = min(NUM_SQUARES, max(1, length // SQUARE_SIDE))
    gap = max(length - num * SQUARE_SIDE, 0) // (num + 1)
    return [gap + number * (gap + SQUARE_SIDE) for number in range(num)]


def _diameters(pixels: NDArray[np.uint8]) -> list[float]:
    from scipy import ndimage

    longest = max(pixels.shape[:2])
    step = max(1.0, longest / (SIDE if longest <= 2 * SIDE else LARGE_SIDE))
    image = ndimage.gaussian_filter(shrunk(pixels, step), (1.0, 1.0, 0.0))
    nuclei = dark_violet(image)
    mask = _not_background(image, nuclei)
    if mask is None:
        return []
    labels, number = ndimage.label(mask)
    areas = np.bincount(labels.ravel(), minlength=number + 1)
    found = []
    for label, place in enumerate(ndimage.find_objects(labels), 1):
        is_clipped = any(
            part.start == 0 or part.stop == length
            for part, length in zip(place, mask.shape, strict=True)
        )
        if is_clipped or areas[label] < LEAST_AREA_PX:
            continue
        cell = labels[place] == label
        if nuclei is not None and (nuclei[place] & cell).sum() > MOST_NUCLEUS * areas[label]:
            continue
        if _is_round(cell):
            found.append(float(2 * (areas[label] / np.pi) ** 0.5 * step))
    return found


def typical_diameter(diameters: Sequence[float]) -> tuple[float, int] | None:
    """Return the median diameter of red cells from one microscope, and how many agree with it.

    Platelets that look like small red cells, and clumps that look like large ones, are left out:
    what differs too much from the diameter that halves the total area.

    Args:
        diameters: Diameters in any unit.

    Returns:
        The median in the same unit and the number of cells in it; None without any.
    """
    if not diameters:
        return None
    values = np.sort(np.asarray(diameters, np.float64))
    areas = np.cumsum(values**2)
    middle = values[np.searchsorted(areas, areas[-1] / 2)]
    kept = values[(values > 0.65 * middle) & (values < 1.5 * middle)]
    return float(np.median(kept)), len(kept)


def _not_background(image: NDArray[np.float64], nuclei: Mask | None) -> Mask | None:
    """Return the mask of all cells, filled and opened; None if nothing stands out."""
    from scipy import ndimage

    if min(image.shape[:2]) <= 4 * OPENING_PX:
        return None
    green = image[..., 1]
    _, high = two_thresholds(green)
    bright = green > high
    red = ~bright if nuclei is None else ~bright & ~nuclei
    if not bright.any() or not red.any():
        return None
    ground = float(np.median(green[bright]))
    depth = ground - float(np.median(green[red]))
    if depth < LEAST_CONTRAST:
        return None
    filled = ndimage.binary_fill_holes(green < ground - depth / 2)
    # An opening by a disc, through distances to the border, which are faster than a disc's pixels.
    eroded = ndimage.distance_transform_edt(np.pad(filled, 1, "edge"))[1:-1, 1:-1] > OPENING_PX
    if not eroded.any():
        return None
    mask: Mask = (ndimage.distance_transform_edt(~eroded) <= OPENING_PX) & filled
    return mask


def _is_round(cell: Mask) -> bool:
    rows, columns = np.nonzero(cell)
    # A pixel is a square, which has a variance of 1/12.
    spread = np.linalg.eigvalsh(np.cov(rows, columns) + np.eye(2) / 12)
    aspect = (spread[1] / spread[0]) ** 0.5
    fill = len(rows) / (4 * np.pi * (spread[0] * spread[1]) ** 0.5)
    return bool(aspect < LARGEST_ASPECT and fill > LEAST_FILL)
