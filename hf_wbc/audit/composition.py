"""Composition of datasets: appearance of the images and distribution of the classes."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from hf_wbc.audit.measure import FolderReading
from hf_wbc.data.schema import SPLITS
from hf_wbc.taxonomy import NAMES, NUM_CLASSES


@dataclass(frozen=True)
class Appearance:
    """Appearance of the images of a domain, or of one frame size of it."""

    domain: str
    frame_px: tuple[int, int] | None
    """Width and height; None if sizes vary or for the whole domain."""
    number: int
    um_per_px: float | None
    background: tuple[float, ...]
    """Median color of the border: red, green, blue from 0 to 255."""
    cell: tuple[float, ...]
    """Median color of the center: red, green, blue from 0 to 255."""
    contrast: tuple[float, float, float]
    """Quartiles of the standard deviation of gray levels in the 25 um square."""
    sharpness: tuple[float, float, float]
    """Quartiles of fine detail relative to contrast, at one scale for all domains."""


def frame_sizes(reading: FolderReading, folder: int) -> dict[tuple[int, int], NDArray[np.int64]]:
    """Return the rows of each frame size of a folder, the most common size first."""
    rows = reading.where(folder)
    sizes, which = np.unique(reading.size_px[rows], axis=0, return_inverse=True)
    which = which.reshape(-1)
    found = {
        (int(width), int(height)): rows[which == number]
        for number, (width, height) in enumerate(sizes)
    }
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def appearances(reading: FolderReading) -> list[Appearance]:
    """Describe each domain, followed by each of its frame sizes if there are several.

    If cells fill the frame, sizes vary naturally and are not listed separately.
    """
    return list(_appearances(reading))


def _appearances(reading: FolderReading) -> Iterator[Appearance]:
    for number, folder in enumerate(reading.folders):
        sizes = frame_sizes(reading, number)
        only = next(iter(sizes)) if len(sizes) == 1 else None
        yield _appearance(reading, number, reading.where(number), only)
        if folder.um_per_px is not None and len(sizes) > 1:
            for size, rows in sizes.items():
                yield _appearance(reading, number, rows, size)


def _appearance(
    reading: FolderReading, folder: int, rows: NDArray[np.int64], size: tuple[int, int] | None
) -> Appearance:
    def quartiles(values: NDArray[np.float32]) -> tuple[float, float, float]:
        low, middle, high = np.quantile(values[rows], (0.25, 0.5, 0.75)).tolist()
        return low, middle, high

    return Appearance(
        domain=reading.folders[folder].name,
        frame_px=size,
        number=len(rows),
        um_per_px=reading.folders[folder].um_per_px,
        background=tuple(np.median(reading.background[rows], axis=0).tolist()),
        cell=tuple(np.median(reading.cell[rows], axis=0).tolist()),
        contrast=quartiles(reading.contrast),
        sharpness=quartiles(reading.sharpness),
    )


def class_counts(reading: FolderReading) -> NDArray[np.int64]:
    """Count the labeled images (folders, splits, 11)."""
    counts = np.zeros((len(reading.folders), len(SPLITS), NUM_CLASSES), dtype=np.int64)
    labeled = reading.labels >= 0
    places = (reading.folder[labeled], reading.split[labeled], reading.labels[labeled])
    np.add.at(counts, places, 1)
    return counts


def group_by_domain(reading: FolderReading) -> dict[str, dict[str, int]]:
    """Count images as {domain: {class name: images}}, for domains with labels."""
    counts = class_counts(reading).sum(axis=1)
    return {
        folder.name: dict(zip(NAMES, row.tolist(), strict=True))
        for folder, row in zip(reading.folders, counts, strict=True)
        if row.sum()
    }


def missing_in_splits(reading: FolderReading, folder: int) -> dict[str, tuple[int, list[str]]]:
    """Find classes of a folder that one of its splits lacks: {class: (images, splits)}.

    Splits without any image are not listed.
    """
    counts = class_counts(reading)[folder]
    full = np.unique(reading.split[reading.where(folder)]).tolist()
    return {
        NAMES[label]: (
            int(counts[:, label].sum()),
            [SPLITS[i] for i in full if not counts[i, label]],
        )
        for label in range(NUM_CLASSES)
        if counts[:, label].any() and not counts[full, label].all()
    }


def prior_distances(reading: FolderReading) -> dict[tuple[str, str], float]:
    """Return the total variation distance, 0 to 1, of the class shares of each pair of domains."""
    shares = {
        name: np.array([counts[cell] for cell in NAMES]) / sum(counts.values())
        for name, counts in group_by_domain(reading).items()
    }
    return {
        (one, other): float(np.abs(shares[one] - shares[other]).sum() / 2)
        for one, other in combinations(shares, 2)
    }
