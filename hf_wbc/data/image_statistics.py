"""How a 25 um square looks, in seven numbers that no label and no model has a say in.

Mean and standard deviation of optical density in red, green and blue tell stain, light and camera;
sharpness is measured apart. Squares are always measured at the same size, so
that looks of one model's images compare with those of another's.

How sharp a domain is, from its mean power spectrum, and the blur that brings it to less.

Sharpness is the root mean square frequency of luma between a lower bound and what the pixels can
hold: it does not depend on contrast, and little on what is in the picture. A Gaussian blur of
standard deviation s multiplies power by exp(-(2 pi f s)^2), so that the blur to any lower sharpness
is found without touching an image. The lenses' and resizing's loss differs between laboratories by
more than classes do, and a model that sees it needs no cells to tell domains apart.

Mean and covariance of a domain's colours, and the map that carries one domain's onto another's.

No label is looked at. Class priors move these statistics too (a domain with more lymphocytes is
more purple), so that going only part of the way is the safer choice.

Gaussian blur of a whole batch, every sample by its own width; beyond the edge it is mirrored.

Two passes of shifted sums: exact on every device, and a width of zero leaves an image as it is."""

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
"""Evenly spaced images that stand for a domain."""
_colour_statistics_ROWS_AT_ONCE = 64
_SPREAD = 1 / 255
"""Least standard deviation of a colour, so that a domain of one colour has a map too."""
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ColorStatistics:
    """Of all pixels of a domain, intensities in [0, 1]."""

    mean: tuple[float, float, float]
    covariance: tuple[tuple[float, float, float], ...]
    """(3, 3)."""

    @property
    def std(self) -> tuple[float, float, float]:
        """Of each channel, at least a grey level."""
        red, green, blue = (max(self.covariance[i][i] ** 0.5, _SPREAD) for i in range(3))
        return red, green, blue


def color_statistics(table: Table, domain: int | None = None) -> ColorStatistics:
    """Statistics of a table of pixels, or of one domain in it by its index.

    Sums of whole numbers, so the same on every machine.
    """
    total, squares, num = np.zeros(3), np.zeros((3, 3)), 0
    rows = np.arange(len(table)) if domain is None else np.flatnonzero(table.domains == domain)
    rows = rows[evenly_spaced(len(rows), MAX_COLOR_IMAGES)]
    for start in range(0, len(rows), _colour_statistics_ROWS_AT_ONCE):
        pixels = table.batch(rows[start : start + _colour_statistics_ROWS_AT_ONCE]).numpy()
        colours = pixels.reshape(-1, 3).astype(np.float64)
        total += colours.sum(0)
        squares += colours.T @ colours
        num += len(colours)
    mean = total / num
    covariance = (squares / num - np.outer(mean, mean)) / 255**2
    red, green, blue = (mean / 255).tolist()
    return ColorStatistics((red, green, blue), tuple(map(tuple, covariance.tolist())))


def evenly_spaced(num: int, at_most: int) -> npt.NDArray[np.int64]:
    """Row numbers from the first to the last, in order, all of them when there are few."""
    return np.unique(np.linspace(0, num - 1, min(num, at_most)).round().astype(np.int64))


def color_transfer_map(source: ColorStatistics, target: ColorStatistics) -> Matrix:
    """The map (3, 4) of colours that gives source pixels the target's mean and covariance.

    Of all linear maps that do it, the one that moves colours least: the Monge-Kantorovitch colour
    transfer (Pitié & Kokaram 2007, "The linear Monge-Kantorovitch linear colour mapping for
    example-based colour transfer", eq. 5). The mean hue goes with the mean.
    """
    c_s, c_t = (np.array(s.covariance) + _SPREAD**2 * np.eye(3) for s in (source, target))
    root = _root(c_s)
    back = np.linalg.inv(root)
    matrix = back @ _root(root @ c_t @ root) @ back
    add = np.array(target.mean) - matrix @ np.array(source.mean)
    return np.concatenate([matrix, add[:, None]], axis=1)


def _root(matrix: Matrix) -> Matrix:
    """The symmetric square root of a positive definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    root: Matrix = (vectors * np.sqrt(values)) @ vectors.T
    return root


LOWEST_PER_UM = 0.25
"""Slower changes than one in 4 um are cells, not sharpness."""
MAX_IMAGES = 512
_ROWS_AT_ONCE = 32
_LUMA = (0.299, 0.587, 0.114)
_WIDEST_UM = 10.0
_HALVINGS = 60


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Mean power of luma at each frequency."""

    squared_per_um: npt.NDArray[np.float64]
    """Squared frequencies (K,), in cycles per um."""
    power: npt.NDArray[np.float64]
    """(K,), in any unit."""


