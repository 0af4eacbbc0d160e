"""Histogram matching: every channel gets the target's distribution, level by level.

The map takes a level to the target's level of the same quantile (Gonzalez & Woods, "Digital image
processing", sec. 3.3.2, histogram specification). The distributions are those of domains.
"""

import numpy as np
import numpy.typing as npt
from torch import Tensor

from hf_wbc.data.style.samples import Colours, Map

NUM_LEVELS = 256
Counts = npt.NDArray[np.int64]


def count_levels(colours: Colours) -> Counts:
    """How often each channel of colours (N, 3) has each level (3, 256)."""
    return np.stack([np.bincount(channel, minlength=NUM_LEVELS) for channel in colours.T])


def lead_levels(source: Counts, target: Counts) -> Map:
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
