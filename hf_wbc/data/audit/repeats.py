"""Images that repeat others: identical ones and frames of one scene, in a dataset and between two.

Within a dataset whole frames are compared, between datasets their 25 um squares, which lie at one
scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.audit.read import Reading
from hf_wbc.data.schema import CROP_UM
from hf_wbc.prepare.duplicates import THUMBNAIL_PX, components, overlapping_pairs

SAME_CELL_UM = 3.0
"""By how much two frames around one cell may be shifted; two cells' centres are further apart."""
_FILLED_UM = 15.0
"""What a frame that the cell fills is taken to show."""
SAME_COLOUR = 25.0
"""Levels of 0 to 255 by which the mean of each colour may differ between two photographs of it."""


@dataclass(frozen=True)
class Repeats:
    """Rows of a `Reading` that repeat others."""

    identical: tuple[tuple[int, ...], ...]
    """Rows of the same pixels, two or more, in rising order."""
    overlapping: tuple[tuple[int, int], ...]
    """Pairs of rows of different pixels that show the same scene."""
    same_cell: frozenset[tuple[int, int]]
    """Those of `overlapping` that are hardly shifted and of one colour: one cell, taken twice."""


def find_repeats(reading: Reading) -> Repeats:
    """All repeats in and between the folders; of identical images the first stands for all."""
    rows_of: dict[str, list[int]] = {}
    for row, digest in enumerate(reading.digests):
        rows_of.setdefault(digest, []).append(row)
    digests = np.array(reading.digests)
    found: dict[tuple[int, int], float] = {}
    for number, folder in enumerate(reading.folders):
        mine = _firsts(digests, reading.where(number))
        um = reading.size_px[mine].max() * folder.um_per_px if folder.um_per_px else _FILLED_UM
        found |= _shifts_um(reading.scene, mine, um)
    if len(reading.folders) > 1:
        between = _shifts_um(reading.square, _firsts(digests, np.arange(len(reading))), CROP_UM)
        found |= {
            pair: shift_um
            for pair, shift_um in between.items()
            if reading.folder[pair[0]] != reading.folder[pair[1]]
        }
    return Repeats(
        identical=tuple(tuple(rows) for rows in rows_of.values() if len(rows) > 1),
        overlapping=tuple(sorted(found)),
        same_cell=frozenset(
            (one, other)
            for (one, other), shift_um in found.items()
            if shift_um <= SAME_CELL_UM
            and _colour_step(reading.small[one], reading.small[other]) <= SAME_COLOUR
        ),
    )


def _firsts(digests: NDArray[np.str_], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first of the rows of each digest, in rising order."""
    return np.sort(rows[np.unique(digests[rows], return_index=True)[1]])


def _shifts_um(
    thumbnails: NDArray[np.uint8], rows: NDArray[np.int64], um: float
) -> dict[tuple[int, int], float]:
    """Pairs of `rows`, frames of `um`, that share a scene, with the larger of their two shifts."""
    if len(rows) < 2:
        return {}
    pairs = overlapping_pairs(thumbnails[rows])
    return {
        (int(rows[i]), int(rows[j])): max(abs(dy), abs(dx)) * um / THUMBNAIL_PX
        for i, j, dy, dx in pairs.tolist()
    }


def ties(reading: Reading, repeats: Repeats) -> NDArray[np.int64]:
    """What each row must not be parted from when something is learned and tested (N,)."""
    groups: dict[tuple[int, str], list[int]] = {}
    for row, group in enumerate(reading.groups):
        if group is not None:
            groups.setdefault((int(reading.folder[row]), group), []).append(row)
    tied = [*groups.values(), *repeats.identical, *repeats.overlapping]
    return components(len(reading), tied)


def _colour_step(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Largest difference of the mean colours of two small pictures, in levels."""
    return float(np.abs(one.mean(axis=(0, 1)) - other.mean(axis=(0, 1))).max())


@dataclass(frozen=True)
class Shared:
    """What two datasets have in common."""

    domains: tuple[str, str]
    identical: tuple[tuple[int, ...], ...]
    overlapping: tuple[tuple[int, int], ...]


def shared_between(reading: Reading, repeats: Repeats) -> list[Shared]:
    """For each two folders the images that both have; empty for one folder."""
    names = [folder.name for folder in reading.folders]
    found = []
    for one, other in combinations(range(len(names)), 2):

        def both(rows: Sequence[int], wanted: tuple[int, int] = (one, other)) -> bool:
            return set(wanted) <= {int(reading.folder[row]) for row in rows}

        found.append(
            Shared(
                (names[one], names[other]),
                tuple(
                    tuple(row for row in rows if reading.folder[row] in (one, other))
                    for rows in repeats.identical
                    if both(rows)
                ),
                tuple(pair for pair in repeats.overlapping if both(pair)),
            )
        )
    return found


def two_labels(reading: Reading, repeats: Repeats) -> tuple[tuple[int, ...], ...]:
    """Rows that show one cell and do not agree on its class; unlabelled rows have no say."""
    cells = (*repeats.identical, *sorted(repeats.same_cell))
    return tuple(
        rows for rows in cells if len({int(reading.labels[row]) for row in rows} - {-1}) > 1
    )


def in_folder(
    reading: Reading, ties: Sequence[tuple[int, ...]], folder: int
) -> list[tuple[int, ...]]:
    """Those of `ties` that lie in one folder, with the rows of this folder alone."""
    mine = [tuple(row for row in rows if reading.folder[row] == folder) for rows in ties]
    return [rows for rows in mine if len(rows) > 1]


def across_splits(reading: Reading, rows: Sequence[int]) -> bool:
    """Whether rows lie in more than one split."""
    return any(reading.split[one] != reading.split[other] for one, other in pairwise(rows))
