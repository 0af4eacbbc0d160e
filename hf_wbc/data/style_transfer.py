"""How source images go a random part of the way to a target's style, a batch at a time.

A style is measured once, without a label, and what moves a sample is looked up by its domain and
its drawn target: a map, a table, or another image. What is beyond black and white is cut off.

A sample of a domain's colours, the same on every machine, and what leads from each to each.

FDA: the lowest frequencies of a source image get the amplitudes of a random target image.

Yang & Soatto 2020, "FDA: Fourier domain adaptation for semantic segmentation", arXiv:2004.05498,
eq. 2. Phases, which hold the shapes, stay the source's. What is swapped is a square around the zero
frequency: light, colour and the roughest of the layout. Of a single cell that is its size and the
light around it: the whole way leaves coloured halos, half of it hardly any.

Histogram matching: every channel gets the target's distribution, level by level.

The map takes a level to the target's level of the same quantile (Gonzalez & Woods, "Digital image
processing", sec. 3.3.2, histogram specification). The distributions are those of domains.

Reinhard's colour transfer: the target's mean and deviation in a space of human vision.

Reinhard, Ashikhmin, Gooch & Shirley 2001, "Color transfer between images". The space is l alpha
beta: logarithms of what the eye's long, middle and short cones take in, turned onto axes along
which natural images vary independently. Theirs are the statistics of two images, ours of two
domains, so that a cell keeps what sets it apart from others of its laboratory. Between the
logarithms the whole way is one affine map.

Macenko's stain normalisation: the target's dyes, as strong as the target has them.

Macenko et al. 2009, "A method for normalizing histology slides for quantitative analysis". In
optical density, -ln(intensity / white), a pixel is a sum of dyes. The plane of the two strongest
directions holds the two dyes; they are its extreme directions, and the strength of each is an
extreme of its amounts. A source pixel is unmixed by its domain's dyes, its amounts are scaled, and
it is mixed again with the target's: one affine map of ln(intensity), as of stain jitter.

Otherwise than in the paper the statistics are those of a domain instead of an image; white is the
domain's own, for laboratories' backgrounds differ from grey to cream; what the two dyes do not
explain is kept, not dropped; and the dyes are told apart by blue, which the nuclei's lets through
and the red cells' does not. Tissue's are told apart by red, which fails here: both absorb it.

Source images in the target's style, without a label: five ways, one a file.

The one called "colours" is a linear map of colours, which costs nothing beside the other changes of
colour and so lies with them, in `hf_wbc.data.augment_ops` and `hf_wbc.data.image_statistics`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hf_wbc.data.augment_ops import draw_target_fraction, draw_uniform, stain_affine, stain_matrix
from hf_wbc.data.image_statistics import MAX_COLOR_IMAGES, evenly_spaced
from hf_wbc.data.table import Table, concatenate

MAX_SIDE = 32
"""Pixels in a row and in a column that stand for an image: a million for a domain."""
_ROWS_AT_ONCE = 64
Colors = npt.NDArray[np.uint8]
Map = npt.NDArray[np.float64]
S = TypeVar("S")


def color_sample(table: Table, domain: int | None = None) -> Colors:
    """Colours (N, 3) of a table of pixels, or of one domain in it by its index.

    From evenly spaced pixels of evenly spaced images; no label is looked at.
    """
    rows = np.arange(len(table)) if domain is None else np.flatnonzero(table.domains == domain)
    rows = rows[evenly_spaced(len(rows), MAX_COLOR_IMAGES)]
    height, width = (evenly_spaced(side, MAX_SIDE) for side in table.shape[:2])
    parts = [
        table.batch(rows[start : start + _ROWS_AT_ONCE]).numpy()[:, height[:, None], width]
        for start in range(0, len(rows), _ROWS_AT_ONCE)
    ]
    colours: Colors = np.concatenate(parts).reshape(-1, 3)
    return colours


def style_maps(
    source: Table,
    targets: Sequence[Table],
    measure: Callable[[Table, int | None], S],
    lead: Callable[[S, S], Map],
) -> Tensor:
    """What leads from each of D source domains to each of T targets (D, T, ...), float64."""
    ends = [measure(table, None) for table in targets]
    starts = [measure(source, domain) for domain in range(len(source.domain_names))]
    return torch.from_numpy(np.array([[lead(start, end) for end in ends] for start in starts]))


BETA = 0.01
"""Half the side of the square, as a fraction of the image's."""


