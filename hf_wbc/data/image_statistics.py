"""Statistics of images that use neither labels nor a model: color, sharpness and appearance.

Color. `ColorStatistics` holds the mean and covariance of a domain's colors, and
`color_transfer_map` maps the colors of one domain onto those of another. Class priors also affect
these statistics (a domain with more lymphocytes is more purple), so a partial shift is safer than a
full one.

Sharpness. The root mean square frequency of luma, computed from the mean power spectrum, between a
lower bound and the highest frequency that the pixels can represent. It does not depend on contrast,
and only weakly on the content. A Gaussian blur with standard deviation s multiplies power by
exp(-(2 pi f s)^2), so `blur_to` finds the blur for any lower sharpness from the spectrum alone.
Laboratories differ more in sharpness, which is lost in optics and resizing, than classes do, so a
model could tell domains apart by sharpness alone.

Appearance. Seven numbers describe a 25 um square: mean and standard deviation of the optical
density in red, green and blue (stain, light and camera), and sharpness. Squares are always measured
at the same size, so that values are comparable across models.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from numpy.typing import NDArray
from torch import Tensor

from hf_wbc.data.crop import Geometry
from hf_wbc.data.schema import CROP_UM
from hf_wbc.data.table import Table

MAX_COLOR_IMAGES = 1024
"""Number of evenly spaced images that represent a domain."""
ROWS_AT_ONCE = 64
_SPREAD = 1 / 255
"""Smallest standard deviation of a color, so that a domain with one color has a map too."""
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ColorStatistics:
    """Mean and covariance over all pixels of a domain, for intensities in [0, 1]."""

    mean: tuple[float, float, float]
    """Mean of red, green and blue."""
    covariance: tuple[tuple[float, float, float], ...]
    """Covariance (3, 3) of red, green and blue."""

    @property
    def std(self) -> tuple[float, float, float]:
        """Standard deviation of each channel, at least one gray level."""
        red, green, blue = (max(self.covariance[i][i] ** 0.5, _SPREAD) for i in range(3))
        return red, green, blue


def color_statistics(table: Table, domain: int | None = None) -> ColorStatistics:
    """Measure the colors of a table of pixels.

    Sums of integers make the result identical on every machine.

    Args:
        table: Images (N, H, W, 3), uint8.
        domain: Index of the domain to measure; None measures all rows.
    """
    total, squares, num = np.zeros(3), np.zeros((3, 3)), 0
    rows = np.arange(len(table)) if domain is None else np.flatnonzero(table.domains == domain)
    rows = rows[evenly_spaced(len(rows), MAX_COLOR_IMAGES)]
    for start in range(0, len(rows), ROWS_AT_ONCE):
        pixels = table.batch(rows[start : start + ROWS_AT_ONCE]).numpy()
        colors = pixels.reshape(-1, 3).astype(np.float64)
        total += colors.sum(0)
        squares += colors.T @ colors
        num += len(colors)
    mean = total / num
    covariance = (squares / num - np.outer(mean, mean)) / 255**2
    red, green, blue = (mean / 255).tolist()
    return ColorStatistics((red, green, blue), tuple(map(tuple, covariance.tolist())))


def evenly_spaced(num: int, at_most: int) -> npt.NDArray[np.int64]:
    """Return sorted, evenly spaced row numbers out of `num`, at most `at_most` of them."""
    return np.unique(np.linspace(0, num - 1, min(num, at_most)).round().astype(np.int64))


def color_transfer_map(source: ColorStatistics, target: ColorStatistics) -> Matrix:
    """Return the affine map that gives source pixels the target's mean and covariance.

    Of all such linear maps, this one moves colors least: the Monge-Kantorovitch color transfer
    (Pitié & Kokaram 2007, "The linear Monge-Kantorovitch linear colour mapping for example-based
    color transfer").

    Args:
        source: Color statistics of the source.
        target: Color statistics of the target.

    Returns:
        Matrix and offset (3, 4), for intensities in [0, 1].
    """
    c_s, c_t = (np.array(s.covariance) + _SPREAD**2 * np.eye(3) for s in (source, target))
    root = _root(c_s)
    back = np.linalg.inv(root)
    matrix = back @ _root(root @ c_t @ root) @ back
    add = np.array(target.mean) - matrix @ np.array(source.mean)
    return np.concatenate([matrix, add[:, None]], axis=1)


def _root(matrix: Matrix) -> Matrix:
    """Return the symmetric square root of a positive definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    root: Matrix = (vectors * np.sqrt(values)) @ vectors.T
    return root


LOWEST_PER_UM = 0.25
"""Lowest frequency in cycles per um; slower changes than one in 4 um show cells, not sharpness."""
MAX_IMAGES = 512
_ROWS_AT_ONCE = 32
_LUMA = (0.299, 0.587, 0.114)
_WIDEST_UM = 10.0
_HALVINGS = 60


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Mean power of luma at each frequency."""

    squared_per_um: npt.NDArray[np.float64]
    """Squared frequencies (K,), in (cycles per um)^2."""
    power: npt.NDArray[np.float64]
    """Power (K,), in arbitrary units."""


def spectrum(table: Table, um: float = CROP_UM) -> Spectrum:
    """Compute the mean power spectrum of images above `LOWEST_PER_UM`.

    Args:
        table: Images (N, H, H, 3), uint8.
        um: Side of the images in um.

    Raises:
        ValueError: If the images are too small or too uniform to have a sharpness.
    """
    side = table.shape[0]
    across = np.fft.fftfreq(side, um / side)[:, None] ** 2
    squared = across + np.fft.rfftfreq(side, um / side)[None] ** 2
    inside = (squared >= LOWEST_PER_UM**2) & (squared <= (side / (2 * um)) ** 2)
    window = np.hanning(side)[:, None] * np.hanning(side)
    power = np.zeros(squared.shape)
    rows = evenly_spaced(len(table), MAX_IMAGES)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        luma = table.batch(rows[start : start + _ROWS_AT_ONCE]).numpy() @ np.array(_LUMA)
        luma -= luma.mean((1, 2), keepdims=True)
        power += (np.abs(np.fft.rfft2(luma * window)) ** 2).sum(0)
    power[:, 1 : (side + 1) // 2] *= 2  # the other half of the plane mirrors them
    if not inside.any() or not power[inside].sum():
        raise ValueError(
            f"{', '.join(table.domain_names)}: images of {side} px are too small to measure "
            "sharpness; omit --sharpness common, or raise --image-size"
        )
    return Spectrum(squared[inside], power[inside])


def sharpness(spectrum: Spectrum, blur_um: float = 0.0) -> float:
    """Return the root mean square frequency in cycles per um, after a Gaussian blur.

    Args:
        spectrum: Power spectrum of a domain.
        blur_um: Standard deviation of the blur in um.
    """
    squared = spectrum.squared_per_um
    # Relative to the lowest frequency, because a wide blur would underflow to zero everywhere.
    kept = spectrum.power * np.exp(-((2 * math.pi * blur_um) ** 2) * (squared - squared.min()))
    return float(np.sqrt((kept * squared).sum() / kept.sum()))


def blur_to(spectrum: Spectrum, wanted: float) -> float:
    """Return the Gaussian blur that reduces the sharpness to a given value.

    Args:
        spectrum: Power spectrum of a domain.
        wanted: Sharpness in cycles per um.

    Returns:
        Standard deviation in um; 0 if the domain is not sharper than `wanted`.
    """
    if sharpness(spectrum) <= wanted:
        return 0.0
    low, high = 0.0, _WIDEST_UM
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if sharpness(spectrum, middle) > wanted else (low, middle)
    return high


APPEARANCE_GEOMETRY = Geometry(size=128, resample=3)
"""Size of the squares whose appearance is measured."""
NUM_COLORS = 6
"""Number of color statistics in an appearance."""
FARTHER = 1.25
"""Factor on the distance quantile of a source's own cells, beyond which a stain is unlike it."""
NEARLY_ALL = 0.995
"""Quantile of a source's own cells that defines its range."""
LESS_SHARP = 0.85
"""Factor on the sharpness quantile of the blurriest source, below which a cell is blurred."""
_DARKEST = 1.0
_RIDGE = 1e-4
Floats = NDArray[np.float64]


def image_appearance(square: NDArray[np.uint8]) -> Floats:
    """Measure the appearance of a square.

    Args:
        square: Pixels (128, 128, 3), uint8, the size of `APPEARANCE_GEOMETRY`.

    Returns:
        Color statistics (6) and sharpness (1), (7,). The sharpness of a uniform square is NaN.
    """
    density = -np.log(np.maximum(square, _DARKEST).reshape(-1, 3) / 255.0)
    return np.array([*density.mean(0), *density.std(0), _sharpness(square)])


def _sharpness(square: NDArray[np.uint8]) -> float:
    """Return the sharpness in cycles per um; NaN for a uniform square."""
    try:
        return sharpness(spectrum(Table.unlabeled(square[None])))
    except ValueError:
        return float("nan")


@dataclass(frozen=True, eq=False)
class SourceAppearance:
    """Appearance of the cells of S sources, and the limits that define outliers."""

    means: Floats
    """Mean color statistics of each source (S, 6)."""
    inverses: Floats
    """Inverse covariances of the color statistics (S, 6, 6)."""
    limits: Floats
    """Mahalanobis distances (S,) beyond which a stain is unlike the source."""
    blurred_per_um: float
    """Sharpness in cycles per um below which a cell is blurred."""

    def is_out_of_distribution(self, look: Floats) -> bool:
        """Return whether the stain of an appearance (7,) is unlike that of every source."""
        gaps = look[:NUM_COLORS] - self.means
        return bool((_distances(gaps, self.inverses) > self.limits).all())

    def is_blurred(self, look: Floats) -> bool:
        """Return whether an appearance (7,) is less sharp than the cells of the sources."""
        return bool(look[NUM_COLORS] < self.blurred_per_um)


def measure_source_appearance(looks: Floats, sources: NDArray[np.str_]) -> SourceAppearance:
    """Measure the appearance of each source.

    Args:
        looks: Appearances (N, 7) of cells, from `image_appearance`.
        sources: Source of each cell (N,).
    """
    found = []
    for name in np.unique(sources):
        mine = looks[sources == name]
        colors = mine[:, :NUM_COLORS]
        covariance = np.asarray(np.cov(colors.T), np.float64) + _RIDGE * np.eye(NUM_COLORS)
        mean = colors.mean(0)
        inverse = np.asarray(np.linalg.inv(covariance), np.float64)
        limit = FARTHER * np.quantile(_distances(colors - mean, inverse), NEARLY_ALL)
        sharp = np.nanquantile(mine[:, NUM_COLORS], 1 - NEARLY_ALL)
        found.append((mean, inverse, limit, sharp))
    means, inverses, limits, sharps = (np.array(part) for part in zip(*found, strict=True))
    return SourceAppearance(means, inverses, limits, LESS_SHARP * float(sharps.min()))


def _distances(gaps: Floats, inverses: Floats) -> Floats:
    """Return Mahalanobis distances (N,) of differences (N, 6)."""
    distances: Floats = np.sqrt(np.einsum("...i,...ij,...j->...", gaps, inverses, gaps))
    return distances


_REACH = 4.0
"""Radius of the kernel in standard deviations."""


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Apply a Gaussian blur of a separate width to each image.

    Two passes of shifted sums give the same result on every device, and a width of zero leaves an
    image unchanged. Pixels beyond the edge are mirrored, repeating the edge pixel (c b a | a b c),
    as `scipy.ndimage` does in mode "reflect".

    Args:
        images: Images (B, C, H, W), float32.
        sigma: Standard deviations (B,) in pixels, on the CPU.

    Returns:
        Blurred images (B, C, H, W), float32.
    """
    widest = float(sigma.max())
    if not widest:
        return images
    kernels = _kernels(sigma, math.ceil(_REACH * widest)).to(images.device, non_blocking=True)
    return _along(_along(images.contiguous(), kernels, 3), kernels, 2)


def _kernels(sigma: Tensor, reach: int) -> Tensor:
    """Return weights (2 * reach + 1, B, 1, 1, 1) that sum to one; width 0 gives the identity."""
    places = torch.arange(-reach, reach + 1, dtype=torch.float64)
    width = sigma.double().clamp(min=1e-12)[:, None]
    weights = (-0.5 * (places / width) ** 2).exp()
    weights = weights / weights.sum(1, keepdim=True)
    return weights.T.float()[:, :, None, None, None]


def _along(images: Tensor, kernels: Tensor, axis: int) -> Tensor:
    """Return the weighted sum of shifted images along one axis."""
    length, reach = images.shape[axis], len(kernels) // 2
    places = torch.arange(-reach, length + reach, device=images.device) % (2 * length)
    places = torch.where(places < length, places, 2 * length - 1 - places)
    padded = images.index_select(axis, places)
    blurred = padded.narrow(axis, 0, length) * kernels[0]
    for shift, weight in enumerate(kernels[1:], start=1):
        blurred.addcmul_(padded.narrow(axis, shift, length), weight)
    return blurred
