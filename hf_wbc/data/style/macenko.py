"""Macenko's stain normalisation: the target's dyes, as strong as the target has them.

Macenko et al. 2009, "A method for normalizing histology slides for quantitative analysis". In
optical density, -ln(intensity / white), a pixel is a sum of dyes. The plane of the two strongest
directions holds the two dyes; they are its extreme directions, and the strength of each is an
extreme of its amounts. A source pixel is unmixed by its domain's dyes, its amounts are scaled, and
it is mixed again with the target's: one affine map of ln(intensity), as of stain jitter.

Otherwise than in the paper the statistics are those of a domain instead of an image; white is the
domain's own, for laboratories' backgrounds differ from grey to cream; what the two dyes do not
explain is kept, not dropped; and the dyes are told apart by blue, which the nuclei's lets through
and the red cells' does not. Tissue's are told apart by red, which fails here: both absorb it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from hf_wbc.data.stain import dyes, restain
from hf_wbc.data.style.samples import Colours, Map

DENSE = 0.15 * np.log(10)
"""Least length of an optical density that is looked at: the paper's .15, which is decadic."""
EXTREME = 1.0
"""Percentile of angles, and of amounts from above, that stands for the extreme."""
_DARKEST = 1.0
_LEAST_PIXELS, _LEAST_RAD, _LEAST_AMOUNT = 100, 0.05, 0.05
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stains:
    """Of a domain."""

    white: Array
    """Intensity of the background (3,), of 255."""
    dyes: Array
    """Densities of a unit of the nuclei's dye, the red cells' and what neither explains (3, 3)."""
    amounts: Array
    """Extreme amounts of the two dyes (2,)."""


def find_stains(colours: Colours) -> Stains:
    """Of colours (N, 3). Where they show fewer than two dyes, the directions of a Giemsa stain."""
    intensity = colours.astype(np.float64).clip(min=_DARKEST)
    white = np.percentile(intensity, 100 - EXTREME, axis=0)
    density = np.log(white / intensity)
    mix = _dyes(density[np.linalg.norm(density, axis=1) >= DENSE])
    amounts = np.percentile(density @ np.linalg.inv(mix)[:, :2], 100 - EXTREME, axis=0)
    return Stains(white, mix, amounts.clip(min=_LEAST_AMOUNT))


def lead_stains(source: Stains, target: Stains) -> Map:
    """Map (3, 4) of ln(intensity) that gives source pixels the target's dyes and white."""
    scale = np.append(target.amounts / source.amounts, 1.0)
    matrix = target.dyes.T @ np.diag(scale) @ np.linalg.inv(source.dyes.T)
    add = np.log(target.white) - matrix @ np.log(source.white)
    return np.concatenate([matrix, add[:, None]], axis=1)


def macenko(images: Tensor, maps: Tensor) -> Tensor:
    """Images (B, 3, H, W) of 0..255 through `maps` (B, 3, 4) of ln(intensity)."""
    return restain(images.flatten(2).clone(), maps).view(images.shape)


def _dyes(density: Array) -> Array:
    """Unit directions of the dyes in densities (N, 3), as rows (3, 3)."""
    if len(density) < _LEAST_PIXELS:
        return dyes().numpy()
    plane = np.linalg.eigh(density.T @ density)[1][:, :0:-1]
    plane *= np.where(plane.sum(0) < 0, -1.0, 1.0)
    first, second = (density @ plane).T
    ends = np.percentile(np.arctan2(second, first), (EXTREME, 100 - EXTREME))
    if ends[1] - ends[0] < _LEAST_RAD:
        return dyes().numpy()
    found = np.stack([np.cos(ends), np.sin(ends)], 1) @ plane.T
    azure, eosin = found[found[:, 2].argsort()]
    rest = np.cross(azure, eosin)
    return np.stack([azure, eosin, rest / np.linalg.norm(rest)])