def swap_amplitudes(images: Tensor, targets: Tensor, beta: float = BETA) -> Tensor:
    """Images (B, 3, H, W) with the low amplitudes of `targets`, of the same shape, in float32.

    The square holds the frequencies of up to floor(beta min(H, W)) cycles an image either way, the
    mean always included; a beta of 0 changes nothing.
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


def count_levels(colours: Colors) -> Counts:
    """How often each channel of colours (N, 3) has each level (3, 256)."""
    return np.stack([np.bincount(channel, minlength=NUM_LEVELS) for channel in colours.T])


def transfer_levels(source: Counts, target: Counts) -> Map:
    """Tables (3, 256): the target's level, between two if need be, for each of the source's."""
    tables = []
    for q_s, q_t, seen in zip(_quantiles(source), _quantiles(target), target > 0, strict=True):
        tables.append(np.interp(q_s, q_t[seen], np.flatnonzero(seen)))
    return np.stack(tables)


def match_levels(images: Tensor, tables: Tensor) -> Tensor:
    """Images (B, 3, H, W) of whole numbers in 0..255 through `tables` (B, 3, 256)."""
    return tables.gather(2, images.flatten(2).long()).view(images.shape)


def _quantiles(counts: Counts) -> npt.NDArray[np.float64]:
    """Fraction of pixels below each level, and half of those at it (3, 256)."""
    below = counts.cumsum(1) - counts
    quantiles: npt.NDArray[np.float64] = (below + counts / 2) / counts.sum(1, keepdims=True)
    return quantiles


RGB_TO_LMS = np.array(
    [[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]]
)
"""Eq. 4; its rows sum to one, nearly, so that 0..255 stays in it."""
LMS_TO_LAB = np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]]) / np.sqrt([[3], [6], [2]])
"""Eq. 6: an orthogonal turn of the logarithms."""
_DARKEST, _reinhard_WHITE, _SPREAD = 1.0, 255.0, 1 / 255


@dataclass(frozen=True)
class LabStatistics:
    """Of a domain's colours in l alpha beta, with natural logarithms."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    """At least a grey level's, so that a domain of one colour has a map too."""


def lab_statistics(colours: Colors) -> LabStatistics:
    """Of colours (N, 3)."""
    lms = (colours.astype(np.float64) @ RGB_TO_LMS.T).clip(min=_DARKEST)
    lab = np.log(lms) @ LMS_TO_LAB.T
    return LabStatistics(tuple(lab.mean(0).tolist()), tuple(lab.std(0).clip(min=_SPREAD).tolist()))


def transfer_lab(source: LabStatistics, target: LabStatistics) -> Map:
    """Map (3, 4) of ln(LMS) that gives source colours the target's statistics."""
    scale = np.array(target.std) / np.array(source.std)
    matrix = LMS_TO_LAB.T @ np.diag(scale) @ LMS_TO_LAB
    add = LMS_TO_LAB.T @ (np.array(target.mean) - scale * np.array(source.mean))
    return np.concatenate([matrix, add[:, None]], axis=1)


def reinhard(images: Tensor, maps: Tensor) -> Tensor:
    """Images (B, 3, H, W) of 0..255 through `maps` (B, 3, 4) of ln(LMS).

    No cone takes in more than it does of white.
    """
    there = torch.from_numpy(RGB_TO_LMS).float().to(images.device)
    back = torch.from_numpy(np.linalg.inv(RGB_TO_LMS)).float().to(images.device)
    lms = stain_affine(there @ images.flatten(2), maps)
    return (back @ lms.clamp_(max=_reinhard_WHITE)).view(images.shape)


DENSE = 0.15 * np.log(10)
"""Least length of an optical density that is looked at: the paper's .15, which is decadic."""
EXTREME = 1.0
"""Percentile of angles, and of amounts from above, that stands for the extreme."""
_macenko_DARKEST = 1.0
_LEAST_PIXELS, _LEAST_RAD, _LEAST_AMOUNT = 100, 0.05, 0.05
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StainMatrix:
    """Of a domain."""

    white: Array
    """Intensity of the background (3,), of 255."""
    dyes: Array
    """Densities of a unit of the nuclei's dye, the red cells' and what neither explains (3, 3)."""
    amounts: Array
    """Extreme amounts of the two dyes (2,)."""


def find_stains(colours: Colors) -> StainMatrix:
    """Of colours (N, 3). Where they show fewer than two dyes, the directions of a Giemsa stain."""
    intensity = colours.astype(np.float64).clip(min=_macenko_DARKEST)
    white = np.percentile(intensity, 100 - EXTREME, axis=0)
    density = np.log(white / intensity)
    mix = _dyes(density[np.linalg.norm(density, axis=1) >= DENSE])
    amounts = np.percentile(density @ np.linalg.inv(mix)[:, :2], 100 - EXTREME, axis=0)
    return StainMatrix(white, mix, amounts.clip(min=_LEAST_AMOUNT))


