"""Draw one white blood cell, in um, as planes of dye.

Cells are drawn from the inside out: outlines, cytoplasm, vacuoles, nucleus with chromatin and
nucleoli, and granules. Outlines are smooth, and drawn on a coarser lattice.

Nuclei are unions of discs along a spine, in units of the cell's radius. Oval, kidney and band are
arcs of increasing span and decreasing thickness. Lobes are thick parts of a spine, joined by
strands.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hf_wbc.taxonomy import NAMES, class_id
from hf_wbc.toy.canvas import (
    PX_PER_UM,
    Discs,
    Dye,
    Plane,
    axes_um,
    blank,
    bump,
    coverage,
    enlarge,
    length,
    noise,
    polar,
    union,
    wobble,
)
from hf_wbc.toy.morphology import MORPHOLOGY, CellMorphology, Granules, Range

Rng = np.random.Generator


def arc(radius: float, span: float, num: int) -> Discs:
    """Return discs (num, 3) of radius 0 along an arc of `span` radians, centered on their mean."""
    angle = np.linspace(-span / 2, span / 2, num)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle), 0 * angle], 1)
    return np.asarray(points - points.mean(0), np.float32)


def round_(rng: Rng, size: float) -> Discs:
    """Return a nearly round nucleus of radius `size`."""
    length = size * rng.uniform(0.05, 0.3)
    discs = arc(10.0, length / 5, 3)
    discs[:, 2] = size - length / 2
    return discs


def oval(rng: Rng, size: float) -> Discs:
    """Return an oval nucleus with one side flattened at most, as in myelocytes."""
    discs = arc(size * rng.uniform(0.35, 0.6), rng.uniform(0.9, 1.8), 5)
    discs[:, 2] = size * rng.uniform(0.7, 0.8)
    return discs


def kidney(rng: Rng, size: float) -> Discs:
    """Return a nucleus indented up to half of its width, as in metamyelocytes."""
    discs = arc(size * rng.uniform(0.6, 0.74), rng.uniform(2.2, 3.2), 8)
    discs[:, 2] = size * rng.uniform(0.44, 0.56)
    return discs


def band(rng: Rng, size: float) -> Discs:
    """Return a band of nearly constant width: a horseshoe, or an S."""
    discs = arc(size * rng.uniform(0.85, 1.0), rng.uniform(3.0, 4.7), 19)
    if rng.random() < 0.25:
        half = len(discs) // 2
        discs[:half, 0] = 2 * discs[half, 0] - discs[:half, 0]
        discs[:, :2] = 0.78 * (discs[:, :2] - discs[:, :2].mean(0))
    waist = 1 - rng.uniform(0, 0.3) * np.cos(np.linspace(-1.5, 1.5, len(discs))) ** 2
    swell = 1 + 0.1 * np.cos(np.linspace(0, rng.uniform(3, 12), len(discs)))
    discs[:, 2] = size * rng.uniform(0.37, 0.46) * waist * swell
    return discs


def segments(rng: Rng, size: float) -> Discs:
    """Return two to five lobes joined by threads."""
    num = int(rng.choice([2, 3, 4, 5], p=[0.17, 0.45, 0.3, 0.08]))
    return lobes(rng, size, num, radius=0.70 - 0.06 * num, strand=0.13)


def bilobed(rng: Rng, size: float) -> Discs:
    """Return two plump lobes, rarely three, with a short bridge, as in eosinophils."""
    num = 2 if rng.random() < 0.85 else 3
    return lobes(rng, size, num, radius=0.72 - 0.07 * num, strand=0.15)


def folded(rng: Rng, size: float) -> Discs:
    """Return a bulky nucleus that is indented, folded or lobulated, as in monocytes."""
    discs = arc(size * rng.uniform(0.45, 0.75), rng.uniform(1.6, 4.0), 9)
    knobs = 1 + rng.uniform(0.0, 0.25) * np.cos(np.linspace(0, rng.uniform(4, 9), len(discs)))
    discs[:, 2] = size * rng.uniform(0.52, 0.62) * knobs
    return discs


def lobes(rng: Rng, size: float, num: int, radius: float, strand: float) -> Discs:
    """Return `num` lobes along an open ring, each a short band, and the strands between them."""
    step = rng.uniform(1.9, 2.6) if num == 2 else rng.uniform(3.4, 4.6) / (num - 1)
    angle = step * np.arange(num) + rng.normal(0, 0.15, num)
    reach = size * (0.8 if num < 4 else 0.9) * (1 + rng.normal(0, 0.12, num))
    centers = np.stack([reach * np.cos(angle), reach * np.sin(angle)], 1)
    parts: list[list[float]] = []
    for center, turn in zip(centers, angle, strict=True):
        thick = size * radius * rng.uniform(0.85, 1.12)
        along = turn + np.pi / 2 + rng.normal(0, 0.6)
        lean = thick * rng.uniform(0.25, 0.75) * np.array([np.cos(along), np.sin(along)])
        for shift in (-1.0, 0.0, 1.0):
            parts.append([*(center + shift * lean), thick * rng.uniform(0.75, 1.0)])
    for a, b in pairwise(centers):
        bow = 0.12 * size * rng.normal(size=2)
        for t in np.linspace(0.3, 0.7, 5):
            parts.append([*(a + t * (b - a) + bow * np.sin(np.pi * t)), size * strand])
    discs = np.asarray(parts, np.float32)
    discs[:, :2] -= centers.mean(0)
    return discs


SHAPES: dict[str, Callable[[Rng, float], Discs]] = {
    "round": round_,
    "oval": oval,
    "kidney": kidney,
    "band": band,
    "segments": segments,
    "bilobed": bilobed,
    "folded": folded,
}


COARSE = 2


@dataclass(frozen=True)
class Cell:
    """A cell in the center of a square of canvas."""

    dyes: Plane
    """Amounts of dye (dyes, n, n)."""
    body: Plane
    """Fraction of each pixel that the cell covers (n, n)."""
    nucleus: Plane
    """Fraction of each pixel that the nucleus covers (n, n)."""
    radius_um: float


def draw_cell(cell_class: str, rng: Rng) -> Cell:
    """Draw a cell of a class at `PX_PER_UM`; ValueError for an unknown class."""
    morphology = MORPHOLOGY[NAMES[class_id(cell_class)]]
    radius = _draw(rng, morphology.diameter_um) / 2
    coarse_px = 2 * int(np.ceil((radius * 1.25 + 0.3) * PX_PER_UM / COARSE))
    num_px = COARSE * coarse_px
    body_um, nucleus_um = (
        enlarge(inside, num_px) for inside in _outlines(rng, morphology, radius, coarse_px)
    )
    body, nucleus = coverage(body_um), coverage(nucleus_um)
    dyes = blank(num_px)
    # Cytoplasm and nucleus share one fine texture, because they do not overlap.
    fine = noise(rng, num_px, morphology.chromatin.grain_um / 2)
    _cytoplasm(rng, morphology, dyes, body_um, nucleus_um, fine)
    _vacuoles(rng, morphology, dyes, body_um, nucleus)
    _chromatin(rng, morphology, dyes, nucleus_um, nucleus, fine)
    for granules in morphology.granules:
        _granules(rng, granules, dyes, body_um, nucleus)
    dyes *= body
    return Cell(dyes, body, nucleus, radius)


def _draw(rng: Rng, bounds: Range) -> float:
    return float(rng.uniform(*bounds))


def _outlines(
    rng: Rng, morphology: CellMorphology, radius: float, num_px: int
) -> tuple[Plane, Plane]:
    """Return signed distances to the outlines of cell and nucleus, on the coarser lattice."""
    scale = PX_PER_UM / COARSE
    x, y = axes_um(num_px, scale)
    distance, limit = polar(x, y, radius * wobble(rng, 1, morphology.irregularity, 0.05)[0])
    body = limit - distance + np.float32(morphology.ruffle_um) * noise(rng, num_px, 1.0, scale)
    discs = radius * SHAPES[morphology.nucleus](rng, _draw(rng, morphology.size))
    turn, towards = rng.uniform(0, 2 * np.pi, 2)
    offset = radius * _draw(rng, morphology.offset)
    place = offset * np.array([np.cos(towards), np.sin(towards)])
    spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    discs[:, :2] = discs[:, :2] @ spin + place
    fold = np.float32(morphology.fold_um) * noise(rng, num_px, 3.0, scale)
    nucleus = union(discs, x + fold, y + np.rot90(fold))
    return body, np.minimum(nucleus, body - np.float32(0.25))


def _cytoplasm(
    rng: Rng,
    morphology: CellMorphology,
    dyes: Plane,
    body_um: Plane,
    nucleus_um: Plane,
    fine: Plane,
) -> None:
    """Add mottled dye, paler beside the nucleus and darker at the border."""
    thick = 1 + 0.14 * fine + 0.1 * noise(rng, len(fine), 2.5)
    thick += 0.12 * bump(body_um - np.float32(0.2), 0.25)
    hof = 1 - morphology.hof * bump(np.minimum(nucleus_um, 0), 0.9)
    dyes[Dye.BASOPHILIA] = _draw(rng, morphology.basophilia) * thick * hof
    dyes[Dye.ACIDOPHILIA] = _draw(rng, morphology.acidophilia) * thick


def _vacuoles(
    rng: Rng, morphology: CellMorphology, dyes: Plane, body_um: Plane, nucleus: Plane
) -> None:
    """Make round holes in the cytoplasm."""
    num = int(rng.integers(morphology.vacuoles[0], morphology.vacuoles[1] + 1))
    inside = np.argwhere((body_um > 0.9) & (nucleus < 0.05))
    if num and len(inside):
        dyes *= 1 - 0.8 * _spots(rng, inside, num, (0.25, 0.6), len(nucleus))


def _chromatin(
    rng: Rng,
    morphology: CellMorphology,
    dyes: Plane,
    nucleus_um: Plane,
    nucleus: Plane,
    fine: Plane,
) -> None:
    """Add clumps with light gaps between them, a dense membrane, and pale nucleoli."""
    texture = morphology.chromatin
    num_px = len(nucleus)
    clumps = noise(rng, num_px, texture.grain_um)
    clumps = np.tanh(0.8 * clumps + 0.6 * fine)
    deep = bump(nucleus_um - np.float32(0.2), 0.25)
    amount = 1 + texture.contrast * clumps * (1 - 0.6 * deep) + 0.15 * deep
    amount *= _draw(rng, texture.density)
    pale = np.zeros_like(nucleus)
    inside = np.argwhere(nucleus_um > 1.2)
    num = int(rng.integers(morphology.nucleoli[0], morphology.nucleoli[1] + 1))
    if num and len(inside):
        pale = _spots(rng, inside, num, (0.6, 1.1), num_px)
    dyes *= 1 - np.float32(0.8) * nucleus
    dyes[Dye.CHROMATIN] += nucleus * amount * (1 - 0.5 * pale)
    dyes[Dye.BASOPHILIA] += nucleus * 0.5 * pale


def _granules(rng: Rng, kind: Granules, dyes: Plane, body_um: Plane, nucleus: Plane) -> None:
    """Add dots of one dye to the cell, fewer over the nucleus."""
    num_px = len(nucleus)
    num = int(_draw(rng, kind.per_um2) * (num_px / PX_PER_UM) ** 2)
    row, column = rng.integers(0, num_px, (2, num))
    keep = rng.random(num) > nucleus[row, column] * (1 - kind.over_nucleus)
    keep &= body_um[row, column] > 0.15
    weight = rng.uniform(0.5, 1.5, num)[keep]
    dots = np.bincount((row * num_px + column)[keep], weight, num_px * num_px)
    sigma = kind.size_um * PX_PER_UM / 2.5
    blurred = gaussian_filter(
        dots.reshape(num_px, num_px).astype(np.float32), sigma, truncate=3, mode="constant"
    )
    blurred *= np.float32(1.2 * 2 * np.pi * sigma**2)
    dyes[kind.dye] += np.float32(kind.amount * rng.uniform(0.75, 1.15)) * np.tanh(blurred)


def _spots(rng: Rng, inside: NDArray[np.intp], num: int, radius_um: Range, num_px: int) -> Plane:
    """Return round spots (num_px, num_px), 0 to 1, at `num` of the pixels in `inside` (P, 2)."""
    x, y = axes_um(num_px)
    spots = np.zeros((num_px, num_px), np.float32)
    for row, column in inside[rng.integers(0, len(inside), num)]:
        distance = length(x - x[0, column], y - y[row, 0])
        spots = np.maximum(spots, coverage(np.float32(_draw(rng, radius_um)) - distance, 0.25))
    return spots
