"""Style transfer: move source images a random fraction of the way to a target's style.

Styles are measured once per domain and without labels. Each sample looks up what its style transfer
needs (an affine map, a table of levels, or another image) by its domain and its random target.
Results are clamped to 0..255. The style "colors" is a linear color map that is merged with other
color changes, so it is implemented in `hf_wbc.data.augment_ops` and
`hf_wbc.data.image_statistics`. The other styles are:

Fourier (FDA). The lowest frequencies of a source image get the amplitudes of a random target image,
and phases, which encode shapes, are kept (Yang & Soatto 2020, "FDA: Fourier domain adaptation for
semantic segmentation", arXiv:2004.05498). The exchanged square of frequencies holds light,
color and coarse layout, which for a single cell means its size and the light around it. A full
exchange leaves colored halos; at half the way they are barely visible.

Histogram matching. Each channel gets the target's distribution: a level is mapped to the target's
level at the same quantile (Gonzalez & Woods, "Digital image processing", sec. 3.3.2, histogram
specification). The distributions are those of whole domains.

Reinhard. Colors get the target's mean and standard deviation in l alpha beta, the logarithm of the
responses of the eye's long, middle and short cones, rotated to axes along which natural images vary
independently (Reinhard, Ashikhmin, Gooch & Shirley 2001, "Color transfer between images"). The
paper uses the statistics of two images; here they are those of two domains, so that a cell keeps
its differences from other cells of its laboratory. In ln(LMS), this is one affine map.

Macenko. Stains get the target's dyes and amounts (Macenko et al. 2009, "A method for normalizing
histology slides for quantitative analysis"). In optical density, -ln(intensity / white), a pixel is
a sum of dyes. The plane of the two strongest directions contains the two dyes as its extreme
directions, and the strength of each is an extreme percentile of its amounts. A source pixel is
unmixed with its domain's dyes, its amounts are scaled, and it is mixed with the target's dyes. In
ln(intensity), this is one affine map. In contrast to the paper, statistics are those of a domain
instead of an image; white is measured per domain, because backgrounds range from gray to cream; the
residual that the two dyes do not explain is kept; and the dyes are told apart by blue, which the
dye of nuclei transmits and that of red cells absorbs, because both dyes of a smear absorb red.

Vahadane. The same, with dyes from a sparse factorization (see `hf_wbc.data.sparse_stains`).

Grayscale. An image gets its own luma in all channels. It needs nothing of the target; it is the
plainest way to make a model ignore color.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hf_wbc.data.augment_ops import draw_target, draw_target_fraction, stain_affine, stain_matrix
from hf_wbc.data.image_statistics import MAX_COLOR_IMAGES, evenly_spaced
from hf_wbc.data.sparse_stains import sparse_dyes
from hf_wbc.data.table import Table, concatenate

MAX_SIDE = 32
"""Rows and columns sampled per image, which gives about a million pixels per domain."""
_ROWS_AT_ONCE = 64
Colors = npt.NDArray[np.uint8]
Map = npt.NDArray[np.float64]
S = TypeVar("S")


def color_sample(table: Table, domain: int | None = None) -> Colors:
    """Sample the colors of a table of pixels, identically on every machine.

    The sample consists of evenly spaced pixels of evenly spaced images; labels are not used.

    Args:
        table: Images (N, H, W, 3), uint8.
        domain: Index of the domain to sample; None samples all rows.

    Returns:
        Colors (M, 3), uint8.
    """
    rows = np.arange(len(table)) if domain is None else np.flatnonzero(table.domains == domain)
    rows = rows[evenly_spaced(len(rows), MAX_COLOR_IMAGES)]
    height, width = (evenly_spaced(side, MAX_SIDE) for side in table.shape[:2])
    parts = [
        table.batch(rows[start : start + _ROWS_AT_ONCE]).numpy()[:, height[:, None], width]
        for start in range(0, len(rows), _ROWS_AT_ONCE)
    ]
    colors: Colors = np.concatenate(parts).reshape(-1, 3)
    return colors


def style_maps(
    source: Table,
    targets: Sequence[Table],
    measure: Callable[[Table, int | None], S],
    lead: Callable[[S, S], Map],
) -> Tensor:
    """Return the maps from each of D source domains to each of T targets.

    Args:
        source: Images of the source domains.
        targets: Images of each target.
        measure: Returns the style of a domain, given a table and a domain index or None.
        lead: Returns the map from one style to another.

    Returns:
        Maps (D, T, ...), float64.
    """
    ends = [measure(table, None) for table in targets]
    starts = [measure(source, domain) for domain in range(len(source.domain_names))]
    return torch.from_numpy(np.array([[lead(start, end) for end in ends] for start in starts]))


BETA = 0.01
"""Half the side of the exchanged square, as a fraction of the image's side."""