def spectrum(table: Table, um: float = CROP_UM) -> Spectrum:
    """Of a table of pixels `um` wide, above `LOWEST_PER_UM`.

    ValueError for images that are too small, or too plain, to show any sharpness.
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
            f"{', '.join(table.domain_names)}: images of {side} px show no sharpness to measure; "
            "leave out --sharpness common, or raise --image-size"
        )
    return Spectrum(squared[inside], power[inside])


def sharpness(spectrum: Spectrum, blur_um: float = 0.0) -> float:
    """Root mean square frequency in cycles per um, after a Gaussian blur."""
    squared = spectrum.squared_per_um
    # Relative to the lowest frequency: a wide blur would leave nothing of any.
    kept = spectrum.power * np.exp(-((2 * math.pi * blur_um) ** 2) * (squared - squared.min()))
    return float(np.sqrt((kept * squared).sum() / kept.sum()))


def blur_to(spectrum: Spectrum, wanted: float) -> float:
    """The blur in um after which sharpness is `wanted`; 0 for what is no sharper than that."""
    if sharpness(spectrum) <= wanted:
        return 0.0
    low, high = 0.0, _WIDEST_UM
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if sharpness(spectrum, middle) > wanted else (low, middle)
    return high


APPEARANCE_GEOMETRY = Geometry(size=128, resample=3)
"""At which squares are measured."""
NUM_COLORS = 6
FARTHER = 1.25
"""A stain is unlike a source when it lies so much farther from it than nearly all of its cells."""
NEARLY_ALL = 0.995
LESS_SHARP = 0.85
"""A cell is blurred when it is so much less sharp than nearly all of every source's."""
_DARKEST = 1.0
_RIDGE = 1e-4
Floats = NDArray[np.float64]


def image_appearance(square: NDArray[np.uint8]) -> Floats:
    """Colours (6) and sharpness (1), (7,), of a square of LOOK's size; NaN where nothing is."""
    density = -np.log(np.maximum(square, _DARKEST).reshape(-1, 3) / 255.0)
    return np.array([*density.mean(0), *density.std(0), _sharpness(square)])


def _sharpness(square: NDArray[np.uint8]) -> float:
    """In cycles per um; NaN for a plain square, which has none."""
    try:
        return sharpness(spectrum(Table.unlabeled(square[None])))
    except ValueError:
        return float("nan")


@dataclass(frozen=True, eq=False)
class SourceAppearance:
    """How the cells of some sources look, and what is too far from all of them."""

    means: Floats
    """Of the colours, for each source (S, 6)."""
    inverses: Floats
    """Of their covariances (S, 6, 6)."""
    limits: Floats
    """Distances (S,) beyond which a stain is another."""
    blurred_per_um: float
    """Sharpness below which a cell is blurred."""

    def is_out_of_distribution(self, look: Floats) -> bool:
        """Whether the stain is unlike that of every source."""
        gaps = look[:NUM_COLORS] - self.means
        return bool((_distances(gaps, self.inverses) > self.limits).all())

    def is_blurred(self, look: Floats) -> bool:
        """Whether the cell is less sharp than the sources' are."""
        return bool(look[NUM_COLORS] < self.blurred_per_um)


def measure_source_appearance(looks: Floats, sources: NDArray[np.str_]) -> SourceAppearance:
    """From looks (N, 7) of cells and the source (N,) of each."""
    found = []
    for name in np.unique(sources):
        mine = looks[sources == name]
        colours = mine[:, :NUM_COLORS]
        covariance = np.asarray(np.cov(colours.T), np.float64) + _RIDGE * np.eye(NUM_COLORS)
        mean = colours.mean(0)
        inverse = np.asarray(np.linalg.inv(covariance), np.float64)
        limit = FARTHER * np.quantile(_distances(colours - mean, inverse), NEARLY_ALL)
        sharp = np.nanquantile(mine[:, NUM_COLORS], 1 - NEARLY_ALL)
        found.append((mean, inverse, limit, sharp))
    means, inverses, limits, sharps = (np.array(part) for part in zip(*found, strict=True))
    return SourceAppearance(means, inverses, limits, LESS_SHARP * float(sharps.min()))


def _distances(gaps: Floats, inverses: Floats) -> Floats:
    """Mahalanobis distances (N,) of gaps (N, 6)."""
    distances: Floats = np.sqrt(np.einsum("...i,...ij,...j->...", gaps, inverses, gaps))
    return distances


_REACH = 4.0
"""Standard deviations after which the kernel ends."""


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Images (B, C, H, W) float32 blurred by `sigma` (B,) pixels, on the CPU, in both directions.

    The edge pixel is repeated once (c b a | a b c), as `scipy.ndimage` does in mode "reflect".
    """
    widest = float(sigma.max())
    if not widest:
        return images
    kernels = _kernels(sigma, math.ceil(_REACH * widest)).to(images.device, non_blocking=True)
    return _along(_along(images.contiguous(), kernels, 3), kernels, 2)


def _kernels(sigma: Tensor, reach: int) -> Tensor:
    """Weights (2 * reach + 1, B, 1, 1, 1) that sum to one; of no width, all on the middle."""
    places = torch.arange(-reach, reach + 1, dtype=torch.float64)
    width = sigma.double().clamp(min=1e-12)[:, None]
    weights = (-0.5 * (places / width) ** 2).exp()
    weights = weights / weights.sum(1, keepdim=True)
    return weights.T.float()[:, :, None, None, None]


def _along(images: Tensor, kernels: Tensor, axis: int) -> Tensor:
    """The weighted sum of shifted images, along one axis."""
    length, reach = images.shape[axis], len(kernels) // 2
    places = torch.arange(-reach, length + reach, device=images.device) % (2 * length)
    places = torch.where(places < length, places, 2 * length - 1 - places)
    padded = images.index_select(axis, places)
    blurred = padded.narrow(axis, 0, length) * kernels[0]
    for shift, weight in enumerate(kernels[1:], start=1):
        blurred.addcmul_(padded.narrow(axis, shift, length), weight)
    return blurred
