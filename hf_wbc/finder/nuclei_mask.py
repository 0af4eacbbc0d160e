"""Segment the nuclei of a field of view by their stain.

Nuclei absorb red and green light and hardly any blue, red cells absorb blue as much as green. The
difference of the optical densities is near zero in the background and in red cells, whatever the
lamp, and positive in nuclei, platelets and basophilic cytoplasm. In each stained region, the
nucleus is what exceeds a share of the region's own strength, so pale and dark cells may lie in one
field. Lobes of a nucleus are joined, and nuclei that touch are split where a neck separates them.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.nucleus import Mask, two_thresholds

UM_PER_PX = 0.25
"""Scale in um per pixel at which nuclei are searched."""
WEIGHTS = (1.0, 1.0, -1.5)
"""Weights of the optical densities of red, green and blue in the strength of the stain."""
BLACK = 0.85
"""Largest density in blue relative to red and green; what is above is black, red or yellow."""
VIVID = 190.0
"""Smallest difference in gray levels between the channels of a drawn color; no stain has it."""
MOST_FILLED = 2.0
"""Largest area of a nucleus with its holes, relative to that without."""
FAINTEST = 0.07
"""Smallest strength of a stained region."""
NUCLEUS_SHARE = 0.5
"""Strength of a nucleus' border, relative to the strong part of its region."""
SMOOTHED_UM = 0.3
"""Standard deviation of the Gaussian filter before thresholding, in um."""
SMALLEST_UM = 2.0
"""Smallest diameter in um, as a disc of equal area, of a part of a nucleus."""
GAP_UM = 2.0
"""Largest gap in um between lobes of a nucleus."""
LONGEST_UM = 17.0
"""Largest distance in um between two points of a lobed nucleus."""
WHOLE_UM = 7.0
"""Diameter in um from which a nucleus may be a cell's only one; smaller ones may be lobes."""
LARGE_UM = 9.0
"""Diameter in um from which a nucleus is never a lobe of another one."""
ROUND = 0.75
"""Smallest area relative to the circle around it of a nucleus that is whole rather than a lobe."""
NECK = 0.75
"""Largest width of the neck between two nuclei, relative to the width of the smaller one."""


@dataclass(eq=False)
class Region:
    """A nucleus in a field of view at the searched scale."""

    mask: Mask
    """Pixels of the nucleus (h, w) within its bounding box."""
    top: int
    left: int

    @cached_property
    def area(self) -> int:
        """Number of pixels."""
        return int(self.mask.sum())

    @cached_property
    def center(self) -> tuple[float, float]:
        """Center of mass: row and column, in pixels of the field."""
        rows, columns = np.nonzero(self.mask)
        return float(rows.mean() + self.top), float(columns.mean() + self.left)

    @cached_property
    def outline(self) -> NDArray[np.int64]:
        """Border pixels (N, 2), row and column in pixels of the field."""
        from scipy import ndimage

        edge = self.mask & ~ndimage.binary_erosion(self.mask)
        points: NDArray[np.int64] = np.add(np.argwhere(edge), (self.top, self.left))
        return points

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of the bounding box."""
        height, width = self.mask.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def optical_density(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the optical densities (H, W, 3) of an image (H, W, 3) in gray levels.

    The brightest of three classes of green (Otsu) counts as white, and so does what is drawn.
    """
    green = image[..., 1]
    _, high = two_thresholds(green.astype(np.float64))
    bright = green > high
    white = np.median(image[bright], axis=0) if bright.any() else np.full(3, 255.0)
    share = np.clip(image, 1.0, None) / np.maximum(white, 1.0).astype(np.float32)
    density: NDArray[np.float32] = -np.log10(share)
    density[image.max(axis=2) - image.min(axis=2) > VIVID] = 0
    return density


