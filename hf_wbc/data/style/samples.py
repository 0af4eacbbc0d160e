"""A sample of a domain's colours, the same on every machine, and what leads from each to each."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hf_wbc.data.colour_statistics import MAX_IMAGES, evenly_spaced
from hf_wbc.data.table import Table

MAX_SIDE = 32
"""Pixels in a row and in a column that stand for an image: a million for a domain."""
_ROWS_AT_ONCE = 64
Colours = npt.NDArray[np.uint8]
Map = npt.NDArray[np.float64]
S = TypeVar("S")


def colour_sample(table: Table, domain: int | None = None) -> Colours:
    """Colours (N, 3) of a table of pixels, or of one domain in it by its index.

    From evenly spaced pixels of evenly spaced images; no label is looked at.
    """
    rows = np.arange(len(table)) if domain is None else np.flatnonzero(table.domains == domain)
    rows = rows[evenly_spaced(len(rows), MAX_IMAGES)]
    height, width = (evenly_spaced(side, MAX_SIDE) for side in table.shape[:2])
    parts = [
        table.batch(rows[start : start + _ROWS_AT_ONCE]).numpy()[:, height[:, None], width]
        for start in range(0, len(rows), _ROWS_AT_ONCE)
    ]
    colours: Colours = np.concatenate(parts).reshape(-1, 3)
    return colours


def maps_between(
    source: Table,
    targets: Sequence[Table],
    measure: Callable[[Table, int | None], S],
    lead: Callable[[S, S], Map],
) -> Tensor:
    """What leads from each of D source domains to each of T targets (D, T, ...), float64."""
    ends = [measure(table, None) for table in targets]
    starts = [measure(source, domain) for domain in range(len(source.domain_names))]
    return torch.from_numpy(np.array([[lead(start, end) for end in ends] for start in starts]))