def swap_amplitudes(images: Tensor, targets: Tensor, beta: float = BETA) -> Tensor:
    """Replace the low-frequency amplitudes of images by those of targets (FDA).

    Args:
        images: Images (B, 3, H, W), float32.
        targets: Target images of the same shape.
        beta: Size of the square: it holds frequencies up to floor(beta min(H, W)) cycles per image
            in each direction, and always the mean. A beta of 0 changes nothing.

    Returns:
        Images (B, 3, H, W), float32.
    """
    assert 0 <= beta < 0.5 and images.shape == targets.shape
    if not beta:
        return images
    height, width = images.shape[2:]
    reach = int(beta * min(height, width))
    spectrum, other = torch.fft.rfft2(images), torch.fft.rfft2(targets)
    for rows in (slice(0, reach + 1), slice(height - reach, height)):
        low = (..., rows, slice(0, reach + 1))
        spectrum[low] = torch.polar(other[low].abs(), spectrum[low].angle())
    mixed: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    return mixed


NUM_LEVELS = 256
Counts = npt.NDArray[np.int64]


def count_levels(colors: Colors) -> Counts:
    """Return the histogram (3, 256) of each channel of colors (N, 3)."""
    return np.stack([np.bincount(channel, minlength=NUM_LEVELS) for channel in colors.T])


def transfer_levels(source: Counts, target: Counts) -> Map:
    """Return tables (3, 256) that map each source level to the target's level, interpolated."""
    tables = []
    for q_s, q_t, seen in zip(_quantiles(source), _quantiles(target), target > 0, strict=True):
        tables.append(np.interp(q_s, q_t[seen], np.flatnonzero(seen)))
    return np.stack(tables)


def match_levels(images: Tensor, tables: Tensor) -> Tensor:
    """Apply tables (B, 3, 256) to images (B, 3, H, W) with integer values in 0..255."""
    return tables.gather(2, images.flatten(2).long()).view(images.shape)


def _quantiles(counts: Counts) -> npt.NDArray[np.float64]:
    """Return the fraction of pixels below each level plus half of those at it, (3, 256)."""
    below = counts.cumsum(1) - counts
    quantiles: npt.NDArray[np.float64] = (below + counts / 2) / counts.sum(1, keepdims=True)
    return quantiles


RGB_TO_LMS = np.array(
    [[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]]
)
"""Eq. 4; its rows sum to about one, which keeps 0..255 in range."""
LMS_TO_LAB = np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]]) / np.sqrt([[3], [6], [2]])
"""Eq. 6: an orthogonal transform of the logarithms."""
_DARKEST, _WHITE, _SPREAD = 1.0, 255.0, 1 / 255


@dataclass(frozen=True)
class LabStatistics:
    """Mean and standard deviation of a domain's colors in l alpha beta, with natural logarithms."""

    mean: tuple[float, ...]
    """Mean (3,)."""
    std: tuple[float, ...]
    """Standard deviation (3,), at least that of one gray level so that it can be inverted."""


def lab_statistics(colors: Colors) -> LabStatistics:
    """Return the l alpha beta statistics of colors (N, 3)."""
    lms = (colors.astype(np.float64) @ RGB_TO_LMS.T).clip(min=_DARKEST)
    lab = np.log(lms) @ LMS_TO_LAB.T
    return LabStatistics(tuple(lab.mean(0).tolist()), tuple(lab.std(0).clip(min=_SPREAD).tolist()))


