"""Corruptions of single cells at four severities, in physical units, for stress tests.

Every cell is resampled to the same camera grid, GRID_PX pixels for 25 um (0.1 um per pixel),
corrupted there, and rounded to 8 bits as a camera does. Only then is it resized for a model, so
that a severity means the same for networks of every input size.

The random part of a corruption (direction, sign, position of the noise) depends on the seed, the
corruption and the image id only: it is the same at all four severities, in every order of the
images, and for every model. Pixels beyond the edge of a crop are mirrored.

The design follows ImageNet-C (Hendrycks & Dietterich 2019, arXiv:1903.12261); the severities are
those of microscopes and smears. To add a corruption, write its function and add it to CORRUPTIONS.
"""

import io
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hf_wbc.data.augment_ops import (
    NOISE,
    NOISE_X,
    NOISE_Y,
    NUM_DRAWS,
    STAIN_SCALE,
    add_noise,
    draw_stain_params,
    resample_crop,
    stain_affine,
)
from hf_wbc.data.image_statistics import blur
from hf_wbc.data.schema import CROP_UM
from hf_wbc.text import did_you_mean

__all__ = [
    "CORRUPTIONS",
    "GRID_PX",
    "SEVERITIES",
    "Cells",
    "Corruption",
    "corrupt",
    "draw_for_images",
    "find_corruptions",
    "neighbor_rows",
]

GRID_PX = 250
"""Side in pixels of the grid on which cells are corrupted."""
PX_PER_UM = GRID_PX / CROP_UM
SEVERITIES = 4
NUM_UNIFORM = 4
"""Uniform numbers per image and corruption."""
NEIGHBOR_RADIUS_UM = 7.0
"""Radius of the disc that is taken as the neighboring cell."""
_UNCHANGED = 0.5
"""Uniform number for which `signed_uniform` returns 0."""


@dataclass(frozen=True, eq=False)
class Cells:
    """B cells on the camera grid, with the random numbers of one corruption."""

    images: Tensor
    """Intensities (B, 3, GRID_PX, GRID_PX) in 0..255, float32; they are not changed."""
    uniform: Tensor
    """Uniform numbers in [0, 1), (B, NUM_UNIFORM), float64."""
    neighbors: Tensor
    """Another cell for each, (B, 3, GRID_PX, GRID_PX), float32."""

    def __getitem__(self, rows: slice) -> "Cells":
        return Cells(self.images[rows], self.uniform[rows], self.neighbors[rows])

    def angles(self) -> Tensor:
        """Return a random direction for each cell in radians, (B,)."""
        return self.uniform[:, 0] * (2 * math.pi)

    def signs(self, number: int = 0) -> Tensor:
        """Return -1 or 1 for each cell, (B,), from the uniform numbers in column `number`."""
        return (self.uniform[:, number] < 0.5).double() * 2 - 1


Apply = Callable[[Cells, float], Tensor]
"""Maps cells and a level to intensities (B, 3, GRID_PX, GRID_PX), about 0..255."""


@dataclass(frozen=True)
class Corruption:
    """A corruption and its four severities."""

    name: str
    unit: str
    """Unit of the levels."""
    levels: tuple[float, float, float, float]
    """Levels of the severities 1 to 4."""
    stands_for: str
    """What happens to the image, in a phrase."""
    apply: Apply


def find_corruptions(names: Sequence[str]) -> tuple[Corruption, ...]:
    """Return corruptions by name, in the order of CORRUPTIONS; all of them without names.

    Raises:
        ValueError: If a name is unknown or repeated.
    """
    known = [each.name for each in CORRUPTIONS]
    for name in names:
        if name not in known:
            raise ValueError(f"unknown corruption {name!r}; {did_you_mean(name, known)}")
    if len(set(names)) < len(names):
        raise ValueError(f"corruptions are {', '.join(names)}; name each once")
    return tuple(each for each in CORRUPTIONS if not names or each.name in names)


def draw_for_images(seed: int, corruption: Corruption, image_ids: Sequence[str]) -> Tensor:
    """Draw the uniform numbers (N, NUM_UNIFORM) of a corruption for images by their ids."""
    key = zlib.crc32(corruption.name.encode())
    rows = [
        np.random.default_rng((seed, key, zlib.crc32(name.encode()))).random(NUM_UNIFORM)
        for name in image_ids
    ]
    return torch.from_numpy(np.stack(rows))


