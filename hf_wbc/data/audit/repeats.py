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
from hf_wbc.data.duplicates import components
from hf_wbc.data.overlaps import overlapping_pairs

SAME_CELL = 1
"""Cells of a 48 x 48 thumbnail by which two frames of the same cell may be shifted."""
SAME_COLOUR = 10.0
"""Levels of 0 to 255 by which their colours may differ in the mean."""


@dataclass(frozen=True)
class Repeats:
    """Rows of a `Reading` that repeat others."""

    identical: tuple[tuple[int, ...], ...]
    """Rows of the same pixels, two or more, in rising order."""
    overlapping: tuple[tuple[int, int], ...]
    """Pairs of rows of different pixels that show the same scene."""
    same_cell: frozenset[tuple[int, int]]
    """Those of `overlapping` that are not shifted and of one colour: one cell, saved twice."""


def find_repeats(reading: Reading) -> Repeats:
    """All repeats in and between the folders; of identical images the first stands for all."""
    rows_of: dict[str, list[int]] = {}
    for row, digest in enumerate(reading.digests):
        rows_of.setdefault(digest, []).append(row)
    firsts = np.array([rows[0] for rows in rows_of.values()], dtype=np.int64)
    found: dict[tuple[int, int], int] = {}
    for folder in range(len(reading.folders)):
        mine = firsts[reading.folder[firsts] == folder]
        found |= _shifts(reading.scene, mine)
    if len(reading.folders) > 1:
        between = _shifts(reading.square, firsts)
        found |= {
            pair: shift
            for pair, shift in between.items()
            if reading.folder[pair[0]] != reading.folder[pair[1]]
        }
    return Repeats(
        identical=tuple(tuple(rows) for rows in rows_of.values() if len(rows) > 1),
        overlapping=tuple(sorted(found)),
        same_cell=frozenset(
            (one, other)
            for (one, other), shift in found.items()
            if shift <= SAME_CELL and _step(reading.small[one], reading.small[other]) <= SAME_COLOUR
        ),
    )


def _shifts(thumbnails: NDArray[np.uint8], rows: NDArray[np.int64]) -> dict[tuple[int, int], int]:
    """Pairs of `rows` that share a scene, with the larger of their two shifts."""
    if len(rows) < 2:
        return {}
    pairs = overlapping_pairs(thumbnails[rows])
    return {
        (int(rows[i]), int(rows[j])): int(max(abs(dy), abs(dx))) for i, j, dy, dx in pairs.tolist()
    }


def ties(reading: Reading, repeats: Repeats) -> NDArray[np.int64]:
    """What each row must not be parted from when something is learned and tested (N,)."""
    groups: dict[tuple[int, str], list[int]] = {}
    for row, group in enumerate(reading.groups):
        if group is not None:
            groups.setdefault((int(reading.folder[row]), group), []).append(row)
    tied = [*groups.values(), *repeats.identical, *repeats.overlapping]
    return components(len(reading), tied)


def _step(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Mean difference of two small pictures, in levels."""
    return float(np.abs(one.astype(np.int16) - other).mean())


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