def transfer_lab(source: LabStatistics, target: LabStatistics) -> Map:
    """Return the affine map (3, 4) of ln(LMS) that gives source colors the target's statistics."""
    scale = np.array(target.std) / np.array(source.std)
    matrix = LMS_TO_LAB.T @ np.diag(scale) @ LMS_TO_LAB
    add = LMS_TO_LAB.T @ (np.array(target.mean) - scale * np.array(source.mean))
    return np.concatenate([matrix, add[:, None]], axis=1)


def reinhard(images: Tensor, maps: Tensor) -> Tensor:
    """Apply affine maps (B, 3, 4) of ln(LMS) to images (B, 3, H, W) in 0..255.

    Cone responses are limited to those of white.
    """
    there = torch.from_numpy(RGB_TO_LMS).float().to(images.device)
    back = torch.from_numpy(np.linalg.inv(RGB_TO_LMS)).float().to(images.device)
    lms = stain_affine(there @ images.flatten(2), maps)
    return (back @ lms.clamp_(max=_WHITE)).view(images.shape)


DENSE = 0.15 * np.log(10)
"""Smallest norm of an optical density that is used: .15 in the paper, which uses log10."""
EXTREME = 1.0
"""Percentile of the angles (and, from above, of the amounts) that counts as extreme."""
_LEAST_PIXELS, _LEAST_RAD, _LEAST_AMOUNT = 100, 0.05, 0.05
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StainMatrix:
    """Background and dyes of a domain."""

    white: Array
    """Intensity of the background (3,), in 0..255."""
    dyes: Array
    """Unit densities of the nuclear dye, the red cells' dye and the residual, as rows (3, 3)."""
    amounts: Array
    """Extreme amounts of the two dyes (2,)."""


def find_stains(
    colors: Colors, dyes_of: Callable[[Array], Array | None] | None = None
) -> StainMatrix:
    """Estimate the stains of colors (N, 3).

    If the colors show fewer than two dyes, the directions of a Giemsa stain are used.

    Args:
        colors: Colors (N, 3), uint8.
        dyes_of: Returns the dyes (3, 3) of optical densities (M, 3); Macenko's by default.
    """
    intensity = colors.astype(np.float64).clip(min=_DARKEST)
    white = np.percentile(intensity, 100 - EXTREME, axis=0)
    density = np.log(white / intensity)
    mix = (dyes_of or _dyes)(density[np.linalg.norm(density, axis=1) >= DENSE])
    if mix is None:
        mix = stain_matrix().numpy()
    amounts = np.percentile(density @ np.linalg.inv(mix)[:, :2], 100 - EXTREME, axis=0)
    return StainMatrix(white, mix, amounts.clip(min=_LEAST_AMOUNT))


def transfer_stains(source: StainMatrix, target: StainMatrix) -> Map:
    """Return the affine map (3, 4) of ln(intensity) that gives the target's dyes and white."""
    scale = np.append(target.amounts / source.amounts, 1.0)
    matrix = target.dyes.T @ np.diag(scale) @ np.linalg.inv(source.dyes.T)
    add = np.log(target.white) - matrix @ np.log(source.white)
    return np.concatenate([matrix, add[:, None]], axis=1)


def macenko(images: Tensor, maps: Tensor) -> Tensor:
    """Apply affine maps (B, 3, 4) of ln(intensity) to images (B, 3, H, W) in 0..255."""
    return stain_affine(images.flatten(2).clone(), maps).view(images.shape)


def _dyes(density: Array) -> Array | None:
    """Return unit directions of the dyes and the residual, as rows (3, 3), of densities (N, 3).

    None if there are fewer than two dyes.
    """
    if len(density) < _LEAST_PIXELS:
        return None
    plane = np.linalg.eigh(density.T @ density)[1][:, :0:-1]
    plane *= np.where(plane.sum(0) < 0, -1.0, 1.0)
    first, second = (density @ plane).T
    ends = np.percentile(np.arctan2(second, first), (EXTREME, 100 - EXTREME))
    if ends[1] - ends[0] < _LEAST_RAD:
        return None
    found = np.stack([np.cos(ends), np.sin(ends)], 1) @ plane.T
    azure, eosin = found[found[:, 2].argsort()]
    rest = np.cross(azure, eosin)
    return np.stack([azure, eosin, rest / np.linalg.norm(rest)])


