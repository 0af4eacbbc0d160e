"""Colour and sharpness by domain, and by session where frames of one domain differ in size."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.audit.read import Reading


@dataclass(frozen=True)
class Appearance:
    """How the images of a domain, or of one frame size of it, look."""

    domain: str
    frame_px: tuple[int, int] | None
    """Width and height; None for sizes that vary or for the whole domain."""
    number: int
    um_per_px: float | None
    background: tuple[float, ...]
    """Median colour of the border, red, green, blue of 0 to 255."""
    cell: tuple[float, ...]
    """Median colour of the centre."""
    contrast: tuple[float, float, float]
    """Quartiles of the standard deviation of grey levels in the 25 um square."""
    sharpness: tuple[float, float, float]
    """Quartiles of fine detail over contrast, at one scale for all domains."""


def frame_sizes(reading: Reading, folder: int) -> dict[tuple[int, int], NDArray[np.int64]]:
    """Rows by frame size, the commonest first."""
    rows = reading.where(folder)
    sizes, which = np.unique(reading.size_px[rows], axis=0, return_inverse=True)
    which = which.reshape(-1)
    found = {
        (int(width), int(height)): rows[which == number]
        for number, (width, height) in enumerate(sizes)
    }
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def appearances(reading: Reading) -> list[Appearance]:
    """One for each domain, followed by one for each frame size where there are several.

    Where the cell fills the frame, sizes vary by nature and are not told apart.
    """
    return list(_appearances(reading))


def _appearances(reading: Reading) -> Iterator[Appearance]:
    for number, folder in enumerate(reading.folders):
        sizes = frame_sizes(reading, number)
        only = next(iter(sizes)) if len(sizes) == 1 else None
        yield _appearance(reading, number, reading.where(number), only)
        if folder.um_per_px is not None and len(sizes) > 1:
            for size, rows in sizes.items():
                yield _appearance(reading, number, rows, size)


def _appearance(
    reading: Reading, folder: int, rows: NDArray[np.int64], size: tuple[int, int] | None
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