def neighbor_rows(image_ids: Sequence[str], seed: int) -> NDArray[np.int64]:
    """Choose another row for each of N images as its neighbor, (N,); itself if it is alone."""
    num = len(image_ids)
    if num == 1:
        return np.zeros(1, np.int64)
    keys = [(seed, zlib.crc32(name.encode())) for name in image_ids]
    steps = np.array([np.random.default_rng(key).integers(1, num) for key in keys])
    rows: NDArray[np.int64] = (np.arange(num) + steps) % num
    return rows


def corrupt(corruption: Corruption, cells: Cells, severity: int) -> NDArray[np.uint8]:
    """Corrupt cells.

    Args:
        corruption: One of CORRUPTIONS.
        cells: B cells.
        severity: 0 (unchanged) to 4.

    Returns:
        Pixels (B, GRID_PX, GRID_PX, 3), uint8.

    Raises:
        ValueError: If the severity is out of range.
    """
    if not 0 <= severity <= SEVERITIES:
        raise ValueError(f"severity is {severity}; it must lie in 0..{SEVERITIES}")
    images = cells.images
    if severity:
        images = corruption.apply(cells, corruption.levels[severity - 1])
    pixels: NDArray[np.uint8] = (
        images.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    )
    return pixels


def _noise(cells: Cells, level: float) -> Tensor:
    changes = torch.zeros(len(cells.images), NUM_DRAWS)
    changes[:, NOISE] = 1
    changes[:, [NOISE_X, NOISE_Y]] = cells.uniform[:, :2].float()
    images = cells.images / 255
    add_noise(images, changes, level, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return images * 255


def _blur(cells: Cells, level: float) -> Tensor:
    return blur(cells.images, torch.full((len(cells.images),), level * PX_PER_UM))


def _defocus(cells: Cells, level: float) -> Tensor:
    """Convolve with a disc, by Fourier transforms of the image with mirrored margins."""
    kernel = _disc(level / 2 * PX_PER_UM)
    margin = len(kernel) // 2
    padded = torch.nn.functional.pad(cells.images, (margin,) * 4, mode="reflect")
    shape = padded.shape[-2:]
    product = torch.fft.rfft2(padded) * torch.fft.rfft2(kernel, s=shape)
    blurred: Tensor = torch.fft.irfft2(product, s=shape)
    return blurred[..., 2 * margin :, 2 * margin :]


@lru_cache(maxsize=8)
def _disc(radius: float) -> Tensor:
    """Return a disc of a radius in pixels with the sum 1, (n, n) with odd n, antialiased."""
    parts, reach = 9, math.ceil(radius)
    steps = (torch.arange((2 * reach + 1) * parts) + 0.5) / parts - (reach + 0.5)
    fine = (steps[:, None] ** 2 + steps**2 <= radius**2).float()
    disc = torch.nn.functional.avg_pool2d(fine[None, None], parts)[0, 0]
    return disc / disc.sum()


def _jpeg(cells: Cells, level: float) -> Tensor:
    pixels = cells.images.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    found = []
    for each in pixels:
        buffer = io.BytesIO()
        Image.fromarray(each).save(buffer, "JPEG", quality=round(level))
        with Image.open(buffer, formats=("JPEG",)) as image:
            found.append(np.asarray(image))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float()


def _illumination(cells: Cells, level: float) -> Tensor:
    """Darken the field towards one side: `level` is the optical density at the dark corner."""
    axis = (torch.arange(GRID_PX) + 0.5) / GRID_PX * 2 - 1
    x, y = cells.angles().cos().float(), cells.angles().sin().float()
    reach = (x.abs() + y.abs())[:, None, None]
    slope = (x[:, None, None] * axis + y[:, None, None] * axis[:, None]) / reach
    return cells.images * torch.pow(10, -level * (slope + 1) / 2)[:, None]


def _white_balance(cells: Cells, level: float) -> Tensor:
    """Multiply red by 1 + level and divide blue by it, or the reverse."""
    exponent = cells.signs().float()
    gain = (1 + level) ** torch.stack([exponent, torch.zeros_like(exponent), -exponent], 1)
    return cells.images * gain[:, :, None, None]


def _stain(cells: Cells, level: float) -> Tensor:
    """Change the optical density of azure and of eosin by +-level of each, independently.

    Densities are those above the background, which keeps its color.
    """
    changes = torch.full((len(cells.images), NUM_DRAWS), _UNCHANGED)
    dyes = range(NUM_DRAWS)[STAIN_SCALE][:2]  # the residual is not a dye
    changes[:, dyes] = (torch.stack([cells.signs(0), cells.signs(1)], 1).float() + 1) / 2
    maps = draw_stain_params(changes, level)
    ground = _background(cells.images).log()[:, :, None]
    maps[:, :, 3:] = ground - maps[:, :, :3] @ ground
    return stain_affine(cells.images.flatten(2).clone(), maps).view_as(cells.images)


def _scale(cells: Cells, level: float) -> Tensor:
    """Show 1 + level or 1 / (1 + level) times as many um."""
    width = ((1 + level) ** cells.signs()).float()
    zero = torch.zeros_like(width)
    rows = [torch.stack(row, 1) for row in ((width, zero, zero), (zero, width, zero))]
    return resample_crop(cells.images, torch.stack(rows, 1))


def _off_center(cells: Cells, level: float) -> Tensor:
    angles = cells.angles()
    shift = torch.stack([angles.cos(), angles.sin()], 1).float() * (2 * level / CROP_UM)
    frames = torch.cat([torch.eye(2).expand(len(shift), 2, 2), shift[:, :, None]], 2)
    return resample_crop(cells.images, frames)


def _overlap(cells: Cells, level: float) -> Tensor:
    """Lay another cell over the image at a distance of `level` um: optical densities add up."""
    background = _background(cells.neighbors)[..., None, None]
    axis = (torch.arange(GRID_PX) + 0.5) / PX_PER_UM - CROP_UM / 2
    distance = (axis[:, None] ** 2 + axis**2).sqrt()
    inside = (NEIGHBOR_RADIUS_UM + 0.5 - distance).clamp(0, 1)
    absorbed = inside * (1 - (cells.neighbors / background).clamp(0, 1))
    images = cells.images.clone()
    for row, angle in enumerate(cells.angles().tolist()):
        right = round(level * PX_PER_UM * math.cos(angle))
        down = round(level * PX_PER_UM * math.sin(angle))
        to, of = _shifted(down), _shifted(-down)
        to_x, of_x = _shifted(right), _shifted(-right)
        images[row, :, to, to_x] *= 1 - absorbed[row, :, of, of_x]
    return images


def _background(images: Tensor) -> Tensor:
    """Return the median color (B, 3) of the upper and lower edge of images, at least 1."""
    border = torch.cat([images[..., 0, :], images[..., -1, :]], -1)
    return border.median(-1).values.clamp(min=1)


def _shifted(by: int) -> slice:
    """Return the part of an axis that is covered by an image shifted by some pixels."""
    return slice(max(by, 0), GRID_PX + min(by, 0))


CORRUPTIONS = (
    Corruption("noise", "standard deviation, share of full intensity", (0.02, 0.05, 0.1, 0.2),
               "camera noise in pixels of 0.1 um", _noise),
    Corruption("blur", "Gaussian, standard deviation in um", (0.1, 0.2, 0.4, 0.8),
               "a weak objective", _blur),
    Corruption("defocus", "disc, diameter in um", (0.5, 1.0, 1.8, 3.0),
               "a cell out of focus", _defocus),
    Corruption("jpeg", "quality", (75, 40, 20, 8),
               "compression in pixels of 0.1 um", _jpeg),
    Corruption("illumination", "optical density at the dark corner", (0.05, 0.1, 0.2, 0.4),
               "light that falls off to one side", _illumination),
    Corruption("white_balance", "gain of red against blue", (0.05, 0.1, 0.2, 0.35),
               "a camera set to another lamp", _white_balance),
    Corruption("stain", "change of the optical density of each dye, share", (0.1, 0.2, 0.4, 0.6),
               "more or less azure and eosin", _stain),
    Corruption("scale", "error of the scale, share", (0.05, 0.1, 0.2, 0.4),
               "a wrong number of um per pixel", _scale),
    Corruption("off_center", "shift in um", (1.0, 2.0, 4.0, 6.0),
               "a cell that is not in the middle", _off_center),
    Corruption("overlap", "distance between the centers in um", (12.0, 9.0, 7.0, 5.0),
               "another cell of the set over this one", _overlap),
)  # fmt: skip
"""All corruptions, in the order of tables."""
