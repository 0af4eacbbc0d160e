"""Which images must not be torn apart by a split: identical ones, and those that share a scene."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.overlaps import overlapping_pairs


@dataclass(frozen=True)
class Duplicates:
    """Rows that repeat others."""

    identical: tuple[tuple[int, ...], ...]
    """Rows of the same pixels, two or more, in rising order."""
    overlapping: tuple[tuple[int, int], ...]
    """Pairs of rows of different pixels that show the same scene."""


def find_duplicates(digests: Sequence[str], thumbnails: NDArray[np.uint8]) -> Duplicates:
    """Duplicates among N images by their pixel digests and thumbnails (N, 48, 48), uint8.

    Of identical images only the first appears in overlapping pairs.
    """
    rows_of: dict[str, list[int]] = {}
    for row, digest in enumerate(digests):
        rows_of.setdefault(digest, []).append(row)
    firsts = np.array([rows[0] for rows in rows_of.values()], dtype=np.int64)
    pairs = firsts[overlapping_pairs(thumbnails[firsts])[:, :2]]
    return Duplicates(
        identical=tuple(tuple(rows) for rows in rows_of.values() if len(rows) > 1),
        overlapping=tuple((int(i), int(j)) for i, j in pairs),
    )


def components(num_rows: int, ties: Iterable[Iterable[int]]) -> NDArray[np.int64]:
    """The lowest row that each row is tied to, directly or through others (N,).

    >>> components(5, [(3, 4), (1, 3)]).tolist()
    [0, 1, 2, 1, 1]
    """
    parent = list(range(num_rows))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for tie in ties:
        first, *others = sorted({root(row) for row in tie}) or [0]
        for other in others:
            parent[other] = first
    return np.array([root(row) for row in range(num_rows)], dtype=np.int64)


def keep_together(
    image_ids: Sequence[str], groups: Sequence[str | None], duplicates: Duplicates
) -> list[str]:
    """For each row the name of what must stay on one side: the lowest image id it is tied to.

    Rows of one group (patient, slide, session) and duplicates are tied.
    """
    by_group: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        if group is not None:
            by_group.setdefault(group, []).append(row)
    ties = [*by_group.values(), *duplicates.identical, *duplicates.overlapping]
    found = components(len(image_ids), ties)
    lowest: dict[int, str] = {}
    for row, name in enumerate(image_ids):
        key = int(found[row])
        lowest[key] = min(name, lowest.get(key, name))
    return [lowest[int(key)] for key in found]