_WHITE = 255.0
Restyle = Callable[[Tensor, Tensor], Tensor]
"""Function from images (B, 3, H, W) in 0..255 and style values (B, ...) to restyled images."""
Lookup = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Function from domains, targets and uniform numbers, each (B,), to style values (B, ...)."""


@dataclass(frozen=True)
class StyleTransfer:
    """Style transfer of one batch, with all random numbers drawn."""

    restyle: Restyle
    """Applies a style in full."""
    values: Tensor
    """Style values of each sample (B, ...)."""
    part: Tensor
    """Fraction of the way to the target (B, 1, 1, 1)."""

    def apply(self, images: Tensor, some: slice) -> Tensor:
        """Interpolate linearly between images and their restyled versions, pixel by pixel.

        Args:
            images: Images (b, 3, H, W) in 0..255, a slice of the batch.
            some: The slice of the batch.
        """
        end = self.restyle(images, self.values[some]).clamp(0, _WHITE)
        return images.lerp(end, self.part[some])


@dataclass(frozen=True)
class TargetStyleSampler:
    """Style transfers from every source domain to every target."""

    restyle: Restyle
    """Applies a style in full."""
    lookup: Lookup
    """Returns the style values of samples."""
    num_targets: int

    def draw(
        self, changes: Tensor, domains: Tensor, strength: float, device: torch.device
    ) -> StyleTransfer:
        """Draw the style transfer of a batch.

        Args:
            changes: Uniform numbers (B, draws) of `draw_augmentation_params`.
            domains: Source domain of each sample (B,).
            strength: Upper limit of the fraction of the way to a target.
            device: Device of the batch.
        """
        which, rest = draw_target(changes, self.num_targets)
        values = self.lookup(domains, which, rest)
        part = draw_target_fraction(changes, strength).float()[:, None, None, None]
        values, part = (
            (x.pin_memory() if device.type == "cuda" else x).to(device, non_blocking=True)
            for x in (values, part)
        )
        return StyleTransfer(self.restyle, values, part)


def build_style_sampler(name: str, source: Table, targets: Sequence[Table]) -> TargetStyleSampler:
    """Build the sampler of a target style from training images.

    Args:
        name: An `Augmentation.target_style` other than "colors".
        source: Images of the source domains.
        targets: Images of each target.
    """
    if name == "fourier":
        return TargetStyleSampler(_swap, _random_images(targets), len(targets))
    measure, lead, restyle = _BY_MAPS[name]
    maps = style_maps(source, targets, lambda *domain: measure(color_sample(*domain)), lead)
    maps = maps.float()
    return TargetStyleSampler(restyle, lambda domains, which, _: maps[domains, which], len(targets))


def _random_images(targets: Sequence[Table]) -> Lookup:
    """Return a lookup of pixels (B, H, W, 3), uint8, of a random image of each sample's target."""
    table, lengths = concatenate(targets), torch.tensor([len(target) for target in targets])
    firsts = lengths.cumsum(0) - lengths

    def lookup(_: Tensor, which: Tensor, rest: Tensor) -> Tensor:
        rows = firsts[which] + (rest * lengths[which]).long()
        return table.batch(rows.numpy())

    return lookup


def _swap(images: Tensor, pixels: Tensor) -> Tensor:
    return swap_amplitudes(images, pixels.permute(0, 3, 1, 2).float())


def to_luma(images: Tensor, _: Tensor) -> Tensor:
    """Return the luma of images (B, 3, H, W) in all three channels."""
    weights = torch.tensor(_LUMA, device=images.device)[:, None, None]
    return (images * weights).sum(1, keepdim=True).expand_as(images)


_LUMA = (0.299, 0.587, 0.114)
_BY_MAPS: dict[str, tuple[Callable[[Colors], Any], Callable[[Any, Any], Map], Restyle]] = {
    "reinhard": (lab_statistics, transfer_lab, reinhard),
    "macenko": (find_stains, transfer_stains, macenko),
    "vahadane": (partial(find_stains, dyes_of=sparse_dyes), transfer_stains, macenko),
    "grayscale": (lambda colors: None, lambda source, target: np.zeros(1), to_luma),
    "histogram": (count_levels, transfer_levels, match_levels),
}
"""By style: how to measure a domain's colors, derive a map, and apply the map."""
