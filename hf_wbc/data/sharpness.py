"""How sharp a domain is, from its mean power spectrum, and the blur that brings it to less.

Sharpness is the root mean square frequency of luma between a lower bound and what the pixels can
hold: it does not depend on contrast, and little on what is in the picture. A Gaussian blur of
standard deviation s multiplies power by exp(-(2 pi f s)^2), so that the blur to any lower sharpness
is found without touching an image. The lenses' and resizing's loss differs between laboratories by
more than classes do, and a model that sees it needs no cells to tell domains apart.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hf_wbc.data.colour_statistics import evenly_spaced
from hf_wbc.data.schema import CROP_UM
from hf_wbc.data.table import Table

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