def transfer_stains(source: StainMatrix, target: StainMatrix) -> Map:
    """Map (3, 4) of ln(intensity) that gives source pixels the target's dyes and white."""
    scale = np.append(target.amounts / source.amounts, 1.0)
    matrix = target.dyes.T @ np.diag(scale) @ np.linalg.inv(source.dyes.T)
    add = np.log(target.white) - matrix @ np.log(source.white)
    return np.concatenate([matrix, add[:, None]], axis=1)


def macenko(images: Tensor, maps: Tensor) -> Tensor:
    """Images (B, 3, H, W) of 0..255 through `maps` (B, 3, 4) of ln(intensity)."""
    return stain_affine(images.flatten(2).clone(), maps).view(images.shape)


def _dyes(density: Array) -> Array:
    """Unit directions of the dyes in densities (N, 3), as rows (3, 3)."""
    if len(density) < _LEAST_PIXELS:
        return stain_matrix().numpy()
    plane = np.linalg.eigh(density.T @ density)[1][:, :0:-1]
    plane *= np.where(plane.sum(0) < 0, -1.0, 1.0)
    first, second = (density @ plane).T
    ends = np.percentile(np.arctan2(second, first), (EXTREME, 100 - EXTREME))
    if ends[1] - ends[0] < _LEAST_RAD:
        return stain_matrix().numpy()
    found = np.stack([np.cos(ends), np.sin(ends)], 1) @ plane.T
    azure, eosin = found[found[:, 2].argsort()]
    rest = np.cross(azure, eosin)
    return np.stack([azure, eosin, rest / np.linalg.norm(rest)])


_WHITE = 255.0
Restyle = Callable[[Tensor, Tensor], Tensor]
"""Images (B, 3, H, W) of 0..255 and what moves them (B, ...) to images in the target's style."""
Lookup = Callable[[Tensor, Tensor, Tensor], Tensor]
"""What moves the samples (B, ...), of their domains, targets and a uniform number each (B,)."""


@dataclass(frozen=True)
class StyleTransfer:
    """From the images of a batch to their targets' style."""

    restyle: Restyle
    values: Tensor
    """What moves each sample (B, ...)."""
    part: Tensor
    """Of the way that each sample goes (B, 1, 1, 1)."""

    def apply(self, images: Tensor, some: slice) -> Tensor:
        """Images (b, 3, H, W), a slice of the batch, part of the way; straight, pixel by pixel."""
        end = self.restyle(images, self.values[some]).clamp(0, _WHITE)
        return images.lerp(end, self.part[some])


@dataclass(frozen=True)
class TargetStyleSampler:
    """A way from every source domain to every target."""

    restyle: Restyle
    lookup: Lookup
    num_targets: int

    def draw(
        self, changes: Tensor, domains: Tensor, strength: float, device: torch.device
    ) -> StyleTransfer:
        """The way of samples by the rows of `draw_changes`, their domains (B,) in hand."""
        which, rest = draw_target_fraction(changes, self.num_targets)
        values = self.lookup(domains, which, rest)
        part = draw_uniform(changes, strength).float()[:, None, None, None]
        values, part = (
            (x.pin_memory() if device.type == "cuda" else x).to(device, non_blocking=True)
            for x in (values, part)
        )
        return StyleTransfer(self.restyle, values, part)


def build_style_sampler(name: str, source: Table, targets: Sequence[Table]) -> TargetStyleSampler:
    """Of an `Augmentation.target_style` other than "colours", from the training images."""
    if name == "fourier":
        return TargetStyleSampler(_swap, _random_images(targets), len(targets))
    measure, lead, restyle = _BY_MAPS[name]
    maps = style_maps(source, targets, lambda *domain: measure(color_sample(*domain)), lead)
    maps = maps.float()
    return TargetStyleSampler(restyle, lambda domains, which, _: maps[domains, which], len(targets))


def _random_images(targets: Sequence[Table]) -> Lookup:
    """Looks up pixels (B, H, W, 3) uint8 of a random image of each sample's target."""
    table, lengths = concatenate(targets), torch.tensor([len(target) for target in targets])
    firsts = lengths.cumsum(0) - lengths

    def lookup(_: Tensor, which: Tensor, rest: Tensor) -> Tensor:
        rows = firsts[which] + (rest * lengths[which]).long()
        return table.batch(rows.numpy())

    return lookup


def _swap(images: Tensor, pixels: Tensor) -> Tensor:
    return swap_amplitudes(images, pixels.permute(0, 3, 1, 2).float())


_BY_MAPS: dict[str, tuple[Callable[[Colors], Any], Callable[[Any, Any], Map], Restyle]] = {
    "reinhard": (lab_statistics, transfer_lab, reinhard),
    "macenko": (find_stains, transfer_stains, macenko),
    "histogram": (count_levels, transfer_levels, match_levels),
}
"""What is measured of a domain's colours, what leads from one to another, and what obeys that."""