def stain_strength(density: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how much more red and green light than blue is absorbed, (H, W).

    It is about 0 in background and red cells. What absorbs all light is ink or dirt, and has 0.

    Args:
        density: Optical densities (H, W, 3).
    """
    strength: NDArray[np.float32] = density @ np.array(WEIGHTS, np.float32)
    is_black = density[..., 2] > BLACK * density[..., :2].mean(axis=2)
    strength[is_black] = 0
    return strength


def find_regions(strength: NDArray[np.float32], um_per_px: float) -> list[Region]:
    """Find the nuclei in a map of the stain's strength (H, W); lobes are joined, contacts split.

    Args:
        strength: From `stain_strength`.
        um_per_px: Scale of the map in um per pixel.
    """
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(strength, SMOOTHED_UM / um_per_px)
    nuclei = _nuclei(smooth, um_per_px)
    parts = []
    labels, _ = ndimage.label(nuclei)
    smallest = _disc(SMALLEST_UM, um_per_px)
    for label, place in enumerate(ndimage.find_objects(labels), 1):
        mask = labels[place] == label
        if mask.sum() >= smallest:
            filled = ndimage.binary_fill_holes(mask)
            if filled.sum() > MOST_FILLED * mask.sum():  # a frame drawn around a cell
                continue
            parts += _split(Region(filled, place[0].start, place[1].start), um_per_px)
    return _joined(parts, um_per_px)


def _disc(diameter_um: float, um_per_px: float) -> float:
    """Return the number of pixels of a disc."""
    return float(np.pi / 4 * (diameter_um / um_per_px) ** 2)


def _nuclei(smooth: NDArray[np.float32], um_per_px: float) -> Mask:
    """Threshold each stained region at a share of its own strength."""
    from scipy import ndimage

    labels, number = ndimage.label(smooth > FAINTEST)
    found = np.zeros(smooth.shape, bool)
    smallest = _disc(SMALLEST_UM, um_per_px)
    areas = np.bincount(labels.ravel(), minlength=number + 1)
    for label, place in enumerate(ndimage.find_objects(labels), 1):
        if areas[label] < smallest:
            continue
        inside = labels[place] == label
        values = smooth[place]
        strong = np.quantile(values[inside], 0.9)
        found[place] |= inside & (values > NUCLEUS_SHARE * strong)
    radius = max(1, round(0.4 / um_per_px))
    opened: Mask = ndimage.binary_opening(found, iterations=radius)
    return opened


def _split(region: Region, um_per_px: float) -> list[Region]:
    """Split a nucleus at necks, if every part is large enough for a nucleus of its own."""
    from scipy import ndimage

    if region.area < 2 * _disc(WHOLE_UM, um_per_px):
        return [region]
    depth = ndimage.distance_transform_edt(np.pad(region.mask, 1))[1:-1, 1:-1]
    cores = _cores(depth, WHOLE_UM / 2 / um_per_px)
    if cores.max() < 2:
        return [region]
    nearest = ndimage.distance_transform_edt(cores == 0, return_indices=True)[1]
    owner = cores[tuple(nearest)]
    parts = []
    for number in range(1, int(cores.max()) + 1):
        mask = region.mask & (owner == number)
        if mask.sum() < 0.8 * _disc(WHOLE_UM, um_per_px):
            return [region]
        rows, columns = np.nonzero(mask)
        box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
        parts.append(Region(mask[box], region.top + box[0].start, region.left + box[1].start))
    return parts


def _cores(depth: NDArray[np.float64], radius: float) -> NDArray[np.int64]:
    """Label the cores of the parts of a nucleus (h, w); 0 elsewhere.

    The nucleus is eroded step by step. Where it falls apart at a neck into pieces that are all
    thick, the pieces are the cores.

    Args:
        depth: Distance of each pixel from the border of the nucleus, in pixels.
        radius: Smallest depth of a core.
    """
    from scipy import ndimage

    best = np.zeros(depth.shape, np.int64)
    for level in np.arange(1.0, depth.max(), 1.0):
        labels, number = ndimage.label(depth > level)
        if number < 2:
            continue
        index = np.arange(1, number + 1)
        tops = np.atleast_1d(ndimage.maximum(depth, labels, index))
        thick = index[(tops >= 0.8 * radius) & (level <= NECK * tops)]
        if len(thick) > max(1, best.max()):
            best = np.searchsorted(thick, labels) + 1
            best[~np.isin(labels, thick)] = 0
    return best


def _joined(parts: list[Region], um_per_px: float) -> list[Region]:
    """Join lobes that lie close to each other, the closest first."""
    from scipy.spatial import cKDTree

    if len(parts) < 2:
        return parts
    tree = cKDTree([part.center for part in parts])
    gaps = []
    for one, other in tree.query_pairs(LONGEST_UM / um_per_px):
        gap = _gap(parts[one], parts[other]) * um_per_px
        if gap <= GAP_UM:
            gaps.append((gap, one, other))
    groups = {number: [part] for number, part in enumerate(parts)}
    owner = list(range(len(parts)))
    for _, one, other in sorted(gaps):
        first, second = owner[one], owner[other]
        if first != second and _belong(groups[first], groups[second], um_per_px):
            groups[first] += groups.pop(second)
            owner = [first if each == second else each for each in owner]
    return [_union(group) for group in groups.values()]


def _gap(one: Region, other: Region) -> float:
    """Return the smallest distance between two regions, in pixels."""
    from scipy.spatial import cKDTree

    return float(cKDTree(one.outline).query(other.outline)[0].min())


def _belong(one: list[Region], other: list[Region], um_per_px: float) -> bool:
    """Return whether two groups of lobes are one nucleus: one is small, and both are near."""
    areas = [sum(part.area for part in group) for group in (one, other)]
    if min(areas) >= _disc(LARGE_UM, um_per_px):
        return False
    if min(areas) >= _disc(WHOLE_UM, um_per_px) and all(map(_is_round, (one, other))):
        return False
    points = np.concatenate([part.outline for part in (*one, *other)])
    length = float(np.hypot(*(points.max(0) - points.min(0)))) * um_per_px
    return length <= (LONGEST_UM if min(areas) >= _disc(WHOLE_UM, um_per_px) else 1.3 * LONGEST_UM)


def _is_round(group: list[Region]) -> bool:
    """Return whether a group is a single part that fills most of the circle around it."""
    if len(group) > 1:
        return False
    points = group[0].outline.astype(np.float64)
    longest = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)).max() + 1
    return bool(group[0].area > ROUND * np.pi / 4 * longest**2)


def _union(group: list[Region]) -> Region:
    if len(group) == 1:
        return group[0]
    top, left = min(part.top for part in group), min(part.left for part in group)
    bottom = max(part.top + part.mask.shape[0] for part in group)
    right = max(part.left + part.mask.shape[1] for part in group)
    mask = np.zeros((bottom - top, right - left), bool)
    for part in group:
        rows, columns = part.place
        mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] |= (
            part.mask
        )
    return Region(mask, top, left)
