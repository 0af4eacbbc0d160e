"""Drawn fields of view: red cells, white cells and platelets at known places."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

GROUND, RED, CYTOPLASM, NUCLEUS = (210, 212, 208), (178, 150, 150), (200, 190, 205), (115, 80, 165)
UM_PER_PX = 0.1


def draw_field(
    size_um: tuple[float, float] = (64.0, 48.0),
    white: Sequence[tuple[float, float]] = ((20.0, 20.0),),
    um_per_px: float = UM_PER_PX,
    nucleus_um: float = 9.0,
    seed: int = 0,
    num_red: int | None = None,
) -> NDArray[np.uint8]:
    """Draw a field (H, W, 3) with white cells at the given places (x, y) in um.

    Red cells of 7.2 um stand on a grid, except where a white cell lies; `num_red` is the largest
    number of them.
    """
    rng = np.random.default_rng(seed)
    width, height = (round(each / um_per_px) for each in size_um)
    image = np.empty((height, width, 3))
    image[:] = GROUND
    red = [
        (x, y)
        for y in np.arange(6.0, size_um[1] - 5, 10.0)
        for x in np.arange(6.0, size_um[0] - 5, 10.0)
        if all(np.hypot(x - a, y - b) > 4 + nucleus_um for a, b in white)
    ]
    for x, y in red[:num_red]:
        _disc(image, x, y, 3.6, RED, um_per_px)
    for x, y in white:
        _disc(image, x, y, nucleus_um / 2 + 2.0, CYTOPLASM, um_per_px)
    for x, y in white:
        _disc(image, x, y, nucleus_um / 2, NUCLEUS, um_per_px)
    grain = ndimage.gaussian_filter(rng.normal(0, 1, image.shape[:2]), 0.4 / um_per_px)
    image += 8 * (grain / grain.std())[..., None] * (image[..., :1] < 150)
    image = ndimage.gaussian_filter(image, (0.12 / um_per_px, 0.12 / um_per_px, 0))
    image += rng.normal(0, 1.5, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def _disc(
    image: NDArray[np.float64],
    x: float,
    y: float,
    radius: float,
    color: tuple[int, int, int],
    um_per_px: float,
) -> None:
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    inside = np.hypot(rows * um_per_px - y, columns * um_per_px - x) <= radius
    image[inside] = color
